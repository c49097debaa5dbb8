/* Lengths of time as people write them. */
#include "tests/unit/check.h"

#include "common/base/duration.h"

static void test_a_number_and_a_unit_are_milliseconds(void **state)
{
        static const struct {
                const char *text;
                int64_t ms;
        } cases[] = {
                { "0", 0 },
                { "0ms", 0 },
                { "0d", 0 },
                { "1ms", 1 },
                { "500ms", 500 },
                { "30s", 30000 },
                { "15m", 900000 },
                { "24h", 86400000 },
                { "30d", 30LL * 86400000 },
                { "0007s", 7000 },
                { "90m", 5400000 },
                { "106751991166d", 106751991166LL * 86400000 },
                { "00000000000000000000000000000001s", 1000 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int64_t ms = -1;
                struct err err = { 0 };

                if (duration_parse("soak", cases[i].text, &ms, &err) < 0)
                        fail_msg("%s: %s", cases[i].text, err.message);
                assert_true(ms == cases[i].ms);
        }
}

static void test_anything_else_is_refused_under_the_name_it_was_asked_by_and_sets_nothing(void **state)
{
        static const char *const bad[] = {
                "",     "5",    "00",    "s",    "ms",        "5 s",  " 5s",           "5s ",
                "5s\n", "5S",   "5w",    "5ss",  "5sm",       "-5s",  "+5s",           "1.5h",
                "1e3s", "0x5s", "1h30m", "PT1S", "\xd9\xa1s", "zero", "106751991167d", "99999999999999999999d",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int64_t ms = 42;
                struct err err = { 0 };

                if (duration_parse("soak", bad[i], &ms, &err) == 0)
                        fail_msg("\"%s\" was taken for %lld ms", bad[i], (long long)ms);
                assert_int_equal(ms, 42);
                assert_int_equal(err.class, ERR_INPUT);
                assert_string_equal(err.field, "soak");
                assert_contains(err.message, "soak: ");
                assert_contains(err.message, "such as 500ms");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_number_and_a_unit_are_milliseconds),
                SENTENCE(test_anything_else_is_refused_under_the_name_it_was_asked_by_and_sets_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
