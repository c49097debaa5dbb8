/* How far a consumer is behind the ends of its partitions. A partition that has messages but delivers none is
 * restarted, and so is one whose position is beyond the end. That should not happen, but a stalled reader looks like
 * one with nothing to do, while acknowledged events are waiting. */
#include "common/kafka/consumer_private.h"

#include "common/base/memory.h"

#include <utlist.h>

#define LOOK_INTERVAL     SECONDS(5)
#define COMMITTED_TIMEOUT 2000 /* ms */
#define PATIENCE_LEAST    4
#define PATIENCE_MOST     240

struct lag {
        struct inquiry inquiry;
        rd_kafka_topic_partition_list_t *ends;      /* of our partitions, once known */
        rd_kafka_topic_partition_list_t *committed; /* the offsets that Kafka has committed for them */
        bool known, committed_known;
        int patience; /* checks in a row; see lag_start_again */
};

static void lag_forget_lists(struct lag *lag)
{
        if (lag->ends != NULL)
                rd_kafka_topic_partition_list_destroy(lag->ends);
        if (lag->committed != NULL)
                rd_kafka_topic_partition_list_destroy(lag->committed);
}

static void lag_list_partitions(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);
        struct lane *lane;

        lag_forget_lists(lag);
        lag->ends = rd_kafka_topic_partition_list_new(8);
        LL_FOREACH (inquiry->consumer->lanes, lane)
                if (!lane->dropped)
                        rd_kafka_topic_partition_list_add(lag->ends, lane->topic, lane->partition);
        lag->committed = rd_kafka_topic_partition_list_copy(lag->ends);
}

static void lag_find_ends(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);

        lag->known = lag->ends->cnt > 0 && inquiry_find_ends(inquiry->consumer->rk, lag->ends);
        lag->committed_known =
                lag->ends->cnt > 0 && rd_kafka_committed(inquiry->consumer->rk, lag->committed, COMMITTED_TIMEOUT) ==
                                              RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* The last commit may have failed in an outage, with nothing to commit for a long time after it; and librdkafka
 * automatically commits only offsets higher than before, which they are not in a recreated topic. People and
 * autoscalers read these offsets. */
static void lag_correct_commits(struct lag *lag)
{
        struct kafka_consumer *consumer = lag->inquiry.consumer;
        rd_kafka_topic_partition_list_t *wrong = rd_kafka_topic_partition_list_new(8);
        struct lane *lane;

        LL_FOREACH (consumer->lanes, lane) {
                const rd_kafka_topic_partition_t *found =
                        rd_kafka_topic_partition_list_find(lag->committed, lane->topic, lane->partition);

                if (found != NULL && !lane->dropped && !lane_is_busy(lane) && lane->position >= 0 &&
                    found->err == RD_KAFKA_RESP_ERR_NO_ERROR && found->offset != lane->position)
                        rd_kafka_topic_partition_list_add(wrong, lane->topic, lane->partition)->offset = lane->position;
        }
        if (wrong->cnt > 0)
                rd_kafka_commit(consumer->rk, wrong, true); /* if it fails, the next check finds it again */
        rd_kafka_topic_partition_list_destroy(wrong);
}

/* The high watermark of the last fetch counts too: an open transaction holds up the messages after it. */
static int64_t lag_offsets_left(const struct kafka_consumer *consumer, const struct lane *lane, int64_t end)
{
        int64_t from = lane_is_busy(lane) ? lane->position : lane->fetched;
        int64_t low, high;

        lane_log(consumer, lane, &low, &high);
        if (from > end) /* the log went back, so all of it is new */
                return end - MIN(end, MAX(0, low));
        return MAX(end, high) - MAX(0, MIN(end, MAX(from, low)));
}

/* In this check: it has nothing to do, yet it is not at the end. (Beyond it: the log went back.) */
static void lag_count_owed(struct lane *lane, int64_t end)
{
        if (lane_is_busy(lane) || end == MAX(0, lane->fetched))
                lane->owed_looks = 0;
        else
                lane->owed_looks++;
}

/* Returns the sum of the lags, or -1 if that of any partition is unknown. */
static int64_t lag_look(struct lag *lag)
{
        struct kafka_consumer *consumer = lag->inquiry.consumer;
        int64_t sum = 0;
        struct lane *lane;

        LL_FOREACH (consumer->lanes, lane) {
                rd_kafka_topic_partition_t *found =
                        lag->known ? rd_kafka_topic_partition_list_find(lag->ends, lane->topic, lane->partition) : NULL;

                if (found != NULL && !lane->dropped)
                        lag_count_owed(lane, found->offset);
                if (found == NULL || lane->dropped)
                        sum = -1;
                else if (sum >= 0)
                        sum += lag_offsets_left(consumer, lane, found->offset);
        }
        if (consumer->lanes == NULL && (consumer->wanted == NULL || consumer->wanted->cnt > 0))
                return -1; /* not in the group, or waiting to hear where to begin */
        return sum;
}

static struct lane *lag_most_owed(const struct lag *lag)
{
        struct lane *lane, *most = NULL;

        LL_FOREACH (lag->inquiry.consumer->lanes, lane)
                if (lane->owed_looks > 0 && (most == NULL || lane->owed_looks > most->owed_looks))
                        most = lane;
        return most;
}

/* The wait before the next restart doubles each time, so that a fetch that is merely slow can finish; while all goes
 * well, it shrinks again slowly. Anything else that looks like a stall, such as a log of many aborted transactions per
 * second, is not harmed. */
static void lag_start_again(struct lag *lag, const struct lane *lane)
{
        struct kafka_consumer *consumer = lag->inquiry.consumer;
        struct err err;

        err_set(&err, ERR_BUSY, "partition_stalled",
                "%s/%d is not at the end of its log, but delivers nothing after offset %lld; all partitions are "
                "restarted",
                lane->topic, (int)lane->partition, (long long)MAX(0, lane->fetched));
        if (consumer->events->trouble != NULL)
                consumer->events->trouble(consumer->context, &err);
        lag->patience = MIN(lag->patience * 2, PATIENCE_MOST);
        kafka_consumer_rewind(consumer);
}

static bool lag_ends_found(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);
        struct kafka_consumer *consumer = inquiry->consumer;
        int64_t offsets = lag_look(lag);
        const struct lane *most = lag_most_owed(lag);

        if (consumer->stopped)
                return false;
        if (lag->committed_known)
                lag_correct_commits(lag);
        if (consumer->events->lag != NULL)
                consumer->events->lag(consumer->context, offsets);
        if (most != NULL && most->owed_looks > lag->patience)
                lag_start_again(lag, most);
        else if (most == NULL)
                lag->patience = MAX(lag->patience - 1, PATIENCE_LEAST);
        return true;
}

static void lag_free(struct inquiry *inquiry)
{
        struct lag *lag = CONTAINER_OF(inquiry, struct lag, inquiry);

        lag_forget_lists(lag);
        free(lag);
}

void lag_begin(struct kafka_consumer *consumer)
{
        struct lag *lag = NEW(struct lag);

        lag->inquiry.interval_ms = LOOK_INTERVAL;
        lag->inquiry.prepare = lag_list_partitions;
        lag->inquiry.ask = lag_find_ends;
        lag->inquiry.answered = lag_ends_found;
        lag->inquiry.release = lag_free;
        lag->patience = PATIENCE_LEAST;
        inquiry_begin(consumer, &lag->inquiry, LOOK_INTERVAL);
}
