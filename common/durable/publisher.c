/* From the catalog to Kafka: see publisher.h. Rows are marked only when Kafka has them, so a crash repeats and never
 * loses; snapshots carry versions, so watchers ignore what is repeated.
 *
 * Lease: of all processes one publishes at a time. It asks for the lease anew long before it ends; after lease_until,
 * on its own clock and reckoned from before it asked, it hands Kafka nothing more. Fence: each new holder gets a higher
 * number. What a former holder had handed over may reach Kafka after a newer snapshot, and there the last one counts:
 * so whoever takes over publishes again all that was published since a while before (takeover_wanted), and whoever
 * finds that its batch was read under another fence than the one it has now marks its snapshots as doubtful instead of
 * done.
 *
 * A round goes through the phases: events, snapshots, dead letters. A batch's rows live from the statement that read
 * them until all of them have an outcome and the statement that marks them was sent. */
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

static const char SQL_LOSS[] = "select catalog.message_lost($1)";

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

static const char *const PHASE_NAMES[] = { "nothing", "event", "snapshot", "dead letter" };

enum outcome { OUTCOME_WAITING, OUTCOME_SENT, OUTCOME_REFUSED, OUTCOME_FAILED };

/* One row of the batch on its way. */
struct row {
        struct publisher *publisher;
        char *key, *version; /* for the statement that marks it; version may be NULL */
        enum outcome outcome;
};

struct publisher {
        struct service *service;
        struct kafka_producer *producer;
        uv_timer_t tick;
        enum phase phase;
        bool asking_lease, held, takeover_wanted, dropping, stopped, more, producer_broken;
        int64_t lease_until, asked_at, next_lease_at, next_sweep_at, pause_until;
        int64_t fence, batch_fence; /* of the lease we have, and of that under which the batch was read */
        struct row *rows;           /* the batch on its way */
        size_t count, in_flight;
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
        if (publisher->stopped)
                drop_lease(publisher);
}

static void marked(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct publisher *publisher = context;

        (void)rows;
        if (err != NULL)
                log_warn("published rows could not be marked; they will be sent again", "error", err->message, NULL);
        else
                FAILPOINT(publisher_after_mark, NULL);
        if (err != NULL || publisher->pause_until > clock_boot_ms())
                end_round(publisher);
        else
                next_phase(publisher);
}

static void free_rows(struct publisher *publisher)
{
        for (size_t i = 0; i < publisher->count; i++) {
                free(publisher->rows[i].key);
                free(publisher->rows[i].version);
        }
        free(TAKE_PTR(publisher->rows));
        publisher->count = 0;
}

/* Keys and versions of the rows that Kafka has, or can never have; of all of them where that is asked for. */
static void list_rows(const struct publisher *publisher, bool all, struct buf *keys, struct buf *versions)
{
        for (size_t i = 0; i < publisher->count; i++) {
                const struct row *row = &publisher->rows[i];

                if (!all && row->outcome == OUTCOME_FAILED)
                        continue;
                buf_printf(keys, "%s%s", keys->length ? "," : "{", row->key);
                if (row->version != NULL)
                        buf_printf(versions, "%s%s", versions->length ? "," : "{", row->version);
        }
        buf_add_text(keys, keys->length ? "}" : "{}");
        buf_add_text(versions, versions->length ? "}" : "{}");
}

static void mark_rows(struct publisher *publisher, const char *keys, const char *versions)
{
        struct pg_pool *catalog = publisher->service->catalog;

        if (publisher->phase == PHASE_EVENTS)
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_EVENTS_DONE, PARAMS(keys), marked, publisher);
        else if (publisher->phase == PHASE_SNAPSHOTS)
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_SNAPSHOTS_DONE, PARAMS(keys, versions), marked, publisher);
        else
                pg_pool_exec(catalog, STATEMENT_TIMEOUT, SQL_DEAD_LETTERS_DONE, PARAMS(keys), marked, publisher);
}

/* All answers of the batch are there. */
static void batch_ended(struct publisher *publisher)
{
        auto_buf keys = { 0 }, versions = { 0 };
        bool doubtful = publisher->phase == PHASE_SNAPSHOTS &&
                        (!still_leading(publisher) || publisher->fence != publisher->batch_fence);
        size_t failed = 0;

        FAILPOINT(publisher_after_produce, NULL);
        for (size_t i = 0; i < publisher->count; i++)
                failed += publisher->rows[i].outcome == OUTCOME_FAILED;
        metric_add(publisher->published[publisher->phase - PHASE_EVENTS], (double)(publisher->count - failed));
        if (failed > 0)
                publisher->pause_until = clock_boot_ms() + FAILURE_PAUSE;
        list_rows(publisher, doubtful, &keys, &versions);
        free_rows(publisher);
        if (doubtful) /* a successor may have sent newer snapshots before ours arrived: have them sent once more */
                pg_pool_exec(publisher->service->catalog, STATEMENT_TIMEOUT, SQL_DOUBTFUL, PARAMS(keys.data), marked,
                             publisher);
        else
                mark_rows(publisher, keys.data, versions.data);
}

