/* From Kafka into the catalog: see intake.h. */
#include "common/durable/intake.h"

#include "common/base/backoff.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/contracts/contract.h"
#include "common/durable/parked.h"

#include <math.h>
#include <string.h>

#define STATEMENT_TIMEOUT SECONDS(10)
#define RETRY_DELAY       250
#define TOPICS_MOST       8

static const char SQL_POSITIONS[] = "select topic, partition, next_offset from consumer_offset";

static const char SQL_TAKE[] = "select take($1::jsonb, $2::bigint, $3, $4::jsonb, $5::jsonb, $6, $7, $8) as taken";

static const char SQL_ALERT[] =
        "select catalog.raise_alert($1, null, 'work waits until something of ours is mended', $2)";

static const char SQL_RESOLVE[] = "select catalog.resolve_alert($1)";

struct intake {
        struct service *service;
        struct intake_settings settings;
        struct kafka_consumer *consumer;
        struct parked *parked;
        uv_timer_t retry;
        struct kafka_position *positions;
        size_t position_count;
        unsigned assignment;
        bool assigned, stopped, asking;
        int refusals;            /* by the catalog, of statements it cannot run, since it last took something */
        int64_t refused_at;      /* the last of them; nothing is asked again before its pause is over */
        struct delivery *failed; /* messages that wait for PostgreSQL */
        struct metric *results[5], *seconds, *lag;
};

enum result { RESULT_NEW, RESULT_SKIPPED, RESULT_DEAD, RESULT_PARKED, RESULT_RETRIED };

/* One message on its way into the catalog. */
struct delivery {
        struct delivery *next;
        struct intake *intake;
        struct kafka_message *message;
        char *texts[8];
        int64_t started_ns;
};

static void ask_positions(struct intake *intake);
static void send_delivery(struct delivery *delivery);

static void free_delivery(struct delivery *delivery)
{
        for (size_t i = 0; i < ARRAY_SIZE(delivery->texts); i++)
                free(delivery->texts[i]);
        free(delivery);
}

/* Nothing is no message. */
static void count_result(const struct delivery *delivery, enum result result)
{
        if (!delivery->message->nothing)
                metric_add(delivery->intake->results[result], 1);
}

static void finish_delivery(struct delivery *delivery, enum result result)
{
        struct intake *intake = delivery->intake;
        struct kafka_message *message = delivery->message;

        count_result(delivery, result);
        metric_observe(intake->seconds, (double)(clock_ns() - delivery->started_ns) / 1e9);
        free_delivery(delivery);
        kafka_consumer_done(intake->consumer, message);
}

static void wait_for_catalog(struct delivery *delivery, const struct err *err)
{
        struct intake *intake = delivery->intake;

        log_warn("a message waits for the catalog", "topic", delivery->message->topic, "code", err->code, "error",
                 err->message, NULL);
        count_result(delivery, RESULT_RETRIED);
        delivery->next = intake->failed;
        intake->failed = delivery;
}

static void alert_raised(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("an alert could not be raised or resolved", "cause", "intake-held", "error", err->message,
                         NULL);
}

/* The catalog lacks what the statement names, or forbids it: no message is to blame, and none will go through until
 * somebody has mended that. All wait, and ask more and more rarely. */
static void wait_for_mending(struct delivery *delivery, const struct err *err)
{
        struct intake *intake = delivery->intake;
        auto_free char *cause = mem_printf("intake-held:%s", intake->service->definition->name);

        intake->refusals++;
        intake->refused_at = clock_boot_ms();
        log_error("the catalog refuses messages: they wait in Kafka", "error", err->message, NULL);
        pg_pool_exec(intake->service->catalog, STATEMENT_TIMEOUT, SQL_ALERT, PARAMS(cause, err->message), alert_raised,
                     NULL);
        wait_for_catalog(delivery, err);
}

static void mended(struct intake *intake)
{
        auto_free char *cause = NULL;

        if (intake->refusals == 0)
                return;
        intake->refusals = 0;
        cause = mem_printf("intake-held:%s", intake->service->definition->name);
        pg_pool_exec(intake->service->catalog, STATEMENT_TIMEOUT, SQL_RESOLVE, PARAMS(cause), alert_raised, NULL);
}

