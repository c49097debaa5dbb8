/* Every route of the API, and the check of who may call it. */
#include "common/base/memory.h"
#include "common/contracts/billing.h"
#include "services/gateway/gateway.h"

#include <string.h>

static void routes_refuse_anonymous(struct http_request *request)
{
        http_answer_header(request, "WWW-Authenticate", "Bearer");
        http_answer_problem(request, 401, "no_token", NULL, "a valid bearer token is needed");
}

/* NULL, and answered, if the token is not sufficient. */
static const char *routes_authenticate(struct gateway *gateway, struct http_request *request, enum scope scope)
{
        const char *header = http_header(request, "Authorization"), *name;
        unsigned scopes = 0;

        if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0) {
                routes_refuse_anonymous(request);
                return NULL;
        }
        name = tokens_find(gateway->tokens, header + 7, &scopes);
        if (name == NULL) {
                routes_refuse_anonymous(request);
                return NULL;
        }
        if (scopes & scope)
                return name;
        http_answer_problem(request, 403, "wrong_scope", NULL, "this token may not do that");
        return NULL;
}

/* A person who opens an invitation did not write its address: parameters that a mail program appends are harmless. For
 * all other routes, a query that would have no effect is an error. */
static void routes_guard(struct http_request *request, void *context)
{
        struct gateway *gateway = context;
        const struct endpoint *endpoint = http_route_extra(request);
        const char *caller = NULL;
        bool open =
                endpoint->scope == SCOPE_NONE || (endpoint->scope == SCOPE_SIGNUP && gateway->config->public_signup &&
                                                  http_header(request, "Authorization") == NULL);

        if (!open) {
                caller = routes_authenticate(gateway, request, endpoint->scope);
                if (caller == NULL)
                        return;
        }
        if (!http_query_holds(request))
                return;
        endpoint->answer(gateway, request, caller);
}

/* The query parameters, as in contracts/openapi.yaml. */

#define STATES "requested|provisioning|ready|attention|archived|deprovisioned"

#define OPERATION_STATES "accepted|succeeded|failed|superseded|rejected"
#define TENANT_ORDERS    "created_at|-created_at|since|-since|subdomain|-subdomain"

static const struct http_parameter TENANTS_QUERY[] = {
        { .name = "state", .choices = STATES },
        { .name = "subdomain" },
        { .name = "plan" },
        { .name = "label" },
        { .name = "begins" },
        { .name = "search" },
        { .name = "id" },
        { .name = "sort", .choices = TENANT_ORDERS },
        { .name = "limit" },
        { .name = "cursor" },
        { .name = NULL },
};

static const struct http_parameter OPERATIONS_QUERY[] = {
        { .name = "tenant_id" }, { .name = "state", .choices = OPERATION_STATES },
        { .name = "id" },        { .name = "limit" },
        { .name = "cursor" },    { .name = NULL },
};

static const struct http_parameter STREAM_QUERY[] = {
        { .name = "tenant_id" },
        { .name = NULL },
};

static const struct http_parameter RUN_STREAM_QUERY[] = {
        { .name = "run_id" },
        { .name = NULL },
};

static const struct http_parameter ALERTS_QUERY[] = {
        { .name = "all" },
        { .name = "limit" },
        { .name = "cursor" },
        { .name = NULL },
};

/* Of dead letters and of the inventory. */
static const struct http_parameter PAGE_QUERY[] = {
        { .name = "limit" },
        { .name = "cursor" },
        { .name = NULL },
};

#define JOB_STATES "waiting|forecasting|applying|done|failed|current|left|tried|undo_waiting|undoing|undone|undo_failed"

static const struct http_parameter JOBS_QUERY[] = {
        { .name = "state", .choices = JOB_STATES },
        { .name = "code" },
        { .name = "limit" },
        { .name = "cursor" },
        { .name = NULL },
};

#define EVENT_OUTCOMES "applied|stale|tie|twin|thin|parked|quarantined"

static const struct http_parameter BILLING_EVENTS_QUERY[] = {
        { .name = "tenant_id" }, { .name = "outcome", .choices = EVENT_OUTCOMES },
        { .name = "object_id" }, { .name = "limit" },
        { .name = "cursor" },    { .name = NULL },
};

static const struct http_parameter DROP_QUERY[] = {
        { .name = "confirm" },
        { .name = NULL },
};

#define ENDPOINT(...)                                                                                                  \
        &(const struct endpoint)                                                                                       \
        {                                                                                                              \
                __VA_ARGS__                                                                                            \
        }