static void loss_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("an alert could not be raised", "cause", "lost-message", "error", err->message, NULL);
}

static void tell_of_loss(const struct row *row, const struct err *err)
{
        auto_free char *detail =
                mem_printf("%s, row %s: %.200s", PHASE_NAMES[row->publisher->phase], row->key, err->message);

        log_error("Kafka refuses a message for good; it is not published", "row", row->key, "error", err->message,
                  NULL);
        pg_pool_exec(row->publisher->service->catalog, STATEMENT_TIMEOUT, SQL_LOSS, PARAMS(detail), loss_told, NULL);
}

/* What Kafka will never take is set aside, loudly: everything behind it must go on. */
static void note_outcome(struct row *row, const struct err *err)
{
        row->outcome = err == NULL ? OUTCOME_SENT : err->class == ERR_INPUT ? OUTCOME_REFUSED : OUTCOME_FAILED;
        if (row->outcome == OUTCOME_REFUSED)
                tell_of_loss(row, err);
        else if (row->outcome == OUTCOME_FAILED && row == row->publisher->rows)
                log_warn("Kafka does not take our messages; they wait in the catalog", "error", err->message, NULL);
}

static void batch_part_ended(struct publisher *publisher)
{
        if (--publisher->in_flight == 0)
                batch_ended(publisher);
}

static void delivered(void *context, const struct err *err)
{
        struct row *row = context;

        note_outcome(row, err);
        batch_part_ended(row->publisher);
}

static void begin_batch(struct publisher *publisher, size_t count)
{
        publisher->rows = mem_alloc(count, sizeof(publisher->rows[0]));
        publisher->batch_fence = publisher->fence;
        publisher->in_flight = 1; /* ours, until all are handed over */
        publisher->more |= count == BATCH;
        FAILPOINT(publisher_before_produce, NULL);
}

static struct row *add_row(struct publisher *publisher, const char *key, const char *version)
{
        struct row *row = &publisher->rows[publisher->count++];

        row->publisher = publisher;
        row->key = mem_copy_text(key);
        row->version = mem_copy_text(version);
        publisher->in_flight++;
        return row;
}

/* Handed over; where that failed, the answer is there at once. */
static void note_sent(struct row *row, int rc, const struct err *err)
{
        if (rc < 0)
                delivered(row, err);
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

                struct row *sent = add_row(publisher, pg_text(rows, row, "seq"), NULL);
                struct err refused;

                note_sent(sent, cloudevent_produce(publisher->producer, &event, delivered, sent, &refused), &refused);
        }
        batch_part_ended(publisher);
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

                struct row *sent = add_row(publisher, tenant, version);
                struct err refused;

                note_sent(sent, cloudevent_produce(publisher->producer, &event, delivered, sent, &refused), &refused);
        }
        batch_part_ended(publisher);
}

/* The message as it came, with why it is here in headers of ours. */
static void produce_dead_letter(struct publisher *publisher, const struct pg_rows *rows, int row)
{
        struct row *sent = add_row(publisher, pg_text(rows, row, "id"), NULL);
        auto_free char *topic = mem_printf("%s.%s.dlq", pg_text(rows, row, "topic"), pg_text(rows, row, "service"));
        struct dead_letter letter;
        struct err refused;

        dead_letter_read(rows, row, &letter);
        letter.record.topic = topic;
        dead_letter_add(&letter, "tenantry_code", pg_text(rows, row, "code"));
        dead_letter_add(&letter, "tenantry_detail", pg_text(rows, row, "detail"));
        dead_letter_add(&letter, "tenantry_dead_letter", pg_text(rows, row, "id"));
        dead_letter_add(&letter, "tenantry_field", pg_text(rows, row, "field"));
        note_sent(sent, kafka_produce(publisher->producer, &letter.record, delivered, sent, &refused), &refused);
        dead_letter_release(&letter);
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
        for (int row = 0; row < count; row++)
                produce_dead_letter(publisher, rows, row);
        batch_part_ended(publisher);
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
        end_round(publisher);                      /* with the lease given back, where we are stopping */
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

/* Called from the timer and never from a callback of the producer that is freed here. */
static bool make_producer(struct publisher *publisher)
{
        struct err err;

        if (publisher->producer_broken) {
                kafka_producer_free(TAKE_PTR(publisher->producer), 0);
                publisher->producer_broken = false;
        }
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

        free_rows(publisher);
        free(publisher);
}

void publisher_free(struct publisher *publisher)
{
        if (publisher == NULL)
                return;
        kafka_producer_free(TAKE_PTR(publisher->producer), 500);
        uv_close((uv_handle_t *)&publisher->tick, free_publisher);
}
