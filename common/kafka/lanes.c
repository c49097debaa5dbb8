/* The lanes of a consumer: see lanes.h.
 *
 * A lane is one of our partitions, from its assignment to its revocation. Messages wait in it in order; the first one
 * is handed out and is then in hand (lane->in_hand) until its holder calls kafka_consumer_done. A holder with a message
 * in hand may take those behind it as well. While too many are waiting, the partition is paused. A dropped lane forgets
 * its waiting messages; a message in hand keeps its lane alive (dropped) until it is done, since its holder still
 * points to it. */
#include "common/kafka/consumer_private.h"

#include "common/base/memory.h"

#include <string.h>
#include <utlist.h>

/* How much may wait in a lane before its partition is paused, and how little must be left before it is resumed. Not too
 * little: librdkafka discards what it has fetched from a paused partition, and fetches it again. */
#define LANE_LIMIT        512
#define LANE_RESUME       256
#define LANE_BYTES_LIMIT  (1024 * 1024)
#define LANE_BYTES_RESUME (512 * 1024)

struct waiting {
        struct waiting *prev, *next;
        struct lane *lane;
        rd_kafka_event_t *event; /* owns the bytes of the message; NULL = nothing */
        struct kafka_message message;
};

static void lane_free_waiting(struct waiting *waiting)
{
        rd_kafka_event_destroy(waiting->event);
        free(waiting);
}

static void lane_empty(struct lane *lane)
{
        struct waiting *waiting, *next;

        DL_FOREACH_SAFE (lane->queue, waiting, next) {
                DL_DELETE(lane->queue, waiting);
                lane_free_waiting(waiting);
        }
        lane->queued = lane->queued_bytes = 0;
}

static void lane_free(struct kafka_consumer *consumer, struct lane *lane)
{
        LL_DELETE(consumer->lanes, lane);
        lane_empty(lane);
        free(lane->topic);
        free(lane);
}

static void lane_pause(struct kafka_consumer *consumer, struct lane *lane, bool pause)
{
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

        rd_kafka_topic_partition_list_add(list, lane->topic, lane->partition);
        if (pause)
                rd_kafka_pause_partitions(consumer->rk, list);
        else
                rd_kafka_resume_partitions(consumer->rk, list);
        rd_kafka_topic_partition_list_destroy(list);
        lane->paused = pause;
}

void lanes_drop(struct kafka_consumer *consumer)
{
        struct lane *lane, *next;

        LL_FOREACH_SAFE(consumer->lanes, lane, next)
        {
                lane_empty(lane);
                lane->dropped = true;
                if (lane->in_hand == NULL)
                        lane_free(consumer, lane);
        }
}

void lanes_free(struct kafka_consumer *consumer)
{
        struct waiting *waiting, *next_waiting;
        struct lane *lane, *next;

        LL_FOREACH_SAFE(consumer->lanes, lane, next)
        {
                DL_FOREACH_SAFE (lane->in_hand, waiting, next_waiting) {
                        DL_DELETE(lane->in_hand, waiting);
                        lane_free_waiting(waiting);
                }
                lane_free(consumer, lane);
        }
}

struct lane *lanes_find(struct kafka_consumer *consumer, const char *topic, int32_t partition)
{
        struct lane *lane;

        LL_FOREACH (consumer->lanes, lane)
                if (!lane->dropped && lane->partition == partition && strcmp(lane->topic, topic) == 0)
                        return lane;
        return NULL;
}

bool lane_is_busy(const struct lane *lane)
{
        return lane->queue != NULL || lane->in_hand != NULL;
}

void lane_log(const struct kafka_consumer *consumer, const struct lane *lane, int64_t *ret_low, int64_t *ret_high)
{
        if (rd_kafka_get_watermark_offsets(consumer->rk, lane->topic, lane->partition, ret_low, ret_high) !=
            RD_KAFKA_RESP_ERR_NO_ERROR)
                *ret_low = *ret_high = -1;
}

/* Where the log begins, if that is after what was fetched last, so that offsets before `next` are missing. Known from
 * the last fetch response; one with an error makes it unknown. */
static int64_t lane_log_start(const struct kafka_consumer *consumer, const struct lane *lane, int64_t next)
{
        int64_t low, high;

        if (lane->fetched < 0 || next <= lane->fetched)
                return -1;
        lane_log(consumer, lane, &low, &high);
        return MIN(low, next);
}

void lanes_add(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
        for (int i = 0; i < list->cnt; i++) {
                struct lane *lane = NEW(struct lane);

                lane->topic = mem_copy_text(list->elems[i].topic);
                lane->partition = list->elems[i].partition;
                lane->position = lane->fetched = list->elems[i].offset;
                LL_PREPEND(consumer->lanes, lane);
        }
}

