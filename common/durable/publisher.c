/* From the catalog to Kafka: see publisher.h. Rows are marked only when Kafka has them, so a crash causes repeats but
 * no losses; snapshots carry versions, so watchers ignore repeats.
 *
 * Lease: only one process publishes at a time. It renews the lease long before it expires; after lease_until, on its
 * own clock and counted from before it asked, it hands nothing more to Kafka. Fence: each new holder gets a higher
 * number. Messages handed over by a former holder may reach Kafka after a newer snapshot, and in a compacted topic the
 * last one counts. So a new holder republishes everything published in the recent past (takeover_wanted), and a holder
 * whose batch was read under an older fence than its present one marks the batch's snapshots as doubtful instead of
 * done.
 *
 * A round goes through the phases: events, snapshots, dead letters. A batch's rows live from the statement that read
 * them until all of them have an outcome and the statement that marks them has been sent.
 *
 * A topic for which Kafka accepts nothing (it does not exist, or we may not write to it) is left out for a while,
 * longer each time: messages for other topics go on, even if thousands of rows wait for this one. */
#include "common/durable/publisher.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/durable/dead_letter.h"
#include "common/durable/lease.h"
#include "common/durable/refused_topics.h"
#include "common/kafka/cloudevent.h"

#include <string.h>

#define TICK_INTERVAL     50
#define SWEEP_INTERVAL    1000 /* snapshots and dead letters are looked for at least this often */
#define BATCH             500
#define STATEMENT_TIMEOUT SECONDS(10)
#define MESSAGE_TIMEOUT   20000
#define EVENTS_TOPIC      "tenant.events.v1"
#define FAILURE_PAUSE     500

static const char SQL_LOSS[] = "select catalog.message_lost($1)";

static const char SQL_TAKEOVER[] = "select catalog.publishing_taken_over($1::bigint)";
static const char SQL_EVENTS[] = "select * from catalog.events_to_publish($1::int)";
static const char SQL_EVENTS_DONE[] = "select catalog.events_published($1::bigint[])";
static const char SQL_SNAPSHOTS[] =
        "select * from catalog.snapshots_due($1::int, array(select jsonb_array_elements_text($2::jsonb)))";
static const char SQL_SNAPSHOTS_DONE[] = "select catalog.snapshots_done($1::jsonb)";
static const char SQL_DOUBTFUL[] = "select catalog.snapshots_in_doubt($1::jsonb)";
static const char SQL_DEAD_LETTERS[] =
        "select * from catalog.dead_letters_to_publish($1::int, array(select jsonb_array_elements_text($2::jsonb)))";
static const char SQL_DEAD_LETTERS_DONE[] = "select catalog.dead_letters_published($1::bigint[])";

static const char *const TOPICS[] = { EVENTS_TOPIC, "tenant.status.v1", NULL };

enum phase { PHASE_IDLE, PHASE_EVENTS, PHASE_SNAPSHOTS, PHASE_DEAD_LETTERS };

static const char *const PHASE_NAMES[] = { "nothing", "event", "snapshot", "dead letter" };

enum outcome {
        OUTCOME_WAITING,
        OUTCOME_SENT,
        OUTCOME_REFUSED,       /* for good */
        OUTCOME_TOPIC_REFUSED, /* like everything for its topic */
        OUTCOME_FAILED,
};

/* One row of the batch in flight. */
struct row {
        struct publisher *publisher;
        char *topic, *key, *version; /* for the statement that marks it; version of snapshots only */
        enum outcome outcome;
};

struct publisher {
        struct service *service;
        struct kafka_producer *producer;
        uv_timer_t tick;
        enum phase phase;
        struct lease *lease;
        bool takeover_wanted, stopped, more, producer_broken;
        int64_t next_sweep_at, pause_until;
        int64_t led_fence, batch_fence; /* those under which we publish, and under which the batch was read */
        struct row *rows;               /* the batch in flight */
        size_t count, in_flight;
        struct refused_topics *refused;
        struct metric *published[3], *leading;
};

static void publisher_next_phase(struct publisher *publisher);

static void publisher_end_round(struct publisher *publisher)
{
        publisher->phase = PHASE_IDLE;
        if (publisher->stopped)
                lease_drop(publisher->lease);
}

