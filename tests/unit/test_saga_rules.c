/* What a saga does next: every rule by itself. test_simulation.c drives them together. */
#include "tests/unit/check.h"

#include "common/durable/saga_rules.h"

#include <signal.h>
#include <sys/wait.h>

static enum step_result some_undo(struct saga *saga)
{
        (void)saga;
        return STEP_DONE;
}

/* reserve and create can be undone; from promise on nothing is. */
enum { RESERVE, CREATE, AWAIT, PROMISE, FINISH, STEP_COUNT };

static const struct saga_step STEPS[STEP_COUNT] = {
        { "reserve", NULL, some_undo, SECONDS(5), 0 }, { "create", NULL, some_undo, MINUTES(2), 10 },
        { "await", NULL, NULL, MINUTES(15), 25 },      { "promise", NULL, some_undo, MINUTES(1), 80 },
        { "finish", NULL, NULL, MINUTES(1), 90 },
};
static const struct saga_kind KIND = { "unit", STEPS, STEP_COUNT, PROMISE, NULL, NULL, NULL, NULL };

static struct saga_decision decide(size_t step, bool undoing, enum step_result result)
{
        const struct saga_position at = { .step = step, .undoing = undoing };

        return saga_decide(&KIND, &at, result, 0);
}

static void assert_goes(struct saga_decision decision, enum saga_move move, size_t to)
{
        assert_int_equal(decision.move, move);
        assert_int_equal(decision.to, to);
}

static void assert_ends(struct saga_decision decision, const char *outcome)
{
        assert_int_equal(decision.move, SAGA_END);
        assert_string_equal(decision.outcome, outcome);
}

static void test_a_step_that_is_done_leads_to_the_next_and_the_last_to_the_end(void **state)
{
        (void)state;
        for (size_t step = 0; step + 1 < STEP_COUNT; step++)
                assert_goes(decide(step, false, STEP_DONE), SAGA_ADVANCE, step + 1);
        assert_ends(decide(FINISH, false, STEP_DONE), "done");
}

static void test_a_failure_before_the_point_of_no_return_undoes_from_the_failed_step_back(void **state)
{
        (void)state;
        assert_goes(decide(RESERVE, false, STEP_FAIL), SAGA_UNDO, RESERVE); /* it may have done half of its work */
        assert_goes(decide(CREATE, false, STEP_FAIL), SAGA_UNDO, CREATE);
        assert_goes(decide(AWAIT, false, STEP_FAIL), SAGA_UNDO, CREATE); /* await has nothing to undo */
}

static void test_a_failure_from_the_point_of_no_return_on_waits_for_a_person(void **state)
{
        (void)state;
        assert_ends(decide(PROMISE, false, STEP_FAIL), "attention");
        assert_ends(decide(FINISH, false, STEP_FAIL), "attention");
}

static void test_undoing_walks_back_to_the_beginning_and_ends_failed(void **state)
{
        (void)state;
        assert_goes(decide(CREATE, true, STEP_DONE), SAGA_UNDO, RESERVE);
        assert_ends(decide(RESERVE, true, STEP_DONE), "failed");
}

static void test_undoing_that_somebody_asked_for_ends_cancelled(void **state)
{
        const struct saga_position last = { .step = RESERVE, .undoing = true, .cancelled = true };
        const struct saga_position first = { .step = AWAIT, .cancelled = true };

        (void)state;
        assert_ends(saga_decide(&KIND, &last, STEP_DONE, 0), "cancelled");
        assert_goes(saga_decide(&KIND, &first, STEP_FAIL, 0), SAGA_UNDO, CREATE);
}

static void test_an_undo_that_fails_waits_for_a_person(void **state)
{
        (void)state;
        for (size_t step = 0; step < STEP_COUNT; step++)
                assert_ends(decide(step, true, STEP_FAIL), "attention");
}

static void test_what_is_kept_is_undone_only_for_somebody_who_wants_it_gone(void **state)
{
        struct saga_position at = { .kept = true };

        (void)state;
        for (at.step = 0; at.step < STEP_COUNT; at.step++)
                assert_ends(saga_decide(&KIND, &at, STEP_FAIL, 0), "attention");
        at.step = CREATE;
        assert_true(saga_may_cancel(&KIND, &at));
        at.cancelled = true;
        assert_goes(saga_decide(&KIND, &at, STEP_FAIL, 0), SAGA_UNDO, CREATE);
}

static void test_a_saga_with_nothing_to_undo_ends_at_once(void **state)
{
        static const struct saga_step bare[] = { { "one", NULL, NULL, 1, 0 }, { "two", NULL, NULL, 1, 0 } };
        static const struct saga_kind kind = { "bare", bare, 2, 2, NULL, NULL, NULL, NULL };
        struct saga_position at = { .step = 1 };

        (void)state;
        assert_ends(saga_decide(&kind, &at, STEP_FAIL, 0), "failed");
        at.cancelled = true;
        assert_ends(saga_decide(&kind, &at, STEP_FAIL, 0), "cancelled");
}

