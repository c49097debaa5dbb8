/* From the catalog to Kafka: see publisher.h. Rows are marked only when Kafka has them, so a crash repeats and never
 * loses; snapshots carry versions, so watchers ignore what is repeated. */
#include "common/durable/publisher.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/durable/dead_letter.h"
#include "common/kafka/cloudevent.h"

#include <string.h>

#define TICK_INTERVAL     50
#define SWEEP_INTERVAL    1000 /* snapshots and dead letters are looked for at least that often */
#define BATCH             500
#define STATEMENT_TIMEOUT SECONDS(10)
#define MESSAGE_TIMEOUT   20000
#define FAILURE_PAUSE     500
#define DLQ_TOPIC_LIMIT   200

static const char SQL_TAKE_LEASE[] = "select catalog.take_lease('publisher', $1, $2::bigint) as fence";
static const char SQL_DROP_LEASE[] = "select catalog.drop_lease('publisher', $1)";
static const char SQL_TAKEOVER[] = "select catalog.snapshots_since($1::bigint)";
static const char SQL_EVENTS[] = "select * from catalog.events_to_publish($1::int)";
static const char SQL_EVENTS_DONE[] = "select catalog.events_published($1::bigint[])";
static const char SQL_SNAPSHOTS[] = "select * from catalog.snapshots_to_publish($1::int)";
static const char SQL_SNAPSHOTS_DONE[] = "select catalog.snapshots_published($1::uuid[], $2::bigint[])";
static const char SQL_DOUBTFUL[] = "select catalog.snapshots_doubtful($1::uuid[])";
static const char SQL_DEAD_LETTERS[] = "select * from catalog.dead_letters_to_publish($1::int)";
static const char SQL_DEAD_LETTERS_DONE[] = "select catalog.dead_letters_published($1::bigint[])";

static const char *const TOPICS[] = { "tenant.events.v1", "tenant.status.v1", NULL };

enum phase { PHASE_IDLE, PHASE_EVENTS, PHASE_SNAPSHOTS, PHASE_DEAD_LETTERS };

struct publisher {
        struct service *service;
        struct kafka_producer *producer;
        uv_timer_t tick;
        enum phase phase;
        bool asking_lease, held, takeover_wanted, dropping, stopped, more, producer_broken;
        int64_t lease_until, asked_at, next_lease_at, next_sweep_at, pause_until;
        int64_t fence, batch_fence; /* of the lease we have, and of that under which the batch was read */
        /* The batch on its way: keys for the statement that marks it, and how many answers are missing. */
        struct buf keys, versions;
        size_t in_flight, failed, count;
        struct metric *published[3], *leading;
};

static void next_phase(struct publisher *publisher);

static bool still_leading(const struct publisher *publisher)
{
        return publisher->held && clock_boot_ms() < publisher->lease_until;
}

static void lease_dropped(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;

        (void)rows;
        (void)err; /* then it runs out by itself */
        publisher->held = false;
        publisher->dropping = false;
}

/* The standby need not wait for our lease to run out: but only when nothing of ours is on its way. */
static void drop_lease(struct publisher *publisher)
{
        if (!publisher->held || publisher->dropping || publisher->phase != PHASE_IDLE)
                return;
        publisher->dropping = true;
        pg_pool_exec(publisher->service->catalog, STATEMENT_TIMEOUT, SQL_DROP_LEASE,
                     PARAMS(publisher->service->instance), lease_dropped, publisher);
}

static void end_round(struct publisher *publisher)
{
        publisher->phase = PHASE_IDLE;
        buf_reset(&publisher->keys);
        buf_reset(&publisher->versions);
        if (publisher->producer_broken && publisher->in_flight == 0) {
                kafka_producer_free(TAKE_PTR(publisher->producer), 0);
                publisher->producer_broken = false;
        }
        if (publisher->stopped)
                drop_lease(publisher);
}

static void marked(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;

        (void)rows;
        if (err != NULL) {
                log_warn("published rows could not be marked; they will be sent again", "error", err->message, NULL);
                end_round(publisher);
                return;
        }
        FAILPOINT(publisher_after_mark, NULL);
        next_phase(publisher);
}

