/* Logs as JSON lines: see log.h. Their reader may be slow or stop: then a write would block the loop, and with it
 * leases, Kafka and HTTP. So we check before we write, wait for a moment, and then drop lines. */
#include "common/base/log.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/macros.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE 100 /* ms, for a slow reader; none once a line was dropped, until one is written again */

static const char *const LEVELS[] = { "debug", "info", "warn", "error" };
static const char *log_service = "tenantry";
static enum log_level log_least = LOG_INFO;
static bool log_pretty;
static pthread_mutex_t log_turn = PTHREAD_MUTEX_INITIALIZER; /* guards the following, and keeps lines whole */
static uint64_t log_lost_now, log_lost_all;                  /* lines: since the last one written, and in total */
static bool log_cut;                                         /* the reader has only the beginning of the last one */

void log_set_level(const char *level)
{
        for (size_t i = 0; i < ARRAY_SIZE(LEVELS); i++)
                if (strcmp(LEVELS[i], level) == 0)
                        log_least = (enum log_level)i;
}

void log_init(const char *service, const char *level)
{
        log_service = service;
        log_pretty = isatty(STDERR_FILENO) == 1;
        log_set_level(level);
}

static void log_add_escaped(struct buf *line, const char *text)
{
        buf_add_text(line, "\"");
        for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
                if (*p == '"' || *p == '\\')
                        buf_printf(line, "\\%c", *p);
                else if (*p < 0x20)
                        buf_printf(line, "\\u%04x", *p);
                else
                        buf_add(line, p, 1);
        }
        buf_add_text(line, "\"");
}

static void log_add_pair(struct buf *line, const char *name, const char *text)
{
        buf_printf(line, log_pretty ? " %s=" : ",\"%s\":", name);
        log_add_escaped(line, text);
}

static void log_add_pairs(struct buf *line, va_list args)
{
        const char *name, *text;

        while ((name = va_arg(args, const char *)) != NULL) {
                text = va_arg(args, const char *);
                if (text != NULL)
                        log_add_pair(line, name, text);
        }
}

/* Start and end of a line, in the format in use. */
static void log_begin_line(struct buf *line, enum log_level level, const char *message)
{
        char at[25];

        clock_format(clock_wall_ms(), at);
        if (log_pretty) {
                buf_printf(line, "%.12s %-5s %-11s %s", at + 11, LEVELS[level], log_service, message);
                return;
        }
        buf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"service\":\"%s\",\"message\":", at, LEVELS[level],
                   log_service);
        log_add_escaped(line, message);
}

static void log_end_line(struct buf *line)
{
        buf_add_text(line, log_pretty ? "\n" : "}\n");
}

/* Writes what can be written without blocking: a writable pipe has room for PIPE_BUF bytes, and a socket refuses by
 * itself. Returns how many bytes were written, or -1. */
static ssize_t log_write_some(const char *bytes, size_t length, int patience)
{
        struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
        ssize_t sent;

        if (poll(&out, 1, patience) != 1 || (out.revents & POLLOUT) == 0)
                return -1;
        sent = send(STDERR_FILENO, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0 || errno != ENOTSOCK)
                return sent;
        return write(STDERR_FILENO, bytes, MIN(length, PIPE_BUF));
}

/* False if it was not written completely; the next line then terminates the unfinished one. */
static bool log_write_line(const char *bytes, size_t length, int patience)
{
        size_t gone = 0;

        while (gone < length) {
                ssize_t sent = log_write_some(bytes + gone, length - gone, patience);

                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent < 0)
                        break;
                gone += (size_t)sent;
        }
        if (gone > 0)
                log_cut = gone < length;
        return gone == length;
}

/* Reports dropped lines, once there is a reader again. */
static bool log_tell_of_loss(void)
{
        auto_buf line = { 0 };
        char count[24];

        if (log_cut)
                buf_add_text(&line, "\n");
        if (log_lost_now > 0) {
                snprintf(count, sizeof(count), "%" PRIu64, log_lost_now);
                log_begin_line(&line, LOG_WARN, "log lines were dropped here: nothing read them");
                log_add_pair(&line, "lines", count);
                log_end_line(&line);
        }
        if (line.length > 0 && !log_write_line(line.data, line.length, 0))
                return false;
        log_lost_now = 0;
        return true;
}

void log_emit(enum log_level level, const char *message, ...)
{
        auto_buf line = { 0 };
        va_list args;

        if (level < log_least)
                return;
        log_begin_line(&line, level, message);
        va_start(args, message);
        log_add_pairs(&line, args);
        va_end(args);
        log_end_line(&line);
        pthread_mutex_lock(&log_turn);
        if (!log_tell_of_loss() || !log_write_line(line.data, line.length, PATIENCE)) {
                log_lost_now++;
                log_lost_all++;
        }
        pthread_mutex_unlock(&log_turn);
}

uint64_t log_lines_lost(void)
{
        uint64_t lost;

        pthread_mutex_lock(&log_turn);
        lost = log_lost_all;
        pthread_mutex_unlock(&log_turn);
        return lost;
}