/* The arguments after the handler are further members of the route. */
#define ROUTE(verb, where, scopes, answered, ...)                                                                      \
        {                                                                                                              \
                .method = verb, .path = where, .handle = routes_guard,                                                 \
                .extra = ENDPOINT(.scope = scopes, .answer = answered), __VA_ARGS__                                    \
        }
#define COMMAND(where, name, ...)                                                                                      \
        {                                                                                                              \
                .method = "POST", .path = "/api/tenants/{id}/" where, .handle = routes_guard,                          \
                .extra = ENDPOINT(.scope = SCOPE_ADMIN, .answer = command_post, .command = name, __VA_ARGS__)          \
        }
/* type: of the event that is sent. */
#define EVENT_ROUTE(verb, where, scopes, answered, type)                                                               \
        {                                                                                                              \
                .method = verb, .path = where, .handle = routes_guard,                                                 \
                .extra = ENDPOINT(.scope = scopes, .answer = answered, .command = type)                                \
        }
#define RUN_COMMAND(name)                                                                                              \
        {                                                                                                              \
                .method = "POST", .path = "/api/admin/migrations/runs/{id}/" name, .handle = routes_guard,             \
                .extra = ENDPOINT(.scope = SCOPE_ADMIN, .answer = migration_command_post, .command = name)             \
        }
/* The arguments after the name are further members of the route. */
#define FILE_COMMAND(where, name, ...)                                                                                 \
        {                                                                                                              \
                .method = "POST", .path = where, .handle = routes_guard,                                               \
                .extra = ENDPOINT(.scope = SCOPE_ADMIN, .answer = migration_file_post, .command = name), __VA_ARGS__   \
        }
#define PAGE .any_body = true, .any_query = true

#define FILE_BODY_LIMIT (1536 * 1024) /* a file of half a MiB, in JSON */