static void close_list(struct buf *list)
{
        buf_add_text(list, list->length ? "}" : "{}");
}

/* All answers of the batch are there. */
static void batch_ended(struct publisher *publisher)
{
        struct pg_pool *catalog = publisher->service->catalog;

        FAILPOINT(publisher_after_produce, NULL);
        close_list(&publisher->keys);
        close_list(&publisher->versions);
        if (publisher->phase == PHASE_SNAPSHOTS &&
            (!still_leading(publisher) || publisher->fence != publisher->batch_fence)) {
                /* A successor may have sent newer snapshots before ours arrived: have them sent once more. */
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_DOUBTFUL, PARAMS(publisher->keys.data), marked, publisher);
                return;
        }
        if (publisher->failed > 0) {
                publisher->pause_until = clock_boot_ms() + FAILURE_PAUSE;
                end_round(publisher);
                return;
        }
        metric_add(publisher->published[publisher->phase - PHASE_EVENTS], (double)publisher->count);
        if (publisher->phase == PHASE_EVENTS)
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_EVENTS_DONE, PARAMS(publisher->keys.data), marked,
                             publisher);
        else if (publisher->phase == PHASE_SNAPSHOTS)
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_SNAPSHOTS_DONE,
                             PARAMS(publisher->keys.data, publisher->versions.data), marked, publisher);
        else
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_DEAD_LETTERS_DONE, PARAMS(publisher->keys.data), marked,
                             publisher);
}

static void delivered(void *context, const struct err *err)
{
        struct publisher *publisher = context;

        if (err != NULL) {
                if (publisher->failed++ == 0)
                        log_warn("Kafka does not take our messages; they wait in the catalog", "error", err->message,
                                 NULL);
        }
        if (--publisher->in_flight == 0)
                batch_ended(publisher);
}

static void begin_batch(struct publisher *publisher, size_t count)
{
        buf_reset(&publisher->keys);
        buf_reset(&publisher->versions);
        publisher->failed = 0;
        publisher->batch_fence = publisher->fence;
        publisher->count = count;
        publisher->in_flight = 1; /* ours, until all are handed over */
        publisher->more |= count == BATCH;
        FAILPOINT(publisher_before_produce, NULL);
}

static void end_batch(struct publisher *publisher)
{
        delivered(publisher, NULL);
}

static void add_key(struct buf *list, const char *key)
{
        buf_printf(list, "%s%s", list->length ? "," : "{", key);
}

static void note_sent(struct publisher *publisher, int rc)
{
        if (rc == 0)
                publisher->in_flight++;
        else
                publisher->failed++;
}

static void events_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;
        int count;

        if (err != NULL || !still_leading(publisher)) {
                end_round(publisher);
                return;
        }
        count = pg_rows_count(rows);
        if (count == 0) {
                next_phase(publisher);
                return;
        }
        begin_batch(publisher, (size_t)count);
        publisher->next_sweep_at = 0; /* where there are events there are new snapshots */
        for (int row = 0; row < count; row++) {
                struct cloudevent_out event = {
                        .topic = "tenant.events.v1",
                        .key = pg_text(rows, row, "message_key"),
                        .id = pg_text(rows, row, "event_id"),
                        .source = "/tenantry",
                        .type = pg_text(rows, row, "type"),
                        .time = pg_text(rows, row, "at"),
                        .traceparent = pg_text(rows, row, "traceparent"),
                        .data = pg_text(rows, row, "data"),
                };

                add_key(&publisher->keys, pg_text(rows, row, "seq"));
                note_sent(publisher, cloudevent_produce(publisher->producer, &event, delivered, publisher, NULL));
        }
        end_batch(publisher);
}

