/* POST /api/signups and POST /api/tenants/{id}/COMMAND: checked, published, answered 202. */
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "services/gateway/ingest.h"
#include "services/gateway/limiter.h"
#include "services/gateway/pending.h"

#include <stdio.h>
#include <string.h>

#define LOOKUP_TIMEOUT 1000

static const char SQL_SLUG[] =
        "select slug from gateway.tenant where tenant_id = $1::uuid and state <> 'deprovisioned'";

static bool writes_public_signup_allowed(struct gateway *gateway, struct http_request *request)
{
        char seconds[24];
        int64_t wait;

        if (gateway->signups_in_progress >= gateway->config->signups_in_progress) {
                http_answer_header(request, "Retry-After", "60");
                http_answer_problem(request, 503, "too_many_signups", NULL,
                                    "too many signups are in progress; try again soon");
                return false;
        }
        wait = limiter_take(gateway->public_signups, http_site(request), clock_boot_ms());
        if (wait == 0)
                return true;
        snprintf(seconds, sizeof(seconds), "%lld", (long long)(wait / 1000 + 1));
        http_answer_header(request, "Retry-After", seconds);
        http_answer_problem(request, 429, "rate_limited", NULL, "too many signups from this address");
        return false;
}

/* Labels decide who is first in a rollout, and whose the name staging is: not for the public to choose. */
static bool writes_may_label(struct http_request *request, const char *caller, const json_t *body)
{
        if (caller != NULL || json_object_get(body, "labels") == NULL)
                return true;
        http_answer_problem(request, 400, "invalid_field", "labels", "labels are only for signups with a token");
        return false;
}

void signup_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct ingest_wish wish = {
                .caller = caller, .route = "signup", .subject = &INGEST_TENANT, .type = "tenant.signup.requested.v1"
        };
        auto_json *body = NULL;

        if (caller == NULL && !writes_public_signup_allowed(gateway, request))
                return;
        if (caller == NULL)
                wish.caller = http_address(request);
        body = ingest_body(request, "tenant_id");
        if (body != NULL && writes_may_label(request, caller, body))
                ingest(gateway, request, &wish, TAKE_PTR(body));
}

/* One command, from the request to its event. */
struct command {
        struct pending pending; /* first */
        struct gateway *gateway;
        const struct endpoint *endpoint;
        char *caller;
        struct id tenant;
        json_t *body;
};

static void writes_release(struct pending *pending)
{
        struct command *command = (struct command *)pending;

        free(command->caller);
        json_decref(command->body);
        free(command);
}

static void writes_send_command(struct gateway *gateway, struct http_request *request, const struct endpoint *endpoint,
                                const char *caller, const char *tenant, bool unconfirmed, json_t *body)
{
        auto_free char *type = mem_printf("tenant.%s.requested.v1", endpoint->command);
        auto_free char *route = mem_printf("%s %s", endpoint->command, tenant);
        struct ingest_wish wish = {
                .caller = caller,
                .route = route,
                .subject = &INGEST_TENANT,
                .type = type,
                .id = tenant,
                .unconfirmed = unconfirmed,
        };

        ingest(gateway, request, &wish, body);
}

/* Refuses only if the catalog is certain: if it does not know the tenant, or is down, the command is judged later. */
static bool writes_is_confirmed(const struct command *command, const struct pg_rows *rows, const struct err *err)
{
        const char *slug = err == NULL && pg_rows_count(rows) == 1 ? pg_text(rows, 0, "slug") : NULL;
        const char *confirm = json_text(command->body, "confirm");

        return slug == NULL || confirm == NULL || strcmp(slug, confirm) == 0;
}

static void writes_slug_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct command *command = context;
        bool confirmed = writes_is_confirmed(command, rows, err);
        auto_free char *caller = mem_copy_text(command->caller);
        auto_json *body = json_incref(command->body);
        struct gateway *gateway = command->gateway;
        const struct endpoint *endpoint = command->endpoint;
        struct id tenant = command->tenant;
        struct http_request *request = pending_done(&command->pending);

        if (request == NULL)
                return;
        writes_send_command(gateway, request, endpoint, caller, tenant.text, !confirmed, TAKE_PTR(body));
}

/* A caller that gives the wrong name learns it now, not from an operation that nobody looks at. */
static void writes_check_confirm(struct gateway *gateway, struct http_request *request, const char *caller,
                                 const char *tenant, json_t *body)
{
        struct command *command = NEW(struct command);

        command->gateway = gateway;
        command->endpoint = http_route_extra(request);
        command->caller = mem_copy_text(caller); /* copied, as the tokens may be reread meanwhile */
        command->body = body;
        memcpy(command->tenant.text, tenant, sizeof(command->tenant.text));
        pending_begin(&command->pending, request, writes_release);
        pg_pool_exec(gateway->service->catalog, LOOKUP_TIMEOUT, SQL_SLUG, PARAMS(command->tenant.text),
                     writes_slug_arrived, command);
}

void command_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const struct endpoint *endpoint = http_route_extra(request);
        const char *tenant = http_segment(request);
        json_t *body;

        if (!id_is_valid(tenant)) {
                http_answer_problem(request, 404, "not_found", NULL, "there is no such tenant");
                return;
        }
        body = ingest_body(request, "tenant_id");
        if (body == NULL)
                return;
        if (endpoint->confirmed && pg_pool_is_up(gateway->service->catalog))
                writes_check_confirm(gateway, request, caller, tenant, body);
        else
                writes_send_command(gateway, request, endpoint, caller, tenant, false, body);
}
