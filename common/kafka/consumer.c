/* A Kafka consumer whose offsets live elsewhere: see consumer.h. */
#include "common/kafka/consumer.h"

#include "common/base/memory.h"

#include <string.h>
#include <utlist.h>

#define CONSUMER_MAGIC   0x6b636f6e
#define LANE_LIMIT       64 /* messages waiting in a lane before its partition is paused */
#define LANE_RESUME      16
#define METADATA_TIMEOUT 2000
#define TAIL_RETRY       SECONDS(1)

struct waiting {
        struct waiting *prev, *next;
        rd_kafka_event_t *event; /* owns the bytes of the message */
        struct kafka_message message;
};

struct lane {
        struct lane *next;
        char *topic;
        int32_t partition;
        int64_t position;
        struct waiting *queue, *in_hand;
        size_t queued;
        bool paused, begun, dropped; /* dropped: ended, waits only for what is in hand */
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
        rd_kafka_topic_partition_list_t *wanted; /* what the group gives us, while we wait for offsets or hands */
        struct tail_start *tail_start;
        bool revoking, rewinding, stopped, tail, freed;
};

static void free_waiting(struct waiting *waiting)
{
        rd_kafka_event_destroy(waiting->event);
        free(waiting);
}

static void empty_lane(struct lane *lane)
{
        struct waiting *waiting, *next;

        DL_FOREACH_SAFE (lane->queue, waiting, next) {
                DL_DELETE(lane->queue, waiting);
                free_waiting(waiting);
        }
        lane->queued = 0;
}

static void free_lane(struct kafka_consumer *consumer, struct lane *lane)
{
        LL_DELETE(consumer->lanes, lane);
        empty_lane(lane);
        free(lane->topic);
        free(lane);
}

static void pause_lane(struct kafka_consumer *consumer, struct lane *lane, bool pause)
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

static void drop_lanes(struct kafka_consumer *consumer)
{
        struct lane *lane, *next;

        LL_FOREACH_SAFE(consumer->lanes, lane, next)
        {
                empty_lane(lane);
                if (lane->paused) /* librdkafka would remember it beyond the next assignment */
                        pause_lane(consumer, lane, false);
                lane->dropped = true;
                if (lane->in_hand == NULL)
                        free_lane(consumer, lane);
        }
}

static struct lane *find_lane(struct kafka_consumer *consumer, const char *topic, int32_t partition)
{
        struct lane *lane;

        LL_FOREACH (consumer->lanes, lane)
                if (!lane->dropped && lane->partition == partition && strcmp(lane->topic, topic) == 0)
                        return lane;
        return NULL;
}

static void go_on(struct kafka_consumer *consumer, struct lane *lane)
{
        struct waiting *waiting = lane->queue;

        if (waiting == NULL || lane->in_hand != NULL || consumer->stopped)
                return;
        DL_DELETE(lane->queue, waiting);
        lane->queued--;
        lane->in_hand = waiting;
        consumer->in_hand++;
        waiting->message.previous = lane->position;
        waiting->message.first = !lane->begun;
        lane->begun = true;
        if (lane->paused && lane->queued <= LANE_RESUME)
                pause_lane(consumer, lane, false);
        consumer->events->message(consumer->context, &waiting->message);
}

/* Takes the event. */
static void add_message(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        const rd_kafka_message_t *native = rd_kafka_event_message_next(event);
        struct waiting *waiting;
        struct lane *lane = NULL;

        if (native != NULL && !native->err)
                lane = find_lane(consumer, rd_kafka_topic_name(native->rkt), native->partition);
        if (lane == NULL) {
                rd_kafka_event_destroy(event);
                return;
        }
        waiting = NEW(struct waiting);
        waiting->event = event;
        waiting->message = (struct kafka_message){
                .topic = lane->topic,
                .partition = native->partition,
                .offset = native->offset,
                .key = native->key,
                .key_length = native->key_len,
                .value = native->payload,
                .value_length = native->len,
                .native = native,
        };
        DL_APPEND(lane->queue, waiting);
        lane->queued++;
        if (!lane->paused && lane->queued >= LANE_LIMIT)
                pause_lane(consumer, lane, true);
        go_on(consumer, lane);
}

