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
        rd_kafka_topic_partition_list_t *wanted; /* what the group assigned to us; NULL = nothing, or not in it now */
        struct inquiry *inquiry;
        struct kafka_cause cause; /* why nothing is read */
        bool revoking, rewinding, stopped, tail, freed;
};

/* Not in a group yet, without partitions. Returns 0 and *ret, or -ERR_INPUT. */
int consumer_make(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                  const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                  struct err *err);
/* Calls assigned for the wanted partitions. */
void consumer_ask_for_positions(struct kafka_consumer *consumer);

/* A question that only the brokers can answer: librdkafka blocks while it asks them, so it is asked on a worker thread,
 * repeatedly until there is nothing more to ask. The consumer lives as long as a question is under way. Embedded
 * first. */
struct inquiry {
        uv_work_t work;
        uv_timer_t timer;
        struct kafka_consumer *consumer;
        int64_t interval_ms;
        void (*prepare)(struct inquiry *inquiry); /* on the loop, before each question; NULL is fine */
        void (*ask)(struct inquiry *inquiry);     /* on a worker thread: uses only the consumer's rk and its own data */
        bool (*answered)(struct inquiry *inquiry); /* on the loop; returns whether to ask again */
        void (*release)(struct inquiry *inquiry);  /* frees it */
        bool under_way;
};

/* Asks for the first time after delay_ms. Takes ownership of the inquiry; a consumer has at most one. */
void inquiry_begin(struct kafka_consumer *consumer, struct inquiry *inquiry, int64_t delay_ms);
/* Ends the consumer's inquiry, if any. Returns whether a question is under way: then the inquiry ends once it is
 * answered, and frees the consumer afterwards. */
bool inquiry_end(struct kafka_consumer *consumer);

/* Sets the offsets in the list to the ends of its partitions (for readers of committed messages, which is the default:
 * at the first open transaction). Blocks for at most two seconds. Returns false unless all are known. */
bool inquiry_find_ends(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list);

/* Checks every few seconds how far the consumer's partitions are behind, and whether any is stalled. */
void lag_begin(struct kafka_consumer *consumer);
