/* CloudEvents 1.0 over Kafka: see cloudevent.h. */
#include "common/kafka/cloudevent.h"

#include "common/base/crypto.h"
#include "common/base/id.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define RAW             "application/octet-stream"
#define ATTRIBUTE_LIMIT 512

static int cloudevent_check_attribute(const char *name, const char *text, size_t length, struct err *err)
{
        if (length == 0)
                return err_field(err, name, "the CloudEvents attribute %s is empty", name);
        if (length > ATTRIBUTE_LIMIT)
                return err_field(err, name, "the CloudEvents attribute %s is longer than %d bytes", name,
                                 ATTRIBUTE_LIMIT);
        for (size_t i = 0; i < length; i++)
                if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
                        return err_field(err, name, "the CloudEvents attribute %s has a control character", name);
        return 0;
}

struct attribute {
        const char *name;
        char **place;
        bool required;
};

static int cloudevent_take_attribute(const struct attribute *attribute, const char *text, size_t length,
                                     struct err *err)
{
        json_t *as_text;
        int rc;

        if (text == NULL && attribute->required)
                return err_field(err, attribute->name, "the CloudEvents attribute %s is missing", attribute->name);
        if (text == NULL)
                return 0;
        rc = cloudevent_check_attribute(attribute->name, text, length, err);
        if (rc < 0)
                return rc;
        as_text = json_stringn(text, length); /* refuses what is not UTF-8 */
        if (as_text == NULL)
                return err_field(err, attribute->name, "the CloudEvents attribute %s is not UTF-8", attribute->name);
        json_decref(as_text);
        *attribute->place = mem_copy_bytes(text, length);
        return 0;
}

#define ATTRIBUTES(event)                                                                                              \
        {                                                                                                              \
                { .name = "id", .place = &(event)->id, .required = true },                                             \
                        { .name = "source", .place = &(event)->source, .required = true },                             \
                        { .name = "type", .place = &(event)->type, .required = true },                                 \
                        { .name = "subject", .place = &(event)->subject },                                             \
                        { .name = "time", .place = &(event)->time },                                                   \
                        { .name = "traceparent", .place = &(event)->traceparent },                                     \
        }

static int cloudevent_check_specversion(const char *text, size_t length, struct err *err)
{
        if (text != NULL && length == 3 && memcmp(text, "1.0", 3) == 0)
                return 0;
        return err_field(err, "specversion", "specversion must be 1.0");
}

static int cloudevent_check_value(const struct kafka_message *message, struct err *err)
{
        return message->value ? 0 : err_set(err, ERR_INPUT, "no_value", "the message has no value");
}

/* The attributes of an envelope. */
static int cloudevent_read_envelope(const json_t *envelope, struct cloudevent *event, struct err *err)
{
        const struct attribute attributes[] = ATTRIBUTES(event);
        const char *text = json_text(envelope, "specversion");
        int rc = cloudevent_check_specversion(text, text ? strlen(text) : 0, err);

        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(attributes); i++) {
                const json_t *value = json_object_get(envelope, attributes[i].name);

                if (value != NULL && !json_is_string(value))
                        return err_field(err, attributes[i].name, "the CloudEvents attribute %s is not a text",
                                         attributes[i].name);
                rc = cloudevent_take_attribute(&attributes[i], json_string_value(value), json_string_length(value),
                                               err);
        }
        return rc;
}

/* The most common mistake with structured mode. The rejection should name the event, so its attributes are read
 * anyway. */
static int cloudevent_refuse_unmarked_envelope(const json_t *envelope, struct cloudevent *event, struct err *err)
{
        cloudevent_read_envelope(envelope, event, NULL);
        return err_field(err, "content-type",
                         "this looks like a structured CloudEvent: then its content-type header must be "
                         "application/cloudevents+json");
}

static bool cloudevent_is_envelope(const json_t *value)
{
        return json_object_get(value, "specversion") != NULL && json_object_get(value, "type") != NULL;
}