static void snapshots_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;
        int count;

        if (err != NULL || !still_leading(publisher)) {
                end_round(publisher);
                return;
        }
        count = pg_rows_count(rows);
        if (count == 0) {
                next_phase(publisher);
                return;
        }
        begin_batch(publisher, (size_t)count);
        for (int row = 0; row < count; row++) {
                const char *tenant = pg_text(rows, row, "tenant_id"), *version = pg_text(rows, row, "version");
                auto_free char *id = mem_printf("%s-%s", tenant, version);
                struct cloudevent_out event = {
                        .topic = "tenant.status.v1",
                        .key = tenant,
                        .id = id,
                        .source = "/tenantry",
                        .type = "tenant.status.v1",
                        .time = pg_text(rows, row, "at"),
                        .traceparent = pg_text(rows, row, "traceparent"),
                        .data = pg_text(rows, row, "snapshot"),
                };

                add_key(&publisher->keys, tenant);
                add_key(&publisher->versions, version);
                note_sent(publisher, cloudevent_produce(publisher->producer, &event, delivered, publisher, NULL));
        }
        end_batch(publisher);
}

/* The message as it came, with why it is here in headers of ours. */
static int produce_dead_letter(struct publisher *publisher, const struct pg_rows *rows, int row)
{
        auto_free char *topic = mem_printf("%s.%s.dlq", pg_text(rows, row, "topic"), pg_text(rows, row, "service"));
        struct dead_letter letter;
        int rc;

        dead_letter_read(rows, row, &letter);
        letter.record.topic = topic;
        dead_letter_add(&letter, "tenantry_code", pg_text(rows, row, "code"));
        dead_letter_add(&letter, "tenantry_detail", pg_text(rows, row, "detail"));
        dead_letter_add(&letter, "tenantry_dead_letter", pg_text(rows, row, "id"));
        dead_letter_add(&letter, "tenantry_field", pg_text(rows, row, "field"));
        rc = kafka_produce(publisher->producer, &letter.record, delivered, publisher, NULL);
        dead_letter_release(&letter);
        return rc;
}

static void dead_letters_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;
        int count;

        if (err != NULL || !still_leading(publisher)) {
                end_round(publisher);
                return;
        }
        count = pg_rows_count(rows);
        if (count == 0) {
                next_phase(publisher);
                return;
        }
        begin_batch(publisher, (size_t)count);
        for (int row = 0; row < count; row++) {
                add_key(&publisher->keys, pg_text(rows, row, "id"));
                note_sent(publisher, produce_dead_letter(publisher, rows, row));
        }
        end_batch(publisher);
}

/* Events first, then the snapshots they changed, then dead letters; then the next round. */
static void next_phase(struct publisher *publisher)
{
        struct pg_pool *catalog = publisher->service->catalog;
        char limit[8];

        snprintf(limit, sizeof(limit), "%d", BATCH);
        publisher->phase++;
        if (publisher->phase == PHASE_EVENTS) {
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_EVENTS, PARAMS(limit), events_arrived, publisher);
        } else if (publisher->phase == PHASE_SNAPSHOTS && clock_boot_ms() >= publisher->next_sweep_at) {
                publisher->next_sweep_at = clock_boot_ms() + SWEEP_INTERVAL; /* a skipped sweep ends the round */
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_SNAPSHOTS, PARAMS(limit), snapshots_arrived, publisher);
        } else if (publisher->phase == PHASE_DEAD_LETTERS) {
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_DEAD_LETTERS, PARAMS(limit), dead_letters_arrived,
                             publisher);
        } else {
                bool more = publisher->more;

                publisher->more = false;
                end_round(publisher);
                if (more)
                        publisher_wake(publisher);
        }
}

static void producer_died(void *context, const struct err *err)
{
        struct publisher *publisher = context;

        log_error("the publisher's producer is made anew", "error", err->message, NULL);
        publisher->producer_broken = true;
}

static void taken_over(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;

        (void)rows;
        if (err != NULL)
                publisher->takeover_wanted = true; /* again at the next look */
        publisher->phase = PHASE_IDLE;
}

static void take_over(struct publisher *publisher)
{
        char ms[24];

        log_info("publishing from here", NULL);
        publisher->takeover_wanted = false;
        publisher->phase = PHASE_SNAPSHOTS; /* busy: no round begins before this is done */
        snprintf(ms, sizeof(ms), "%lld", (long long)(2 * publisher->service->config->lease_ms + 2 * MESSAGE_TIMEOUT));
        pg_pool_exec(publisher->service->catalog, STATEMENT_TIMEOUT, SQL_TAKEOVER, PARAMS(ms), taken_over, publisher);
}

