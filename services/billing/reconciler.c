/* Comparisons with Stripe: see reconciler.h. */
#include "services/billing/reconciler.h"

#include "common/base/backoff.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/contracts/stripe_event.h"
#include "common/contracts/stripe_event_types.h"
#include "common/durable/worker.h"
#include "common/service/periodic.h"
#include "services/billing/news.h"
#include "services/billing/outcome.h"

#include <string.h>
#include <utlist.h>

#define FIRST        SECONDS(5) /* what was delivered while nobody was here is taken before */
#define INTERVAL     SECONDS(1)
#define SQL_TIMEOUT  SECONDS(30)
#define CALL_TIMEOUT SECONDS(20)
#define LEASE        "60000" /* ms: longer than a call and the statement after it */
#define PATIENCE     SECONDS(60)
#define PAGE         100
#define SMALL_PAGE   10 /* an answer has a limit; a large event may be the cause of failures */
#define SMALL_AFTER  3  /* attempts */

static const char SQL_NEXT[] = "select kind, run, page, after, since, attempts "
                               "from reconcile_next($1::bigint, $2::bigint, $3::bigint, $4::float8)";
static const char SQL_EVENTS[] =
        "select reconcile_events($1::bigint, $2::int, $3::jsonb, $4, $5::bigint, $6::bigint, $7::bigint) as missed";
static const char SQL_SUBSCRIPTIONS[] =
        "select reconcile_subscriptions($1::bigint, $2::int, $3::jsonb, $4, $5::bigint, $6::bigint) as missed";
static const char SQL_FAILED[] = "select reconcile_failed($1, $2::bigint, $3::int, $4, $5::bigint, $6)";

/* A page that is being asked for. */
struct page {
        struct page *prev, *next;
        struct reconciler *reconciler;
        bool is_events;
        char *run, *number;
        int64_t attempts;
        struct stripe_request *request; /* under way, or NULL */
};

struct reconciler {
        struct billing *billing;
        struct periodic *periodic;
        struct page *pages;
        bool stopped;
        struct metric_family *read;
        struct metric *missed;
};

static void reconciler_drop(struct page *page)
{
        DL_DELETE(page->reconciler->pages, page);
        stripe_api_cancel(page->request);
        free(page->run);
        free(page->number);
        free(page);
}

static const char *reconciler_kind(const struct page *page)
{
        return page->is_events ? "events" : "subscriptions";
}

/* What is younger may still be on its way here. Whoever compares more often than that waits less for it. */
static int64_t reconciler_patience(const struct reconciler *reconciler)
{
        return MIN(PATIENCE, reconciler->billing->config->reconcile_ms / 2);
}

static void reconciler_failure_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct page *page = context;

        (void)rows;
        if (err != NULL) /* its time is over soon, and it is asked for again */
                log_warn("a comparison with Stripe could not be stored", "kind", reconciler_kind(page), "error",
                         err->message, NULL);
        reconciler_drop(page);
}

/* The page is asked for again. */
static void reconciler_put_off(struct page *page, const struct err *err, int64_t delay_ms, const char *why)
{
        struct reconciler *reconciler = page->reconciler;
        auto_free char *delay = mem_printf("%lld", (long long)delay_ms);

        if (reconciler->stopped)
                reconciler_drop(page);
        else
                pg_pool_exec(reconciler->billing->service->catalog, SQL_TIMEOUT, SQL_FAILED,
                             PARAMS(reconciler_kind(page), page->run, page->number, err->message, delay, why),
                             reconciler_failure_stored, page);
}

static int64_t reconciler_delay(const struct page *page)
{
        unsigned random;

        crypto_random(&random, sizeof(random));
        return backoff_ms((int)page->attempts - 1, random);
}

