/* From Kafka into the catalog: see intake.h. */
#include "common/durable/intake_private.h"

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"

#include <math.h>
#include <string.h>

#define RETRY_DELAY 250
#define TOPICS_MOST 8

static const char SQL_POSITIONS[] = "select topic, partition, next_offset from consumer_offset";

static void intake_ask_positions(struct intake *intake);

static void intake_forget_positions(struct intake *intake)
{
        for (size_t i = 0; i < intake->position_count; i++)
                free(intake->positions[i].topic);
        free(TAKE_PTR(intake->positions));
        intake->position_count = 0;
}

static void intake_positions_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct intake *intake = context;

        intake->asking = false;
        if (intake->stopped)
                return;
        if (err != NULL) {
                log_warn("the catalog does not say where to continue reading; asking again", "error", err->message,
                         NULL);
                return; /* the retry timer asks again */
        }
        for (size_t i = 0; i < intake->position_count; i++) {
                struct kafka_position *p = &intake->positions[i];

                p->offset = KAFKA_FROM_BEGINNING;
                for (int row = 0; row < pg_rows_count(rows); row++)
                        if (strcmp(pg_text(rows, row, "topic"), p->topic) == 0 &&
                            pg_int(rows, row, "partition") == p->partition)
                                p->offset = pg_int(rows, row, "next_offset");
        }
        kafka_consumer_start(intake->consumer, intake->assignment, intake->positions, intake->position_count);
        intake->assigned = true;
}

static void intake_ask_positions(struct intake *intake)
{
        intake->asking = true;
        pg_pool_exec(intake->service->catalog, INTAKE_STATEMENT_TIMEOUT, SQL_POSITIONS, NO_PARAMS,
                     intake_positions_arrived, intake);
}

static void intake_partitions_assigned(void *context, unsigned assignment, struct kafka_position *positions,
                                       size_t count)
{
        struct intake *intake = context;

        intake_forget_positions(intake);
        intake->assigned = false;
        intake->assignment = assignment;
        intake->positions = mem_alloc(count, sizeof(*positions));
        intake->position_count = count;
        for (size_t i = 0; i < count; i++) {
                intake->positions[i] = positions[i];
                intake->positions[i].topic = mem_copy_text(positions[i].topic);
        }
        if (!intake->asking)
                intake_ask_positions(intake);
}

static void intake_on_retry(uv_timer_t *timer)
{
        struct intake *intake = timer->data;

        if (intake->positions != NULL && !intake->assigned && !intake->asking && !intake->stopped)
                intake_ask_positions(intake);
        if (!pg_pool_is_up(intake->service->catalog) ||
            (intake->refusals > 0 && clock_boot_ms() < intake->refused_at + backoff_ms(intake->refusals, 0)))
                return;
        intake_send_waiting(intake);
}

/* The catalog behind a new connection may have been restored, and on a quiet topic no message would reveal it. */
static void intake_catalog_changed(void *context, bool up)
{
        struct intake *intake = context;

        if (up && intake->assigned && !intake->stopped)
                kafka_consumer_rewind(intake->consumer);
}

static void intake_consumer_in_trouble(void *context, const struct err *err)
{
        (void)context;
        log_error("reading from Kafka is in trouble", "code", err->code, "error", err->message, NULL);
}

/* A process that no longer reads must not continue as if it did: the supervisor restarts us. */
static void intake_reading_ended(void *context, const struct err *err)
{
        struct intake *intake = context;

        service_give_up(intake->service, err);
}

static void intake_lag_known(void *context, int64_t offsets)
{
        struct intake *intake = context;

        metric_set(intake->lag, offsets < 0 ? NAN : (double)offsets);
}

static void intake_make_metrics(struct intake *intake)
{
        static const char *const labels[INTAKE_RESULTS] = { "result=\"new\"", "result=\"skipped\"", "result=\"dead\"",
                                                            "result=\"parked\"", "result=\"retried\"" };

        for (size_t i = 0; i < INTAKE_RESULTS; i++)
                intake->results[i] = metric_counter("tenantry_intake_messages_total", labels[i],
                                                    "Messages taken from Kafka, by outcome.");
        intake->seconds = metric_histogram("tenantry_intake_seconds", NULL, "From receiving a message to its commit.");
        intake->lag = metric_gauge("tenantry_intake_lag_offsets", NULL, "By how many offsets the catalog is behind.");
        metric_set(intake->lag, NAN);
}

/* The topics of the contracts, each once. */
static void intake_list_topics(const struct contract *contracts, const char *ret[TOPICS_MOST + 1])
{
        size_t count = 0;

        for (const struct contract *c = contracts; c->type != NULL; c++) {
                size_t i = 0;

                while (i < count && strcmp(ret[i], c->topic) != 0)
                        i++;
                if (i < count)
                        continue;
                assert(count < TOPICS_MOST);
                ret[count++] = c->topic;
        }
        ret[count] = NULL;
}

int intake_new(struct service *service, const struct intake_settings *settings, struct intake **ret, struct err *err)
{
        static const struct kafka_consumer_events events = {
                .assigned = intake_partitions_assigned,
                .message = intake_take,
                .trouble = intake_consumer_in_trouble,
                .fatal = intake_reading_ended,
                .lag = intake_lag_known,
        };
        struct intake *intake = NEW(struct intake);
        const char *topics[TOPICS_MOST + 1];
        int rc;

        intake->service = service;
        intake->settings = *settings;
        intake_make_metrics(intake);
        intake_list_topics(settings->contracts, topics);
        rc = kafka_consumer_new(&service->loop, &service->kafka, settings->group, topics, &events, intake,
                                &intake->consumer, err);
        if (rc < 0) {
                free(intake);
                return rc;
        }
        uv_timer_init(&service->loop, &intake->retry);
        intake->retry.data = intake;
        uv_timer_start(&intake->retry, intake_on_retry, RETRY_DELAY, RETRY_DELAY);
        intake->parked = parked_new(service, settings);
        pg_pool_on_change(service->catalog, intake_catalog_changed, intake);
        *ret = intake;
        return 0;
}

void intake_stop(struct intake *intake)
{
        intake->stopped = true;
        kafka_consumer_stop(intake->consumer);
        parked_stop(intake->parked);
}

/* Messages that wait for PostgreSQL are not finished until it is back: Kafka still has them. */
bool intake_is_idle(const struct intake *intake)
{
        return kafka_consumer_in_hand(intake->consumer) == intake_waiting(intake);
}

int intake_check(const struct intake *intake, struct err *err)
{
        const struct err *cause = kafka_consumer_cause(intake->consumer);
        bool reads = intake->assigned && intake->position_count > 0;

        if (!reads && cause->class != ERR_NONE)
                return err_set(err, ERR_BUSY, cause->code, "%s", cause->message);
        if (intake->assigned) /* even if no partitions are assigned, when there are more processes than partitions */
                return 0;
        return err_set(err, ERR_BUSY, "kafka_not_assigned", "Kafka has given this consumer no partitions yet");
}

static void intake_on_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void intake_free(struct intake *intake)
{
        if (intake == NULL)
                return;
        pg_pool_on_change(intake->service->catalog, NULL, NULL);
        intake_forget_waiting(intake);
        kafka_consumer_free(intake->consumer);
        intake_forget_positions(intake);
        parked_free(intake->parked);
        uv_close((uv_handle_t *)&intake->retry, intake_on_closed);
}