/* What a group assigns has no offsets of its own; the ends that a tail has found are kept. */
static struct kafka_position *copy_positions(const rd_kafka_topic_partition_list_t *list)
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

static void ask_for_positions(struct kafka_consumer *consumer)
{
        auto_free struct kafka_position *positions = copy_positions(consumer->wanted);

        consumer->events->assigned(consumer->context, ++consumer->assignment, positions, (size_t)consumer->wanted->cnt);
}

static void give_back(struct kafka_consumer *consumer)
{
        consumer->revoking = false;
        if (consumer->wanted != NULL)
                rd_kafka_topic_partition_list_destroy(TAKE_PTR(consumer->wanted));
        rd_kafka_assign(consumer->rk, NULL);
}

static void handle_rebalance(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && !consumer->stopped) {
                if (consumer->wanted != NULL)
                        rd_kafka_topic_partition_list_destroy(consumer->wanted);
                consumer->wanted = rd_kafka_topic_partition_list_copy(rd_kafka_event_topic_partition_list(event));
                ask_for_positions(consumer);
                return;
        }
        consumer->assignment++;
        drop_lanes(consumer); /* finish what is in hand, then let the next owner have them */
        consumer->revoking = true;
        if (consumer->in_hand == 0)
                give_back(consumer);
}

static void handle_error(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        rd_kafka_resp_err_t code = rd_kafka_event_error(event);
        const char *text = rd_kafka_event_error_string(event);
        struct err err;

        if (consumer->events->trouble == NULL || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
            code == RD_KAFKA_RESP_ERR__TRANSPORT)
                return;
        if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
                err_set(&err, ERR_BUSY, "topic_missing", "a topic is missing (run: tenantry init): %.200s", text);
        else
                err_set(&err, ERR_BUSY, "kafka_trouble", "Kafka: %.300s", text);
        consumer->events->trouble(consumer->context, &err);
}

static void serve(void *context)
{
        struct kafka_consumer *consumer = context;
        rd_kafka_event_t *event;

        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        while (!consumer->freed && (event = rd_kafka_queue_poll(consumer->queue, 0)) != NULL) {
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH) {
                        add_message(consumer, event);
                        continue;
                }
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
                        handle_rebalance(consumer, event);
                else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
                        handle_error(consumer, event);
                rd_kafka_event_destroy(event);
        }
}

/* What KAFKA_PROPERTIES says of these, holds. */
static void set_default(rd_kafka_conf_t *conf, const struct kafka_settings *settings, const char *name,
                        const char *value)
{
        if (settings->properties == NULL || strstr(settings->properties, name) == NULL)
                kafka_client_set(conf, name, value);
}

static int consumer_new(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                        const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                        struct err *err)
{
        struct kafka_consumer *consumer;
        rd_kafka_conf_t *conf;
        char reason[256];
        int rc = kafka_client_conf(settings, &conf, err);

        if (rc < 0)
                return rc;
        kafka_client_set(conf, "group.id", group);
        kafka_client_set(conf, "enable.auto.commit", "true");
        kafka_client_set(conf, "auto.commit.interval.ms", "1000");
        kafka_client_set(conf, "enable.auto.offset.store", "false");
        kafka_client_set(conf, "auto.offset.reset", "earliest");
        set_default(conf, settings, "session.timeout.ms", "10000");
        set_default(conf, settings, "heartbeat.interval.ms", "1000");
        set_default(conf, settings, "fetch.wait.max.ms", "100");
        set_default(conf, settings, "queued.max.messages.kbytes", "4096");
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_FETCH);
        consumer = NEW(struct kafka_consumer);
        consumer->magic = CONSUMER_MAGIC;
        consumer->loop = loop;
        consumer->events = events;
        consumer->context = context;
        consumer->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
        if (consumer->rk == NULL) {
                rd_kafka_conf_destroy(conf);
                free(consumer);
                return err_set(err, ERR_INPUT, "kafka_settings", "librdkafka refuses its settings: %s", reason);
        }
        rd_kafka_poll_set_consumer(consumer->rk);
        consumer->queue = rd_kafka_queue_get_consumer(consumer->rk);
        consumer->wakeup = kafka_wakeup_new(loop, consumer->queue, serve, consumer);
        *ret = consumer;
        return 0;
}

