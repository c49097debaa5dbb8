/* How long others may make us wait. */
#include "check.h"

#include "common/base/macros.h"
#include "common/net/retry_after.h"

#define NOW "Thu, 01 Jan 2026 00:00:00 GMT"

static const struct {
        const char *retry_after, *reset;
        int64_t seconds;
        bool capped;
} RIGHT[] = {
        { NULL, NULL, 0, false },
        { "0", NULL, 0, false },
        { "1", NULL, 1, false },
        { "3600", NULL, 3600, false },
        { "3601", NULL, 3600, true },
        { "7 ", NULL, 7, false },
        { "99999999999999999999999999", NULL, 3600, true },
        { "-5", NULL, 0, false },
        { "5 minutes", NULL, 0, false },
        { "", NULL, 0, false },
        { "Thu, 01 Jan 2026 00:00:30 GMT", NULL, 30, false },
        { "Thu, 01 Jan 2026 01:00:00 GMT", NULL, 3600, false },
        { "Thu, 01 Jan 2026 01:00:01 GMT", NULL, 3600, true },
        { "Wed, 31 Dec 2025 23:59:59 GMT", NULL, 0, false },
        { NULL, "0", 0, false },
        { NULL, "60", 60, false },
        { NULL, "3600", 3600, false },
        { NULL, "3601", 3600, true },
        { NULL, "999999999", 3600, true },
        { NULL, "1000000000", 0, false }, /* an instant long ago */
        { NULL, "1767225600", 0, false },
        { NULL, "1767225645", 45, false },
        { NULL, "1767229200", 3600, false },
        { NULL, "1767229201", 3600, true },
        { NULL, "1767225645000", 3600, true }, /* milliseconds */
        { NULL, "soon", 0, false },
        { "2", "60", 2, false },
        { "0", "60", 60, false },
        { "nonsense", "60", 60, false },
};

static void test_a_wait_is_understood_in_all_its_forms_and_is_an_hour_at_most(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(RIGHT); i++) {
                struct retry_asked asked = { .retry_after = RIGHT[i].retry_after,
                                             .reset = RIGHT[i].reset,
                                             .date = NOW };
                bool capped = !RIGHT[i].capped;
                int64_t ms = retry_after_ms(&asked, &capped);

                if (ms != SECONDS(RIGHT[i].seconds) || capped != RIGHT[i].capped)
                        fail_msg("row %zu: %lld ms, %s", i, (long long)ms, capped ? "capped" : "as asked");
        }
}

static void test_without_a_date_an_instant_is_counted_by_our_own_clock(void **state)
{
        struct retry_asked asked = { .reset = "4102444800" };
        bool capped = false;

        (void)state;
        assert_int_equal(retry_after_ms(&asked, &capped), SECONDS(3600));
        assert_true(capped);
        asked.date = "no date";
        assert_int_equal(retry_after_ms(&asked, &capped), SECONDS(3600));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_wait_is_understood_in_all_its_forms_and_is_an_hour_at_most),
                SENTENCE(test_without_a_date_an_instant_is_counted_by_our_own_clock),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
