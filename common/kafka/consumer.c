/* A Kafka consumer whose offsets are stored elsewhere: see consumer.h.
 *
 * A lane is one of our partitions, from its assignment to its revocation. Messages wait in it in order; the first one
 * is handed out and is then in hand (lane->in_hand) until its holder calls kafka_consumer_done. While too many are
 * waiting, the partition is paused. A rebalance drops all lanes and the messages waiting in them; a message in hand
 * keeps its lane alive (dropped) until it is done, since its holder still points to it. Every assignment has a number;
 * start offsets that arrive with an older number are ignored. Nothing is read before the start offsets are known: the
 * offsets committed to Kafka are only for monitoring the lag.
 *
 * Everything runs on the loop: librdkafka's threads only signal that there are events. */
#include "common/kafka/consumer_private.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"

#include <string.h>
#include <utlist.h>

/* How much may wait in a lane before its partition is paused, and how little must be left before it is resumed. Not too
 * little: librdkafka discards what it has fetched from a paused partition, and fetches it again. */
#define LANE_LIMIT        512
#define LANE_RESUME       64
#define LANE_BYTES_LIMIT  (1024 * 1024)
#define LANE_BYTES_RESUME (128 * 1024)

struct waiting {
        struct waiting *prev, *next;
        struct lane *lane;
        rd_kafka_event_t *event; /* owns the bytes of the message; NULL = nothing */
        struct kafka_message message;
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
        lane->queued = lane->queued_bytes = 0;
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
                lane->dropped = true;
                if (lane->in_hand == NULL)
                        free_lane(consumer, lane);
        }
}

struct lane *consumer_find_lane(struct kafka_consumer *consumer, const char *topic, int32_t partition)
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
static int64_t log_start(const struct kafka_consumer *consumer, const struct lane *lane, int64_t next)
{
        int64_t low, high;

        if (lane->fetched < 0 || next <= lane->fetched)
                return -1;
        lane_log(consumer, lane, &low, &high);
        return MIN(low, next);
}

void consumer_add_lanes(struct kafka_consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
        for (int i = 0; i < list->cnt; i++) {
                struct lane *lane = NEW(struct lane);

                lane->topic = mem_copy_text(list->elems[i].topic);
                lane->partition = list->elems[i].partition;
                lane->position = lane->fetched = list->elems[i].offset;
                LL_PREPEND(consumer->lanes, lane);
        }
}

static size_t size_of(const struct waiting *waiting)
{
        return waiting->message.key_length + waiting->message.value_length;
}

/* Moves a message from the queue to those in hand, the last of which ends at `previous`. */
static struct waiting *take_in_hand(struct kafka_consumer *consumer, struct lane *lane, int64_t previous)
{
        struct waiting *waiting = lane->queue;

        DL_DELETE(lane->queue, waiting);
        lane->queued--;
        lane->queued_bytes -= size_of(waiting);
        DL_APPEND(lane->in_hand, waiting);
        consumer->in_hand++;
        waiting->message.previous = previous;
        if (lane->paused && lane->queued <= LANE_RESUME && lane->queued_bytes <= LANE_BYTES_RESUME)
                pause_lane(consumer, lane, false);
        return waiting;
}

static void go_on(struct kafka_consumer *consumer, struct lane *lane)
{
        if (lane->queue == NULL || lane->in_hand != NULL || consumer->stopped)
                return;
        consumer->events->message(consumer->context, &take_in_hand(consumer, lane, lane->position)->message);
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
        return &take_in_hand(consumer, lane, message->offset + 1)->message;
}

/* Takes ownership of waiting. */
static void add_waiting(struct kafka_consumer *consumer, struct lane *lane, struct waiting *waiting)
{
        waiting->lane = lane;
        waiting->message.topic = lane->topic;
        waiting->message.partition = lane->partition;
        lane->fetched = waiting->message.offset + 1;
        lane->owed_looks = 0;
        DL_APPEND(lane->queue, waiting);
        lane->queued++;
        lane->queued_bytes += size_of(waiting);
        go_on(consumer, lane);
}

/* Takes ownership of the event. */
static void add_message(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        const rd_kafka_message_t *native = rd_kafka_event_message_next(event);
        struct waiting *waiting;
        struct lane *lane = NULL;

        if (native != NULL && !native->err)
                lane = consumer_find_lane(consumer, rd_kafka_topic_name(native->rkt), native->partition);
        if (lane == NULL) {
                rd_kafka_event_destroy(event);
                return;
        }
        waiting = NEW(struct waiting);
        waiting->event = event;
        waiting->message = (struct kafka_message){
                .offset = native->offset,
                .log_start = log_start(consumer, lane, native->offset),
                .key = native->key,
                .key_length = native->key_len,
                .value = native->payload,
                .value_length = native->len,
                .native = native,
        };
        if (!lane->paused &&
            (lane->queued + 1 >= LANE_LIMIT || lane->queued_bytes + size_of(waiting) >= LANE_BYTES_LIMIT))
                /* where librdkafka continues when the partition is resumed */
                pause_lane(consumer, lane, true);
        add_waiting(consumer, lane, waiting);
}

/* Queued in order with the messages: if the catalog's offset were moved independently of them, a log that went back
 * would look as if it had been read. */
static void add_nothing(struct kafka_consumer *consumer, struct lane *lane, int64_t end)
{
        struct waiting *waiting = NEW(struct waiting);

        waiting->message = (struct kafka_message){
                .offset = end - 1,
                .log_start = log_start(consumer, lane, end),
                .nothing = true,
        };
        add_waiting(consumer, lane, waiting);
}