/* With or without parameters after it. */
static bool cloudevent_is_media_type(const char *text, size_t length, const char *wanted)
{
        size_t wants = strlen(wanted);

        return text != NULL && length >= wants && strncasecmp(text, wanted, wants) == 0 &&
               (length == wants || text[wants] == ';' || text[wants] == ' ');
}

static int cloudevent_read_raw(const struct kafka_message *message, struct cloudevent *event)
{
        auto_free char *text = crypto_base64(message->value, message->value_length);

        event->is_raw = true;
        event->data = json_pack("{s:s}", "body_base64", text);
        return 0;
}

static int cloudevent_decode_binary(const struct kafka_message *message, struct cloudevent *event, struct err *err)
{
        const struct attribute attributes[] = ATTRIBUTES(event);
        size_t length = 0;
        const char *text = kafka_message_header(message, "ce_specversion", &length);
        int rc = cloudevent_check_specversion(text, length, err);

        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(attributes); i++) {
                auto_free char *header = mem_printf("ce_%s", attributes[i].name);

                text = kafka_message_header(message, header, &length);
                if (text == NULL && strcmp(attributes[i].name, "traceparent") == 0)
                        text = kafka_message_header(message, "traceparent", &length);
                rc = cloudevent_take_attribute(&attributes[i], text, length, err);
        }
        if (rc == 0)
                rc = cloudevent_check_value(message, err); /* only now: the rejection should name the event */
        if (rc < 0)
                return rc;
        text = kafka_message_header(message, "content-type", &length);
        if (cloudevent_is_media_type(text, length, RAW))
                return cloudevent_read_raw(message, event);
        if (text != NULL && !cloudevent_is_media_type(text, length, "application/json"))
                return err_field(err, "content-type", "content-type must be application/json");
        return json_parse(message->value, message->value_length, &event->data, err);
}

/* The data may be in base64 instead, as some libraries send everything; ours is JSON in either form. */
static int cloudevent_read_data(const json_t *envelope, struct cloudevent *event, struct err *err)
{
        const json_t *data = json_object_get(envelope, "data"), *encoded = json_object_get(envelope, "data_base64");
        auto_free unsigned char *bytes = NULL;
        int length;

        if (data != NULL && encoded != NULL)
                return err_field(err, "data_base64", "the structured CloudEvent has both data and data_base64");
        if (encoded == NULL) {
                event->data = json_incref((json_t *)(uintptr_t)data);
                return data ? 0 : err_field(err, "data", "the structured CloudEvent has no data");
        }
        if (!json_is_string(encoded))
                return err_field(err, "data_base64", "data_base64 is not a text");
        bytes = mem_alloc(json_string_length(encoded) + 1, 1);
        length = crypto_base64_decode(json_string_value(encoded), bytes);
        if (length < 0)
                return err_field(err, "data_base64", "data_base64 is not base64");
        return json_parse((const char *)bytes, (size_t)length, &event->data, err);
}

static int cloudevent_decode_structured(const struct kafka_message *message, struct cloudevent *event, struct err *err)
{
        auto_json *envelope = NULL;
        int rc = cloudevent_check_value(message, err);

        if (rc == 0)
                rc = json_parse(message->value, message->value_length, &envelope, err);
        if (rc < 0)
                return rc;
        if (!json_is_object(envelope))
                return err_set(err, ERR_INPUT, "not_cloudevent", "a structured CloudEvent is a JSON object");
        rc = cloudevent_read_envelope(envelope, event, err);
        return rc < 0 ? rc : cloudevent_read_data(envelope, event, err);
}

/* No attributes, and the topic has no single type. */
static int cloudevent_refuse_bare(const struct kafka_message *message, struct cloudevent *event, struct err *err)
{
        auto_json *value = NULL;

        if (message->value != NULL && json_parse(message->value, message->value_length, &value, NULL) == 0 &&
            cloudevent_is_envelope(value))
                return cloudevent_refuse_unmarked_envelope(value, event, err);
        return cloudevent_decode_binary(message, event, err);
}

static int cloudevent_decode_bare(const struct kafka_message *message, const char *bare_type, struct cloudevent *event,
                                  struct err *err)
{
        auto_json *value = NULL;
        int rc = cloudevent_check_value(message, err);

