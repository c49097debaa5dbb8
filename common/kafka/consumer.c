/* A Kafka consumer whose offsets are stored elsewhere, as a member of its group: see consumer.h. lanes.c handles the
 * messages of each partition.
 *
 * Every assignment has a number; start offsets that arrive with an older number are ignored. Nothing is read before the
 * start offsets are known: the offsets committed to Kafka are only for monitoring the lag. A rebalance drops all lanes,
 * and gives the partitions back once nothing is in hand any more, so that their next owner does not start while we are
 * still working. A rewind drops the lanes as well, and then asks again for the start offsets.
 *
 * Everything runs on the loop: librdkafka's threads only signal that there are events. */
#include "common/kafka/consumer_private.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"

#include <string.h>

/* A group's assignment has no offsets; the ends that a tail has found are kept. */
static struct kafka_position *consumer_copy_positions(const rd_kafka_topic_partition_list_t *list)
{
        struct kafka_position *positions = mem_alloc((size_t)list->cnt, sizeof(*positions));

        for (int i = 0; i < list->cnt; i++)
                positions[i] = (struct kafka_position){
                        .topic = list->elems[i].topic,
                        .partition = list->elems[i].partition,
                        .offset = list->elems[i].offset >= 0 ? list->elems[i].offset : KAFKA_FROM_BEGINNING,
                };
        return positions;
}

void consumer_ask_for_positions(struct kafka_consumer *consumer)
{
        auto_free struct kafka_position *positions = consumer_copy_positions(consumer->wanted);

        consumer->events->assigned(consumer->context, ++consumer->assignment, positions, (size_t)consumer->wanted->cnt);
}

static void consumer_give_back(struct kafka_consumer *consumer)
{
        consumer->revoking = false;
        if (consumer->wanted != NULL)
                rd_kafka_topic_partition_list_destroy(TAKE_PTR(consumer->wanted));
        rd_kafka_assign(consumer->rk, NULL);
}

static void consumer_handle_rebalance(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !consumer->stopped) {
                if (consumer->wanted != NULL)
                        rd_kafka_topic_partition_list_destroy(consumer->wanted);
                if (rd_kafka_event_topic_partition_list(event)->cnt > 0) /* a login that may see no topic gets none */
                        kafka_cause_forget(&consumer->cause);
                consumer->wanted = rd_kafka_topic_partition_list_copy(rd_kafka_event_topic_partition_list(event));
                consumer_ask_for_positions(consumer);
                return;
        }
        consumer->assignment++;
        lanes_drop(consumer); /* messages in hand are finished, then the next owner gets the partitions */
        consumer->revoking = true;
        if (consumer->in_hand == 0)
                consumer_give_back(consumer);
}

/* There may be offsets before the end that are never handed out. Or the end has gone back: the topic was recreated. Or
 * nothing is known about the partition yet: that it was read is worth recording, because anything deleted from now on
 * would be missed. */
static void consumer_end_reached(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        rd_kafka_topic_partition_t *place = rd_kafka_event_topic_partition(event);
        struct lane *lane = place ? lanes_find(consumer, place->topic, place->partition) : NULL;

        if (lane != NULL && !consumer->tail && place->offset != lane->fetched)
                lane_add_nothing(consumer, lane, place->offset);
        else if (lane != NULL)
                lane->fetched = place->offset;
        if (place != NULL)
                rd_kafka_topic_partition_destroy(place);
}

/* For instance fenced by another member with the same name: librdkafka does nothing more for us, and the rest of the
 * process would continue as if it were reading. */
static void consumer_report_fatal(struct kafka_consumer *consumer)
{
        char reason[256];
        struct err err;

        rd_kafka_fatal_error(consumer->rk, reason, sizeof(reason));
        err_set(&err, ERR_INTERNAL, "kafka_fatal", "the Kafka consumer cannot continue: %s", reason);
        consumer->events->fatal(consumer->context, &err);
}

