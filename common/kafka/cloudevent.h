/* CloudEvents 1.0 over Kafka (the Kafka protocol binding): binary and structured mode in, binary mode out. */
#pragma once

#include "common/base/json.h"
#include "common/kafka/consumer.h"
#include "common/kafka/producer.h"

struct cloudevent {
        char *id, *source, *type, *subject, *time, *traceparent; /* subject, time and traceparent may be NULL */
        char *key; /* the message key as text; NULL if it is not text, or too long */
        json_t *data;
        bool is_raw;        /* the data came as application/octet-stream: data is {"body_base64": "..."} */
        char body_hash[65]; /* SHA-256 of type and data, to tell the same event from a different one with its id */
};

/* Decodes a message. Data is JSON; in binary mode it may also be bytes, for types whose contracts say so. bare_type:
 * the only type of the topic, which may also come as bare JSON without attributes (its id is then derived from topic,
 * partition and offset), or NULL. *event is filled as far as decoding got, even on failure, and must always be released
 * with cloudevent_release. Returns 0 or -ERR_INPUT naming the attribute. */
int cloudevent_decode(const struct kafka_message *message, const char *bare_type, struct cloudevent *event,
                      struct err *err);
void cloudevent_release(struct cloudevent *event);

/* The body_hash of an event, as its consumers will compute it. */
void cloudevent_hash(const char *type, const json_t *data, char out[65]);

/* Produces in binary mode; key is also ce_partitionkey. data NULL = tombstone. */
struct cloudevent_out {
        const char *topic, *key, *id, *source, *type, *time, *traceparent, *data;
        size_t raw_length; /* data is this many bytes, passed on unchanged; 0 = it is JSON text */
};
int cloudevent_produce(struct kafka_producer *producer, const struct cloudevent_out *event,
                       kafka_delivered_fn delivered, void *context, struct err *err);
