/* Follows a topic from its end without a group: see kafka_consumer_tail in consumer.h. lag.c does not look after it. */
#include "common/kafka/consumer_private.h"

#include "common/base/memory.h"

#define TAIL_RETRY       SECONDS(1)
#define GROWTH_INTERVAL  SECONDS(10) /* how often to check for added partitions */
#define METADATA_TIMEOUT 2000        /* ms */

struct tail {
        struct inquiry inquiry;
        char *topic;
        rd_kafka_topic_partition_list_t *found; /* NULL = not all of it is known yet */
        int known;                              /* partitions being followed */
        rd_kafka_resp_err_t trouble, told;      /* why it is not found, as last reported */
};

/* The end as an offset, not as "the end": that would be resolved some time later, and messages before it would be
 * missed. */
static void tail_find_partitions(struct inquiry *inquiry)
{
        struct tail *tail = CONTAINER_OF(inquiry, struct tail, inquiry);
        rd_kafka_t *rk = inquiry->consumer->rk;
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, tail->topic, NULL);
        const struct rd_kafka_metadata *metadata = NULL;
        int partitions = 0;

        tail->trouble = rd_kafka_metadata(rk, 0, topic, &metadata, METADATA_TIMEOUT);
        if (tail->trouble == RD_KAFKA_RESP_ERR_NO_ERROR) {
                assert(metadata->topic_cnt == 1);
                tail->trouble = metadata->topics[0].err;
                partitions = metadata->topics[0].partition_cnt;
                rd_kafka_metadata_destroy(metadata);
        }
        rd_kafka_topic_destroy(topic);
        if (tail->trouble != RD_KAFKA_RESP_ERR_NO_ERROR || partitions <= tail->known)
                return;
        tail->found = rd_kafka_topic_partition_list_new(partitions);
        rd_kafka_topic_partition_list_add_range(tail->found, tail->topic, tail->known, partitions - 1);
        for (int i = 0; i < tail->found->cnt; i++)
                tail->found->elems[i].offset = 0; /* partitions added later are read from their beginning */
        if (tail->known > 0 || inquiry_find_ends(rk, tail->found))
                return;
        tail->trouble = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE; /* most likely of at least one of them */
        rd_kafka_topic_partition_list_destroy(TAKE_PTR(tail->found));
}

/* The brokers are down, or the topic does not exist yet, or we may not see it: each is reported once. */
static void tail_tell(struct tail *tail)
{
        struct kafka_consumer *consumer = tail->inquiry.consumer;
        const struct err *cause = &consumer->cause.err;
        struct err err;

        kafka_cause_note(&consumer->cause, tail->trouble, rd_kafka_err2str(tail->trouble));
        if (tail->told == tail->trouble || consumer->events->trouble == NULL)
                return;
        tail->told = tail->trouble;
        if (tail->trouble == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
                err_set(&err, ERR_BUSY, "topic_missing", "there is no topic %s (run: tenantry init)", tail->topic);
        else if (cause->class != ERR_NONE)
                err_set(&err, ERR_BUSY, cause->code, "%s: %.320s", tail->topic, cause->message);
        else
                err_set(&err, ERR_BUSY, "kafka_trouble", "%s: %s", tail->topic, rd_kafka_err2str(tail->trouble));
        consumer->events->trouble(consumer->context, &err);
}

static void tail_follow_more(struct tail *tail)
{
        struct kafka_consumer *consumer = tail->inquiry.consumer;
        rd_kafka_error_t *error = rd_kafka_incremental_assign(consumer->rk, tail->found);
        struct err err;

        if (error == NULL) {
                tail->known += tail->found->cnt;
                lanes_add(consumer, tail->found);
        } else if (consumer->events->trouble != NULL) {
                err_set(&err, ERR_BUSY, "assign_failed", "added partitions cannot be read: %s",
                        rd_kafka_error_string(error));
                consumer->events->trouble(consumer->context, &err);
        }
        if (error != NULL)
                rd_kafka_error_destroy(error);
        rd_kafka_topic_partition_list_destroy(TAKE_PTR(tail->found));
}

static bool tail_partitions_found(struct inquiry *inquiry)
{
        struct tail *tail = CONTAINER_OF(inquiry, struct tail, inquiry);

        if (tail->found == NULL) {
                if (tail->known == 0)
                        tail_tell(tail);
                return true;
        }
        inquiry->interval_ms = GROWTH_INTERVAL;
        if (tail->known > 0) {
                tail_follow_more(tail);
                return true;
        }
        tail->known = tail->found->cnt;
        kafka_cause_forget(&inquiry->consumer->cause);
        inquiry->consumer->wanted = TAKE_PTR(tail->found);
        consumer_ask_for_positions(inquiry->consumer);
        return true;
}

static void tail_free(struct inquiry *inquiry)
{
        struct tail *tail = CONTAINER_OF(inquiry, struct tail, inquiry);

        if (tail->found != NULL)
                rd_kafka_topic_partition_list_destroy(tail->found);
        free(tail->topic);
        free(tail);
}

int kafka_consumer_tail(uv_loop_t *loop, const struct kafka_settings *settings, const char *topic,
                        const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                        struct err *err)
{
        struct tail *tail;
        int rc = consumer_make(loop, settings, "tenantry-watch", events, context, ret, err);

        if (rc < 0)
                return rc;
        tail = NEW(struct tail);
        tail->inquiry.interval_ms = TAIL_RETRY;
        tail->inquiry.ask = tail_find_partitions;
        tail->inquiry.answered = tail_partitions_found;
        tail->inquiry.release = tail_free;
        tail->topic = mem_copy_text(topic);
        (*ret)->tail = true;
        inquiry_begin(*ret, &tail->inquiry, 0);
        return 0;
}
