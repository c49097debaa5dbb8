/* From a checked request to an event in Kafka: see ingest.h. */
#include "services/gateway/ingest.h"

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/contracts/billing.h"
#include "common/contracts/migration.h"
#include "common/contracts/operation_id.h"
#include "common/contracts/tenant.h"
#include "common/kafka/cloudevent.h"
#include "services/gateway/pending.h"
#include "services/gateway/recent.h"
#include "services/gateway/waiters.h"

#include <stdio.h>
#include <string.h>

#define IDEMPOTENCY_KEY_LIMIT 255
#define LOOKUP_TIMEOUT        1000

static const char SQL_LINK[] = "select sealed from gateway.billing_link "
                               "where operation_id = $1::uuid and tenant_id = $2::uuid";
static const char SQL_KNOWN[] = "select body_hash from gateway.operation where operation_id = $1::uuid";

const struct ingest_subject INGEST_TENANT = { .contracts = TENANT_CONTRACTS, .field = "tenant_id", .derive = "tenant" };
const struct ingest_subject INGEST_BILLING = { .contracts = BILLING_CONTRACTS,
                                               .field = "tenant_id",
                                               .derive = "tenant" };
const struct ingest_subject INGEST_RUN = { .contracts = MIGRATION_CONTRACTS, .field = "run_id", .derive = "run" };
const struct ingest_subject INGEST_CHECK = { .contracts = MIGRATION_CONTRACTS, .field = "check_id", .derive = "check" };
const struct ingest_subject INGEST_FILE = { .contracts = MIGRATION_CONTRACTS };

struct ingest {
        struct pending pending; /* first */
        struct gateway *gateway;
        struct id operation, id; /* of the subject; empty if it has none */
        const struct ingest_subject *subject;
        const struct contract *contract;
        char *key, *data, *traceparent;
        char body_hash[65];
        int64_t wait_ms, started_ns;
        bool unconfirmed;
        json_t *outcome; /* of its operation, while a page of Stripe's is looked up */
};

static void ingest_release(struct pending *pending)
{
        struct ingest *ingest = (struct ingest *)pending;

        if (ingest->data != NULL)
                explicit_bzero(ingest->data, strlen(ingest->data));
        free(ingest->data);
        free(ingest->key);
        free(ingest->traceparent);
        json_decref(ingest->outcome);
        free(ingest);
}

static json_t *ingest_answer_body(const struct ingest *ingest)
{
        json_t *body = json_pack("{s:s, s:o}", "operation_id", ingest->operation.text, "status_url",
                                 json_sprintf("/api/operations/%s", ingest->operation.text));

        if (ingest->subject->field != NULL)
                json_set_text(body, ingest->subject->field, ingest->id.text);
        return body;
}

static void ingest_add_location(struct http_request *request, const struct ingest *ingest)
{
        char location[64];

        snprintf(location, sizeof(location), "/api/operations/%s", ingest->operation.text);
        http_answer_header(request, "Location", location);
}

/* The most common answer, printed directly: the same as answer_body, and ids need no escaping. */
static void ingest_answer_accepted(struct http_request *request, const struct ingest *ingest)
{
        const char *operation = ingest->operation.text;
        char body[256], subject[80] = "";
        int length;

        if (ingest->subject->field != NULL)
                snprintf(subject, sizeof(subject), "\"%s\":\"%s\",", ingest->subject->field, ingest->id.text);
        length = snprintf(body, sizeof(body), "{\"operation_id\":\"%s\",%s\"status_url\":\"/api/operations/%s\"}",
                          operation, subject, operation);
        ingest_add_location(request, ingest);
        http_answer(request, 202, "application/json", body, (size_t)length);
}

