/* Where the links in mails about billing lead: plain pages without script, on which each act is a button, so that a
 * mail scanner that follows links does nothing. What a button asks for takes the way of every command; its answer is a
 * page of Stripe's, to which the browser is sent. */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/contracts/billing.h"
#include "common/contracts/product_url.h"
#include "common/contracts/signed_link.h"
#include "services/gateway/limiter.h"
#include "services/gateway/reading.h"
#include "services/gateway/visits.h"

#include <stdio.h>
#include <string.h>

#define VALUE_MOST 80
#define LOOKS_MOST 30 /* of the page that waits for the webhook, two seconds apart */

static const char SQL_PAGE[] = "select slug, item from gateway.billing_page where tenant_id = $1::uuid";
static const char SQL_STRIPE[] = "select sealed, 0 as number from gateway.billing_link "
                                 "where tenant_id = $1::uuid and operation_id = $2::uuid";
static const char SQL_BACK[] = "select 1 from gateway.billing_back where session_id = $1 and slug = $2";
static const char SQL_ASK_LINK[] = "select catalog.ask_billing_link($1::uuid) as asked";

static const char HEAD[] =
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\">"
        "<style>body{font:18px/1.5 system-ui,sans-serif;max-width:36rem;margin:10vh auto;padding:0 1rem}"
        "button{font:inherit;padding:.4rem 1.2rem;border:0;border-radius:.4rem;background:#1a5fb4;"
        "color:#fff;cursor:pointer}form{display:inline}td{padding:.2rem 1rem .2rem 0}</style>";

static const char MAIL_BUTTON[] =
        "<form method=\"post\"><button name=\"action\" value=\"mail\">Send me a new link</button></form>";

/* What stands in no page as markup. NULL is nothing. */
static void pages_add(struct buf *out, const char *text)
{
        for (; text != NULL && *text; text++) {
                switch (*text) {
                case '<':
                        buf_add_text(out, "&lt;");
                        break;
                case '>':
                        buf_add_text(out, "&gt;");
                        break;
                case '&':
                        buf_add_text(out, "&amp;");
                        break;
                case '"':
                        buf_add_text(out, "&quot;");
                        break;
                default:
                        buf_add(out, text, 1);
                }
        }
}

static void pages_answer(struct http_request *request, unsigned status, const struct buf *page)
{
        http_answer_header(request, "Content-Security-Policy",
                           "default-src 'none'; style-src 'unsafe-inline'; form-action *; frame-ancestors 'none'");
        http_answer_header(request, "Referrer-Policy", "no-referrer");
        http_answer(request, status, "text/html; charset=utf-8", page->data, page->length);
}

/* title and text are ours; more is markup. */
static void pages_say(struct http_request *request, unsigned status, const char *title, const char *text,
                      const char *more)
{
        auto_buf page = { 0 };

        buf_printf(&page, "%s<title>%s</title><h1>%s</h1><p>%s</p>%s</html>", HEAD, title, title, text, more);
        pages_answer(request, status, &page);
}

/* Checks the link in the path; answers and returns false if it is not valid. */
static bool pages_link_holds(struct gateway *gateway, struct http_request *request, struct signed_link *ret)
{
        struct err err;

        if (signed_link_check(gateway->app_keys, LINK_BILLING, http_segment(request), clock_wall_ms(), ret, &err) == 0)
                return true;
        if (err.class == ERR_GONE)
                pages_say(request, 410, "This link has expired",
                          "Links in our mails are valid for 7 days. We send a new one to the same address.",
                          MAIL_BUTTON);
        else
                pages_say(request, 404, "This link does not work", err.message, "");
        return false;
}

static void pages_add_status(struct buf *page, const json_t *item)
{
        static const struct {
                const char *status, *words;
        } WORDS[] = {
                { "trial", "On trial" },
                { "active", "Active" },
                { "past_due", "The last payment failed" },
                { "suspended", "Cannot be used" },
                { "cancelled", "Has ended" },
                { "archived", "Closed" },
        };
        const char *status = json_text(item, "status") ?: "";

        buf_add_text(page, "<p>");
        for (size_t i = 0; i < ARRAY_SIZE(WORDS); i++)
                if (strcmp(WORDS[i].status, status) == 0)
                        buf_add_text(page, WORDS[i].words);
        if (json_text(item, "plan") != NULL) {
                buf_add_text(page, ", plan ");
                pages_add(page, json_text(item, "plan"));
        }
        if (json_text(item, "until") != NULL && json_text(item, "archive") == NULL)
                buf_printf(page, ", until %s (UTC)", json_text(item, "until"));
        if (json_text(item, "archive") != NULL)
                buf_printf(page, ". Your data is kept until %s (UTC)", json_text(item, "archive"));
        buf_add_text(page, ".</p>");
}

