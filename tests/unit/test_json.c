/* JSON, read and made. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/json_find.h"

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

/* a, b.c and b itself. */
static const struct json_wanted B_MEMBERS[] = { { .name = "c", .place = 1 }, { 0 } };
static const struct json_wanted MEMBERS[] = {
        { .name = "a", .place = 0 },
        { .name = "b", .members = B_MEMBERS, .place = 2 },
        { 0 },
};

#define NOTHING "-"

static const char *found_text(const struct json_found *found, char room[64])
{
        switch (found->type) {
        case JSON_FOUND_TEXT:
                snprintf(room, 64, "%.*s", (int)found->length, found->text);
                return room;
        case JSON_FOUND_TRUE:
                return "true";
        case JSON_FOUND_FALSE:
                return "false";
        default:
                return NOTHING;
        }
}

static void test_a_few_values_are_found_without_building_the_rest(void **state)
{
        static const struct {
                const char *text, *a, *c, *b;
                bool in_one_pass;
        } cases[] = {
                { "{\"a\": \"x\", \"b\": {\"c\": true}}", "x", "true", NOTHING, true },
                { " {\"b\":\"t\",\"a\":false}\n", "false", NOTHING, "t", true },
                { "{}", NOTHING, NOTHING, NOTHING, true },
                { "{\"z\": {\"a\": 1, \"b\": {\"c\": \"other\"}}, \"a\": null}", NOTHING, NOTHING, NOTHING, true },
                { "{\"z\": [1, -2.5, {\"a\": \"deep\"}, [], {}, \"\\u00e9\\ud83d\\ude00\\n\"], \"a\": \"\xc3\xa9\"}",
                  "\xc3\xa9", NOTHING, NOTHING, true },
                { "{\"a\": [\"x\"], \"b\": [{\"c\": \"x\"}]}", NOTHING, NOTHING, NOTHING, true },
                { "{\"a\": \"x\\u0079\"}", "xy", NOTHING, NOTHING, false },
                { "{\"\\u0061\": \"x\"}", "x", NOTHING, NOTHING, false },
                { "{\"z\": 1e2, \"a\": \"x\"}", "x", NOTHING, NOTHING, false },
                { "[1]", NOTHING, NOTHING, NOTHING, false },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct json_found found[3] = { 0 };
                auto_json *kept = NULL;
                struct err err;
                char room[64];

                assert_int_equal(json_scan(cases[i].text, strlen(cases[i].text), MEMBERS, found), cases[i].in_one_pass);
                assert_int_equal(json_find(cases[i].text, strlen(cases[i].text), MEMBERS, found, &kept, &err), 0);
                assert_string_equal(found_text(&found[0], room), cases[i].a);
                assert_string_equal(found_text(&found[1], room), cases[i].c);
                assert_string_equal(found_text(&found[2], room), cases[i].b);
        }
}

static void test_what_is_not_json_is_refused_by_who_looks_for_little_too(void **state)
{
        static const char *const bad[] = { "",
                                           "{",
                                           "{\"a\": \"x\"",
                                           "{\"a\": \"x\"}}",
                                           "{\"a\": \"x\",}",
                                           "{\"a\" \"x\"}",
                                           "{\"a\": \"x\", \"a\": \"x\"}",
                                           "{\"z\": [1,]}",
                                           "{\"z\": 01}",
                                           "{\"z\": 1.}",
                                           "{\"z\": -}",
                                           "{\"z\": tru}",
                                           "{\"z\": \"\\x\"}",
                                           "{\"z\": \"\\u12\"}",
                                           "{\"z\": \"\\u0000\"}",
                                           "{\"z\": \"\\ud83d\"}",
                                           "{\"z\": \"\\ude00\"}",
                                           "{\"z\": \"\\ud83d\\u0041\"}",
                                           "{\"z\": \"\xff\"}",
                                           "{\"z\": \"\n\"}" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct json_found found[3] = { 0 };
                auto_json *kept = NULL;
                struct err err;

                assert_int_equal(json_find(bad[i], strlen(bad[i]), MEMBERS, found, &kept, &err), -ERR_INPUT);
                assert_string_equal(err.code, "not_json");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_json_is_parsed_strictly),
                SENTENCE(test_json_with_a_raw_nul_or_too_deep_is_refused),
                SENTENCE(test_json_readers_give_what_is_there_and_nothing_else),
                SENTENCE(test_a_few_values_are_found_without_building_the_rest),
                SENTENCE(test_what_is_not_json_is_refused_by_who_looks_for_little_too),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
