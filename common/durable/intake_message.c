/* Describes a message from Kafka to the catalog: see intake_private.h. */
#include "common/durable/intake_private.h"

#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

static json_t *message_base64_text(const void *bytes, size_t length)
{
        auto_free char *text = bytes ? crypto_base64(bytes, length) : NULL;

        return text ? json_string(text) : json_null();
}

static json_t *message_list_headers(const struct kafka_message *message)
{
        json_t *list = json_array();
        rd_kafka_headers_t *headers;
        const char *name;
        const void *value;
        size_t length;

        if (message->nothing || rd_kafka_message_headers(message->native, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return list;
        for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
             i++)
                json_array_append_new(list, json_pack("[o, o]", message_base64_text(name, strlen(name)),
                                                      message_base64_text(value, length)));
        return list;
}

/* Its position. The catalog keeps the bytes only of what is refused: see intake_add_bytes. */
static json_t *message_describe(const struct kafka_message *message)
{
        return json_pack("{s:s, s:i, s:I, s:I}", "topic", message->topic, "partition", (int)message->partition,
                         "offset", (json_int_t)message->offset, "log_start", (json_int_t)message->log_start);
}

void intake_add_bytes(json_t *described, const struct kafka_message *message)
{
        json_t *bytes = json_object_get(described, "message");

        if (json_object_get(bytes, "value") != NULL)
                return;
        json_object_set_new(bytes, "key", message_base64_text(message->key, message->key_length));
        json_object_set_new(bytes, "value", message_base64_text(message->value, message->value_length));
        json_object_set_new(bytes, "headers", message_list_headers(message));
}

static json_t *message_describe_event(const struct cloudevent *event, const char *topic)
{
        json_t *object = json_object();

        json_set_text(object, "id", event->id);
        json_set_text(object, "source", event->source);
        json_set_text(object, "type", event->type);
        json_set_text(object, "key", event->key);
        json_set_text(object, "traceparent", event->traceparent);
        json_set_text(object, "body_hash", event->body_hash);
        json_set_text(object, "topic", topic);
        if (event->is_raw)
                json_object_set_new(object, "is_raw", json_true());
        return object;
}

/* Decides what the message is: "event", "dead" or "park". */
static const char *message_judge(struct intake *intake, const char *topic, struct cloudevent *event, int decoded,
                                 json_t **ret_data, struct err *err)
{
        const struct contract *contract;

        if (decoded < 0)
                return "dead";
        contract = contract_find(intake->settings.contracts, event->type);
        if (contract == NULL) {
                *ret_data = json_incref(event->data);
                return "park";
        }
        if (contract_check_topic(contract, topic, err) < 0 || contract_check_form(contract, event->is_raw, err) < 0 ||
            contract_check(contract, event->key, event->data, ret_data, err) < 0)
                return "dead";
        if (contract->digest != NULL)
                snprintf(event->body_hash, sizeof(event->body_hash), "%s", json_text(*ret_data, contract->digest));
        if (intake->settings.enrich != NULL)
                intake->settings.enrich(intake->settings.context, *ret_data);
        return "event";
}

static void message_set_refusal(json_t *described, const char *code, const char *field, const char *detail)
{
        json_object_set_new(described, "verdict", json_string("dead"));
        json_object_set_new(described, "code", json_string(code));
        json_object_set_new(described, "field", field != NULL && field[0] != '\0' ? json_string(field) : json_null());
        json_object_set_new(described, "detail", json_string(detail));
}

json_t *intake_describe(struct intake *intake, const struct kafka_message *message)
{
        json_t *described = json_pack("{s:o, s:I}", "message", message_describe(message), "previous",
                                      (json_int_t)message->previous);
        json_t *data = NULL;
        struct cloudevent event;
        struct err err = { 0 };
        int decoded;

        if (message->nothing) {
                json_object_set_new(described, "verdict", json_string("nothing"));
                return described;
        }
        decoded = cloudevent_decode(message, contract_only_type(intake->settings.contracts, message->topic), &event,
                                    &err);
        json_object_set_new(described, "verdict",
                            json_string(message_judge(intake, message->topic, &event, decoded, &data, &err)));
        json_object_set_new(described, "event", message_describe_event(&event, message->topic));
        if (data != NULL)
                json_object_set_new(described, "data", data);
        if (err.class != ERR_NONE) {
                message_set_refusal(described, err.code, err.field, err.message);
                intake_add_bytes(described, message);
        }
        cloudevent_release(&event);
        return described;
}

void intake_describe_as_dead(json_t *described, const struct err *err)
{
        message_set_refusal(described, "internal", NULL, err->message);
}