static void reconciler_page_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct page *page = context;
        struct reconciler *reconciler = page->reconciler;
        int64_t missed;

        if (err != NULL) {
                log_warn("a comparison with Stripe could not be stored", "kind", reconciler_kind(page), "error",
                         err->message, NULL);
                reconciler_put_off(page, err, reconciler_delay(page), "busy");
                return;
        }
        missed = pg_int(rows, 0, "missed");
        metric_add(METRIC_OF(reconciler->read, reconciler_kind(page)), 1);
        if (page->is_events && missed > 0) {
                auto_free char *count = mem_printf("%lld", (long long)missed);

                metric_add(reconciler->missed, (double)missed);
                log_warn("events of Stripe's had not been delivered, and were found in its list", "count", count, NULL);
                worker_wake(reconciler->billing->worker);
        }
        reconciler_drop(page);
        periodic_act(reconciler->periodic);
}

static void reconciler_fail(struct page *page, const struct err *err)
{
        const char *why = err->retry_after ? "limited" : err->class == ERR_AUTH ? "refused" : "busy";

        log_warn("Stripe could not be compared with", "kind", reconciler_kind(page), "code", err->code, "error",
                 err->message, NULL);
        reconciler_put_off(page, err, outcome_delay(page->attempts, err), why);
}

/* The objects of a page as the catalog takes them. Left out is one that is not as Stripe's documents say, and an event
 * that the endpoint is not given: it was not missed. */
static json_t *reconciler_read_page(const struct page *page, const json_t *data)
{
        json_t *list = json_array();
        const json_t *each;
        struct err err;
        size_t i;

        json_array_foreach (data, i, each) {
                json_t *read = NULL;

                if (page->is_events && !stripe_event_is_wanted(json_text(each, "type")))
                        continue;
                if ((page->is_events ? stripe_event_read(each, &read, &err) : stripe_object_read(each, &read, &err)) <
                    0)
                        log_warn("Stripe listed what cannot be read", "kind", reconciler_kind(page), "id",
                                 json_text(each, "id"), "error", err.message, NULL);
                else
                        json_array_append_new(list, read);
        }
        return list;
}

static void reconciler_store(struct page *page, const json_t *list, const char *after, int64_t date_s)
{
        struct reconciler *reconciler = page->reconciler;
        const struct billing_config *config = reconciler->billing->config;
        struct pg_pool *catalog = reconciler->billing->service->catalog;
        int64_t patience = reconciler_patience(reconciler);
        auto_free char *text = json_print(list), *date = mem_printf("%lld", (long long)date_s);
        auto_free char *ms = mem_printf("%lld", (long long)patience),
                       *s = mem_printf("%lld", (long long)patience / 1000);
        auto_free char *interval = mem_printf("%lld", (long long)config->reconcile_ms);

        if (page->is_events)
                pg_pool_exec(catalog, SQL_TIMEOUT, SQL_EVENTS,
                             PARAMS(page->run, page->number, text, after, date, s, interval), reconciler_page_stored,
                             page);
        else
                pg_pool_exec(catalog, SQL_TIMEOUT, SQL_SUBSCRIPTIONS,
                             PARAMS(page->run, page->number, text, after, date, ms), reconciler_page_stored, page);
}

static void reconciler_answered(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct page *page = context;
        const json_t *data = reply ? json_object_get(reply->body, "data") : NULL;
        const char *last = stripe_id_of(json_array_get(data, json_array_size(data) - 1));
        auto_json *list = NULL;
        struct err unusable;

        page->request = NULL; /* it is gone */
        FAILPOINT(billing_before_reconciled, NULL);
        outcome_note(page->reconciler->billing->service, reply, err);
        if (err != NULL) {
                reconciler_fail(page, err);
                return;
        }
        if (!json_is_array(data) || reply->date_s == 0 || (json_flag(reply->body, "has_more") && last == NULL)) {
                err_set(&unusable, ERR_BUSY, "stripe_not_a_list", "Stripe answered without a list, or without a date");
                reconciler_fail(page, &unusable);
                return;
        }
        list = reconciler_read_page(page, data);
        reconciler_store(page, list, json_flag(reply->body, "has_more") ? last : NULL, reply->date_s);
}

