/* The log: no service waits for whoever reads it. */
#include "common/base/log.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "tests/unit/check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

/* Standard error for a test: what is logged comes out of reader. */
struct log_reader {
        int reader, former;
};

/* What stands there by now. */
static char *read_log(struct log_reader *log)
{
        struct buf all = { 0 };
        char some[4096];
        ssize_t got;

        fcntl(log->reader, F_SETFL, O_NONBLOCK);
        while ((got = read(log->reader, some, sizeof(some))) > 0)
                buf_add(&all, some, (size_t)got);
        return buf_take(&all);
}

static void open_log(struct log_reader *log, bool by_socket)
{
        int ends[2];

        assert_int_equal(by_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
        log->reader = ends[0];
        log->former = dup(STDERR_FILENO);
        assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
        close(ends[1]);
        log_init("test", "info");
        log_info("what was lost before is told now", NULL);
        free(read_log(log));
}

static void close_log(struct log_reader *log)
{
        dup2(log->former, STDERR_FILENO);
        close(log->former);
        close(log->reader);
}

/* Returns how many of its lines were lost. */
static uint64_t log_until_full(void)
{
        uint64_t before = log_lines_lost();

        for (int i = 0; i < 100000 && log_lines_lost() == before; i++)
                log_info("a line of those that fill it", NULL);
        return log_lines_lost() - before;
}

static void test_a_log_that_nobody_reads_costs_a_moment_and_then_nothing(void **state)
{
        for (int by_socket = 0; by_socket < 2; by_socket++) {
                struct log_reader log;
                int64_t began;

                (void)state;
                open_log(&log, by_socket);
                assert_int_equal(log_until_full(), 1);
                began = clock_boot_ms();
                for (int i = 0; i < 1000; i++)
                        log_info("nobody has time for this", NULL);
                assert_in_range(clock_boot_ms() - began, 0, 5000); /* less than a tenth of a second each, that is */
                close_log(&log);
        }
}

static void test_lines_that_were_lost_are_told_where_they_are_missing(void **state)
{
        for (int by_socket = 0; by_socket < 2; by_socket++) {
                struct log_reader log;
                auto_free char *before = NULL, *after = NULL;

                (void)state;
                open_log(&log, by_socket);
                log_until_full();
                log_info("lost as well", NULL);
                before = read_log(&log);
                assert_lacks(before, "dropped");
                log_info("heard again", NULL);
                log_info("and no more", NULL);
                after = read_log(&log);
                assert_true(before[strlen(before) - 1] == '\n' || after[0] == '\n');
                assert_contains(after,
                                "\"message\":\"log lines were dropped here: nothing read them\",\"lines\":\"2\"}\n");
                assert_contains(strstr(after, "dropped"), "heard again");
                assert_lacks(strstr(after, "heard again"), "dropped");
                close_log(&log);
        }
}

static void *log_a_long_line(void *text)
{
        log_info("long", "text", text, NULL);
        return NULL;
}

static void test_a_line_longer_than_a_pipe_arrives_whole_where_somebody_reads(void **state)
{
        auto_free char *text = mem_alloc(300001, 1);
        auto_buf got = { 0 };
        struct log_reader log;
        uint64_t lost = log_lines_lost();
        pthread_t writer;
        char some[4096];

        (void)state;
        memset(text, 'x', 300000);
        open_log(&log, false);
        fcntl(log.reader, F_SETFL, 0);
        pthread_create(&writer, NULL, log_a_long_line, text);
        while (got.length == 0 || got.data[got.length - 1] != '\n')
                buf_add(&got, some, (size_t)read(log.reader, some, sizeof(some)));
        pthread_join(writer, NULL);
        close_log(&log);
        assert_contains(got.data, text);
        assert_int_equal(log_lines_lost(), lost);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_log_that_nobody_reads_costs_a_moment_and_then_nothing),
                SENTENCE(test_lines_that_were_lost_are_told_where_they_are_missing),
                SENTENCE(test_a_line_longer_than_a_pipe_arrives_whole_where_somebody_reads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
