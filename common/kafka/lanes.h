/* What a consumer reads, partition by partition. For the files of consumer_private.h; see lanes.c for the life of a
 * lane.
 */
#pragma once

#include "common/kafka/consumer.h"

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

/* Begins a lane for each of these partitions, at the offsets of the list. */
void lanes_add(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *list);
/* Ends all of them. Those with something in hand are freed when it is done. */
void lanes_drop(struct kafka_consumer *consumer);
/* Frees all of them, with what is in hand. */
void lanes_free(struct kafka_consumer *consumer);
/* NULL where it is not ours (any more). */
struct lane *lanes_find(struct kafka_consumer *consumer, const char *topic, int32_t partition);
/* The message of a fetch goes to the end of its lane. Takes the event. */
void lanes_add_message(struct kafka_consumer *consumer, rd_kafka_event_t *event);
/* The same for a message that is none: before `end` there is nothing to hand out. */
void lane_add_nothing(struct kafka_consumer *consumer, struct lane *lane, int64_t end);
/* The first in hand is dealt with: frees the message, and hands out the next when nothing of its lane is left in hand.
 * Returns whether its lane, dropped before, is gone now. */
bool lane_done(struct kafka_consumer *consumer, struct kafka_message *message);
/* Whether something of it waits or is in hand. */
bool lane_is_busy(const struct lane *lane);
/* Where its log begins and ends, as the last answer to a fetch told it; negative = unknown. */
void lane_log(const struct kafka_consumer *consumer, const struct lane *lane, int64_t *ret_low, int64_t *ret_high);
