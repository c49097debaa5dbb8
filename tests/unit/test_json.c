/* JSON, read and made. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/json.h"

static int parse_json(const char *text, struct err *err)
{
        json_t *value = NULL;
        int rc = json_parse(text, strlen(text), &value, err);

        if (rc < 0)
                assert_null(value);
        json_decref(value);
        return rc;
}

static void test_json_is_parsed_strictly(void **state)
{
        static const char *const good[] = { "{}", "[]", "\"x\"", "1", "null", " {\"a\":[1,2.5,true,null]} \n" };
        static const char *const bad[] = { "",
                                           "{",
                                           "{}x",
                                           "{\"a\":1,\"a\":2}",
                                           "{'a':1}",
                                           "[1,]",
                                           "nul",
                                           "\"\xff\"",
                                           "\"\xc0\x80\"",
                                           "\"a\\u0000b\"",
                                           "{\"a\\u0000\":1}",
                                           "01",
                                           "1e999",
                                           "\"\\ud800\"",
                                           "99999999999999999999",
                                           "// x\n{}",
                                           "\"a\nb\"" };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_int_equal(parse_json(good[i], &err), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(parse_json(bad[i], &err), -ERR_INPUT);
                assert_string_equal(err.code, "not_json");
                assert_contains(err.message, "line ");
                assert_contains(err.message, "column ");
        }
}

static void test_json_with_a_raw_nul_or_too_deep_is_refused(void **state)
{
        auto_buf deep = { 0 };
        json_t *value = NULL;
        struct err err;

        (void)state;
        assert_int_equal(json_parse("{}\0", 3, &value, &err), -ERR_INPUT);
        for (int i = 0; i < 100000; i++)
                buf_add_text(&deep, "[");
        assert_int_equal(json_parse(deep.data, deep.length, &value, &err), -ERR_INPUT);
        assert_null(value);
}

static void test_json_readers_give_what_is_there_and_nothing_else(void **state)
{
        auto_json *object = json_pack("{s:s, s:i, s:b, s:n}", "text", "x", "number", 7, "flag", 1, "null");
        auto_free char *text = NULL, *nothing = json_print(NULL);

        (void)state;
        assert_string_equal(json_text(object, "text"), "x");
        assert_null(json_text(object, "number"));
        assert_null(json_text(object, "null"));
        assert_null(json_text(NULL, "text"));
        assert_int_equal(json_number(object, "number", -1), 7);
        assert_int_equal(json_number(object, "text", -1), -1);
        assert_int_equal(json_number(object, "missing", -1), -1);
        assert_true(json_flag(object, "flag"));
        assert_false(json_flag(object, "number"));
        json_set_text(object, "text", NULL);
        json_set_text(object, "more", "m");
        assert_true(json_is_null(json_object_get(object, "text")));
        text = json_print(object);
        assert_contains(text, "\"more\":\"m\"");
        assert_string_equal(nothing, "null");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_json_is_parsed_strictly),
                SENTENCE(test_json_with_a_raw_nul_or_too_deep_is_refused),
                SENTENCE(test_json_readers_give_what_is_there_and_nothing_else),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
