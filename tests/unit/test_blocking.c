/* Calls that block: at most so many at once, each ended on the loop, also when nobody waits for them any more. */
#include "common/base/blocking.h"
#include "tests/unit/check.h"

#include <pthread.h>
#include <stdatomic.h>

#define CALLS 20
#define LIMIT 3

struct job {
        struct party *party;
        int number;
        pthread_t loop_thread;
};

/* What all calls of one test count together. */
struct party {
        uv_loop_t loop;
        struct blocking *blocking;
        struct job jobs[CALLS];
        int limit;
        atomic_int inside, most, begun;
        atomic_bool full;
        int order[CALLS], ended;
};

/* Stays until as many are inside as may be: a limit that is too low would never let it out, one too high is counted. */
static void stay(void *context)
{
        struct job *job = context;
        struct party *party = job->party;
        int now = atomic_fetch_add(&party->inside, 1) + 1, most = atomic_load(&party->most);

        assert(!pthread_equal(pthread_self(), job->loop_thread));
        while (now > most && !atomic_compare_exchange_weak(&party->most, &most, now))
                ;
        if (now == party->limit)
                atomic_store(&party->full, true);
        while (!atomic_load(&party->full))
                sched_yield();
        party->order[atomic_fetch_add(&party->begun, 1)] = job->number;
        atomic_fetch_sub(&party->inside, 1);
}

static void count_ended(void *context)
{
        struct job *job = context;

        assert(pthread_equal(pthread_self(), job->loop_thread));
        job->party->ended++;
}

static void open_party(struct party *party, int limit)
{
        *party = (struct party){ .limit = limit };
        uv_loop_init(&party->loop);
        party->blocking = blocking_new(&party->loop, (size_t)limit);
        for (int i = 0; i < CALLS; i++)
                party->jobs[i] = (struct job){ .party = party, .number = i, .loop_thread = pthread_self() };
}

static void close_party(struct party *party)
{
        assert_int_equal(uv_run(&party->loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(uv_loop_close(&party->loop), 0);
}

static void test_no_more_calls_than_the_limit_run_at_once_and_all_come_to_their_end(void **state)
{
        struct party party;

        (void)state;
        open_party(&party, LIMIT);
        for (int i = 0; i < CALLS; i++)
                blocking_call(party.blocking, stay, count_ended, &party.jobs[i]);
        assert_int_equal(uv_run(&party.loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(party.most, LIMIT);
        assert_int_equal(party.ended, CALLS);
        blocking_free(party.blocking);
        close_party(&party);
}

static void test_whoever_waits_longest_goes_first(void **state)
{
        struct party party;

        (void)state;
        open_party(&party, 1);
        for (int i = 0; i < CALLS; i++)
                blocking_call(party.blocking, stay, count_ended, &party.jobs[i]);
        blocking_free(party.blocking);
        close_party(&party);
        for (int i = 0; i < CALLS; i++)
                assert_int_equal(party.order[i], i);
}

static void test_calls_made_before_it_is_freed_still_run(void **state)
{
        struct party party;

        (void)state;
        open_party(&party, LIMIT);
        for (int i = 0; i < CALLS; i++)
                blocking_call(party.blocking, stay, count_ended, &party.jobs[i]);
        blocking_free(party.blocking);
        close_party(&party);
        assert_int_equal(party.ended, CALLS);
        blocking_free(NULL);
}

static void call_again(void *context)
{
        struct job *job = context;
        struct party *party = job->party;

        count_ended(job);
        if (party->ended < CALLS)
                blocking_call(party->blocking, stay, call_again, &party->jobs[party->ended]);
        else
                blocking_free(party->blocking);
}

static void test_it_lives_as_long_as_its_last_owner(void **state)
{
        struct party party;

        (void)state;
        open_party(&party, 1);
        blocking_share(party.blocking);
        blocking_free(party.blocking);
        blocking_call(party.blocking, stay, count_ended, &party.jobs[0]);
        assert_int_equal(uv_run(&party.loop, UV_RUN_DEFAULT), 0);
        blocking_call(party.blocking, stay, count_ended, &party.jobs[1]);
        blocking_free(party.blocking);
        close_party(&party);
        assert_int_equal(party.ended, 2);
}

static void test_the_end_of_one_call_may_make_the_next_and_free_it(void **state)
{
        struct party party;

        (void)state;
        open_party(&party, LIMIT);
        atomic_store(&party.full, true); /* one alone need not wait for others */
        blocking_call(party.blocking, stay, call_again, &party.jobs[0]);
        close_party(&party);
        assert_int_equal(party.ended, CALLS);
        assert_int_equal(party.most, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_no_more_calls_than_the_limit_run_at_once_and_all_come_to_their_end),
                SENTENCE(test_whoever_waits_longest_goes_first),
                SENTENCE(test_calls_made_before_it_is_freed_still_run),
                SENTENCE(test_it_lives_as_long_as_its_last_owner),
                SENTENCE(test_the_end_of_one_call_may_make_the_next_and_free_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