static void consumer_handle_error(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        rd_kafka_resp_err_t code = rd_kafka_event_error(event);
        const char *text = rd_kafka_event_error_string(event);
        struct err err;

        if (rd_kafka_event_error_is_fatal(event)) {
                consumer_report_fatal(consumer);
                return;
        }
        kafka_cause_note(&consumer->cause, code, text);
        if (consumer->events->trouble == NULL || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
            code == RD_KAFKA_RESP_ERR__TRANSPORT)
                return;
        if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
                err_set(&err, ERR_BUSY, "topic_missing", "a topic is missing (run: tenantry init): %.200s", text);
        else
                err_set(&err, ERR_BUSY, "kafka_trouble", "Kafka: %.300s", text);
        consumer->events->trouble(consumer->context, &err);
}

static void consumer_serve(void *context)
{
        struct kafka_consumer *consumer = context;
        rd_kafka_event_t *event;

        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        while ((event = rd_kafka_queue_poll(consumer->queue, 0)) != NULL) {
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH) {
                        lanes_add_message(consumer, event);
                        continue;
                }
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
                        consumer_handle_rebalance(consumer, event);
                else if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__PARTITION_EOF)
                        consumer_end_reached(consumer, event);
                else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
                        consumer_handle_error(consumer, event);
                rd_kafka_event_destroy(event);
        }
}

static const struct kafka_default DEFAULTS[] = {
        { "session.timeout.ms", "10000" },
        { "heartbeat.interval.ms", "1000" },
        { "fetch.wait.max.ms", "100" },
        { "queued.max.messages.kbytes", "4096" },
        { "fetch.message.max.bytes", "262144" }, /* of a partition; a longer one comes, too */
        { NULL, NULL },
};

int consumer_make(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                  const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                  struct err *err)
{
        struct kafka_consumer *consumer;
        rd_kafka_conf_t *conf;
        int rc = kafka_client_conf(settings, DEFAULTS, &conf, err);

        if (rc < 0)
                return rc;
        kafka_client_set(conf, "group.id", group);
        kafka_client_set(conf, "enable.auto.commit", "true");
        kafka_client_set(conf, "auto.commit.interval.ms", "1000");
        kafka_client_set(conf, "enable.auto.offset.store", "false");
        kafka_client_set(conf, "auto.offset.reset", "earliest");
        kafka_client_set(conf, "enable.partition.eof", "true");
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_FETCH);
        consumer = NEW(struct kafka_consumer);
        consumer->magic = CONSUMER_MAGIC;
        consumer->loop = loop;
        consumer->events = events;
        consumer->context = context;
        rc = kafka_client_new(RD_KAFKA_CONSUMER, conf, &consumer->rk, err);
        if (rc < 0) {
                free(consumer);
                return rc;
        }
        rd_kafka_poll_set_consumer(consumer->rk);
        consumer->queue = rd_kafka_queue_get_consumer(consumer->rk);
        consumer->wakeup = kafka_wakeup_new(loop, consumer->queue, consumer_serve, consumer);
        *ret = consumer;
        return 0;
}

int kafka_consumer_new(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                       const char *const *topics, const struct kafka_consumer_events *events, void *context,
                       struct kafka_consumer **ret, struct err *err)
{
        rd_kafka_topic_partition_list_t *list;
        rd_kafka_resp_err_t code;
        int rc = consumer_make(loop, settings, group, events, context, ret, err);

        if (rc < 0)
                return rc;
        list = rd_kafka_topic_partition_list_new(4);
        for (; *topics != NULL; topics++)
                rd_kafka_topic_partition_list_add(list, *topics, RD_KAFKA_PARTITION_UA);
        code = rd_kafka_subscribe((*ret)->rk, list);
        rd_kafka_topic_partition_list_destroy(list);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
                lag_begin(*ret);
                return 0;
        }
        kafka_consumer_free(*ret);
        return err_set(err, ERR_BUSY, "kafka_subscribe", "cannot subscribe: %s", rd_kafka_err2str(code));
}