/* "99.00 USD a month" */
static void pages_add_button(struct buf *page, const json_t *plan, const char *period)
{
        const char *price = json_text(json_object_get(plan, "prices"), period);

        buf_add_text(page, "<td><form method=\"post\"><input type=\"hidden\" name=\"plan\" value=\"");
        pages_add(page, json_text(plan, "id"));
        buf_printf(page,
                   "\"><input type=\"hidden\" name=\"interval\" value=\"%s\">"
                   "<button name=\"action\" value=\"checkout\">",
                   period);
        pages_add(page, price ?: "By");
        buf_printf(page, "%s %s</button></form>", price ? " a" : "", period);
}

static void pages_add_plans(struct buf *page, const json_t *item)
{
        const json_t *plan, *period;
        size_t i, j;

        buf_add_text(page, "<h2>Choose a plan</h2><table>");
        json_array_foreach (json_object_get(item, "plans"), i, plan) {
                buf_add_text(page, "<tr><td>");
                pages_add(page, json_text(plan, "name"));
                json_array_foreach (json_object_get(plan, "periods"), j, period)
                        pages_add_button(page, plan, json_string_value(period));
        }
        buf_add_text(page, "</table><p>You see all that it costs, with tax, before you pay.</p>");
}

static void pages_add_invoices(struct buf *page, const json_t *item)
{
        const json_t *invoices = json_object_get(item, "invoices"), *invoice;
        size_t i;

        if (json_array_size(invoices) > 0)
                buf_add_text(page, "<h2>Invoices</h2><table>");
        json_array_foreach (invoices, i, invoice) {
                static const char *const COLUMNS[] = { "number", "date", "amount", "status" };

                buf_add_text(page, "<tr>");
                for (size_t j = 0; j < ARRAY_SIZE(COLUMNS); j++) {
                        buf_add_text(page, "<td>");
                        pages_add(page, json_text(invoice, COLUMNS[j]));
                }
        }
        if (json_array_size(invoices) > 0)
                buf_add_text(page, "</table>");
}

static void pages_answer_main(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        auto_json *item = NULL;
        auto_buf page = { 0 };

        (void)gateway;
        if (pg_rows_count(rows) == 0 || pg_text(rows, 0, "item") == NULL) {
                pages_say(request, 404, "There is nothing here", "This workspace is gone.", "");
                return;
        }
        item = pg_json(rows, 0, "item");
        buf_printf(&page, "%s<title>Billing</title><h1>", HEAD);
        pages_add(&page, json_text(item, "company"));
        buf_add_text(&page, "</h1>");
        pages_add_status(&page, item);
        if (json_flag(item, "is_live") && !json_flag(item, "has_subscription"))
                pages_add_plans(&page, item);
        pages_add_invoices(&page, item);
        if (json_flag(item, "is_customer"))
                buf_add_text(&page,
                             "<p><form method=\"post\"><button name=\"action\" value=\"portal\">Card, invoices and "
                             "plan, at Stripe</button></form></p>");
        buf_add_text(&page, "</html>");
        pages_answer(request, 200, &page);
}

void billing_page_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        struct signed_link link;

        (void)caller;
        if (pages_link_holds(gateway, request, &link))
                read_catalog(gateway, request, SQL_PAGE, PARAMS(link.subject.text), pages_answer_main);
}

/* A value of the form in the body; "" if it is missing, or not one that our own buttons send. */
static void pages_read(const struct http_request *request, const char *name, char ret[VALUE_MOST])
{
        size_t length, value;
        const char *at = http_body(request, &length), *next;

        *ret = '\0';
        for (; at != NULL; at = next ? next + 1 : NULL) {
                next = strchr(at, '&');
                if (strncmp(at, name, strlen(name)) != 0 || at[strlen(name)] != '=')
                        continue;
                at += strlen(name) + 1;
                value = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_-");
                if (value < VALUE_MOST && (at[value] == '\0' || at[value] == '&'))
                        snprintf(ret, VALUE_MOST, "%.*s", (int)value, at);
                return;
        }
}

/* With the reason where billing has refused it. */
static void pages_give_up(struct http_request *request, const json_t *operation)
{
        const char *state = operation ? json_text(operation, "state") : NULL;
        auto_buf words = { 0 };

        if (operation != NULL)
                pages_add(&words, json_text(operation, "detail"));
        if (state != NULL && strcmp(state, "rejected") == 0 && words.length > 0)
                pages_say(request, 409, "That is not possible", words.data, "");
        else
                pages_say(request, 503, "One moment",
                          "That is not possible right now. Please try it again in a minute.", "");
}

