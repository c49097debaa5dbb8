/* /api/tenants/{id}/billing and .../entitlements: what a tenant has bought and may use, and what is asked of billing.
 */
#include "common/contracts/billing.h"
#include "common/base/crypto.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "services/gateway/ingest.h"
#include "services/gateway/pending.h"
#include "services/gateway/reading.h"

#include <string.h>

#define LOOKUP_TIMEOUT 1000

static const char SQL_ENTITLEMENTS[] = "select item from gateway.entitlements_of($1::uuid) item";
static const char SQL_SETUP[] = "select has_stripe from gateway.billing_setup";
static const char SQL_BILLING[] = "select item from gateway.billing where tenant_id = $1::uuid";

static void billing_no_such_tenant(struct http_request *request)
{
        http_answer_problem(request, 404, "not_found", NULL, "there is no such tenant");
}

static void billing_read(struct gateway *gateway, struct http_request *request, const char *sql, rows_answer_fn answer)
{
        if (id_is_valid(http_segment(request)))
                read_catalog(gateway, request, sql, PARAMS(http_segment(request)), answer);
        else
                billing_no_such_tenant(request);
}

/* The tag is of the text: the same for all gateways, whenever they were asked. */
static void billing_answer_entitlements(struct gateway *gateway, struct http_request *request,
                                        const struct pg_rows *rows)
{
        const char *text, *known = http_header(request, "If-None-Match");
        auto_free char *hex = NULL, *tag = NULL;
        struct crypto_digest digest;

        (void)gateway;
        if (pg_rows_count(rows) == 0) {
                billing_no_such_tenant(request);
                return;
        }
        text = pg_text(rows, 0, "item");
        crypto_sha256(text, strlen(text), &digest);
        hex = crypto_hex(digest.bytes, 16);
        tag = mem_printf("\"%s\"", hex);
        http_answer_header(request, "ETag", tag);
        if (known != NULL && strstr(known, tag) != NULL)
                http_answer(request, 304, "application/json", "", 0);
        else
                http_answer(request, 200, "application/json", text, strlen(text));
}

void entitlements_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        billing_read(gateway, request, SQL_ENTITLEMENTS, billing_answer_entitlements);
}

static void billing_answer(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 0)
                billing_no_such_tenant(request);
        else
                http_answer_json(request, 200, pg_json(rows, 0, "item"));
}

void billing_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        (void)caller;
        billing_read(gateway, request, SQL_BILLING, billing_answer);
}

/* What is sent is the route's business. */
static void billing_send(struct gateway *gateway, struct http_request *request, const char *caller, json_t *body)
{
        const char *tenant = http_segment(request),
                   *type = ((const struct endpoint *)http_route_extra(request))->command;
        auto_free char *route = mem_printf("%s %s", type, tenant);
        struct ingest_wish wish = {
                .caller = caller, .route = route, .subject = &INGEST_BILLING, .type = type, .id = tenant
        };

        ingest(gateway, request, &wish, body);
}

/* NULL, and answered, if it is none. */
static json_t *billing_body(struct http_request *request)
{
        if (id_is_valid(http_segment(request)))
                return ingest_body(request, "tenant_id");
        billing_no_such_tenant(request);
        return NULL;
}

void billing_command_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        json_t *body = billing_body(request);

        if (body != NULL)
                billing_send(gateway, request, caller, body);
}

/* A request that Stripe is needed for. */
struct billing_wish {
        struct pending pending; /* first */
        struct gateway *gateway;
        char *caller;
        json_t *body;
};

static void billing_release(struct pending *pending)
{
        struct billing_wish *wish = (struct billing_wish *)pending;

        free(wish->caller);
        json_decref(wish->body);
        free(wish);
}

/* If the catalog is not certain, billing decides later. */
static void billing_setup_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct billing_wish *wish = context;
        bool has_none = err == NULL && (pg_rows_count(rows) == 0 || !pg_bool(rows, 0, "has_stripe"));
        struct gateway *gateway = wish->gateway;
        auto_free char *caller = mem_copy_text(wish->caller);
        auto_json *body = json_incref(wish->body);
        struct http_request *request = pending_done(&wish->pending);

        if (request == NULL)
                return;
        if (!has_none) {
                billing_send(gateway, request, caller, TAKE_PTR(body));
                return;
        }
        http_answer_header(request, "Retry-After", "300");
        http_answer_problem(request, 503, "stripe_not_configured", NULL, "billing has no key of Stripe's");
}

void billing_request_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        json_t *body = billing_body(request);
        struct billing_wish *wish;

        if (body == NULL)
                return;
        wish = NEW(struct billing_wish);
        wish->gateway = gateway;
        wish->caller = mem_copy_text(caller); /* copied, as the tokens may be reread meanwhile */
        wish->body = body;
        pending_begin(&wish->pending, request, billing_release);
        pg_pool_exec(gateway->service->catalog, LOOKUP_TIMEOUT, SQL_SETUP, 0, NULL, billing_setup_arrived, wish);
}
