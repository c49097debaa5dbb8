/* Shared by consumer.c (a member of a group), lanes.c (its partitions), tail.c (a watcher without a group), lag.c (how
 * far it is behind) and inquiry.c (questions only the brokers can answer). */
#pragma once

#include "common/kafka/cause.h"
#include "common/kafka/consumer.h"
#include "common/kafka/lanes.h"

#define CONSUMER_MAGIC 0x6b636f6e

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
/* Calls assigned for the wanted partitions. */
void consumer_ask_for_positions(struct kafka_consumer *consumer);

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
