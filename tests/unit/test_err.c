/* Errors. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/json.h"

static void test_an_error_carries_class_code_and_sentence(void **state)
{
        struct err err;

        (void)state;
        memset(&err, 0xff, sizeof(err));
        assert_int_equal(err_set(&err, ERR_BUSY, "quota_full", "no room for %d more", 3), -ERR_BUSY);
        assert_int_equal(err.class, ERR_BUSY);
        assert_string_equal(err.code, "quota_full");
        assert_string_equal(err.field, "");
        assert_string_equal(err.message, "no room for 3 more");
        assert_int_equal(err.retry_after, 0);
        assert_int_equal(err_field(&err, "email", "%s is bad", "email"), -ERR_INPUT);
        assert_string_equal(err.code, "invalid_field");
        assert_string_equal(err.field, "email");
        assert_int_equal(err_set(NULL, ERR_GONE, "gone", "nobody listens"), -ERR_GONE);
        assert_int_equal(err_field(NULL, "email", "nobody listens"), -ERR_INPUT);
}

static void test_only_busy_and_internal_errors_are_worth_another_try(void **state)
{
        (void)state;
        for (enum err_class class = ERR_NONE; class <= ERR_INTERNAL; class ++) {
                struct err err = { .class = class };

                assert_int_equal(err_is_transient(&err), class == ERR_BUSY || class == ERR_INTERNAL);
                assert_true(strlen(err_class_name(class)) > 0);
        }
}

static void test_an_error_cut_inside_a_character_is_still_text_for_json(void **state)
{
        auto_buf name = { 0 };

        (void)state;
        for (int i = 0; i < 300; i++)
                buf_add_text(&name, "\xe2\x82\xac");
        for (size_t lead = 0; lead < 3; lead++) {
                struct err err;
                auto_json *as_json = NULL;

                err_field(&err, name.data, "%.*s%s is not a field", (int)lead, "ab", name.data);
                assert_int_equal(strlen(err.field), sizeof(err.field) - 1);
                assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
                as_json = json_pack("{s:s, s:s}", "field", err.field, "detail", err.message);
                assert_non_null(as_json);
        }
}

static void test_an_error_quotes_foreign_bytes_as_question_marks(void **state)
{
        static const char *const bad[] = { "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80" };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                auto_json *as_json = NULL;

                err_set(&err, ERR_BUSY, "far_side", "it said %s.", bad[i]);
                as_json = json_string(err.message);
                assert_non_null(as_json);
                assert_contains(err.message, "?");
        }
        err_set(&err, ERR_BUSY, "far_side",
                "Apoth\xc3\xa8"
                "ke \xf0\x9f\x92\x8a");
        assert_string_equal(err.message, "Apoth\xc3\xa8"
                                         "ke \xf0\x9f\x92\x8a");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_an_error_carries_class_code_and_sentence),
                SENTENCE(test_only_busy_and_internal_errors_are_worth_another_try),
                SENTENCE(test_an_error_cut_inside_a_character_is_still_text_for_json),
                SENTENCE(test_an_error_quotes_foreign_bytes_as_question_marks),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