#define STRIPES_PAGE(command)                                                                                          \
        {                                                                                                              \
                .topic = BILLING_COMMAND_TOPIC, .type = "billing." command ".requested.v1", .sql = SQL_STRIPE,         \
                .params = 2, .field = "billing_link", .failed = pages_give_up                                          \
        }

static const struct visit_wish PORTAL = STRIPES_PAGE("portal"), CHECKOUT = STRIPES_PAGE("checkout");

/* Each of these makes an operation and a call to Stripe. */
static bool pages_allow(struct gateway *gateway, struct http_request *request, const char *tenant_id)
{
        if (visit_wait(gateway, request, tenant_id) == 0)
                return true;
        pages_say(request, 429, "One moment",
                  "This was used many times just now. Please try it again in a few minutes.", "");
        return false;
}

static void pages_answer_asked(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        (void)gateway;
        if (pg_rows_count(rows) == 0 || strcmp(pg_text(rows, 0, "asked"), "t") != 0)
                pages_say(request, 404, "There is nothing here", "This workspace is gone.", "");
        else
                pages_say(request, 200, "A new link is on its way", "Please look into your mail.", "");
}

/* The old link says whose it is, and the new one goes to the address that the old one went to. */
static void pages_ask_for_mail(struct gateway *gateway, struct http_request *request)
{
        struct signed_link link;

        if (signed_link_check(gateway->app_keys, LINK_BILLING, http_segment(request), 0, &link, NULL) < 0)
                pages_say(request, 404, "This link does not work", "It is not one of ours.", "");
        else if (pages_allow(gateway, request, link.subject.text))
                read_catalog(gateway, request, SQL_ASK_LINK, PARAMS(link.subject.text), pages_answer_asked);
}

void billing_page_post(struct gateway *gateway, struct http_request *request, const char *caller)
{
        char action[VALUE_MOST], plan[VALUE_MOST], interval[VALUE_MOST];
        struct signed_link link;

        (void)caller;
        pages_read(request, "action", action);
        pages_read(request, "plan", plan);
        pages_read(request, "interval", interval);
        if (strcmp(action, "mail") == 0) {
                pages_ask_for_mail(gateway, request);
                return;
        }
        if (!pages_link_holds(gateway, request, &link) || !pages_allow(gateway, request, link.subject.text))
                return;
        if (strcmp(action, "portal") == 0)
                visit_begin(gateway, request, &PORTAL, link.subject.text,
                            json_pack("{s:s}", "tenant_id", link.subject.text));
        else if (strcmp(action, "checkout") == 0 && *plan != '\0' &&
                 (strcmp(interval, "month") == 0 || strcmp(interval, "year") == 0))
                visit_begin(gateway, request, &CHECKOUT, link.subject.text,
                            json_pack("{s:s, s:s, s:s}", "tenant_id", link.subject.text, "plan", plan, "interval",
                                      interval));
        else
                pages_say(request, 400, "This button does not exist", "Please go back and try another.", "");
}

static bool pages_is_plain(const char *text)
{
        return text != NULL &&
               strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == strlen(text);
}

static void pages_go_on(struct gateway *gateway, struct http_request *request)
{
        auto_free char *product = product_url_of(gateway->config->links.product_url, http_segment(request));

        visit_redirect(request, product);
}

/* Not yet: what was paid is known only once Stripe's webhook has come. */
static void pages_answer_back(struct gateway *gateway, struct http_request *request, const struct pg_rows *rows)
{
        const char *looks = http_query(request, "looks");
        int count = looks ? atoi(looks) : 0;
        auto_buf page = { 0 };

        if (pg_rows_count(rows) > 0 || count < 0 || count >= LOOKS_MOST) {
                pages_go_on(gateway, request);
                return;
        }
        buf_printf(
                &page,
                "%s<meta http-equiv=\"refresh\" content=\"2;url=?checkout=%s&amp;looks=%d\"><title>One moment</title>"
                "<h1>One moment</h1><p>Your payment is being confirmed.</p></html>",
                HEAD, http_query(request, "checkout"), count + 1);
        pages_answer(request, 200, &page);
}

/* Back from Stripe, unless BILLING_RETURN_URL leads elsewhere. The subdomain is no secret, and nothing else is told. */
void billing_back_get(struct gateway *gateway, struct http_request *request, const char *caller)
{
        const char *session = http_query(request, "checkout");

        (void)caller;
        if (!pages_is_plain(http_segment(request)))
                pages_say(request, 404, "There is nothing here", "This address does not exist.", "");
        else if (session == NULL || *session == '\0' || !pages_is_plain(session) ||
                 limiter_take(gateway->looks, http_site(request), clock_boot_ms()) > 0)
                pages_go_on(gateway, request);
        else
                read_catalog(gateway, request, SQL_BACK, PARAMS(session, http_segment(request)), pages_answer_back);
}