static void publisher_rows_marked(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;

        (void)rows;
        if (err != NULL)
                log_warn("published rows could not be marked; they will be sent again", "error", err->message, NULL);
        else
                FAILPOINT(publisher_after_mark, NULL);
        if (err != NULL || publisher->pause_until > clock_boot_ms())
                publisher_end_round(publisher);
        else
                publisher_next_phase(publisher);
}

static void publisher_free_rows(struct publisher *publisher)
{
        for (size_t i = 0; i < publisher->count; i++) {
                free(publisher->rows[i].topic);
                free(publisher->rows[i].key);
                free(publisher->rows[i].version);
        }
        free(TAKE_PTR(publisher->rows));
        publisher->count = 0;
}

/* Kafka has it, or will never accept it. */
static bool publisher_row_is_over(const struct row *row)
{
        return row->outcome == OUTCOME_SENT || row->outcome == OUTCOME_REFUSED;
}

/* Ids of these rows, as a PostgreSQL array. */
static char *publisher_list_ids(const struct publisher *publisher)
{
        auto_buf ids = { 0 };

        buf_add_text(&ids, "{");
        for (size_t i = 0; i < publisher->count; i++)
                if (publisher_row_is_over(&publisher->rows[i]))
                        buf_printf(&ids, "%s%s", ids.length > 1 ? "," : "", publisher->rows[i].key);
        buf_add_text(&ids, "}");
        return buf_take(&ids);
}

/* The same for snapshots, as JSON, since a key may be any text; all of them if requested. */
static char *publisher_list_snapshots(const struct publisher *publisher, bool all)
{
        auto_json *list = json_array();

        for (size_t i = 0; i < publisher->count; i++) {
                const struct row *row = &publisher->rows[i];

                if (all || publisher_row_is_over(row))
                        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "topic", row->topic, "key", row->key,
                                                              "version", row->version));
        }
        return json_print(list);
}

static void publisher_mark_rows(struct publisher *publisher, bool doubtful)
{
        const char *sql = publisher->phase == PHASE_EVENTS         ? SQL_EVENTS_DONE
                          : publisher->phase == PHASE_DEAD_LETTERS ? SQL_DEAD_LETTERS_DONE
                          : doubtful                               ? SQL_DOUBTFUL
                                                                   : SQL_SNAPSHOTS_DONE;
        auto_free char *rows = publisher->phase == PHASE_SNAPSHOTS ? publisher_list_snapshots(publisher, doubtful)
                                                                   : publisher_list_ids(publisher);

        pg_pool_exec(publisher->service->catalog, STATEMENT_TIMEOUT, sql, PARAMS(rows), publisher_rows_marked,
                     publisher);
}

/* All rows of the batch have an outcome. */
static void publisher_batch_ended(struct publisher *publisher)
{
        /* A successor may have sent newer snapshots before ours arrived: then they are sent again. */
        bool doubtful = publisher->phase == PHASE_SNAPSHOTS &&
                        (!lease_is_held(publisher->lease) || lease_fence(publisher->lease) != publisher->batch_fence);
        size_t over = 0;
        bool failed = false;

        FAILPOINT(publisher_after_produce, NULL);
        for (size_t i = 0; i < publisher->count; i++) {
                over += publisher_row_is_over(&publisher->rows[i]);
                failed |= publisher->rows[i].outcome == OUTCOME_FAILED;
        }
        metric_add(publisher->published[publisher->phase - PHASE_EVENTS], (double)over);
        if (failed)
                publisher->pause_until = clock_boot_ms() + FAILURE_PAUSE;
        publisher_mark_rows(publisher, doubtful);
        publisher_free_rows(publisher);
}

static void publisher_loss_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("an alert could not be raised", "cause", "lost-message", "error", err->message, NULL);
}

static void publisher_tell_of_loss(const struct row *row, const struct err *err)
{
        auto_free char *detail =
                mem_printf("%s, row %s: %.200s", PHASE_NAMES[row->publisher->phase], row->key, err->message);

        log_error("Kafka refuses a message for good; it is not published", "row", row->key, "error", err->message,
                  NULL);
        pg_pool_exec(row->publisher->service->catalog, STATEMENT_TIMEOUT, SQL_LOSS, PARAMS(detail), publisher_loss_told,
                     NULL);
}