static void ingest_count(const struct ingest *ingest, bool accepted)
{
        static struct metric *results[2], *seconds;

        if (seconds == NULL) {
                results[0] = metric_counter("tenantry_ingest_total", "result=\"refused\"", "Requests handed to Kafka.");
                results[1] =
                        metric_counter("tenantry_ingest_total", "result=\"accepted\"", "Requests handed to Kafka.");
                seconds =
                        metric_histogram("tenantry_ingest_seconds", NULL, "From a request to Kafka's acknowledgement.");
        }
        metric_add(results[accepted], 1);
        metric_observe(seconds, (double)(clock_ns() - ingest->started_ns) / 1e9);
}

/* 409, but for what is not the caller's doing. */
static void ingest_answer_rejected(struct http_request *request, const struct ingest *ingest, const json_t *operation)
{
        json_t *body = json_deep_copy(json_object_get(operation, "result")); /* for instance suggestions */
        const char *code = json_text(operation, "code");
        bool is_ours = code != NULL && strcmp(code, "stripe_not_configured") == 0;

        json_object_set_new(body, "operation_id", json_string(ingest->operation.text));
        if (is_ours) /* until somebody has configured it */
                http_answer_header(request, "Retry-After", "300");
        http_answer_problem_more(request, is_ours ? 503 : 409, code, json_text(operation, "field"),
                                 json_text(operation, "detail"), body);
}

static void ingest_answer_outcome(struct ingest *ingest, const json_t *operation, const char *url)
{
        struct http_request *request = pending_done(&ingest->pending);
        const char *state = operation ? json_text(operation, "state") : NULL;
        json_t *body;
        bool parked;

        if (request == NULL)
                return;
        if (state == NULL) {
                ingest_answer_accepted(request, ingest);
                return;
        }
        http_answer_header(request, "Preference-Applied", "wait");
        if (strcmp(state, "rejected") == 0) {
                ingest_answer_rejected(request, ingest, operation);
                return;
        }
        body = ingest_answer_body(ingest);
        parked = strcmp(state, "accepted") == 0; /* nobody knows when it will continue */
        if (ingest->subject == &INGEST_BILLING && !parked) {
                json_object_set(body, "result", json_object_get(operation, "result"));
                json_set_text(body, "url", url);
        }
        json_object_set_new(body, "state", json_string(state));
        json_set_text(body, "code", json_text(operation, "code"));
        json_set_text(body, "detail", json_text(operation, "detail"));
        if (parked)
                ingest_add_location(request, ingest);
        http_answer_json(request, parked ? 202 : 200, body);
}

/* The page is told here and nowhere else. */
static void ingest_link_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct ingest *ingest = context;
        auto_json *operation = json_incref(ingest->outcome);
        auto_secret char *url = NULL;

        if (err == NULL && pg_rows_count(rows) == 1 &&
            keyring_open(ingest->gateway->app_keys, ingest->id.text, "billing_link", 0, pg_text(rows, 0, "sealed"),
                         &url, NULL) < 0)
                url = NULL;
        ingest_answer_outcome(ingest, operation, url);
}

static void ingest_outcome_told(void *context, const json_t *operation)
{
        struct ingest *ingest = context;
        const char *state = operation ? json_text(operation, "state") : NULL;

        if (ingest->subject != &INGEST_BILLING || state == NULL || strcmp(state, "succeeded") != 0) {
                ingest_answer_outcome(ingest, operation, NULL);
                return;
        }
        ingest->outcome = json_deep_copy(operation);
        pg_pool_exec(ingest->gateway->service->catalog, SECONDS(2), SQL_LINK,
                     PARAMS(ingest->operation.text, ingest->id.text), ingest_link_arrived, ingest);
}

static void ingest_answer_unconfirmed(struct http_request *request, const struct ingest *ingest)
{
        http_answer_problem_more(request, 409, "not_confirmed", "confirm", "confirm must be the tenant's subdomain",
                                 json_pack("{s:s}", "operation_id", ingest->operation.text));
}