/* A group's assignment has no offsets; the ends that a tail has found are kept. */
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

void consumer_ask_for_positions(struct kafka_consumer *consumer)
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
                if (rd_kafka_event_topic_partition_list(event)->cnt > 0) /* a login that may see no topic gets none */
                        kafka_cause_forget(&consumer->cause);
                consumer->wanted = rd_kafka_topic_partition_list_copy(rd_kafka_event_topic_partition_list(event));
                consumer_ask_for_positions(consumer);
                return;
        }
        consumer->assignment++;
        drop_lanes(consumer); /* messages in hand are finished, then the next owner gets the partitions */
        consumer->revoking = true;
        if (consumer->in_hand == 0)
                give_back(consumer);
}

/* There may be offsets before the end that are never handed out. Or the end has gone back: the topic was recreated. Or
 * nothing is known about the partition yet: that it was read is worth recording, because anything deleted from now on
 * would be missed. */
static void end_reached(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        rd_kafka_topic_partition_t *place = rd_kafka_event_topic_partition(event);
        struct lane *lane = place ? consumer_find_lane(consumer, place->topic, place->partition) : NULL;

        if (lane != NULL && !consumer->tail && place->offset != lane->fetched)
                add_nothing(consumer, lane, place->offset);
        else if (lane != NULL)
                lane->fetched = place->offset;
        if (place != NULL)
                rd_kafka_topic_partition_destroy(place);
}

/* For instance fenced by another member with the same name: librdkafka does nothing more for us, and the rest of the
 * process would continue as if it were reading. */
static void report_fatal(struct kafka_consumer *consumer)
{
        char reason[256];
        struct err err;

        rd_kafka_fatal_error(consumer->rk, reason, sizeof(reason));
        err_set(&err, ERR_INTERNAL, "kafka_fatal", "the Kafka consumer cannot continue: %s", reason);
        consumer->events->fatal(consumer->context, &err);
}

static void handle_error(struct kafka_consumer *consumer, rd_kafka_event_t *event)
{
        rd_kafka_resp_err_t code = rd_kafka_event_error(event);
        const char *text = rd_kafka_event_error_string(event);
        struct err err;

        if (rd_kafka_event_error_is_fatal(event)) {
                report_fatal(consumer);
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

static void serve(void *context)
{
        struct kafka_consumer *consumer = context;
        rd_kafka_event_t *event;

        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        while ((event = rd_kafka_queue_poll(consumer->queue, 0)) != NULL) {
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH) {
                        add_message(consumer, event);
                        continue;
                }
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
                        handle_rebalance(consumer, event);
                else if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__PARTITION_EOF)
                        end_reached(consumer, event);
                else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
                        handle_error(consumer, event);
                rd_kafka_event_destroy(event);
        }
}

/* KAFKA_PROPERTIES may override these. */
static void set_default(rd_kafka_conf_t *conf, const struct kafka_settings *settings, const char *name,
                        const char *value)
{
        if (settings->properties == NULL || strstr(settings->properties, name) == NULL)
                kafka_client_set(conf, name, value);
}

int consumer_make(uv_loop_t *loop, const struct kafka_settings *settings, const char *group,
                  const struct kafka_consumer_events *events, void *context, struct kafka_consumer **ret,
                  struct err *err)
{
        struct kafka_consumer *consumer;
        rd_kafka_conf_t *conf;
        int rc = kafka_client_conf(settings, &conf, err);

        if (rc < 0)
                return rc;
        kafka_client_set(conf, "group.id", group);
        kafka_client_set(conf, "enable.auto.commit", "true");
        kafka_client_set(conf, "auto.commit.interval.ms", "1000");
        kafka_client_set(conf, "enable.auto.offset.store", "false");
        kafka_client_set(conf, "auto.offset.reset", "earliest");
        kafka_client_set(conf, "enable.partition.eof", "true");
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
        rc = kafka_client_new(RD_KAFKA_CONSUMER, conf, &consumer->rk, err);
        if (rc < 0) {
                free(consumer);
                return rc;
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
        struct waiting *waiting, *next_waiting;
        struct lane *lane, *next;

        if (consumer == NULL)
                return;
        CHECK_MAGIC(consumer, CONSUMER_MAGIC);
        if (consumer->wakeup != NULL)
                kafka_wakeup_free(TAKE_PTR(consumer->wakeup));
        consumer->freed = true;
        if (inquiry_end(consumer))
                return; /* its worker thread still uses rk */
        LL_FOREACH_SAFE(consumer->lanes, lane, next)
        {
                DL_FOREACH_SAFE (lane->in_hand, waiting, next_waiting) {
                        DL_DELETE(lane->in_hand, waiting);
                        free_waiting(waiting);
                }
                free_lane(consumer, lane);
        }
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
static void assign(struct kafka_consumer *consumer, rd_kafka_topic_partition_list_t *list)
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
        consumer_add_lanes(consumer, list);
        assign(consumer, list);
        rd_kafka_topic_partition_list_destroy(list);
}

void kafka_consumer_done(struct kafka_consumer *consumer, struct kafka_message *message)
{
        struct waiting *waiting = CONTAINER_OF(message, struct waiting, message);
        struct lane *lane = waiting->lane;

        assert(lane->in_hand == waiting);
        DL_DELETE(lane->in_hand, waiting);
        consumer->in_hand--;
        if (!lane->dropped && !consumer->tail && !message->nothing) /* lag.c corrects the rest */
                rd_kafka_offset_store(message->native->rkt, message->partition, message->offset);
        lane->position = message->offset + 1;
        free_waiting(waiting);
        if (lane->in_hand != NULL)
                return;
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
