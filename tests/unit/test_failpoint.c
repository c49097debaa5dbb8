/* Failpoints. */
#include "tests/unit/check.h"

#include "common/base/clock.h"
#include "common/base/failpoint.h"

#include <signal.h>
#include <sys/wait.h>

static void test_failpoints_are_refused_by_their_bad_part(void **state)
{
        static const struct {
                const char *spec, *part;
        } cases[] = {
                { "nowhere=crash", "nowhere" },
                { "saga_before_step", "saga_before_step" },
                { "saga_before_step=", "unknown action" },
                { "saga_before_step=explode", "explode" },
                { "saga_before_step=sleep", "sleep" },
                { "saga_before_step=sleep:", "sleep:" },
                { "saga_before_step=sleep:5x", "sleep:5x" },
                { "saga_before_step=sleep:-5", "sleep:-5" },
                { "saga_before_step=error@", "pass" },
                { "saga_before_step=error@0", "pass" },
                { "saga_before_step=error@-1", "pass" },
                { "saga_before_step=error@two", "pass" },
                { "saga_before_step=error@2;=crash", "\"\"" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct err err = { 0 };

                assert_int_equal(failpoint_arm(cases[i].spec, &err), -ERR_INPUT);
                assert_string_equal(err.field, "FAILPOINTS");
                assert_contains(err.message, cases[i].part);
        }
}

static void test_a_failpoint_that_was_refused_is_not_armed(void **state)
{
        (void)state;
        assert_int_equal(failpoint_arm("mail_before_send=error@x", NULL), -ERR_INPUT);
        for (int i = 0; i < 3; i++)
                assert_int_equal(FAILPOINT(mail_before_send, NULL), 0);
}

static void test_a_failpoint_fails_once_at_its_pass(void **state)
{
        struct err err = { 0 };

        (void)state;
        assert_int_equal(failpoint_arm(NULL, &err), 0);
        assert_int_equal(failpoint_arm("", &err), 0);
        assert_int_equal(failpoint_arm(";driver_before_create=error@3;;driver_after_create=error;", &err), 0);
        for (int pass = 1; pass <= 6; pass++) {
                assert_int_equal(FAILPOINT(driver_before_create, &err), pass == 3 ? -ERR_BUSY : 0);
                assert_int_equal(FAILPOINT(driver_after_create, &err), pass == 1 ? -ERR_BUSY : 0);
                assert_int_equal(FAILPOINT(driver_before_delete, &err), 0);
        }
        assert_true(err_is_transient(&err));
        assert_contains(err.message, "driver_before_create");
}

static void test_a_failpoint_sleeps_as_long_as_it_says(void **state)
{
        int64_t began = clock_boot_ms();

        (void)state;
        assert_int_equal(failpoint_arm("driver_before_grant=sleep:40", NULL), 0);
        assert_int_equal(FAILPOINT(driver_before_grant, NULL), 0);
        assert_in_range(clock_boot_ms() - began, 39, 5000);
}

static void test_a_failpoint_kills_the_process_as_kill_nine_would(void **state)
{
        int status;
        pid_t child;

        (void)state;
        assert_int_equal(failpoint_arm("driver_before_rotate=crash@2", NULL), 0);
        child = fork();
        if (child == 0) {
                FAILPOINT(driver_before_rotate, NULL);
                FAILPOINT(driver_before_rotate, NULL);
                _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_every_failpoint_has_a_name_of_its_own(void **state)
{
        (void)state;
        for (int i = 0; i < FAILPOINT_COUNT; i++) {
                assert_true(strlen(failpoint_name((enum failpoint)i)) > 0);
                for (int k = 0; k < i; k++)
                        assert_string_not_equal(failpoint_name((enum failpoint)i), failpoint_name((enum failpoint)k));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_failpoints_are_refused_by_their_bad_part),
                SENTENCE(test_a_failpoint_that_was_refused_is_not_armed),
                SENTENCE(test_a_failpoint_fails_once_at_its_pass),
                SENTENCE(test_a_failpoint_sleeps_as_long_as_it_says),
                SENTENCE(test_a_failpoint_kills_the_process_as_kill_nine_would),
                SENTENCE(test_every_failpoint_has_a_name_of_its_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