int kafka_consumer_new(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                       const char *const *topics, const struct kafka_consumer_events *events, void *context,
                       struct kafka_consumer **ret, struct err *err)
{
        rd_kafka_topic_partition_list_t *list;
        rd_kafka_resp_err_t code;
        int rc = consumer_new(loop, settings, group, events, context, ret, err);

        if (rc < 0)
                return rc;
        list = rd_kafka_topic_partition_list_new(4);
        for (; *topics != NULL; topics++)
                rd_kafka_topic_partition_list_add(list, *topics, RD_KAFKA_PARTITION_UA);
        code = rd_kafka_subscribe((*ret)->rk, list);
        rd_kafka_topic_partition_list_destroy(list);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
                return 0;
        kafka_consumer_free(*ret);
        return err_set(err, ERR_INPUT, "kafka_subscribe", "cannot subscribe: %s", rd_kafka_err2str(code));
}

/* Asking for metadata blocks, so a worker thread does it. */
struct tail_start {
        uv_work_t work;
        struct kafka_consumer *consumer;
        rd_kafka_t *rk;
        char *topic;
        rd_kafka_topic_partition_list_t
                *found; /* with the offsets where the partitions end now; NULL = not all known */
        uv_timer_t again;
        bool waiting, told;
};

/* The end as an offset, not as "the end": that would be looked up some time later, and what came before be missed. */
static rd_kafka_topic_partition_list_t *find_ends(rd_kafka_t *rk, const char *topic, int partitions)
{
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);

        for (int i = 0; i < partitions; i++) {
                int64_t low, high;

                if (rd_kafka_query_watermark_offsets(rk, topic, i, &low, &high, METADATA_TIMEOUT) !=
                    RD_KAFKA_RESP_ERR_NO_ERROR) {
                        rd_kafka_topic_partition_list_destroy(list);
                        return NULL;
                }
                rd_kafka_topic_partition_list_add(list, topic, i)->offset = high;
        }
        return list;
}

static void find_partitions(uv_work_t *work)
{
        struct tail_start *start = CONTAINER_OF(work, struct tail_start, work);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(start->rk, start->topic, NULL);
        const struct rd_kafka_metadata *metadata = NULL;
        int partitions = 0;

        if (rd_kafka_metadata(start->rk, 0, topic, &metadata, METADATA_TIMEOUT) == RD_KAFKA_RESP_ERR_NO_ERROR) {
                if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR)
                        partitions = metadata->topics[0].partition_cnt;
                rd_kafka_metadata_destroy(metadata);
        }
        if (partitions > 0)
                start->found = find_ends(start->rk, start->topic, partitions);
        rd_kafka_topic_destroy(topic);
}

static void partitions_found(uv_work_t *work, int status);

static void look_again(uv_timer_t *timer)
{
        struct tail_start *start = timer->data;

        start->waiting = false;
        uv_queue_work(start->consumer->loop, &start->work, find_partitions, partitions_found);
}

/* The brokers are away, or the topic is not made yet: said once, tried every second. */
static void look_again_later(struct tail_start *start)
{
        struct kafka_consumer *consumer = start->consumer;
        struct err err;

        if (!start->told && consumer->events->trouble != NULL) {
                err_set(&err, ERR_BUSY, "topic_missing", "%s cannot be found (brokers away, or run: tenantry init)",
                        start->topic);
                consumer->events->trouble(consumer->context, &err);
        }
        start->told = start->waiting = true;
        consumer->tail_start = start;
        uv_timer_start(&start->again, look_again, TAIL_RETRY, 0);
}

static void tail_start_closed(uv_handle_t *handle)
{
        struct tail_start *start = handle->data;

        free(start->topic);
        free(start);
}

static void partitions_found(uv_work_t *work, int status)
{
        struct tail_start *start = CONTAINER_OF(work, struct tail_start, work);
        struct kafka_consumer *consumer = start->consumer;

        (void)status;
        consumer->tail_start = NULL;
        if (consumer->freed) {
                if (start->found != NULL)
                        rd_kafka_topic_partition_list_destroy(start->found);
                uv_close((uv_handle_t *)&start->again, tail_start_closed);
                kafka_consumer_free(consumer);
                return;
        }
        if (start->found == NULL) {
                look_again_later(start);
                return;
        }
        consumer->wanted = start->found;
        uv_close((uv_handle_t *)&start->again, tail_start_closed);
        ask_for_positions(consumer);
}

