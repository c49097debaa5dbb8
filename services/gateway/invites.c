/* Invitation links: a page with one button (so that a mail scanner that follows the link does not use it up), then the
 * redirect into the product. */
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/contracts/contract.h"
#include "common/contracts/product_url.h"
#include "common/contracts/signed_link.h"
#include "services/gateway/reading.h"
#include "services/gateway/visits.h"

#include <string.h>

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

static void invite_give_up(struct http_request *request, const json_t *operation)
{
        (void)operation;
        invite_answer_page(request, 503, "One moment",
                           "Signing in is not possible right now. Please try the link again.", "");
}

/* While a person waits, the provider makes its link. */
static const struct visit_wish LINK = {
        .topic = "tenant.command.v1",
        .type = "tenant.invite_link.requested.v1",
        .sql = "select link as sealed, link_made as number from gateway.invite where tenant_id = $1::uuid",
        .params = 1,
        .field = "invite_link",
        .failed = invite_give_up,
};

/* The recipient may click as often as they like, but each click that reaches the provider is expensive. */
static bool invite_link_allowed(struct gateway *gateway, struct http_request *request, const char *tenant_id)
{
        if (visit_wait(gateway, request, tenant_id) == 0)
                return true;
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
                        visit_begin(gateway, request, &LINK, link.subject.text,
                                    json_pack("{s:s}", "tenant_id", link.subject.text));
                return;
        }
        base = product_url_of(gateway->config->links.product_url, pg_text(rows, 0, "slug"));
        where = mem_printf("%s?invite=%s", base, http_segment(request));
        visit_redirect(request, where);
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