static void lease_answered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;
        bool got = err == NULL && pg_rows_count(rows) == 1 && pg_text(rows, 0, "fence") != NULL;
        int64_t fence = got ? pg_int(rows, 0, "fence") : 0;

        publisher->asking_lease = false;
        if (err != NULL)
                return; /* what we hold runs on until its end */
        if (got &&
            (!publisher->held || fence != publisher->fence)) /* another fence: others had it while we were frozen */
                publisher->takeover_wanted = true;
        publisher->held = got;
        if (publisher->stopped) {
                drop_lease(publisher);
                return;
        }
        metric_set(publisher->leading, got);
        if (!got)
                return;
        publisher->fence = fence;
        publisher->lease_until = publisher->asked_at + publisher->service->config->lease_ms;
}

static void ask_lease(struct publisher *publisher)
{
        char ms[24];

        publisher->asking_lease = true;
        publisher->asked_at = clock_boot_ms();
        publisher->next_lease_at = publisher->asked_at + MIN(1000, publisher->service->config->lease_ms / 3);
        snprintf(ms, sizeof(ms), "%lld", (long long)publisher->service->config->lease_ms);
        pg_pool_exec(publisher->service->catalog, STATEMENT_TIMEOUT, SQL_TAKE_LEASE,
                     PARAMS(publisher->service->instance, ms), lease_answered, publisher);
}

static bool make_producer(struct publisher *publisher)
{
        struct err err;

        if (publisher->producer != NULL)
                return true;
        if (kafka_producer_new(&publisher->service->loop, &publisher->service->kafka, MESSAGE_TIMEOUT, TOPICS,
                               producer_died, publisher, &publisher->producer, &err) == 0)
                return true;
        log_error("no producer", "error", err.message, NULL);
        return false;
}

void publisher_wake(struct publisher *publisher)
{
        int64_t now = clock_boot_ms();

        if (publisher->stopped || !pg_pool_is_up(publisher->service->catalog))
                return;
        if (!publisher->asking_lease && now >= publisher->next_lease_at)
                ask_lease(publisher);
        if (publisher->phase != PHASE_IDLE || !still_leading(publisher) || now < publisher->pause_until)
                return;
        if (publisher->takeover_wanted)
                take_over(publisher);
        else if (make_producer(publisher))
                next_phase(publisher);
}

static void on_tick(uv_timer_t *timer)
{
        publisher_wake(timer->data);
}

struct publisher *publisher_new(struct service *service)
{
        static const char *const labels[] = { "kind=\"event\"", "kind=\"snapshot\"", "kind=\"dead_letter\"" };
        struct publisher *publisher = NEW(struct publisher);

        publisher->service = service;
        for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
                publisher->published[i] =
                        metric_counter("tenantry_published_total", labels[i], "Messages published to Kafka.");
        publisher->leading = metric_gauge("tenantry_publisher_leading", NULL, "1 where this process publishes.");
        uv_timer_init(&service->loop, &publisher->tick);
        publisher->tick.data = publisher;
        uv_timer_start(&publisher->tick, on_tick, TICK_INTERVAL, TICK_INTERVAL);
        return publisher;
}

void publisher_stop(struct publisher *publisher)
{
        publisher->stopped = true;
        drop_lease(publisher);
}

bool publisher_is_idle(const struct publisher *publisher)
{
        return publisher->phase == PHASE_IDLE && !publisher->dropping && !publisher->asking_lease;
}

static void free_publisher(uv_handle_t *handle)
{
        struct publisher *publisher = handle->data;

        buf_free(&publisher->keys);
        buf_free(&publisher->versions);
        free(publisher);
}

void publisher_free(struct publisher *publisher)
{
        if (publisher == NULL)
                return;
        kafka_producer_free(TAKE_PTR(publisher->producer), 500);
        uv_close((uv_handle_t *)&publisher->tick, free_publisher);
}
