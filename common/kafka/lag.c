/* How far a consumer is behind the ends of its partitions; and a partition that has messages of which it gets none is
 * started again. That ought not to happen. But a reader that stands still looks like one with nothing to do, and behind
 * it events wait that somebody was promised. */
#include "common/kafka/consumer_private.h"

#include "common/base/clock.h"
#include "common/base/memory.h"

#include <utlist.h>

#define LOOK_INTERVAL  SECONDS(5)
#define PATIENCE_LEAST SECONDS(20)
#define PATIENCE_MOST  SECONDS(20 * 60)

struct lag {
        struct inquiry inquiry;
        rd_kafka_t *rk;
        rd_kafka_topic_partition_list_t *ends; /* of our partitions, once asked for */
        int64_t patience_ms; /* doubled each time: a fetch that only takes long must come to its end */
        bool known;
};

static void list_partitions(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);
        struct lane *lane;

        if (lag->ends != NULL)
                rd_kafka_topic_partition_list_destroy(lag->ends);
        lag->ends = rd_kafka_topic_partition_list_new(8);
        LL_FOREACH (inquiry->consumer->lanes, lane)
                if (!lane->dropped)
                        rd_kafka_topic_partition_list_add(lag->ends, lane->topic, lane->partition)->offset =
                                RD_KAFKA_OFFSET_END; /* as a time: that of what is written next */
}

static void find_ends(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);

        lag->known = rd_kafka_offsets_for_times(lag->rk, lag->ends, BROKER_TIMEOUT) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool is_busy(const struct lane *lane)
{
        return lane->queue != NULL || lane->in_hand != NULL;
}

/* How much of its log is not dealt with. What is left behind the last message was no message. */
static int64_t left(const struct lane *lane, int64_t end)
{
        int64_t from = is_busy(lane) ? lane->position : MAX(lane->position, lane->end);

        return MAX(0, end - MAX(0, from));
}

/* Whether it has long been owed messages that were there to be read, and is waiting for nothing but them. */
static bool stands_still(struct lane *lane, int64_t end, int64_t patience_ms)
{
        int64_t now = clock_boot_ms();

        if (is_busy(lane) || left(lane, end) == 0)
                lane->owed_since = 0;
        else if (lane->owed_since == 0)
                lane->owed_since = now;
        return lane->owed_since != 0 && now - lane->owed_since >= patience_ms;
}

static void start_again(struct lag *lag, const struct lane *lane, int64_t end)
{
        struct kafka_consumer *consumer = lag->inquiry.consumer;
        struct err err;

        err_set(&err, ERR_BUSY, "partition_stalled",
                "%s/%d stands still at %lld, and its log ends at %lld; all partitions are started again", lane->topic,
                (int)lane->partition, (long long)lane->position, (long long)end);
        if (consumer->events->trouble != NULL)
                consumer->events->trouble(consumer->context, &err);
        lag->patience_ms = MIN(lag->patience_ms * 2, PATIENCE_MOST);
        kafka_consumer_rewind(consumer);
}

static bool has_partitions(const struct kafka_consumer *consumer)
{
        return consumer->wanted != NULL && consumer->wanted->cnt > 0;
}

static bool ends_found(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);
        struct kafka_consumer *consumer = inquiry->consumer;
        const struct lane *still = NULL;
        int64_t still_end = 0, messages = 0;
        bool owed = false;

        for (int i = 0; lag->known && i < lag->ends->cnt; i++) {
                const rd_kafka_topic_partition_t *found = &lag->ends->elems[i];
                struct lane *lane = consumer_find_lane(consumer, found->topic, found->partition);

                if (lane == NULL || found->err != RD_KAFKA_RESP_ERR_NO_ERROR || found->offset < 0)
                        continue;
                messages += left(lane, found->offset);
                if (stands_still(lane, found->offset, lag->patience_ms)) {
                        still = lane;
                        still_end = found->offset;
                }
                owed |= lane->owed_since != 0;
        }
        if (consumer->stopped || (has_partitions(consumer) && (!lag->known || consumer->lanes == NULL)))
                return true;
        if (consumer->events->lag != NULL)
                consumer->events->lag(consumer->context, messages);
        if (still != NULL)
                start_again(lag, still, still_end);
        else if (!owed)
                lag->patience_ms = PATIENCE_LEAST;
        return true;
}

static void free_lag(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);

        if (lag->ends != NULL)
                rd_kafka_topic_partition_list_destroy(lag->ends);
        free(lag);
}

void lag_begin(struct kafka_consumer *consumer)
{
        struct lag *lag = NEW(struct lag);

        lag->inquiry.interval_ms = LOOK_INTERVAL;
        lag->inquiry.prepare = list_partitions;
        lag->inquiry.ask = find_ends;
        lag->inquiry.answered = ends_found;
        lag->inquiry.release = free_lag;
        lag->rk = consumer->rk;
        lag->patience_ms = PATIENCE_LEAST;
        inquiry_begin(consumer, &lag->inquiry, LOOK_INTERVAL);
}
