/* A Kafka consumer whose offsets are stored elsewhere. Each partition is a lane: one message in hand, or several in
 * order if the holder asks for more, and a few waiting. */
#pragma once

#include "common/kafka/client.h"

struct kafka_consumer;

struct kafka_message {
        const char *topic; /* this and all below live until kafka_consumer_done */
        int32_t partition;
        int64_t offset;
        int64_t previous;  /* the position of the lane before this message: the offset after the previous one */
        int64_t log_start; /* the offsets missing before this were deleted up to here; negative = none, or unknown */
        bool nothing;      /* not a message: there is nothing to hand out up to `offset` */
        const void *key;
        size_t key_length;
        const void *value; /* NULL = tombstone */
        size_t value_length;
        const rd_kafka_message_t *native; /* NULL = nothing */
};

struct kafka_position {
        char *topic;
        int32_t partition;
        int64_t offset; /* next to read; KAFKA_FROM_BEGINNING if nothing is known; for a tail, the end that was found */
};

#define KAFKA_FROM_BEGINNING (-2)

struct kafka_consumer_events {
        /* These partitions are ours. Fill in the offsets and call kafka_consumer_start with the same assignment, now or
         * later; an assignment that is no longer the newest is ignored. */
        void (*assigned)(void *context, unsigned assignment, struct kafka_position *positions, size_t count);
        /* One message; call kafka_consumer_done when what it asks for is stored. In this callback kafka_consumer_next
         * may be called for the messages after it. Or no message (nothing), which must be stored too: the log was read
         * to its end, and its last offsets hold no message (transaction markers, deleted messages), or its end lies
         * before `previous`. A tail does not get these. */
        void (*message)(void *context, struct kafka_message *message);
        /* Something a person may have to fix (a topic is missing, no right to read it, a partition is stalled); it is
         * retried. NULL is fine. */
        void (*trouble)(void *context, const struct err *err);
        /* Nothing will ever be read again: the process should exit and be restarted. */
        void (*fatal)(void *context, const struct err *err);
        /* Every few seconds: how many offsets of our partitions are not yet done; negative = unknown. NULL is fine; a
         * tail does not report it. */
        void (*lag)(void *context, int64_t offsets);
};

/* Joins group (topics end with NULL). Everything is called on the loop thread. Returns 0 and *ret, or -ERR_INPUT. */
int kafka_consumer_new(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                       const char *const *topics, const struct kafka_consumer_events *events, void *context,
                       struct kafka_consumer **ret, struct err *err);
/* Follows all partitions of one topic from their current ends, without a group: for watching. assigned gets these
 * ends. */
int kafka_consumer_tail(uv_loop_t *loop, const struct kafka_settings *settings, const char *topic,
                        const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                        struct err *err);
/* Must not be called from a callback. */
void kafka_consumer_free(struct kafka_consumer *consumer);

void kafka_consumer_start(struct kafka_consumer *consumer, unsigned assignment, const struct kafka_position *positions,
                          size_t count);
/* The message after one that is in hand, if it has already arrived, otherwise NULL. It stays in the queue, and its
 * `previous` is not set yet. */
const struct kafka_message *kafka_consumer_peek(const struct kafka_consumer *consumer,
                                                const struct kafka_message *message);
/* Takes that message in hand too. NULL if none has arrived. */
struct kafka_message *kafka_consumer_next(struct kafka_consumer *consumer, struct kafka_message *message);
/* The message, the first of those in hand in its lane, is done: frees it, and continues with the lane once none of its
 * messages is in hand. */
void kafka_consumer_done(struct kafka_consumer *consumer, struct kafka_message *message);
/* Drops everything not in hand and requests the positions again (assigned is called): the catalog went back in time. */
void kafka_consumer_rewind(struct kafka_consumer *consumer);
/* Stops delivering new messages; those in hand continue. */
void kafka_consumer_stop(struct kafka_consumer *consumer);
/* Why nothing is read, as far as known: ERR_NONE if nothing is known, or all is well (cause.h has the codes). Lives as
 * long as the consumer. */
const struct err *kafka_consumer_cause(const struct kafka_consumer *consumer);
/* Messages in hand. */
size_t kafka_consumer_in_hand(const struct kafka_consumer *consumer);
/* The value of a header, not NUL-terminated; NULL where it is missing. */
const char *kafka_message_header(const struct kafka_message *message, const char *name, size_t *ret_length);
