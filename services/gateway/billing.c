/* /api/tenants/{id}/billing and .../entitlements: what a tenant has bought and may use, and what is asked of billing.
 */
#include "common/contracts/billing.h"
#include "common/base/crypto.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "services/gateway/ingest.h"
#include "services/gateway/reading.h"

#include <string.h>

static const char SQL_ENTITLEMENTS[] = "select item from gateway.entitlements where tenant_id = $1::uuid";
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

static void billing_send(struct gateway *gateway, struct http_request *request, const char *caller, const char *type)
{
        const char *tenant = http_segment(request);
        auto_free char *route = mem_printf("%s %s", type, tenant);
        struct ingest_wish wish = {
                .caller = caller, .route = route, .subject = &INGEST_BILLING, .type = type, .id = tenant
        };
        json_t *body;

        if (!id_is_valid(tenant)) {
                billing_no_such_tenant(request);
                return;
        }
        body = ingest_body(request, "tenant_id");
        if (body != NULL)
                ingest(gateway, request, &wish, body);
}

void billing_usage_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.usage.reported.v1");
}

void billing_override_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.override.requested.v1");
}

void billing_checkout_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.checkout.requested.v1");
}

void billing_portal_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.portal.requested.v1");
}

void billing_change_plan_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.change_plan.requested.v1");
}

void billing_cancel_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.cancel.requested.v1");
}

void billing_resume_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.resume.requested.v1");
}

void billing_preview_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.preview.requested.v1");
}

void billing_end_duplicate_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        billing_send(gateway, request, caller, "billing.end_duplicate.requested.v1");
}