static enum outcome publisher_outcome_of(const struct err *err)
{
        if (err == NULL)
                return OUTCOME_SENT;
        if (err->class == ERR_INPUT)
                return OUTCOME_REFUSED;
        return strcmp(err->code, "topic_refused") == 0 ? OUTCOME_TOPIC_REFUSED : OUTCOME_FAILED;
}

/* A message that Kafka will never accept is set aside, with an alert: everything after it must continue. */
static void publisher_note_outcome(struct row *row, const struct err *err)
{
        row->outcome = publisher_outcome_of(err);
        if (row->outcome == OUTCOME_SENT)
                refused_topics_remove(row->publisher->refused, row->topic);
        else if (row->outcome == OUTCOME_REFUSED)
                publisher_tell_of_loss(row, err);
        else if (row->outcome == OUTCOME_TOPIC_REFUSED && !refused_topics_add(row->publisher->refused, row->topic, err))
                row->outcome = OUTCOME_FAILED;
        else if (row->outcome == OUTCOME_FAILED && row == row->publisher->rows)
                log_warn("Kafka does not accept our messages; they wait in the catalog", "error", err->message, NULL);
}

static void publisher_batch_part_ended(struct publisher *publisher)
{
        if (--publisher->in_flight == 0)
                publisher_batch_ended(publisher);
}

static void publisher_row_delivered(void *context, const struct err *err)
{
        struct row *row = context;

        publisher_note_outcome(row, err);
        publisher_batch_part_ended(row->publisher);
}

static void publisher_begin_batch(struct publisher *publisher, size_t count)
{
        publisher->rows = mem_alloc(count, sizeof(publisher->rows[0]));
        publisher->batch_fence = lease_fence(publisher->lease);
        publisher->in_flight = 1; /* ours, until all are handed over */
        publisher->more |= count >= BATCH;
        FAILPOINT(publisher_before_produce, NULL);
}

static struct row *publisher_add_row(struct publisher *publisher, const char *topic, const char *key,
                                     const char *version)
{
        struct row *row = &publisher->rows[publisher->count++];

        row->publisher = publisher;
        row->topic = mem_copy_text(topic);
        row->key = mem_copy_text(key);
        row->version = mem_copy_text(version);
        publisher->in_flight++;
        return row;
}

/* Handed over; if that failed, the outcome is known at once. */
static void publisher_note_sent(struct row *row, int rc, const struct err *err)
{
        if (rc < 0)
                publisher_row_delivered(row, err);
}

static void publisher_produce_event(struct publisher *publisher, const struct pg_rows *rows, int row)
{
        struct row *sent = publisher_add_row(publisher, EVENTS_TOPIC, pg_text(rows, row, "seq"), NULL);
        struct cloudevent_out event = {
                .topic = EVENTS_TOPIC,
                .key = pg_text(rows, row, "message_key"),
                .id = pg_text(rows, row, "event_id"),
                .source = "/tenantry",
                .type = pg_text(rows, row, "type"),
                .time = pg_text(rows, row, "at"),
                .traceparent = pg_text(rows, row, "traceparent"),
                .data = pg_text(rows, row, "data"),
        };
        struct err refused;

        publisher->next_sweep_at = 0; /* where there are events, there are new snapshots */
        publisher_note_sent(sent,
                            cloudevent_produce(publisher->producer, &event, publisher_row_delivered, sent, &refused),
                            &refused);
}

static void publisher_produce_snapshot(struct publisher *publisher, const struct pg_rows *rows, int row)
{
        const char *topic = pg_text(rows, row, "topic"), *key = pg_text(rows, row, "key");
        const char *version = pg_text(rows, row, "version");
        auto_free char *id = mem_printf("%s/%s-%s", topic, key, version); /* two topics may have the same key */
        struct row *sent = publisher_add_row(publisher, topic, key, version);
        struct cloudevent_out event = {
                .topic = topic,
                .key = key,
                .id = id,
                .source = "/tenantry",
                .type = topic, /* one kind of snapshot per topic */
                .time = pg_text(rows, row, "at"),
                .traceparent = pg_text(rows, row, "traceparent"),
                .data = pg_text(rows, row, "snapshot"),
        };
        struct err refused;

        publisher_note_sent(sent,
                            cloudevent_produce(publisher->producer, &event, publisher_row_delivered, sent, &refused),
                            &refused);
}