static void ingest_event_delivered(void *context, const struct err *err)
{
        struct ingest *ingest = context;
        struct http_request *request;

        FAILPOINT(gateway_after_ack, NULL);
        ingest_count(ingest, err == NULL);
        if (err == NULL && ingest->wait_ms > 0 && !ingest->unconfirmed && ingest->pending.request != NULL &&
            !ingest->gateway->service->stopping) {
                waiters_add(ingest->gateway->waiters, ingest->operation.text, ingest->wait_ms, ingest_outcome_told,
                            ingest);
                return;
        }
        request = pending_done(&ingest->pending);
        if (request == NULL)
                return;
        if (err != NULL)
                pending_answer_untaken(request, err);
        else if (ingest->unconfirmed)
                ingest_answer_unconfirmed(request, ingest);
        else
                ingest_answer_accepted(request, ingest);
}

static void ingest_publish(struct ingest *ingest)
{
        char time[25];
        struct cloudevent_out event = {
                .topic = ingest->contract->topic,
                .key = ingest->key,
                .id = ingest->operation.text,
                .source = "/tenantry/gateway",
                .type = ingest->contract->type,
                .time = time,
                .traceparent = ingest->traceparent,
                .data = ingest->data,
        };
        struct err err;

        clock_format(clock_wall_ms(), time);
        if (FAILPOINT(gateway_before_produce, &err) < 0 ||
            cloudevent_produce(ingest->gateway->producer, &event, ingest_event_delivered, ingest, &err) < 0)
                ingest_event_delivered(ingest, &err);
}

static void ingest_refuse_other_body(struct ingest *ingest)
{
        struct http_request *request = pending_done(&ingest->pending);

        if (request != NULL)
                http_answer_problem(request, 409, "idempotency_key_reused", "Idempotency-Key",
                                    "this Idempotency-Key was used with another body before");
}

static void ingest_known_looked_up(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct ingest *ingest = context;

        if (err == NULL && pg_rows_count(rows) == 1 && pg_text(rows, 0, "body_hash") != NULL &&
            strcmp(pg_text(rows, 0, "body_hash"), ingest->body_hash) != 0) {
                recent_learn(ingest->gateway->recent, ingest->operation.text, pg_text(rows, 0, "body_hash"));
                ingest_refuse_other_body(ingest);
                return;
        }
        ingest_publish(ingest); /* even when PostgreSQL is down: then the consumer notices */
}

/* One key, one body: this process may know of another body, the catalog may; the consumer's inbox knows for certain. */
static void ingest_check_key(struct ingest *ingest)
{
        struct pg_pool *catalog = ingest->gateway->service->catalog;

        if (!recent_note(ingest->gateway->recent, ingest->operation.text, ingest->body_hash))
                ingest_refuse_other_body(ingest);
        else if (pg_pool_is_up(catalog))
                pg_pool_exec(catalog, LOOKUP_TIMEOUT, SQL_KNOWN, PARAMS(ingest->operation.text), ingest_known_looked_up,
                             ingest);
        else
                ingest_publish(ingest);
}

/* The caller's trace, if it is valid (W3C Trace Context), otherwise a new one. */
static char *ingest_traceparent_of(const struct http_request *request)
{
        const char *given = http_header(request, "traceparent");
        unsigned char bytes[24];
        auto_free char *hex = NULL;

        if (given != NULL && strlen(given) == 55 && strspn(given, "0123456789abcdef-") == 55)
                return mem_copy_text(given);
        crypto_random(bytes, sizeof(bytes));
        hex = crypto_hex(bytes, sizeof(bytes));
        return mem_printf("00-%.32s-%.16s-01", hex, hex + 32);
}

static bool ingest_key_is_usable(struct http_request *request, const char *key)
{
        bool usable = key == NULL || (*key && strlen(key) <= IDEMPOTENCY_KEY_LIMIT);

        for (const char *p = key; usable && p && *p; p++)
                usable = *p >= 0x20 && *p < 0x7f;
        if (!usable)
                http_answer_problem(request, 400, "invalid_field", "Idempotency-Key",
                                    "the Idempotency-Key must be 1 to 255 printable ASCII characters");
        return usable;
}