void kafka_consumer_free(struct kafka_consumer *consumer)
{
        if (consumer == NULL)
                return;
        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        if (consumer->wakeup != NULL)
                kafka_wakeup_free(TAKE_PTR(consumer->wakeup));
        consumer->freed = true;
        if (inquiry_end(consumer))
                return; /* its worker thread still uses rk */
        lanes_free(consumer);
        if (consumer->wanted != NULL)
                rd_kafka_topic_partition_list_destroy(consumer->wanted);
        rd_kafka_queue_destroy(consumer->queue);
        /* Destroying it leaves the group; otherwise its partitions would wait for our session to time out. */
        kafka_client_destroy_later(consumer->loop, consumer->rk);
        consumer->magic = 0;
        free(consumer);
}

/* A partition paused in an earlier assignment stays paused in librdkafka, so it is resumed. This must happen before the
 * assignment, never after it: librdkafka delays the start of a partition until the last commit is answered, and a
 * resume sent meanwhile can be numbered after the start and yet arrive before it. Then the start is discarded as
 * outdated, and nobody reads the partition any more (seen with 2.0.2: "received outdated op FETCH_START"). */
static void consumer_assign(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list)
{
        rd_kafka_resp_err_t code;
        struct err err;

        rd_kafka_resume_partitions(consumer->rk, list);
        code = rd_kafka_assign(consumer->rk, list);
        if (FAILPOINT(consumer_after_assign, &err) < 0)
                rd_kafka_pause_partitions(consumer->rk, list); /* simulates a lost start */
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR || consumer->events->trouble == NULL)
                return;
        err_set(&err, ERR_BUSY, "assign_failed", "partitions cannot be read: %s", rd_kafka_err2str(code));
        consumer->events->trouble(consumer->context, &err);
}

void kafka_consumer_start(struct kafka_consumer *consumer, unsigned assignment, const struct kafka_position *positions,
                          size_t count)
{
        rd_kafka_topic_partition_list_t *list;

        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        if (assignment != consumer->assignment)
                return;
        list = rd_kafka_topic_partition_list_new((int)count);
        for (size_t i = 0; i < count; i++)
                rd_kafka_topic_partition_list_add(list, positions[i].topic, positions[i].partition)->offset =
                        positions[i].offset;
        lanes_add(consumer, list);
        consumer_assign(consumer, list);
        rd_kafka_topic_partition_list_destroy(list);
}

void kafka_consumer_done(struct kafka_consumer *consumer, struct kafka_message *message)
{
        bool gone = lane_done(consumer, message);

        if (!gone || consumer->in_hand > 0)
                return;
        if (consumer->revoking)
                consumer_give_back(consumer);
        else if (consumer->rewinding)
                kafka_consumer_rewind(consumer);
}

void kafka_consumer_rewind(struct kafka_consumer *consumer)
{
        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        lanes_drop(consumer);
        consumer->rewinding = consumer->in_hand > 0;
        if (consumer->rewinding || consumer->revoking || consumer->wanted == NULL)
                return;
        rd_kafka_assign(consumer->rk, NULL);
        consumer_ask_for_positions(consumer);
}

void kafka_consumer_stop(struct kafka_consumer *consumer)
{
        consumer->stopped = true;
}

const struct err *kafka_consumer_cause(const struct kafka_consumer *consumer)
{
        return &consumer->cause.err;
}

size_t kafka_consumer_in_hand(const struct kafka_consumer *consumer)
{
        return consumer->in_hand;
}

const char *kafka_message_header(const struct kafka_message *message, const char *name, size_t *ret_length)
{
        rd_kafka_headers_t *headers;
        const void *value;

        if (rd_kafka_message_headers(message->native, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return NULL;
        if (rd_kafka_header_get_last(headers, name, &value, ret_length) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return NULL;
        return value;
}
