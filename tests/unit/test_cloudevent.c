/* Structured CloudEvents and what is nearly one. Headers are looked up here instead of in librdkafka, whose messages
 * cannot be made without a broker. */
#include "check.h"

#include "common/kafka/cloudevent.h"

static const char *content_type;

const char *kafka_message_header(const struct kafka_message *message, const char *name, size_t *ret_length)
{
        (void)message;
        if (strcmp(name, "content-type") != 0 || content_type == NULL)
                return NULL;
        *ret_length = strlen(content_type);
        return content_type;
}

#define STRUCTURED "application/cloudevents+json; charset=utf-8"
#define ENVELOPE   "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/crm\",\"type\":\"t.v1\""
#define BARE       "t.v1" /* the topic's only type */

static int decode(const char *type, const char *bare_type, const char *value, struct cloudevent *event, struct err *err)
{
        struct kafka_message message = { .topic = "topic", .value = value, .value_length = strlen(value) };

        content_type = type;
        *err = (struct err){ 0 };
        return cloudevent_decode(&message, bare_type, event, err);
}

static void test_data_may_stand_in_base64(void **state)
{
        static const char *const forms[] = {
                ENVELOPE ",\"data\":{\"a\":\"\xc3\xa9\"}}",
                ENVELOPE ",\"data_base64\":\"eyJhIjoiw6kifQ==\"}",
                ENVELOPE ",\"datacontenttype\":\"application/json\",\"data_base64\":\"eyJhIjoiw6kifQ\"}",
        };
        char hash[65] = "";

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
                struct cloudevent event;
                struct err err;

                if (decode(STRUCTURED, BARE, forms[i], &event, &err) < 0)
                        fail_msg("%s: %s", forms[i], err.message);
                assert_string_equal(json_text(event.data, "a"), "\xc3\xa9");
                if (i > 0)
                        assert_string_equal(event.body_hash, hash); /* the same event in either form */
                memcpy(hash, event.body_hash, sizeof(hash));
                cloudevent_release(&event);
        }
}

static void test_data_in_base64_that_is_none_is_refused_by_its_name(void **state)
{
        static const struct {
                const char *end, *field, *hint;
        } cases[] = {
                { ",\"data_base64\":\"e30=\",\"data\":{}}", "data_base64", "both" },
                { ",\"data_base64\":7}", "data_base64", "not a text" },
                { ",\"data_base64\":null}", "data_base64", "not a text" },
                { ",\"data_base64\":\"{}\"}", "data_base64", "not base64" },
                { ",\"data_base64\":\"e30\\u0000=\"}", "", "" },
                { ",\"data_base64\":\"\"}", "", "not valid JSON" },
                { ",\"data_base64\":\"aGVsbG8=\"}", "", "not valid JSON" },
                { "}", "data", "no data" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *value = mem_printf(ENVELOPE "%s", cases[i].end);
                struct cloudevent event;
                struct err err;

                if (decode(STRUCTURED, BARE, value, &event, &err) == 0)
                        fail_msg("%s is taken", value);
                assert_string_equal(err.field, cases[i].field);
                assert_contains(err.message, cases[i].hint);
                cloudevent_release(&event);
        }
}

static void test_an_envelope_that_is_not_marked_as_one_is_refused_with_a_hint(void **state)
{
        static const char *const types[] = { "application/json", NULL, "text/plain" };
        static const char *const topics[] = { BARE, NULL };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                for (size_t k = 0; k < ARRAY_SIZE(topics); k++) {
                        struct cloudevent event;
                        struct err err;

                        assert_int_equal(decode(types[i], topics[k], ENVELOPE ",\"data\":{}}", &event, &err),
                                         -ERR_INPUT);
                        assert_string_equal(err.field, "content-type");
                        assert_contains(err.message, "application/cloudevents+json");
                        assert_string_equal(event.id, "7"); /* so that its producer learns of it */
                        assert_string_equal(event.source, "/crm");
                        cloudevent_release(&event);
                }
}

static void test_bare_json_is_still_taken_where_the_topic_has_one_type(void **state)
{
        struct cloudevent event;
        struct err err;

        (void)state;
        assert_int_equal(decode("application/json", BARE, "{\"a\":1}", &event, &err), 0);
        assert_string_equal(event.type, BARE);
        assert_string_equal(event.id, "topic-0-0");
        cloudevent_release(&event);
        assert_int_equal(decode("application/json", NULL, "{\"a\":1}", &event, &err), -ERR_INPUT);
        assert_string_equal(err.field, "specversion");
        cloudevent_release(&event);
        assert_int_equal(decode(NULL, BARE, "{", &event, &err), -ERR_INPUT);
        assert_string_equal(event.id, "topic-0-0");
        cloudevent_release(&event);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_data_may_stand_in_base64),
                SENTENCE(test_data_in_base64_that_is_none_is_refused_by_its_name),
                SENTENCE(test_an_envelope_that_is_not_marked_as_one_is_refused_with_a_hint),
                SENTENCE(test_bare_json_is_still_taken_where_the_topic_has_one_type),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
