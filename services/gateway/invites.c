/* Invitation links: a page with one button (so that a mail scanner that follows the link does not use it up), then the
 * redirect into the product. */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/contracts/contract.h"
#include "common/contracts/operation_id.h"
#include "common/contracts/product_url.h"
#include "common/contracts/signed_link.h"
#include "common/kafka/cloudevent.h"
#include "services/gateway/limiter.h"
#include "services/gateway/pending.h"
#include "services/gateway/reading.h"
#include "services/gateway/waiters.h"

#include <stdio.h>
#include <string.h>

#define LINK_WAIT SECONDS(20)

static const char SQL_INVITE[] = "select * from gateway.invite where tenant_id = $1::uuid";

static const char PAGE[] =
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\"><title>%s</title>"
        "<style>body{font:18px/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem}"
        "button{font:inherit;padding:.6rem 1.4rem;border:0;border-radius:.4rem;background:#1a5fb4;"
        "color:#fff;cursor:pointer}</style><h1>%s</h1><p>%s</p>%s</html>";

static void invite_answer_page(struct http_request *request, unsigned status, const char *title, const char *text,
                               const char *form)
{
        auto_free char *page = mem_printf(PAGE, title, title, text, form);

        http_answer_header(request, "Content-Security-Policy",
                           "default-src 'none'; style-src 'unsafe-inline'; form-action *");
        http_answer_header(request, "Referrer-Policy", "no-referrer");
        http_answer(request, status, "text/html; charset=utf-8", page, strlen(page));
}

/* Checks the link in the path; answers and returns false if it is not valid. */
static bool invite_link_holds(struct gateway *gateway, struct http_request *request, struct signed_link *ret)
{
        struct err err;

        if (signed_link_check(gateway->app_keys, LINK_INVITATION, http_segment(request), clock_wall_ms(), ret, &err) ==
            0)
                return true;
        invite_answer_page(request, err.class == ERR_GONE ? 410 : 404, "This link does not work", err.message, "");
        return false;
}

void invite_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct signed_link link;

        (void)caller;
        if (invite_link_holds(gateway, request, &link))
                invite_answer_page(request, 200, "Welcome", "Your workspace is ready.",
                                   "<form method=\"post\"><button>Sign in</button></form>");
}

static void invite_redirect(struct http_request *request, const char *where)
{
        http_answer_header(request, "Location", where);
        http_answer_header(request, "Referrer-Policy", "no-referrer");
        http_answer(request, 303, "text/plain", "", 0);
}

/* A person is waiting while the provider makes its link. */
struct visit {
        struct pending pending; /* first */
        struct gateway *gateway;
        struct id tenant, operation;
};

static void invite_release(struct pending *pending)
{
        free(pending);
}

static void invite_give_up(struct http_request *request)
{
        invite_answer_page(request, 503, "One moment",
                           "Signing in is not possible right now. Please try the link again.", "");
}

static void invite_link_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct visit *visit = context;
        struct gateway *gateway = visit->gateway;
        struct id tenant = visit->tenant;
        struct http_request *request = pending_done(&visit->pending);
        auto_secret char *link = NULL;

        if (request == NULL)
                return;
        if (err != NULL || pg_rows_count(rows) == 0 || pg_text(rows, 0, "link") == NULL ||
            keyring_open(gateway->app_keys, tenant.text, "invite_link", (int)pg_int(rows, 0, "link_made"),
                         pg_text(rows, 0, "link"), &link, NULL) < 0)
                invite_give_up(request);
        else
                invite_redirect(request, link);
}

static void invite_link_made(void *context, const json_t *operation)
{
        struct visit *visit = context;
        const char *state = operation ? json_text(operation, "state") : NULL;
        struct http_request *request;

        if (state != NULL && strcmp(state, "succeeded") == 0) {
                pg_pool_exec(visit->gateway->service->catalog, SECONDS(3), SQL_INVITE, PARAMS(visit->tenant.text),
                             invite_link_arrived, visit);
                return;
        }
        request = pending_done(&visit->pending);
        if (request != NULL)
                invite_give_up(request);
}

static void invite_command_delivered(void *context, const struct err *err)
{
        struct visit *visit = context;
        struct http_request *request;

        if (err == NULL) {
                waiters_add(visit->gateway->waiters, visit->operation.text, LINK_WAIT, invite_link_made, visit);
                return;
        }
        request = pending_done(&visit->pending);
        if (request != NULL)
                invite_give_up(request);
}

