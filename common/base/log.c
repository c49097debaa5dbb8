/* Logs as JSON lines: see log.h. */
#include "common/base/log.h"

#include "common/base/buf.h"
#include "common/base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const LEVELS[] = { "debug", "info", "warn", "error" };
static const char *log_service = "tenantry";
static enum log_level log_least = LOG_INFO;
static bool log_pretty;

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

static void log_add_pairs(struct buf *line, va_list args)
{
        const char *name, *text;

        while ((name = va_arg(args, const char *)) != NULL) {
                text = va_arg(args, const char *);
                if (text == NULL)
                        continue;
                buf_printf(line, log_pretty ? " %s=" : ",\"%s\":", name);
                log_add_escaped(line, text);
        }
}

void log_emit(enum log_level level, const char *message, ...)
{
        auto_buf line = { 0 };
        char at[25];
        va_list args;

        if (level < log_least)
                return;
        clock_format(clock_wall_ms(), at);
        if (log_pretty) {
                buf_printf(&line, "%.12s %-5s %-11s %s", at + 11, LEVELS[level], log_service, message);
        } else {
                buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"service\":\"%s\",\"message\":", at,
                           LEVELS[level], log_service);
                log_add_escaped(&line, message);
        }
        va_start(args, message);
        log_add_pairs(&line, args);
        va_end(args);
        buf_add_text(&line, log_pretty ? "\n" : "}\n");
        if (write(STDERR_FILENO, line.data, line.length) < 0)
                return; /* there is nowhere left to report it */
}