/* A statement that PostgreSQL refuses for good is a defect of ours; the message must not block its partition for ever,
 * nor be lost: it becomes a dead letter that names the refusal. */
static void turn_into_dead_letter(struct delivery *delivery, const struct err *err)
{
        log_error("a message breaks its statement", "topic", delivery->message->topic, "error", err->message, NULL);
        free(delivery->texts[2]);
        delivery->texts[2] = mem_copy_text("dead");
        for (int i = 5; i < 8; i++)
                free(delivery->texts[i]);
        delivery->texts[5] = mem_copy_text("internal");
        delivery->texts[6] = NULL;
        delivery->texts[7] = mem_copy_text(err->message);
        send_delivery(delivery);
}

static void message_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct delivery *delivery = context;
        struct intake *intake = delivery->intake;
        const char *taken;

        if (err != NULL && err->class == ERR_OURS) {
                wait_for_mending(delivery, err);
                return;
        }
        if (err != NULL &&
            (err_is_transient(err) || delivery->message->nothing || strcmp(delivery->texts[2], "dead") == 0)) {
                wait_for_catalog(delivery, err);
                return;
        }
        if (err != NULL) {
                turn_into_dead_letter(delivery, err);
                return;
        }
        mended(intake);
        FAILPOINT(intake_after_commit, NULL);
        taken = pg_text(rows, 0, "taken");
        if (strcmp(taken, "behind") == 0) {
                log_warn("the catalog stands before the reader: it was restored; reading again", "topic",
                         delivery->message->topic, NULL);
                kafka_consumer_rewind(intake->consumer);
                finish_delivery(delivery, RESULT_RETRIED);
                return;
        }
        if (strcmp(taken, "new") == 0) {
                finish_delivery(delivery, RESULT_NEW);
                if (intake->settings.taken != NULL)
                        intake->settings.taken(intake->settings.taken_context);
        } else if (strcmp(taken, "dead") == 0 || strcmp(taken, "conflict") == 0) {
                finish_delivery(delivery, RESULT_DEAD);
        } else if (strcmp(taken, "parked") == 0) {
                finish_delivery(delivery, RESULT_PARKED);
        } else {
                finish_delivery(delivery, RESULT_SKIPPED);
        }
}

static void send_delivery(struct delivery *delivery)
{
        struct err err;

        if (FAILPOINT(intake_before_commit, &err) < 0) {
                wait_for_catalog(delivery, &err);
                return;
        }
        pg_pool_exec(delivery->intake->service->catalog, STATEMENT_TIMEOUT, SQL_TAKE, ARRAY_SIZE(delivery->texts),
                     (const char *const *)delivery->texts, message_taken, delivery);
}

static json_t *base64_text(const void *bytes, size_t length)
{
        auto_free char *text = bytes ? crypto_base64(bytes, length) : NULL;

        return text ? json_string(text) : json_null();
}

