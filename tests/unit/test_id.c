/* Ids. */
#include "tests/unit/check.h"

#include "common/base/id.h"

static void test_new_ids_are_valid_version_seven_and_differ(void **state)
{
        struct id before = id_new();

        (void)state;
        for (int i = 0; i < 1000; i++) {
                struct id id = id_new();

                assert_true(id_is_valid(id.text));
                assert_int_equal(id.text[14], '7');
                assert_non_null(strchr("89ab", id.text[19]));
                assert_string_not_equal(id.text, before.text);
                assert_true(memcmp(id.text, before.text, 13) >= 0); /* the time goes up */
                before = id;
        }
}

static void test_derived_ids_depend_on_every_part_and_its_borders(void **state)
{
        struct id id = id_derive("caller", "route", "key", NULL);

        (void)state;
        assert_true(id_is_valid(id.text));
        assert_int_equal(id.text[14], '8');
        assert_non_null(strchr("89ab", id.text[19]));
        assert_string_equal(id.text, id_derive("caller", "route", "key", NULL).text);
        assert_string_not_equal(id.text, id_derive("caller", "route", "kez", NULL).text);
        assert_string_not_equal(id.text, id_derive("callerroute", "key", NULL).text);
        assert_string_not_equal(id.text, id_derive("calle", "rroute", "key", NULL).text);
        assert_string_not_equal(id.text, id_derive("caller", "route", "key", "", NULL).text);
        assert_string_not_equal(id_derive("a", "b", NULL).text, id_derive("b", "a", NULL).text);
}

static void test_only_lower_case_uuids_are_valid_ids(void **state)
{
        static const char *const bad[] = {
                "",
                "0",
                "01890a5d-ac96-774b-bcce-b302099a805",
                "01890a5d-ac96-774b-bcce-b302099a80570",
                "01890A5D-ac96-774b-bcce-b302099a8057",
                "01890a5dxac96-774b-bcce-b302099a8057",
                "01890a5d-ac96-774b-bcce-b302099a805g",
                "01890a5d-ac96-774b-bcce-b302099a805 ",
                "01890a5d-ac9-6774b-bcce-b302099a8057",
                "{1890a5d-ac96-774b-bcce-b302099a805}",
        };

        (void)state;
        assert_true(id_is_valid("01890a5d-ac96-774b-bcce-b302099a8057"));
        assert_true(id_is_valid("00000000-0000-0000-0000-000000000000"));
        assert_false(id_is_valid(NULL));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(id_is_valid(bad[i]));
}

static void test_the_beginning_of_an_id_spans_all_ids_that_begin_so(void **state)
{
        static const char *const bad[] = { "", "G", "A", "01890a5dd", "01890a5d-ac96-774b-bcce-b302099a80570", "%" };
        struct id first, last;

        (void)state;
        assert_true(id_span("01890a5d-a", &first, &last));
        assert_string_equal(first.text, "01890a5d-a000-0000-0000-000000000000");
        assert_string_equal(last.text, "01890a5d-afff-ffff-ffff-ffffffffffff");
        assert_true(id_span("01890a5d-ac96-774b-bcce-b302099a8057", &first, &last));
        assert_string_equal(first.text, last.text);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(id_span(bad[i], &first, &last));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_new_ids_are_valid_version_seven_and_differ),
                SENTENCE(test_derived_ids_depend_on_every_part_and_its_borders),
                SENTENCE(test_only_lower_case_uuids_are_valid_ids),
                SENTENCE(test_the_beginning_of_an_id_spans_all_ids_that_begin_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
