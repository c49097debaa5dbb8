/* A Kafka consumer whose offsets live elsewhere. Each partition is a lane: one message in hand, or several one after
 * the other where the holder asks for more, and a few waiting. */
#pragma once

#include "common/kafka/client.h"

struct kafka_consumer;

struct kafka_message {
        const char *topic; /* this and all below live until kafka_consumer_done */
        int32_t partition;
        int64_t offset;
        int64_t previous;  /* where this lane stood before: the offset after the message before this one */
        int64_t log_start; /* up to where the offsets were deleted that are missing before this; negative = none, or
                              unknown */
        bool nothing;      /* there is no message: up to `offset`, nothing is left to hand out */
        const void *key;
        size_t key_length;
        const void *value; /* NULL = tombstone */
        size_t value_length;
        const rd_kafka_message_t *native; /* NULL = nothing */
};

struct kafka_position {
        char *topic;
        int32_t partition;
        int64_t offset; /* next to read; KAFKA_FROM_BEGINNING where nothing is known, a tail's end where it is found */
};

#define KAFKA_FROM_BEGINNING (-2)

struct kafka_consumer_events {
        /* These partitions are ours. Fill in the offsets and call kafka_consumer_start with the same assignment, now or
         * later; an assignment that is not the newest any more is then ignored. */
        void (*assigned)(void *context, unsigned assignment, struct kafka_position *positions, size_t count);
        /* One message; call kafka_consumer_done when what it asks for is remembered. Here kafka_consumer_next may be
         * asked for those that came behind it. Or nothing, to be remembered too:
         * the log was read to its end, and its last offsets hold no message (marks of transactions, what Kafka has
         * deleted), or its end lies before `previous`. A tail is not given that. */
        void (*message)(void *context, struct kafka_message *message);
        /* Something a person may have to mend (a topic is missing, no right to read it, a partition stands still); it
         * is tried again. NULL is fine. */
        void (*trouble)(void *context, const struct err *err);
        /* Nothing will be read any more, whatever comes: the process should end, and be started again. */
        void (*fatal)(void *context, const struct err *err);
        /* Every few seconds: how many offsets of our partitions are not dealt with; negative = unknown. NULL is fine; a
         * tail does not tell. */
        void (*lag)(void *context, int64_t offsets);
};

/* Joins group (topics end with NULL). Everything is called on the loop thread. Returns 0 and *ret, or -ERR_INPUT. */
int kafka_consumer_new(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                       const char *const *topics, const struct kafka_consumer_events *events, void *context,
                       struct kafka_consumer **ret, struct err *err);
/* Follows all partitions of one topic from where they end now, in no group: for watching. assigned gets these ends. */
int kafka_consumer_tail(uv_loop_t *loop, const struct kafka_settings *settings, const char *topic,
                        const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                        struct err *err);
/* Not from within an event. */
void kafka_consumer_free(struct kafka_consumer *consumer);

void kafka_consumer_start(struct kafka_consumer *consumer, unsigned assignment, const struct kafka_position *positions,
                          size_t count);
/* The message behind one that is in hand, if it has come already; NULL where none has. It stays where it is, and its
 * `previous` is not set yet. */
const struct kafka_message *kafka_consumer_peek(const struct kafka_consumer *consumer,
                                                const struct kafka_message *message);
/* Takes that message in hand too. NULL where none has come. */
struct kafka_message *kafka_consumer_next(struct kafka_consumer *consumer, struct kafka_message *message);
/* The message is dealt with, the first of those in hand of its lane: frees it, and goes on with its lane when nothing
 * of it is in hand any more. */
void kafka_consumer_done(struct kafka_consumer *consumer, struct kafka_message *message);
/* Drops everything not in hand and asks for the positions again (assigned is called): the catalog went back in time. */
void kafka_consumer_rewind(struct kafka_consumer *consumer);
/* Stops delivering new messages; what is in hand goes on. */
void kafka_consumer_stop(struct kafka_consumer *consumer);
/* Why nothing is read, as far as it is known: ERR_NONE where nothing is, or all is well (cause.h has the codes). Lives
 * as long as the consumer. */
const struct err *kafka_consumer_cause(const struct kafka_consumer *consumer);
/* Messages in hand. */
size_t kafka_consumer_in_hand(const struct kafka_consumer *consumer);
/* The value of a header, not NUL-terminated; NULL where it is missing. */
const char *kafka_message_header(const struct kafka_message *message, const char *name, size_t *ret_length);
