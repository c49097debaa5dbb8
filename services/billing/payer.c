/* Payments with another card: see payer.h. */
#include "services/billing/payer.h"

#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/service/periodic.h"
#include "services/billing/outcome.h"

#include <string.h>
#include <utlist.h>

#define INTERVAL     SECONDS(1)
#define SQL_TIMEOUT  SECONDS(10)
#define CALL_TIMEOUT SECONDS(40) /* a bank takes its time */
#define LEASE        "90000"     /* ms: longer than a call and the statement after it */
#define AT_ONCE      4

static const char SQL_TAKE[] = "select invoice_id, payment_method, t.attempts, p.keys_spent "
                               "from take_payments($1::int, $2::bigint, $3::float8) t "
                               "join payment p using (invoice_id, payment_method)";
static const char SQL_TRIED[] = "select payment_tried($1, $2, $3::int, $4, $5::bigint)";

/* After so many keys were spent: Stripe does not know what it has done with the card, and each key asks the bank anew.
 */
static const int64_t PATIENCE[] = { SECONDS(2), MINUTES(10), MINUTES(60), MINUTES(360) };

/* A payment that is being tried. */
struct payment {
        struct payment *prev, *next;
        struct payer *payer;
        char *invoice, *card;
        int64_t attempts, keys_spent;
        struct stripe_request *request; /* under way, or NULL */
};

struct payer {
        struct billing *billing;
        struct periodic *periodic;
        struct payment *payments;
        size_t count;
        bool stopped;
};

static void payer_drop(struct payment *payment)
{
        DL_DELETE(payment->payer->payments, payment);
        payment->payer->count--;
        stripe_api_cancel(payment->request);
        free(payment->invoice);
        free(payment->card);
        free(payment);
}

static void payer_stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct payment *payment = context;
        struct payer *payer = payment->payer;

        (void)rows;
        if (err != NULL) /* its lease ends, and it is tried again under the same key */
                log_warn("what became of a payment could not be stored", "invoice", payment->invoice, "error",
                         err->message, NULL);
        payer_drop(payment);
        payer_wake(payer);
}

static bool payer_is_saved_failure(const struct stripe_reply *reply)
{
        return reply != NULL && stripe_is_saved_failure(reply->status, reply->replayed);
}

/* Until it is tried again, in ms; 0: that was Stripe's last word on this card. */
static int64_t payer_delay(const struct payment *payment, const struct stripe_reply *reply, const struct err *err)
{
        if (payer_is_saved_failure(reply))
                return PATIENCE[MIN((size_t)payment->keys_spent, ARRAY_SIZE(PATIENCE) - 1)];
        if (err != NULL && (err->class == ERR_BUSY || err->class == ERR_AUTH))
                return outcome_delay(payment->attempts, err);
        return 0;
}

static void payer_answered(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct payment *payment = context;
        const char *outcome = payer_is_saved_failure(reply) ? "stripe_saved_failure" : err ? err->code : "paid";
        int64_t delay = payer_delay(payment, reply, err);
        auto_free char *delay_text = delay > 0 ? mem_printf("%lld", (long long)delay) : NULL;
        auto_free char *attempt = mem_printf("%lld", (long long)payment->attempts);

        payment->request = NULL; /* it is gone */
        FAILPOINT(billing_after_payment, NULL);
        outcome_note(payment->payer->billing->service, reply, err);
        if (err != NULL)
                log_warn("an invoice was not paid with the new card", "invoice", payment->invoice, "code", outcome,
                         "error", err->message, NULL);
        pg_pool_exec(payment->payer->billing->service->catalog, SQL_TIMEOUT, SQL_TRIED,
                     PARAMS(payment->invoice, payment->card, attempt, outcome, delay_text), payer_stored, payment);
}

/* An invoice is paid once, by whatever key. */
static char *payer_key(const struct payment *payment)
{
        if (payment->keys_spent == 0)
                return mem_printf("tenantry-pay-%.100s-%.100s", payment->invoice, payment->card);
        return mem_printf("tenantry-pay-%.100s-%.100s-%lld", payment->invoice, payment->card,
                          (long long)payment->keys_spent);
}

static void payer_begin(struct payer *payer, const struct pg_rows *rows, int row)
{
        struct billing *billing = payer->billing;
        struct payment *payment = NEW(struct payment);
        auto_free char *path = NULL, *key = NULL;
        auto_json *params = NULL;

        payment->payer = payer;
        payment->invoice = mem_copy_text(pg_text(rows, row, "invoice_id"));
        payment->card = mem_copy_text(pg_text(rows, row, "payment_method"));
        payment->attempts = pg_int(rows, row, "attempts");
        payment->keys_spent = pg_int(rows, row, "keys_spent");
        DL_APPEND(payer->payments, payment);
        payer->count++;
        path = mem_printf("/v1/invoices/%s/pay", payment->invoice);
        key = payer_key(payment);
        params = json_pack("{s:s}", "payment_method", payment->card);
        payment->request = stripe_api_call(billing->service->transfers, &billing->account,
                                           &(struct stripe_call){ .method = "POST",
                                                                  .path = path,
                                                                  .params = params,
                                                                  .idempotency_key = key,
                                                                  .timeout_ms = CALL_TIMEOUT },
                                           payer_answered, payment);
}

static void payer_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct payer *payer = context;

        if (err != NULL) {
                log_warn("which invoices are to be paid could not be read", "error", err->message, NULL);
                return;
        }
        for (int row = 0; row < pg_rows_count(rows) && !payer->stopped; row++)
                payer_begin(payer, rows, row);
}

static void payer_act(void *context)
{
        struct payer *payer = context;
        auto_free char *limit = NULL, *rate = NULL;

        if (payer->stopped || payer->count == AT_ONCE || payer->billing->account.secret_key == NULL)
                return;
        limit = mem_printf("%zu", AT_ONCE - payer->count);
        rate = mem_printf("%lld", (long long)payer->billing->config->calls_per_second);
        periodic_ask(payer->periodic, SQL_TIMEOUT, SQL_TAKE, PARAMS(limit, LEASE, rate), payer_taken);
}

struct payer *payer_new(struct billing *billing)
{
        struct payer *payer = NEW(struct payer);

        payer->billing = billing;
        payer->periodic = periodic_new(billing->service, INTERVAL, INTERVAL, payer_act, payer);
        return payer;
}

void payer_wake(struct payer *payer)
{
        periodic_act(payer->periodic);
}

void payer_stop(struct payer *payer)
{
        struct payment *payment, *next;

        payer->stopped = true;
        DL_FOREACH_SAFE (payer->payments, payment, next)
                if (payment->request != NULL)
                        payer_drop(payment);
}

bool payer_is_idle(const struct payer *payer)
{
        return payer->count == 0;
}

void payer_free(struct payer *payer)
{
        if (payer == NULL)
                return;
        periodic_free(payer->periodic);
        while (payer->payments != NULL)
                payer_drop(payer->payments);
        free(payer);
}
