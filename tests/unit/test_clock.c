/* Times and clocks. */
#include "tests/unit/check.h"

#include "common/base/clock.h"

static void test_times_are_printed_in_utc_with_milliseconds(void **state)
{
        static const struct {
                int64_t ms;
                const char *text;
        } cases[] = {
                { 0, "1970-01-01T00:00:00.000Z" },
                { 1, "1970-01-01T00:00:00.001Z" },
                { -1, "1969-12-31T23:59:59.999Z" },
                { 951782400000, "2000-02-29T00:00:00.000Z" },
                { 1769860800123, "2026-01-31T12:00:00.123Z" },
                { 4102444799999, "2099-12-31T23:59:59.999Z" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char out[25];

                clock_format(cases[i].ms, out);
                assert_string_equal(out, cases[i].text);
        }
}

static void test_the_clocks_go_forward(void **state)
{
        int64_t boot = clock_boot_ms(), ns = clock_ns();

        (void)state;
        assert_true(clock_wall_ms() > 1700000000000);
        assert_true(clock_boot_ms() >= boot);
        assert_true(clock_ns() >= ns);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_times_are_printed_in_utc_with_milliseconds),
                SENTENCE(test_the_clocks_go_forward),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
