/* Objects asked for at Stripe: see fetcher.h. */
#include "services/billing/fetcher.h"

#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/contracts/stripe_event.h"
#include "common/service/periodic.h"
#include "services/billing/outcome.h"

#include <string.h>
#include <utlist.h>

#define INTERVAL     SECONDS(1)
#define SQL_TIMEOUT  SECONDS(10)
#define CALL_TIMEOUT SECONDS(20)
#define AT_ONCE      8

static const char SQL_TAKE[] = "select kind, object_id, path, version, attempts "
                               "from take_wanted($1::int, $2::bigint, $3::float8)";
static const char SQL_ANSWERED[] = "select class from answered($1, $2, $3::bigint, $4::jsonb, $5::bigint) classes, "
                                   "unnest(classes) class";
static const char SQL_FAILED[] = "select fetch_failed($1, $2, $3, $4::bigint, $5::boolean)";

static const struct {
        const char *kind, *path;
} PATHS[] = {
        { "charge", "charges" },
        { "checkout.session", "checkout/sessions" },
        { "customer", "customers" },
        { "dispute", "disputes" },
        { "invoice", "invoices" },
        { "payment_intent", "payment_intents" },
        { "payment_method", "payment_methods" },
        { "price", "prices" },
        { "product", "products" },
        { "refund", "refunds" },
        { "setup_intent", "setup_intents" },
        { "subscription", "subscriptions" },
        { "subscription_schedule", "subscription_schedules" },
};

/* What may be different: see billing.drift. All of them are counted from the start. */
static const char *const DRIFTS[] = { "missing_here", "missing_there", "status", "price",
                                      "period",       "cancellation",  "details" };

/* An object that is being asked for. */
struct fetch {
        struct fetch *prev, *next;
        struct fetcher *fetcher;
        char *kind, *id, *version;
        int64_t attempts;
        struct stripe_request *request; /* under way, or NULL */
};

struct fetcher {
        struct billing *billing;
        struct periodic *periodic;
        struct fetch *fetches;
        size_t count;
        bool stopped;
        struct metric_family *drift;
};

static void fetcher_drop(struct fetch *fetch)
{
        DL_DELETE(fetch->fetcher->fetches, fetch);
        fetch->fetcher->count--;
        stripe_api_cancel(fetch->request);
        free(fetch->kind);
        free(fetch->id);
        free(fetch->version);
        free(fetch);
}

static void fetcher_note_drift(const struct fetch *fetch, const char *class)
{
        metric_add(METRIC_OF(fetch->fetcher->drift, class), 1);
        log_warn("a subscription was different at Stripe", "object", fetch->id, "class", class, NULL);
}

static void fetcher_answer_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct fetch *fetch = context;
        struct fetcher *fetcher = fetch->fetcher;

        if (err != NULL) /* its lease ends, and it is asked again */
                log_warn("an answer of Stripe's could not be stored", "object", fetch->id, "error", err->message, NULL);
        for (int row = 0; err == NULL && row < pg_rows_count(rows); row++)
                fetcher_note_drift(fetch, pg_text(rows, row, "class"));
        fetcher_drop(fetch);
        fetcher_wake(fetcher);
}

static void fetcher_failure_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct fetch *fetch = context;

        (void)rows;
        if (err != NULL)
                log_warn("an answer of Stripe's could not be stored", "object", fetch->id, "error", err->message, NULL);
        fetcher_drop(fetch);
}

static void fetcher_store(struct fetch *fetch, const json_t *object, int64_t date_s)
{
        auto_free char *text = object ? json_print(object) : NULL;
        auto_free char *date = mem_printf("%lld", (long long)date_s);

        pg_pool_exec(fetch->fetcher->billing->service->catalog, SQL_TIMEOUT, SQL_ANSWERED,
                     PARAMS(fetch->kind, fetch->id, fetch->version, text, date), fetcher_answer_stored, fetch);
}

static void fetcher_fail(struct fetch *fetch, const struct err *err)
{
        auto_free char *delay = mem_printf("%lld", (long long)outcome_delay(fetch->attempts, err));

        log_warn("Stripe could not be asked for an object", "kind", fetch->kind, "object", fetch->id, "code", err->code,
                 "error", err->message, NULL);
        pg_pool_exec(fetch->fetcher->billing->service->catalog, SQL_TIMEOUT, SQL_FAILED,
                     PARAMS(fetch->kind, fetch->id, err->message, delay, err->retry_after ? "true" : "false"),
                     fetcher_failure_stored, fetch);
}