        if (rc < 0)
                return rc;
        rc = json_parse(message->value, message->value_length, &value, err);
        if (rc == 0 && cloudevent_is_envelope(value))
                return cloudevent_refuse_unmarked_envelope(value, event, err);
        event->id = mem_printf("%s-%d-%lld", message->topic, message->partition, (long long)message->offset);
        event->source = mem_printf("/kafka/%s", message->topic);
        event->type = mem_copy_text(bare_type);
        event->data = TAKE_PTR(value);
        return rc;
}

void cloudevent_hash(const char *type, const json_t *data, char out[65])
{
        struct crypto_hash *hash = crypto_hash_new();
        char *text = json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        struct crypto_digest digest;
        auto_free char *hex = NULL;

        crypto_hash_add(hash, type, strlen(type) + 1);
        if (text != NULL)
                crypto_hash_add(hash, text, strlen(text));
        crypto_hash_finish(hash, &digest);
        free(text);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        memcpy(out, hex, 65);
}

/* A single attribute means binary mode: a missing one is then an error, and the message is not bare JSON. */
static bool cloudevent_has_attribute(const struct kafka_message *message)
{
        static const char *const headers[] = { "ce_specversion", "ce_id", "ce_source", "ce_type" };
        size_t length;

        for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
                if (kafka_message_header(message, headers[i], &length) != NULL)
                        return true;
        return false;
}

int cloudevent_decode(const struct kafka_message *message, const char *bare_type, struct cloudevent *event,
                      struct err *err)
{
        static const char structured[] = "application/cloudevents+json";
        size_t type_length = 0;
        const char *content_type = kafka_message_header(message, "content-type", &type_length);
        int rc;

        memset(event, 0, sizeof(*event));
        if (message->key != NULL && message->key_length <= ATTRIBUTE_LIMIT &&
            memchr(message->key, '\0', message->key_length) == NULL)
                event->key = mem_copy_bytes(message->key, message->key_length);
        if (content_type != NULL && type_length >= sizeof(structured) - 1 &&
            strncasecmp(content_type, structured, sizeof(structured) - 1) == 0)
                rc = cloudevent_decode_structured(message, event, err);
        else if (cloudevent_has_attribute(message))
                rc = cloudevent_decode_binary(message, event, err);
        else if (bare_type == NULL)
                rc = cloudevent_refuse_bare(message, event, err);
        else
                rc = cloudevent_decode_bare(message, bare_type, event, err);
        if (rc == 0)
                cloudevent_hash(event->type, event->data, event->body_hash);
        return rc;
}

void cloudevent_release(struct cloudevent *event)
{
        free(event->id);
        free(event->source);
        free(event->type);
        free(event->subject);
        free(event->time);
        free(event->traceparent);
        free(event->key);
        json_decref(event->data);
        memset(event, 0, sizeof(*event));
}

int cloudevent_produce(struct kafka_producer *producer, const struct cloudevent_out *event,
                       kafka_delivered_fn delivered, void *context, struct err *err)
{
        struct kafka_header headers[10];
        struct kafka_record record = { .topic = event->topic, .headers = headers };
        const char *const pairs[][2] = {
                { "ce_specversion", "1.0" },
                { "ce_id", event->id },
                { "ce_source", event->source },
                { "ce_type", event->type },
                { "ce_time", event->time },
                { "ce_partitionkey", event->key },
                { "ce_subject", event->key },
                { "ce_traceparent", event->traceparent },
                { "content-type", event->raw_length ? RAW : "application/json" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
                if (pairs[i][1] != NULL)
                        headers[record.header_count++] = (struct kafka_header){ .name = pairs[i][0],
                                                                                .value = pairs[i][1],
                                                                                .length = strlen(pairs[i][1]) };
        record.key = event->key;
        record.key_length = event->key ? strlen(event->key) : 0;
        record.value = event->data;
        record.value_length = event->data == NULL ? 0 : event->raw_length ? event->raw_length : strlen(event->data);
        return kafka_produce(producer, &record, delivered, context, err);
}