static void test_waiting_takes_as_long_as_the_step_says_and_counts_no_back_off(void **state)
{
        struct saga_position at = { .step = AWAIT, .attempt = 9, .random = 12345 };

        (void)state;
        for (int64_t ms = 0; ms < 100000; ms += 777) {
                struct saga_decision decision = saga_decide(&KIND, &at, STEP_WAIT, ms);

                assert_int_equal(decision.move, SAGA_PARK);
                assert_int_equal(decision.delay_ms, ms);
        }
}

static void test_trying_again_doubles_from_half_a_second_to_a_minute_with_jitter(void **state)
{
        static const int64_t middles[] = { 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000 };

        (void)state;
        for (int attempt = 0; attempt < (int)ARRAY_SIZE(middles); attempt++) {
                int64_t least = INT64_MAX, most = 0;

                for (unsigned i = 0; i < 5000; i++) {
                        const struct saga_position at = { .attempt = attempt, .random = i * 2654435761u };
                        struct saga_decision decision = saga_decide(&KIND, &at, STEP_RETRY, 0);

                        assert_int_equal(decision.move, SAGA_PARK);
                        least = MIN(least, decision.delay_ms);
                        most = MAX(most, decision.delay_ms);
                }
                assert_in_range(least, middles[attempt] * 7 / 8 - 1, middles[attempt] * 9 / 10);
                assert_in_range(most, middles[attempt] * 11 / 10, middles[attempt] * 9 / 8 + 1);
        }
}

static void test_attempts_without_number_do_not_overflow_the_back_off(void **state)
{
        static const int attempts[] = { 7, 8, 63, 64, 1000, INT32_MAX };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
                const struct saga_position at = { .attempt = attempts[i], .random = UINT32_MAX };

                assert_in_range(saga_decide(&KIND, &at, STEP_RETRY, 0).delay_ms, 52500, 67500);
        }
}

static void test_the_other_sides_retry_after_is_kept_where_it_is_longer(void **state)
{
        const struct saga_position at = { .attempt = 1 };

        (void)state;
        assert_int_equal(saga_decide(&KIND, &at, STEP_RETRY, 90000).delay_ms, 90000);
        assert_in_range(saga_decide(&KIND, &at, STEP_RETRY, 10).delay_ms, 875, 1125);
}

static void test_a_restart_goes_to_the_first_step(void **state)
{
        (void)state;
        for (size_t step = 0; step < STEP_COUNT; step++)
                assert_goes(decide(step, false, STEP_RESTART), SAGA_ADVANCE, 0);
}

/* Asserts stay on: the process stops rather than going on from a place that cannot be. */
static void assert_aborts(size_t step, bool undoing)
{
        int status;
        pid_t child = fork();

        if (child == 0) {
                signal(SIGABRT, SIG_DFL);
                if (freopen("/dev/null", "we", stderr) != NULL)
                        decide(step, undoing, STEP_RESTART);
                _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_a_restart_while_undoing_is_a_defect(void **state)
{
        (void)state;
        assert_aborts(CREATE, true);
}

static void test_only_what_can_still_turn_back_may_be_cancelled(void **state)
{
        (void)state;
        for (size_t step = 0; step < STEP_COUNT; step++)
                for (int undoing = 0; undoing < 2; undoing++) {
                        const struct saga_position at = { .step = step, .undoing = undoing };

                        assert_int_equal(saga_may_cancel(&KIND, &at), !undoing && step < PROMISE);
                }
}

static void test_a_step_is_overdue_after_its_own_limit(void **state)
{
        (void)state;
        for (size_t step = 0; step < STEP_COUNT; step++) {
                struct saga_position at = { .step = step, .step_age_ms = STEPS[step].limit_ms };

                assert_false(saga_is_overdue(&KIND, &at));
                at.step_age_ms++;
                assert_true(saga_is_overdue(&KIND, &at));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_step_that_is_done_leads_to_the_next_and_the_last_to_the_end),
                SENTENCE(test_a_failure_before_the_point_of_no_return_undoes_from_the_failed_step_back),
                SENTENCE(test_a_failure_from_the_point_of_no_return_on_waits_for_a_person),
                SENTENCE(test_undoing_walks_back_to_the_beginning_and_ends_failed),
                SENTENCE(test_undoing_that_somebody_asked_for_ends_cancelled),
                SENTENCE(test_an_undo_that_fails_waits_for_a_person),
                SENTENCE(test_what_is_kept_is_undone_only_for_somebody_who_wants_it_gone),
                SENTENCE(test_a_saga_with_nothing_to_undo_ends_at_once),
                SENTENCE(test_waiting_takes_as_long_as_the_step_says_and_counts_no_back_off),
                SENTENCE(test_trying_again_doubles_from_half_a_second_to_a_minute_with_jitter),
                SENTENCE(test_attempts_without_number_do_not_overflow_the_back_off),
                SENTENCE(test_the_other_sides_retry_after_is_kept_where_it_is_longer),
                SENTENCE(test_a_restart_goes_to_the_first_step),
                SENTENCE(test_a_restart_while_undoing_is_a_defect),
                SENTENCE(test_only_what_can_still_turn_back_may_be_cancelled),
                SENTENCE(test_a_step_is_overdue_after_its_own_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