static void invite_ask_for_link(struct gateway *gateway, struct http_request *request, const char *tenant_id)
{
        struct visit *visit = NEW(struct visit);
        auto_free char *data = mem_printf("{\"tenant_id\":\"%s\"}", tenant_id);
        char time[25];
        struct err err;
        struct cloudevent_out event = {
                .topic = "tenant.command.v1",
                .key = tenant_id,
                .source = "/tenantry/gateway",
                .type = "tenant.invite_link.requested.v1",
                .time = time,
                .data = data,
        };

        clock_format(clock_wall_ms(), time);
        visit->gateway = gateway;
        memcpy(visit->tenant.text, tenant_id, sizeof(visit->tenant.text));
        visit->operation = operation_id_make("", "", NULL);
        event.id = visit->operation.text;
        pending_begin(&visit->pending, request, invite_release);
        if (cloudevent_produce(gateway->producer, &event, invite_command_delivered, visit, &err) < 0)
                invite_command_delivered(visit, &err);
}

/* The recipient may click as often as they like, but each click that reaches the provider is expensive. */
static bool invite_link_allowed(struct gateway *gateway, struct http_request *request, const char *tenant_id)
{
        int64_t wait = limiter_take(gateway->links, tenant_id, clock_boot_ms());
        char seconds[24];

        if (wait == 0)
                return true;
        snprintf(seconds, sizeof(seconds), "%lld", (long long)(wait / 1000 + 1));
        http_answer_header(request, "Retry-After", seconds);
        invite_answer_page(request, 429, "One moment",
                           "This invitation was used many times just now. Please try it again in a few minutes.", "");
        return false;
}

static void invite_answer_visit(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        struct signed_link link;
        auto_free char *base = NULL, *where = NULL;

        if (!invite_link_holds(gateway, request, &link))
                return;
        if (pg_rows_count(rows) == 0 || strcmp(pg_text(rows, 0, "state"), "ready") != 0 ||
            pg_int(rows, 0, "invite_sent") > link.number) {
                invite_answer_page(request, 410, "This link does not work",
                                   "A newer invitation was sent, or the workspace is closed.", "");
                return;
        }
        if (strcmp(pg_text(rows, 0, "driver"), "supabase") == 0) {
                if (invite_link_allowed(gateway, request, link.subject.text))
                        invite_ask_for_link(gateway, request, link.subject.text);
                return;
        }
        base = product_url_of(gateway->config->links.product_url, pg_text(rows, 0, "slug"));
        where = mem_printf("%s?invite=%s", base, http_segment(request));
        invite_redirect(request, where);
}

void invite_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct signed_link link;

        (void)caller;
        if (invite_link_holds(gateway, request, &link))
                read_catalog(gateway, request, SQL_INVITE, PARAMS(link.subject.text), invite_answer_visit);
}

static void invite_answer_check(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        struct signed_link link;

        if (signed_link_check(gateway->app_keys, LINK_INVITATION, http_segment(request), clock_wall_ms(), &link, NULL) <
                    0 ||
            pg_rows_count(rows) == 0 || strcmp(pg_text(rows, 0, "state"), "ready") != 0 ||
            pg_int(rows, 0, "invite_sent") > link.number) {
                http_answer_problem(request, 404, "link_invalid", NULL, "this invitation is not valid (any more)");
                return;
        }
        http_answer_json(request, 200,
                         json_pack("{s:s, s:s, s:s, s:s}", "tenant_id", link.subject.text, "admin_id",
                                   pg_text(rows, 0, "admin_id"), "subdomain", pg_text(rows, 0, "slug"), "state",
                                   pg_text(rows, 0, "state")));
}

/* For the product's backend: whose invitation is this? */
void invite_check_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct signed_link link;
        struct err err;

        (void)caller;
        if (signed_link_check(gateway->app_keys, LINK_INVITATION, http_segment(request), clock_wall_ms(), &link, &err) <
            0)
                http_answer_problem(request, 404, err.code, NULL, err.message);
        else
                read_catalog(gateway, request, SQL_INVITE, PARAMS(link.subject.text), invite_answer_check);
}