int kafka_consumer_tail(uv_loop_t *loop, const struct kafka_settings *settings, const char *topic,
                        const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                        struct err *err)
{
        struct tail_start *start;
        int rc = consumer_new(loop, settings, "tenantry-watch", events, context, ret, err);

        if (rc < 0)
                return rc;
        start = NEW(struct tail_start);
        start->consumer = *ret;
        start->rk = (*ret)->rk;
        start->topic = mem_copy_text(topic);
        uv_timer_init(loop, &start->again);
        start->again.data = start;
        (*ret)->tail = true;
        (*ret)->tail_start = start;
        uv_queue_work(loop, &start->work, find_partitions, partitions_found);
        return 0;
}

void kafka_consumer_free(struct kafka_consumer *consumer)
{
        struct lane *lane, *next;

        if (consumer == NULL)
                return;
        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        if (consumer->wakeup != NULL)
                kafka_wakeup_free(TAKE_PTR(consumer->wakeup));
        consumer->freed = true;
        if (consumer->tail_start != NULL && !consumer->tail_start->waiting)
                return; /* partitions_found ends it */
        if (consumer->tail_start != NULL)
                uv_close((uv_handle_t *)&TAKE_PTR(consumer->tail_start)->again, tail_start_closed);
        LL_FOREACH_SAFE(consumer->lanes, lane, next)
        {
                if (lane->in_hand != NULL)
                        free_waiting(lane->in_hand);
                free_lane(consumer, lane);
        }
        if (consumer->wanted != NULL)
                rd_kafka_topic_partition_list_destroy(consumer->wanted);
        rd_kafka_queue_destroy(consumer->queue);
        /* Destroying leaves the group, else its partitions would wait for the end of our session. */
        kafka_client_destroy_later(consumer->loop, consumer->rk);
        consumer->magic = 0;
        free(consumer);
}

void kafka_consumer_start(struct kafka_consumer *consumer, unsigned assignment, const struct kafka_position *positions,
                          size_t count)
{
        rd_kafka_topic_partition_list_t *list;

        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        if (assignment != consumer->assignment)
                return;
        list = rd_kafka_topic_partition_list_new((int)count);
        for (size_t i = 0; i < count; i++) {
                struct lane *lane = NEW(struct lane);

                lane->topic = mem_copy_text(positions[i].topic);
                lane->partition = positions[i].partition;
                lane->position = positions[i].offset;
                LL_PREPEND(consumer->lanes, lane);
                rd_kafka_topic_partition_list_add(list, lane->topic, lane->partition)->offset = positions[i].offset;
        }
        rd_kafka_assign(consumer->rk, list);
        rd_kafka_topic_partition_list_destroy(list);
}

void kafka_consumer_done(struct kafka_consumer *consumer, struct kafka_message *message)
{
        struct waiting *waiting = CONTAINER_OF(message, struct waiting, message);
        struct lane *lane;

        LL_FOREACH (consumer->lanes, lane)
                if (lane->in_hand == waiting)
                        break;
        assert(lane != NULL);
        lane->in_hand = NULL;
        consumer->in_hand--;
        if (!lane->dropped && !consumer->tail)
                rd_kafka_offset_store(message->native->rkt, message->partition, message->offset);
        lane->position = message->offset + 1;
        free_waiting(waiting);
        if (!lane->dropped) {
                go_on(consumer, lane);
                return;
        }
        free_lane(consumer, lane);
        if (consumer->in_hand > 0)
                return;
        if (consumer->revoking)
                give_back(consumer);
        else if (consumer->rewinding)
                kafka_consumer_rewind(consumer);
}

void kafka_consumer_rewind(struct kafka_consumer *consumer)
{
        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        drop_lanes(consumer);
        consumer->rewinding = consumer->in_hand > 0;
        if (consumer->rewinding || consumer->revoking || consumer->wanted == NULL)
                return;
        rd_kafka_assign(consumer->rk, NULL);
        ask_for_positions(consumer);
}

void kafka_consumer_stop(struct kafka_consumer *consumer)
{
        consumer->stopped = true;
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
