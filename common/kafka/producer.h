/* An idempotent Kafka producer (acks=all) that reports for each message, on the loop thread, whether the brokers have
 * it. */
#pragma once

#include "common/kafka/client.h"

struct kafka_producer;

struct kafka_header {
        const char *name;
        const void *value; /* NULL = null header */
        size_t length;
};

struct kafka_record {
        const char *topic;
        const void *key; /* NULL = no key */
        size_t key_length;
        const void *value; /* NULL = tombstone */
        size_t value_length;
        const struct kafka_header *headers;
        size_t header_count;
};

typedef void (*kafka_delivered_fn)(void *context, const struct err *err);

/* message_timeout_ms: how long a message may wait for the brokers before delivered gets ERR_BUSY. topics end with NULL:
 * their metadata is requested at once, so that the first message is not a second late. fatal is called when the
 * producer cannot continue (it must then be freed and recreated). Returns 0 and *ret, or -ERR_INPUT. */
int kafka_producer_new(uv_loop_t *loop, const struct kafka_settings *settings, int message_timeout_ms,
                       const char *const *topics, void (*fatal)(void *context, const struct err *err), void *context,
                       struct kafka_producer **ret, struct err *err);
/* Waits up to timeout_ms for messages in flight, reports the rest as ERR_BUSY, frees. */
void kafka_producer_free(struct kafka_producer *producer, int timeout_ms);

/* Copies the record. Returns 0 and calls delivered once, later; or returns a negative error at once (queue full:
 * ERR_BUSY, too large: ERR_INPUT) and does not call it. The code "topic_refused" (ERR_BUSY) says that Kafka accepts
 * nothing for this topic until somebody creates it or allows us to write to it. */
int kafka_produce(struct kafka_producer *producer, const struct kafka_record *record, kafka_delivered_fn delivered,
                  void *context, struct err *err);
/* 0, or why no broker can be reached: -ERR_BUSY, or -ERR_OURS if a person must fix it (cause.h has the codes). An error
 * lasts from the moment all brokers are known to be down until one is back. */
int kafka_producer_check(const struct kafka_producer *producer, struct err *err);
