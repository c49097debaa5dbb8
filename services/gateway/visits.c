/* From a button to the link that it makes: see visits.h. */
#include "services/gateway/visits.h"

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/contracts/operation_id.h"
#include "common/kafka/cloudevent.h"
#include "services/gateway/limiter.h"
#include "services/gateway/pending.h"
#include "services/gateway/waiters.h"

#include <stdio.h>
#include <string.h>

#define COMMAND_WAIT SECONDS(20)
#define LINK_TIMEOUT SECONDS(3)

/* A person is waiting for the link. */
struct visit {
        struct pending pending; /* first */
        struct gateway *gateway;
        const struct visit_wish *wish;
        struct id tenant, operation;
};

static void visit_release(struct pending *pending)
{
        free(pending);
}

static void visit_fail(struct visit *visit, const json_t *operation)
{
        const struct visit_wish *wish = visit->wish;
        struct http_request *request = pending_done(&visit->pending);

        if (request != NULL)
                wish->failed(request, operation);
}

static void visit_link_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct visit *visit = context;
        auto_secret char *link = NULL;
        struct http_request *request;

        if (err != NULL || pg_rows_count(rows) == 0 || pg_text(rows, 0, "sealed") == NULL ||
            keyring_open(visit->gateway->app_keys, visit->tenant.text, visit->wish->field,
                         (int)pg_int(rows, 0, "number"), pg_text(rows, 0, "sealed"), &link, NULL) < 0) {
                visit_fail(visit, NULL);
                return;
        }
        request = pending_done(&visit->pending);
        if (request != NULL)
                visit_redirect(request, link);
}

static void visit_command_ended(void *context, const json_t *operation)
{
        struct visit *visit = context;
        const char *state = operation ? json_text(operation, "state") : NULL;
        const char *const params[] = { visit->tenant.text, visit->operation.text };

        if (state != NULL && strcmp(state, "succeeded") == 0)
                pg_pool_exec(visit->gateway->service->catalog, LINK_TIMEOUT, visit->wish->sql, visit->wish->params,
                             params, visit_link_arrived, visit);
        else
                visit_fail(visit, operation);
}

static void visit_command_delivered(void *context, const struct err *err)
{
        struct visit *visit = context;

        if (err == NULL)
                waiters_add(visit->gateway->waiters, visit->operation.text, COMMAND_WAIT, visit_command_ended, visit);
        else
                visit_fail(visit, NULL);
}

void visit_begin(struct gateway *gateway, struct http_request *request, const struct visit_wish *wish,
                 const char *tenant_id, json_t *data)
{
        struct visit *visit = NEW(struct visit);
        auto_free char *text = json_print(data);
        char time[25];
        struct err err;
        struct cloudevent_out event = {
                .topic = wish->topic,
                .key = tenant_id,
                .source = "/tenantry/gateway",
                .type = wish->type,
                .time = time,
                .data = text,
        };

        json_decref(data);
        clock_format(clock_wall_ms(), time);
        visit->gateway = gateway;
        visit->wish = wish;
        memcpy(visit->tenant.text, tenant_id, sizeof(visit->tenant.text));
        visit->operation = operation_id_make("", "", NULL);
        event.id = visit->operation.text;
        pending_begin(&visit->pending, request, visit_release);
        if (cloudevent_produce(gateway->producer, &event, visit_command_delivered, visit, &err) < 0)
                visit_command_delivered(visit, &err);
}

int64_t visit_wait(struct gateway *gateway, struct http_request *request, const char *tenant_id)
{
        int64_t wait = limiter_take(gateway->links, tenant_id, clock_boot_ms());
        char seconds[24];

        if (wait == 0)
                return 0;
        snprintf(seconds, sizeof(seconds), "%lld", (long long)(wait / 1000 + 1));
        http_answer_header(request, "Retry-After", seconds);
        return wait / 1000 + 1;
}

void visit_redirect(struct http_request *request, const char *where)
{
        http_answer_header(request, "Location", where);
        http_answer_header(request, "Referrer-Policy", "no-referrer");
        http_answer(request, 303, "text/plain", "", 0);
}