static json_t *headers_of(const struct kafka_message *message)
{
        json_t *list = json_array();
        rd_kafka_headers_t *headers;
        const char *name;
        const void *value;
        size_t length;

        if (message->nothing || rd_kafka_message_headers(message->native, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return list;
        for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
             i++)
                json_array_append_new(list,
                                      json_pack("[o, o]", base64_text(name, strlen(name)), base64_text(value, length)));
        return list;
}

/* With the bytes only where the catalog may have to keep them. */
static char *describe_message(const struct kafka_message *message)
{
        auto_json *object =
                json_pack("{s:s, s:i, s:I, s:I, s:o, s:o, s:o}", "topic", message->topic, "partition",
                          (int)message->partition, "offset", (json_int_t)message->offset, "log_start",
                          (json_int_t)message->log_start, "key", base64_text(message->key, message->key_length),
                          "value", base64_text(message->value, message->value_length), "headers", headers_of(message));

        return json_print(object);
}

static char *describe_event(const struct cloudevent *event, const char *topic)
{
        auto_json *object = json_object();

        json_set_text(object, "id", event->id);
        json_set_text(object, "source", event->source);
        json_set_text(object, "type", event->type);
        json_set_text(object, "key", event->key);
        json_set_text(object, "traceparent", event->traceparent);
        json_set_text(object, "body_hash", event->body_hash);
        json_set_text(object, "topic", topic);
        return json_print(object);
}

/* Decides what the message is: "event", "dead" or "park". */
static const char *judge(struct intake *intake, const char *topic, const struct cloudevent *event, int decoded,
                         json_t **ret_data, struct err *err)
{
        const struct contract *contract;

        if (decoded < 0)
                return "dead";
        contract = contract_find(intake->settings.contracts, event->type);
        if (contract == NULL) {
                *ret_data = json_incref(event->data);
                return "park";
        }
        if (contract_check_topic(contract, topic, err) < 0 ||
            contract_check(contract, event->key, event->data, ret_data, err) < 0)
                return "dead";
        if (intake->settings.enrich != NULL)
                intake->settings.enrich(intake->settings.context, *ret_data);
        return "event";
}

/* With what the catalog must know of where it stood. */
static struct delivery *new_delivery(struct intake *intake, struct kafka_message *message, const char *verdict)
{
        struct delivery *delivery = NEW(struct delivery);

        delivery->intake = intake;
        delivery->message = message;
        delivery->started_ns = clock_ns();
        delivery->texts[0] = describe_message(message);
        delivery->texts[1] = mem_printf("%lld", (long long)message->previous);
        delivery->texts[2] = mem_copy_text(verdict);
        return delivery;
}

static void take_nothing(struct intake *intake, struct kafka_message *message)
{
        struct delivery *delivery = new_delivery(intake, message, "nothing");

        delivery->texts[3] = mem_copy_text("{}");
        send_delivery(delivery);
}

static void take_message(void *context, struct kafka_message *message)
{
        struct intake *intake = context;
        struct delivery *delivery;
        auto_json *data = NULL;
        struct cloudevent event;
        struct err err = { 0 };
        int decoded;

        if (message->nothing) {
                take_nothing(intake, message);
                return;
        }
        decoded = cloudevent_decode(message, contract_only_type(intake->settings.contracts, message->topic), &event,
                                    &err);
        delivery = new_delivery(intake, message, judge(intake, message->topic, &event, decoded, &data, &err));
        delivery->texts[3] = describe_event(&event, message->topic);
        delivery->texts[4] = data ? json_print(data) : NULL;
        if (err.class != ERR_NONE) {
                delivery->texts[5] = mem_copy_text(err.code);
                delivery->texts[6] = err.field[0] ? mem_copy_text(err.field) : NULL;
                delivery->texts[7] = mem_copy_text(err.message);
        }
        cloudevent_release(&event);
        send_delivery(delivery);
}

static void forget_positions(struct intake *intake)
{
        for (size_t i = 0; i < intake->position_count; i++)
                free(intake->positions[i].topic);
        free(TAKE_PTR(intake->positions));
        intake->position_count = 0;
}

static void positions_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct intake *intake = context;

        intake->asking = false;
        if (intake->stopped)
                return;
        if (err != NULL) {
                log_warn("the catalog does not tell where to read on; asking again", "error", err->message, NULL);
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

static void ask_positions(struct intake *intake)
{
        intake->asking = true;
        pg_pool_exec(intake->service->catalog, STATEMENT_TIMEOUT, SQL_POSITIONS, NO_PARAMS, positions_arrived, intake);
}

static void partitions_assigned(void *context, unsigned assignment, struct kafka_position *positions, size_t count)
{
        struct intake *intake = context;

        forget_positions(intake);
        intake->assigned = false;
        intake->assignment = assignment;
        intake->positions = mem_alloc(count, sizeof(*positions));
        intake->position_count = count;
        for (size_t i = 0; i < count; i++) {
                intake->positions[i] = positions[i];
                intake->positions[i].topic = mem_copy_text(positions[i].topic);
        }
        if (!intake->asking)
                ask_positions(intake);
}

static void on_retry(uv_timer_t *timer)
{
        struct intake *intake = timer->data;
        struct delivery *delivery;

        if (intake->positions != NULL && !intake->assigned && !intake->asking && !intake->stopped)
                ask_positions(intake);
        if (!pg_pool_is_up(intake->service->catalog) ||
            (intake->refusals > 0 && clock_boot_ms() < intake->refused_at + backoff_ms(intake->refusals, 0)))
                return;
        delivery = TAKE_PTR(intake->failed);
        while (delivery != NULL) {
                struct delivery *next = delivery->next;

                send_delivery(delivery);
                delivery = next;
        }
}

/* The catalog behind a new connection may be a restored one, and in a quiet hour no message would tell us so. */
static void catalog_changed(void *context, bool up)
{
        struct intake *intake = context;

        if (up && intake->assigned && !intake->stopped)
                kafka_consumer_rewind(intake->consumer);
}

static void consumer_in_trouble(void *context, const struct err *err)
{
        (void)context;
        log_error("reading from Kafka is in trouble", "code", err->code, "error", err->message, NULL);
}

/* Who reads nothing any more must not go on as if it did: the supervisor starts us anew. */
static void reading_ended(void *context, const struct err *err)
{
        struct intake *intake = context;

        service_give_up(intake->service, err);
}

static void lag_known(void *context, int64_t offsets)
{
        struct intake *intake = context;

        metric_set(intake->lag, offsets < 0 ? NAN : (double)offsets);
}

static void make_metrics(struct intake *intake)
{
        static const char *const labels[] = { "result=\"new\"", "result=\"skipped\"", "result=\"dead\"",
                                              "result=\"parked\"", "result=\"retried\"" };

        for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
                intake->results[i] = metric_counter("tenantry_intake_messages_total", labels[i],
                                                    "Messages taken from Kafka by what became of them.");
        intake->seconds = metric_histogram("tenantry_intake_seconds", NULL, "From a message in hand to its commit.");
        intake->lag = metric_gauge("tenantry_intake_lag_offsets", NULL, "By how many offsets the catalog is behind.");
        metric_set(intake->lag, NAN);
}

/* Those of the contracts, each once. */
static void list_topics(const struct contract *contracts, const char *ret[TOPICS_MOST + 1])
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
                .assigned = partitions_assigned,
                .message = take_message,
                .trouble = consumer_in_trouble,
                .fatal = reading_ended,
                .lag = lag_known,
        };
        struct intake *intake = NEW(struct intake);
        const char *topics[TOPICS_MOST + 1];
        int rc;

        intake->service = service;
        intake->settings = *settings;
        make_metrics(intake);
        list_topics(settings->contracts, topics);
        rc = kafka_consumer_new(&service->loop, &service->kafka, settings->group, topics, &events, intake,
                                &intake->consumer, err);
        if (rc < 0) {
                free(intake);
                return rc;
        }
        uv_timer_init(&service->loop, &intake->retry);
        intake->retry.data = intake;
        uv_timer_start(&intake->retry, on_retry, RETRY_DELAY, RETRY_DELAY);
        intake->parked = parked_new(service, settings);
        pg_pool_on_change(service->catalog, catalog_changed, intake);
        *ret = intake;
        return 0;
}