/* The request's own bytes with the subject's id inserted at the front: printing the parsed data again would cost as
 * much as parsing it. The body does not contain the id itself, since names must be unique. */
static char *ingest_event_data(const struct ingest *ingest, const struct http_request *request, const json_t *data)
{
        size_t length;
        const char *text = http_body(request, &length), *brace = strchr(text, '{');

        if (brace == NULL || ingest->subject->field == NULL || json_object_size(data) == 1)
                return json_print(data);
        return mem_printf("{\"%s\":\"%s\",%s", ingest->subject->field, ingest->id.text, brace + 1);
}

/* The id of what the event is about, in its data and as the message key. */
static void ingest_name_subject(struct ingest *ingest, const char *id, json_t *data)
{
        const struct ingest_subject *subject = ingest->subject;
        const char *key = json_text(data, ingest->contract->key[0]);

        if (subject->field == NULL) {
                ingest->key = mem_copy_text(key ? key : "");
                return;
        }
        if (id != NULL)
                memcpy(ingest->id.text, id, sizeof(ingest->id.text));
        else
                ingest->id = id_derive(subject->derive, ingest->operation.text, NULL);
        json_object_set_new(data, subject->field, json_string(ingest->id.text));
        ingest->key = mem_copy_text(ingest->id.text);
}

void ingest(struct gateway *gateway, struct http_request *request, const struct ingest_wish *wish, json_t *given)
{
        auto_json *data = given, *checked = NULL;
        const char *key = http_header(request, "Idempotency-Key");
        struct ingest *ingest;
        struct err err;

        if (!ingest_key_is_usable(request, key))
                return;
        ingest = NEW(struct ingest);
        ingest->gateway = gateway;
        ingest->started_ns = clock_ns();
        ingest->subject = wish->subject;
        ingest->contract = contract_find(wish->subject->contracts, wish->type);
        assert(ingest->contract != NULL);
        ingest->operation = operation_id_make(wish->caller, wish->route, key);
        ingest_name_subject(ingest, wish->id, data);
        if (contract_check(ingest->contract, ingest->key, data, &checked, &err) < 0) {
                ingest_release(&ingest->pending);
                http_answer_error(request, &err);
                return;
        }
        if (key != NULL) /* only a key can be reused with another body */
                cloudevent_hash(ingest->contract->type, data, ingest->body_hash);
        ingest->data = ingest_event_data(ingest, request, data);
        ingest->traceparent = ingest_traceparent_of(request);
        ingest->unconfirmed = wish->unconfirmed;
        ingest->wait_ms = waiters_preference(request, gateway->config->max_wait_ms);
        pending_begin(&ingest->pending, request, ingest_release);
        if (key != NULL)
                ingest_check_key(ingest);
        else
                ingest_publish(ingest);
}

static json_t *ingest_parse_body(struct http_request *request)
{
        size_t length;
        const char *text = http_body(request, &length);
        json_t *body = NULL;
        struct err err;

        if (length == 0)
                return json_object();
        if (json_parse(text, length, &body, &err) < 0) {
                http_answer_error(request, &err);
                return NULL;
        }
        if (json_is_object(body))
                return body;
        json_decref(body);
        http_answer_problem(request, 400, "not_an_object", NULL, "the body must be a JSON object");
        return NULL;
}

json_t *ingest_body(struct http_request *request, const char *without)
{
        json_t *body = ingest_parse_body(request);
        auto_free char *detail = NULL;

        if (body == NULL || without == NULL || json_object_get(body, without) == NULL)
                return body;
        json_decref(body);
        detail = mem_printf("%s is not a field of this request", without);
        http_answer_problem(request, 400, "invalid_field", without, detail);
        return NULL;
}