static size_t lane_size_of(const struct waiting *waiting)
{
        return waiting->message.key_length + waiting->message.value_length;
}

/* Moves a message from the queue to those in hand, the last of which ends at `previous`. */
static struct waiting *lane_take_in_hand(struct kafka_consumer *consumer, struct lane *lane, int64_t previous)
{
        struct waiting *waiting = lane->queue;

        DL_DELETE(lane->queue, waiting);
        lane->queued--;
        lane->queued_bytes -= lane_size_of(waiting);
        DL_APPEND(lane->in_hand, waiting);
        consumer->in_hand++;
        waiting->message.previous = previous;
        if (lane->paused && lane->queued <= LANE_RESUME && lane->queued_bytes <= LANE_BYTES_RESUME)
                lane_pause(consumer, lane, false);
        return waiting;
}

static void lane_go_on(struct kafka_consumer *consumer, struct lane *lane)
{
        if (lane->queue == NULL || lane->in_hand != NULL || consumer->stopped)
                return;
        consumer->events->message(consumer->context, &lane_take_in_hand(consumer, lane, lane->position)->message);
}

const struct kafka_message *kafka_consumer_peek(const struct kafka_consumer *consumer,
                                                const struct kafka_message *message)
{
        const struct lane *lane = CONTAINER_OF(message, struct waiting, message)->lane;

        return lane->queue == NULL || consumer->stopped ? NULL : &lane->queue->message;
}

struct kafka_message *kafka_consumer_next(struct kafka_consumer *consumer, struct kafka_message *message)
{
        struct lane *lane = CONTAINER_OF(message, struct waiting, message)->lane;

        if (kafka_consumer_peek(consumer, message) == NULL)
                return NULL;
        assert(lane->in_hand->prev == CONTAINER_OF(message, struct waiting, message)); /* the last in hand */
        return &lane_take_in_hand(consumer, lane, message->offset + 1)->message;
}

/* Takes ownership of waiting. */
static void lane_add_waiting(struct kafka_consumer *consumer, struct lane *lane, struct waiting *waiting)
{
        waiting->lane = lane;
        waiting->message.topic = lane->topic;
        waiting->message.partition = lane->partition;
        lane->fetched = waiting->message.offset + 1;
        lane->owed_looks = 0;
        DL_APPEND(lane->queue, waiting);
        lane->queued++;
        lane->queued_bytes += lane_size_of(waiting);
        lane_go_on(consumer, lane);
}

void lanes_add_message(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        const rd_kafka_message_t *native = rd_kafka_event_message_next(event);
        struct waiting *waiting;
        struct lane *lane = NULL;

        if (native != NULL && !native->err)
                lane = lanes_find(consumer, rd_kafka_topic_name(native->rkt), native->partition);
        if (lane == NULL) {
                rd_kafka_event_destroy(event);
                return;
        }
        waiting = NEW(struct waiting);
        waiting->event = event;
        waiting->message = (struct kafka_message){
                .offset = native->offset,
                .log_start = lane_log_start(consumer, lane, native->offset),
                .key = native->key,
                .key_length = native->key_len,
                .value = native->payload,
                .value_length = native->len,
                .native = native,
        };
        if (!lane->paused &&
            (lane->queued + 1 >= LANE_LIMIT || lane->queued_bytes + lane_size_of(waiting) >= LANE_BYTES_LIMIT))
                /* where librdkafka continues when the partition is resumed */
                lane_pause(consumer, lane, true);
        lane_add_waiting(consumer, lane, waiting);
}

/* Queued in order with the messages: if the catalog's offset were moved independently of them, a log that went back
 * would look as if it had been read. */
void lane_add_nothing(struct kafka_consumer *consumer, struct lane *lane, int64_t end)
{
        struct waiting *waiting = NEW(struct waiting);

        waiting->message = (struct kafka_message){
                .offset = end - 1,
                .log_start = lane_log_start(consumer, lane, end),
                .nothing = true,
        };
        lane_add_waiting(consumer, lane, waiting);
}

bool lane_done(struct kafka_consumer *consumer, struct kafka_message *message)
{
        struct waiting *waiting = CONTAINER_OF(message, struct waiting, message);
        struct lane *lane = waiting->lane;

        assert(lane->in_hand == waiting);
        DL_DELETE(lane->in_hand, waiting);
        consumer->in_hand--;
        if (!lane->dropped && !consumer->tail && !message->nothing) /* lag.c corrects the rest */
                rd_kafka_offset_store(message->native->rkt, message->partition, message->offset);
        lane->position = message->offset + 1;
        lane_free_waiting(waiting);
        if (lane->in_hand != NULL)
                return false;
        if (!lane->dropped) {
                lane_go_on(consumer, lane);
                return false;
        }
        lane_free(consumer, lane);
        return true;
}