void intake_stop(struct intake *intake)
{
        intake->stopped = true;
        kafka_consumer_stop(intake->consumer);
        parked_stop(intake->parked);
}

/* What waits for PostgreSQL is not finished before it is back: Kafka still has it. */
bool intake_is_idle(const struct intake *intake)
{
        size_t waiting = 0;

        for (const struct delivery *d = intake->failed; d != NULL; d = d->next)
                waiting++;
        return kafka_consumer_in_hand(intake->consumer) == waiting;
}

int intake_check(const struct intake *intake, struct err *err)
{
        const struct err *cause = kafka_consumer_cause(intake->consumer);
        bool reads = intake->assigned && intake->position_count > 0;

        if (!reads && cause->class != ERR_NONE)
                return err_set(err, ERR_BUSY, cause->code, "%s", cause->message);
        if (intake->assigned) /* also to nothing, where there are more processes than partitions */
                return 0;
        return err_set(err, ERR_BUSY, "kafka_not_assigned", "Kafka has given this consumer no partitions yet");
}

static void free_intake(uv_handle_t *handle)
{
        free(handle->data);
}

void intake_free(struct intake *intake)
{
        struct delivery *delivery;

        if (intake == NULL)
                return;
        pg_pool_on_change(intake->service->catalog, NULL, NULL);
        while ((delivery = intake->failed) != NULL) {
                intake->failed = delivery->next;
                free_delivery(delivery);
        }
        kafka_consumer_free(intake->consumer);
        forget_positions(intake);
        parked_free(intake->parked);
        uv_close((uv_handle_t *)&intake->retry, free_intake);
}
