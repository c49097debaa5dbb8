/* CloudEvents in every mode. The input is a message as text: header lines "name: value", an empty line, the value. The
 * headers are looked up here instead of in librdkafka, whose messages cannot be made without a broker. */
#include "tests/fuzz/fuzz.h"

#include "common/kafka/cloudevent.h"

struct line {
        const char *name, *value;
        size_t name_length, value_length;
};

static struct line lines[32];
static size_t line_count;

const char *kafka_message_header(const struct kafka_message *message, const char *name, size_t *ret_length)
{
        (void)message;
        for (size_t i = line_count; i-- > 0;)
                if (lines[i].name_length == strlen(name) && memcmp(lines[i].name, name, lines[i].name_length) == 0) {
                        *ret_length = lines[i].value_length;
                        return lines[i].value;
                }
        return NULL;
}

/* Returns where the value begins. */
static size_t read_headers(const char *text, size_t length)
{
        size_t at = 0;

        for (line_count = 0; at < length && line_count < 32;) {
                const char *end = memchr(text + at, '\n', length - at);
                size_t size = end ? (size_t)(end - text) - at : length - at;
                const char *colon = memchr(text + at, ':', size);

                if (size == 0)
                        return at + 1;
                if (colon != NULL) {
                        size_t blank = colon + 1 < text + at + size && colon[1] == ' ' ? 2 : 1;

                        lines[line_count].name = text + at;
                        lines[line_count].name_length = (size_t)(colon - text) - at;
                        lines[line_count].value = colon + blank;
                        lines[line_count++].value_length = (size_t)(text + at + size - (colon + blank));
                }
                at += size + 1;
        }
        return at < length ? at : length;
}

static void check(const struct kafka_message *message, const char *bare_type)
{
        struct cloudevent event;
        struct err err;

        if (cloudevent_decode(message, bare_type, &event, &err) == 0) {
                char hash[65];

                MUST(event.id && event.source && event.type && event.data);
                MUST(*event.id && *event.source && *event.type);
                cloudevent_hash(event.type, event.data, hash);
                MUST(strcmp(hash, event.body_hash) == 0 && strlen(hash) == 64);
        } else {
                json_t *told = json_pack("{s:s, s:s}", "field", err.field, "detail", err.message);

                MUST(err.class == ERR_INPUT && told != NULL);
                json_decref(told);
        }
        cloudevent_release(&event);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
        char *copy = malloc(length + 1); /* of its own, so that a step over its end is seen */
        size_t begin;
        struct kafka_message message = { .topic = "tenant.signup.v1", .partition = 3, .offset = 42, .previous = 41 };

        memcpy(copy, bytes, length);
        begin = length ? read_headers(copy, length) : 0;
        begin = begin < length ? begin : length;
        message.value = copy + begin;
        message.value_length = length - begin;
        message.key = copy;
        message.key_length = length < 36 ? length : 36;
        check(&message, "tenant.signup.requested.v1");
        check(&message, NULL);
        message.key = NULL;
        message.key_length = 0;
        message.value = begin == length ? NULL : message.value;
        check(&message, NULL);
        free(copy);
        return 0;
}