/* The message as received, with the reason for its refusal in our headers. */
static void publisher_produce_dead_letter(struct publisher *publisher, const struct pg_rows *rows, int row)
{
        auto_free char *topic = mem_printf("%s.%s.dlq", pg_text(rows, row, "topic"), pg_text(rows, row, "service"));
        struct row *sent = publisher_add_row(publisher, topic, pg_text(rows, row, "id"), NULL);
        struct dead_letter letter;
        struct err refused;

        dead_letter_read(rows, row, &letter);
        letter.record.topic = topic;
        dead_letter_add(&letter, "tenantry_code", pg_text(rows, row, "code"));
        dead_letter_add(&letter, "tenantry_detail", pg_text(rows, row, "detail"));
        dead_letter_add(&letter, "tenantry_dead_letter", pg_text(rows, row, "id"));
        dead_letter_add(&letter, "tenantry_field", pg_text(rows, row, "field"));
        publisher_note_sent(sent,
                            kafka_produce(publisher->producer, &letter.record, publisher_row_delivered, sent, &refused),
                            &refused);
        dead_letter_release(&letter);
}

static void publisher_rows_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        static void (*const produce[])(struct publisher * publisher, const struct pg_rows *rows, int row) = {
                [PHASE_EVENTS] = publisher_produce_event,
                [PHASE_SNAPSHOTS] = publisher_produce_snapshot,
                [PHASE_DEAD_LETTERS] = publisher_produce_dead_letter,
        };
        struct publisher *publisher = context;
        int count = err ? 0 : pg_rows_count(rows);

        if (err != NULL || !lease_is_held(publisher->lease)) {
                publisher_end_round(publisher);
                return;
        }
        if (count == 0) {
                publisher_next_phase(publisher);
                return;
        }
        publisher_begin_batch(publisher, (size_t)count);
        for (int row = 0; row < count; row++)
                produce[publisher->phase](publisher, rows, row);
        publisher_batch_part_ended(publisher);
}

/* Events first, then the snapshots they changed, then dead letters; then the next round. */
static void publisher_next_phase(struct publisher *publisher)
{
        struct pg_pool *catalog = publisher->service->catalog;
        auto_free char *refused = refused_topics_list(publisher->refused);
        char limit[8];

        snprintf(limit, sizeof(limit), "%d", BATCH);
        publisher->phase++;
        if (publisher->phase == PHASE_EVENTS && refused_topics_has(publisher->refused, EVENTS_TOPIC))
                publisher->phase++;
        if (publisher->phase == PHASE_EVENTS) {
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_EVENTS, PARAMS(limit), publisher_rows_arrived, publisher);
        } else if (publisher->phase == PHASE_SNAPSHOTS && clock_boot_ms() >= publisher->next_sweep_at) {
                publisher->next_sweep_at = clock_boot_ms() + SWEEP_INTERVAL; /* a skipped sweep ends the round */
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_SNAPSHOTS, PARAMS(limit, refused), publisher_rows_arrived,
                             publisher);
        } else if (publisher->phase == PHASE_DEAD_LETTERS) {
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_DEAD_LETTERS, PARAMS(limit, refused),
                             publisher_rows_arrived, publisher);
        } else {
                bool more = publisher->more;

                publisher->more = false;
                publisher_end_round(publisher);
                if (more)
                        publisher_wake(publisher);
        }
}

static void publisher_producer_died(void *context, const struct err *err)
{
        struct publisher *publisher = context;

        log_error("the publisher's producer is recreated", "error", err->message, NULL);
        publisher->producer_broken = true;
}

static void publisher_taken_over(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;

        (void)rows;
        if (err != NULL)
                publisher->takeover_wanted = true; /* again at the next check */
        publisher_end_round(publisher);            /* after releasing the lease, if we are stopping */
}