const struct http_route GATEWAY_ROUTES[] = {
        ROUTE("POST", "/api/signups", SCOPE_SIGNUP, signup_post),
        ROUTE("GET", "/api/operations", SCOPE_READ, operations_get, .query = OPERATIONS_QUERY),
        ROUTE("GET", "/api/operations/{id}", SCOPE_SIGNUP | SCOPE_READ, operation_get),
        ROUTE("GET", "/api/tenants", SCOPE_READ, tenants_get, .query = TENANTS_QUERY),
        ROUTE("GET", "/api/tenants/{id}", SCOPE_READ, tenant_get),
        ROUTE("GET", "/api/tenants/{id}/billing/forecast", SCOPE_READ, billing_forecast_get),
        ROUTE("GET", "/api/tenants/{id}/connection", SCOPE_APP, connection_get),
        COMMAND("suspend", "suspend"),
        COMMAND("resume", "resume"),
        COMMAND("archive", "archive"),
        COMMAND("deprovision", "deprovision", .confirmed = true),
        COMMAND("rotate-credentials", "rotate_credentials"),
        COMMAND("retry", "retry"),
        COMMAND("backup", "backup"),
        COMMAND("restore", "restore", .confirmed = true),
        COMMAND("resend-invite", "resend_invite"),
        COMMAND("labels", "label"),
        ROUTE("GET", "/api/tenants/{id}/entitlements", SCOPE_APP, entitlements_get,
              .cache = "max-age=60, stale-if-error=86400"),
        ROUTE("GET", "/api/tenants/{id}/billing", SCOPE_APP | SCOPE_READ, billing_get),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/checkout", SCOPE_APP, billing_request_post,
                    "billing.checkout.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/portal", SCOPE_APP, billing_request_post,
                    "billing.portal.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/change-plan", SCOPE_APP, billing_request_post,
                    "billing.change_plan.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/cancel", SCOPE_APP, billing_request_post,
                    "billing.cancel.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/resume", SCOPE_APP, billing_request_post,
                    "billing.resume.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/preview", SCOPE_APP, billing_request_post,
                    "billing.preview.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/end-duplicate", SCOPE_ADMIN, billing_request_post,
                    "billing.end_duplicate.requested.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/usage", SCOPE_APP, billing_command_post,
                    "billing.usage.reported.v1"),
        EVENT_ROUTE("POST", "/api/tenants/{id}/billing/override", SCOPE_ADMIN, billing_command_post,
                    "billing.override.requested.v1"),
        ROUTE("GET", "/api/stream", SCOPE_READ, stream_get, .query = STREAM_QUERY),
        ROUTE("GET", "/api/admin/inventory", SCOPE_ADMIN, inventory_get, .query = PAGE_QUERY),
        ROUTE("GET", "/api/admin/alerts", SCOPE_ADMIN, alerts_get, .query = ALERTS_QUERY),
        ROUTE("POST", "/api/admin/alerts/{id}/resolve", SCOPE_ADMIN, alert_resolve),
        ROUTE("GET", "/api/admin/dead-letters", SCOPE_ADMIN, dead_letters_get, .query = PAGE_QUERY),
        ROUTE("GET", "/api/admin/dead-letters/{id}", SCOPE_ADMIN, dead_letter_get),
        ROUTE("DELETE", "/api/admin/dead-letters/{id}", SCOPE_ADMIN, dead_letter_delete, .query = DROP_QUERY),
        ROUTE("POST", "/api/admin/dead-letters/{id}/replay", SCOPE_ADMIN, dead_letter_replay),
        FILE_COMMAND("/api/admin/migrations/files", "register", .body_bytes = FILE_BODY_LIMIT),
        FILE_COMMAND("/api/admin/migrations/files/withdraw", "withdraw"),
        ROUTE("GET", "/api/admin/migrations/files", SCOPE_ADMIN, migration_files_get, .query = PAGE_QUERY),
        ROUTE("GET", "/api/admin/migrations/files/{id}", SCOPE_ADMIN, migration_file_get),
        ROUTE("POST", "/api/admin/migrations/run", SCOPE_ADMIN, migration_run_post),
        ROUTE("GET", "/api/admin/migrations/status", SCOPE_ADMIN, migration_status_get),
        ROUTE("GET", "/api/admin/migrations/stream", SCOPE_ADMIN, migration_stream_get, .query = RUN_STREAM_QUERY),
        ROUTE("GET", "/api/admin/migrations/runs/{id}", SCOPE_ADMIN, migration_run_get),
        ROUTE("GET", "/api/admin/migrations/runs/{id}/tenants", SCOPE_ADMIN, migration_tenants_get,
              .query = JOBS_QUERY),
        RUN_COMMAND("pause"),
        RUN_COMMAND("resume"),
        RUN_COMMAND("promote"),
        RUN_COMMAND("halt"),
        RUN_COMMAND("rollback"),
        RUN_COMMAND("retry"),
        RUN_COMMAND("mark"),
        RUN_COMMAND("cancel"),
        ROUTE("POST", "/api/admin/migrations/runs/{id}/signals", SCOPE_SIGNAL, migration_signal_post),
        ROUTE("POST", "/api/admin/migrations/drift", SCOPE_ADMIN, migration_drift_post),
        ROUTE("GET", "/api/admin/migrations/drift", SCOPE_ADMIN, migration_drift_get),
        ROUTE("GET", "/api/admin/migrations/drift/tenants", SCOPE_ADMIN, migration_drifted_get, .query = PAGE_QUERY),
        ROUTE("GET", "/api/admin/billing/events", SCOPE_ADMIN, billing_events_get, .query = BILLING_EVENTS_QUERY),
        ROUTE("POST", "/api/admin/billing/events/{id}/replay", SCOPE_ADMIN, billing_event_replay),
        ROUTE("GET", "/api/admin/billing/held", SCOPE_ADMIN, billing_held_get, .query = PAGE_QUERY),
        ROUTE("POST", "/api/admin/billing/release", SCOPE_ADMIN, billing_release_post),
        ROUTE("GET", "/api/plans", SCOPE_NONE, plans_get, .cache = "public, max-age=60"),
        ROUTE("GET", "/api/admin/billing/reconcile", SCOPE_ADMIN, billing_reconcile_get),
        ROUTE("POST", "/api/admin/billing/reconcile", SCOPE_ADMIN, billing_reconcile_post),
        ROUTE("GET", "/api/invites/{id}", SCOPE_APP, invite_check_get),
        ROUTE("POST", "/api/webhooks/stripe", SCOPE_NONE, stripe_webhook_post, .body_bytes = STRIPE_BYTES,
              .any_body = true),
        ROUTE("GET", "/invite/{id}", SCOPE_NONE, invite_get, PAGE),
        ROUTE("GET", "/billing/{id}", SCOPE_NONE, billing_page_get, PAGE),
        ROUTE("POST", "/billing/{id}", SCOPE_NONE, billing_page_post, PAGE),
        ROUTE("GET", "/billing/back/{id}", SCOPE_NONE, billing_back_get, PAGE),
        ROUTE("POST", "/invite/{id}", SCOPE_NONE, invite_post, PAGE),
        { .method = NULL },
};