static void fetcher_answered(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct fetch *fetch = context;
        auto_json *object = NULL;
        struct err unusable;

        fetch->request = NULL; /* it is gone */
        FAILPOINT(billing_before_fetched, NULL);
        outcome_note(fetch->fetcher->billing->service, reply, err);
        if (err != NULL && err->class == ERR_GONE) {
                fetcher_store(fetch, NULL, 0);
                return;
        }
        if (err != NULL) {
                fetcher_fail(fetch, err);
                return;
        }
        if (stripe_object_read(reply->body, &object, &unusable) < 0 ||
            (strcmp(json_text(object, "id"), fetch->id) != 0 &&
             err_set(&unusable, ERR_PERMANENT, "other_object", "Stripe answered with another object")))
                fetcher_fail(fetch, &unusable);
        else
                fetcher_store(fetch, object, reply->date_s);
}

/* An id goes into a path as it is. */
static bool fetcher_is_plain(const char *id)
{
        for (const char *p = id; *p; p++)
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *p))
                        return false;
        return true;
}

static char *fetcher_path(const char *kind, const char *id)
{
        for (size_t i = 0; i < ARRAY_SIZE(PATHS) && fetcher_is_plain(id); i++)
                if (strcmp(PATHS[i].kind, kind) == 0)
                        return mem_printf("/v1/%s/%s", PATHS[i].path, id);
        return NULL;
}

static void fetcher_begin(struct fetcher *fetcher, const struct pg_rows *rows, int row)
{
        struct billing *billing = fetcher->billing;
        struct fetch *fetch = NEW(struct fetch);
        auto_free char *path = mem_copy_text(pg_text(rows, row, "path"));

        fetch->fetcher = fetcher;
        fetch->kind = mem_copy_text(pg_text(rows, row, "kind"));
        fetch->id = mem_copy_text(pg_text(rows, row, "object_id"));
        fetch->version = mem_copy_text(pg_text(rows, row, "version"));
        fetch->attempts = pg_int(rows, row, "attempts");
        DL_APPEND(fetcher->fetches, fetch);
        fetcher->count++;
        if (path == NULL)
                path = fetcher_path(fetch->kind, fetch->id);
        if (path == NULL) {
                log_warn("nobody knows how to ask Stripe for an object", "kind", fetch->kind, "object", fetch->id,
                         NULL);
                fetcher_store(fetch, NULL, 0);
                return;
        }
        fetch->request =
                stripe_api_call(billing->service->transfers, &billing->account,
                                &(struct stripe_call){ .method = "GET", .path = path, .timeout_ms = CALL_TIMEOUT },
                                fetcher_answered, fetch);
}

static void fetcher_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct fetcher *fetcher = context;

        if (err != NULL) {
                log_warn("what to ask Stripe for could not be read", "error", err->message, NULL);
                return;
        }
        for (int row = 0; row < pg_rows_count(rows) && !fetcher->stopped; row++)
                fetcher_begin(fetcher, rows, row);
}

static void fetcher_act(void *context)
{
        struct fetcher *fetcher = context;
        const struct billing_config *config = fetcher->billing->config;
        auto_free char *limit = NULL, *rate = NULL, *lease = NULL;

        if (fetcher->stopped || fetcher->count == AT_ONCE || fetcher->billing->account.secret_key == NULL)
                return;
        limit = mem_printf("%zu", AT_ONCE - fetcher->count);
        rate = mem_printf("%lld", (long long)config->calls_per_second);
        lease = mem_printf("%lld", (long long)(config->service.lease_ms + CALL_TIMEOUT)); /* a call does not renew it */
        periodic_ask(fetcher->periodic, SQL_TIMEOUT, SQL_TAKE, PARAMS(limit, lease, rate), fetcher_taken);
}

struct fetcher *fetcher_new(struct billing *billing)
{
        struct fetcher *fetcher = NEW(struct fetcher);

        fetcher->billing = billing;
        outcome_begin_count();
        fetcher->drift = metric_counter_family("tenantry_billing_drift_total", "class",
                                               "Subscriptions that were different at Stripe, by what was different.");
        for (size_t i = 0; i < ARRAY_SIZE(DRIFTS); i++)
                metric_add(METRIC_OF(fetcher->drift, DRIFTS[i]), 0);
        fetcher->periodic = periodic_new(billing->service, INTERVAL, INTERVAL, fetcher_act, fetcher);
        return fetcher;
}

void fetcher_wake(struct fetcher *fetcher)
{
        periodic_act(fetcher->periodic);
}

void fetcher_stop(struct fetcher *fetcher)
{
        struct fetch *fetch, *next;

        fetcher->stopped = true;
        DL_FOREACH_SAFE (fetcher->fetches, fetch, next)
                if (fetch->request != NULL)
                        fetcher_drop(fetch);
}

bool fetcher_is_idle(const struct fetcher *fetcher)
{
        return fetcher->count == 0;
}

void fetcher_free(struct fetcher *fetcher)
{
        if (fetcher == NULL)
                return;
        periodic_free(fetcher->periodic);
        while (fetcher->fetches != NULL)
                fetcher_drop(fetcher->fetches);
        free(fetcher);
}
