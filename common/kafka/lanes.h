/* The partitions of a consumer, each with its messages: shared by the files of consumer_private.h. */
#pragma once

#include "common/kafka/consumer.h"

struct waiting;

/* One of our partitions. Messages from librdkafka wait in the queue; those in hand are done in order. */
struct lane {
        struct lane *next;
        char *topic;
        int32_t partition;
        int64_t position; /* next one to be done */
        int64_t fetched;  /* after the last message delivered, or the reported end; at first the position */
        struct waiting *queue, *in_hand;
        size_t queued, queued_bytes;
        int owed_looks;       /* how often in a row it was not at the end yet got nothing: lag.c */
        bool paused, dropped; /* dropped: ended, only waiting for messages in hand */
};

/* Makes a lane for each of these partitions, at the offsets in the list. */
void lanes_add(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *list);
/* Ends all lanes. One with messages in hand is freed when the last of them is done. */
void lanes_drop(struct kafka_consumer *consumer);
/* Frees all lanes, with the messages in hand. */
void lanes_free(struct kafka_consumer *consumer);
/* NULL if it is not ours (any more). */
struct lane *lanes_find(struct kafka_consumer *consumer, const char *topic, int32_t partition);
/* Queues the message of a fetch event in its lane. Takes ownership of the event. */
void lanes_add_message(struct kafka_consumer *consumer, rd_kafka_event_t *event);
/* Queues that there are no messages before `end`. */
void lane_add_nothing(struct kafka_consumer *consumer, struct lane *lane, int64_t end);
/* The first message in hand is done: frees it, and hands out the next one if none is left in hand. Returns whether this
 * freed a dropped lane. */
bool lane_done(struct kafka_consumer *consumer, struct kafka_message *message);
/* Whether any of its messages are waiting or in hand. */
bool lane_is_busy(const struct lane *lane);
/* Where its log begins and ends, according to the last fetch response; negative = unknown. */
void lane_log(const struct kafka_consumer *consumer, const struct lane *lane, int64_t *ret_low, int64_t *ret_high);
