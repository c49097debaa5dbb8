/* POST /api/signups and POST /api/tenants/{id}/COMMAND: checked, published, answered 202. */
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/memory.h"
#include "services/gateway/ingest.h"
#include "services/gateway/limiter.h"

#include <stdio.h>
#include <string.h>

static bool public_signup_allowed(struct gateway *gateway, struct http_request *request)
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

/* The contract knows tenant_id; over HTTP it is ours to give, or stands in the path. */
static json_t *body_without_tenant(struct http_request *request)
{
        json_t *body = ingest_body(request);

        if (body == NULL || json_object_get(body, "tenant_id") == NULL)
                return body;
        json_decref(body);
        http_answer_problem(request, 400, "invalid_field", "tenant_id", "tenant_id is not a field of this request");
        return NULL;
}

void signup_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct ingest_wish wish = { .caller = caller, .route = "signup", .type = "tenant.signup.requested.v1" };
        json_t *body;

        if (caller == NULL && !public_signup_allowed(gateway, request))
                return;
        if (caller == NULL)
                wish.caller = http_address(request);
        body = body_without_tenant(request);
        if (body != NULL)
                ingest(gateway, request, &wish, body);
}

void command_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const struct endpoint *endpoint = http_route_extra(request);
        const char *tenant = http_segment(request);
        auto_free char *type = mem_printf("tenant.%s.requested.v1", endpoint->command);
        auto_free char *route = mem_printf("%s %s", endpoint->command, tenant);
        struct ingest_wish wish = { .caller = caller, .route = route, .type = type, .tenant_id = tenant };
        json_t *body;

        if (!id_is_valid(tenant)) {
                http_answer_problem(request, 404, "not_found", NULL, "there is no such tenant");
                return;
        }
        body = body_without_tenant(request);
        if (body != NULL)
                ingest(gateway, request, &wish, body);
}
