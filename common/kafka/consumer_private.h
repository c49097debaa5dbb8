/* What consumer.c (a group's member), tail.c (a watcher without a group), lag.c (how far behind) and inquiry.c (what
 * only the brokers know) share. */
#pragma once

#include "common/kafka/cause.h"
#include "common/kafka/consumer.h"

#define CONSUMER_MAGIC 0x6b636f6e

struct waiting;

/* A partition of ours. What librdkafka hands over waits in the queue; the first of what is in hand is dealt with first.
 */
struct lane {
        struct lane *next;
        char *topic;
        int32_t partition;
        int64_t position; /* next to be dealt with */
        int64_t fetched;  /* after the last message that librdkafka gave us, or the end it told us of; at first the
                             position */
        struct waiting *queue, *in_hand;
        size_t queued, queued_bytes;
        int owed_looks;       /* how often in a row it was not at the end and was given nothing: lag.c */
        bool paused, dropped; /* dropped: ended, waits only for what is in hand */
};

struct kafka_consumer {
        unsigned magic;
        uv_loop_t *loop;
        rd_kafka_t *rk;
        rd_kafka_queue_t *queue;
        struct kafka_wakeup *wakeup;
        const struct kafka_consumer_events *events;
        void *context;
        struct lane *lanes;
        size_t in_hand;
        unsigned assignment;
        rd_kafka_topic_partition_list_t *wanted; /* what the group gives us; NULL = nothing, or not in it now */
        struct inquiry *inquiry;
        struct kafka_cause cause; /* why nothing is read */
        bool revoking, rewinding, stopped, tail, freed;
};

/* In no group yet, with no partitions. Returns 0 and *ret, or -ERR_INPUT. */
int consumer_make(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                  const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                  struct err *err);
/* Begins to hand out these partitions, at the offsets of the list. */
void consumer_add_lanes(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *list);
/* Calls assigned for what is wanted. */
void consumer_ask_for_positions(struct kafka_consumer *consumer);
/* NULL where it is not ours (any more). */
struct lane *consumer_find_lane(struct kafka_consumer *consumer, const char *topic, int32_t partition);
/* Whether something of it waits or is in hand. */
bool lane_is_busy(const struct lane *lane);
/* Where its log begins and ends, as the last answer to a fetch told it; negative = unknown. */
void lane_log(const struct kafka_consumer *consumer, const struct lane *lane, int64_t *ret_low, int64_t *ret_high);

/* Something that only the brokers know: librdkafka blocks while it asks them, so a worker thread does, again and again
 * until there is nothing more to ask. The consumer lives as long as a question is under way. Embedded first. */
struct inquiry {
        uv_work_t work;
        uv_timer_t timer;
        struct kafka_consumer *consumer;
        int64_t interval_ms;
        void (*prepare)(struct inquiry *inquiry); /* on the loop, before each question; NULL is fine */
        void (*ask)(struct inquiry
                            *inquiry); /* on a worker thread: sees nothing but the consumer's rk and what is its own */
        bool (*answered)(struct inquiry *inquiry); /* on the loop; returns whether to ask again */
        void (*release)(struct inquiry *inquiry);  /* frees it */
        bool under_way;
};

/* Asks for the first time after delay_ms. Takes the inquiry, of which a consumer has one at most. */
void inquiry_begin(struct kafka_consumer *consumer, struct inquiry *inquiry, int64_t delay_ms);
/* Ends the consumer's inquiry, if any. Returns whether a question is under way: then it ends by itself, and frees the
 * consumer after that. */
bool inquiry_end(struct kafka_consumer *consumer);

/* Fills the offsets of the list with those where its partitions end (for readers of committed messages, which is the
 * default: at the first open transaction). Blocks for two seconds at most. Returns false unless all are known. */
bool inquiry_find_ends(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list);

/* Looks every few seconds how far the consumer's partitions are behind, and at those that nobody reads. */
void lag_begin(struct kafka_consumer *consumer);