static void reconciler_ask(struct page *page, const char *after, int64_t since)
{
        struct billing *billing = page->reconciler->billing;
        auto_json *params = json_object();

        json_object_set_new(params, "limit", json_integer(page->attempts > SMALL_AFTER ? SMALL_PAGE : PAGE));
        if (page->is_events)
                json_object_set_new(params, "created", json_pack("{s:I}", "gte", (json_int_t)since));
        else
                json_set_text(params, "status", "all");
        if (after != NULL)
                json_set_text(params, "starting_after", after);
        page->request =
                stripe_api_call(billing->service->transfers, &billing->account,
                                &(struct stripe_call){ .method = "GET",
                                                       .path = page->is_events ? "/v1/events" : "/v1/subscriptions",
                                                       .params = params,
                                                       .timeout_ms = CALL_TIMEOUT },
                                reconciler_answered, page);
}

static void reconciler_next(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct reconciler *reconciler = context;

        if (err != NULL) {
                log_warn("what to compare with Stripe could not be read", "error", err->message, NULL);
                return;
        }
        for (int row = 0; row < pg_rows_count(rows) && !reconciler->stopped; row++) {
                struct page *page = NEW(struct page);

                page->reconciler = reconciler;
                page->is_events = strcmp(pg_text(rows, row, "kind"), "events") == 0;
                page->run = mem_copy_text(pg_text(rows, row, "run"));
                page->number = mem_copy_text(pg_text(rows, row, "page"));
                page->attempts = pg_int(rows, row, "attempts");
                DL_APPEND(reconciler->pages, page);
                reconciler_ask(page, pg_text(rows, row, "after"), pg_int(rows, row, "since"));
        }
}

static void reconciler_act(void *context)
{
        struct reconciler *reconciler = context;
        const struct billing_config *config = reconciler->billing->config;
        auto_free char *events = mem_printf("%lld", (long long)config->reconcile_ms);
        auto_free char *subscriptions = mem_printf("%lld", (long long)config->subscriptions_ms);
        auto_free char *rate = mem_printf("%lld", (long long)config->calls_per_second);

        if (!reconciler->stopped && reconciler->billing->account.secret_key != NULL &&
            news_is_configured(reconciler->billing->news))
                periodic_ask(reconciler->periodic, SQL_TIMEOUT, SQL_NEXT, PARAMS(events, subscriptions, LEASE, rate),
                             reconciler_next);
}

struct reconciler *reconciler_new(struct billing *billing)
{
        struct reconciler *reconciler = NEW(struct reconciler);

        reconciler->billing = billing;
        reconciler->read = metric_counter_family("tenantry_billing_reconciled_pages_total", "kind",
                                                 "Pages of Stripe's lists that were compared, by kind.");
        metric_add(METRIC_OF(reconciler->read, "events"), 0);
        metric_add(METRIC_OF(reconciler->read, "subscriptions"), 0);
        reconciler->missed =
                metric_counter("tenantry_billing_missed_events_total", "",
                               "Events of Stripe's that had not been delivered and were found in its list.");
        reconciler->periodic = periodic_new(billing->service, FIRST, INTERVAL, reconciler_act, reconciler);
        return reconciler;
}

void reconciler_stop(struct reconciler *reconciler)
{
        struct page *page, *next;

        reconciler->stopped = true;
        DL_FOREACH_SAFE (reconciler->pages, page, next)
                if (page->request != NULL)
                        reconciler_drop(page);
}

bool reconciler_is_idle(const struct reconciler *reconciler)
{
        return reconciler->pages == NULL;
}

void reconciler_free(struct reconciler *reconciler)
{
        if (reconciler == NULL)
                return;
        periodic_free(reconciler->periodic);
        while (reconciler->pages != NULL)
                reconciler_drop(reconciler->pages);
        free(reconciler);
}
