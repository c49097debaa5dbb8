/* After a call to Stripe: see outcome.h. */
#include "services/billing/outcome.h"

#include "common/base/backoff.h"
#include "common/base/crypto.h"
#include "common/base/metrics.h"
#include "common/durable/rate_budget.h"

#define KEY_REFUSED MINUTES(1)
#define TOO_MANY    429
#define PAUSE       SECONDS(2) /* at least */

static struct metric_family *outcome_calls(void)
{
        static struct metric_family *calls;

        if (calls == NULL)
                calls = metric_counter_family("tenantry_stripe_calls_total", "outcome",
                                              "Calls to Stripe's API, by outcome.");
        return calls;
}

void outcome_begin_count(void)
{
        metric_add(METRIC_OF(outcome_calls(), "ok"), 0);
}

void outcome_note(struct service *service, const struct stripe_reply *reply, const struct err *err)
{
        metric_add(METRIC_OF(outcome_calls(), err == NULL ? "ok" : err->code), 1);
        if (err != NULL && reply != NULL && reply->status == TOO_MANY)
                rate_budget_block(service, STRIPE_BUDGET, MAX(err->retry_after, PAUSE));
}

int64_t outcome_delay(int64_t attempts, const struct err *err)
{
        unsigned random;

        if (err->class != ERR_BUSY)
                return KEY_REFUSED;
        crypto_random(&random, sizeof(random));
        return err->retry_after ?: backoff_ms((int)attempts - 1, random);
}