static void publisher_take_over(struct publisher *publisher)
{
        char ms[24];

        log_info("publishing from here", NULL);
        publisher->takeover_wanted = false;
        publisher->phase = PHASE_SNAPSHOTS; /* busy: no round starts before this is done */
        snprintf(ms, sizeof(ms), "%lld", (long long)(2 * publisher->service->config->lease_ms + 2 * MESSAGE_TIMEOUT));
        pg_pool_exec(publisher->service->catalog, STATEMENT_TIMEOUT, SQL_TAKEOVER, PARAMS(ms), publisher_taken_over,
                     publisher);
}

static void publisher_lease_answered(void *context)
{
        struct publisher *publisher = context;
        bool held = lease_is_held(publisher->lease);

        if (publisher->stopped && publisher->phase == PHASE_IDLE)
                lease_drop(publisher->lease);
        metric_set(publisher->leading, held);
        if (held && lease_fence(publisher->lease) != publisher->led_fence) {
                publisher->led_fence = lease_fence(publisher->lease);
                publisher->takeover_wanted = true; /* others held the lease before us, or while we were frozen */
        }
}

/* Called from the timer, never from a callback of the producer that is freed here. */
static bool publisher_make_producer(struct publisher *publisher)
{
        struct err err;

        if (publisher->producer_broken) {
                kafka_producer_free(TAKE_PTR(publisher->producer), 0);
                publisher->producer_broken = false;
        }
        if (publisher->producer != NULL)
                return true;
        if (kafka_producer_new(&publisher->service->loop, &publisher->service->kafka, MESSAGE_TIMEOUT, TOPICS,
                               publisher_producer_died, publisher, &publisher->producer, &err) == 0)
                return true;
        log_error("no producer", "error", err.message, NULL);
        return false;
}

void publisher_wake(struct publisher *publisher)
{
        int64_t now = clock_boot_ms();

        if (publisher->stopped || !pg_pool_is_up(publisher->service->catalog))
                return;
        lease_ask(publisher->lease);
        if (publisher->phase != PHASE_IDLE || !lease_is_held(publisher->lease) || now < publisher->pause_until)
                return;
        if (publisher->takeover_wanted)
                publisher_take_over(publisher);
        else if (publisher_make_producer(publisher))
                publisher_next_phase(publisher);
}

static void publisher_on_tick(uv_timer_t *timer)
{
        publisher_wake(timer->data);
}

struct publisher *publisher_new(struct service *service)
{
        static const char *const labels[] = { "kind=\"event\"", "kind=\"snapshot\"", "kind=\"dead_letter\"" };
        struct publisher *publisher = NEW(struct publisher);

        publisher->service = service;
        publisher->refused = refused_topics_new(service);
        publisher->lease =
                lease_new(service, "publisher", service->config->lease_ms, publisher_lease_answered, publisher);
        for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
                publisher->published[i] =
                        metric_counter("tenantry_published_total", labels[i], "Messages published to Kafka.");
        publisher->leading = metric_gauge("tenantry_publisher_leading", NULL, "1 where this process publishes.");
        uv_timer_init(&service->loop, &publisher->tick);
        publisher->tick.data = publisher;
        uv_timer_start(&publisher->tick, publisher_on_tick, TICK_INTERVAL, TICK_INTERVAL);
        return publisher;
}

void publisher_stop(struct publisher *publisher)
{
        publisher->stopped = true;
        if (publisher->phase == PHASE_IDLE) /* lets a standby take over, but only if nothing of ours is in flight */
                lease_drop(publisher->lease);
}

bool publisher_is_idle(const struct publisher *publisher)
{
        return publisher->phase == PHASE_IDLE && lease_is_idle(publisher->lease);
}

static void publisher_on_closed(uv_handle_t *handle)
{
        struct publisher *publisher = handle->data;

        publisher_free_rows(publisher);
        refused_topics_free(publisher->refused);
        lease_free(publisher->lease);
        free(publisher);
}

void publisher_free(struct publisher *publisher)
{
        if (publisher == NULL)
                return;
        kafka_producer_free(TAKE_PTR(publisher->producer), 500);
        uv_close((uv_handle_t *)&publisher->tick, publisher_on_closed);
}
