/* After a call to Stripe: see outcome.h. */
#include "services/billing/outcome.h"

#include "common/base/backoff.h"
#include "common/base/crypto.h"
#include "common/base/metrics.h"

#define KEY_REFUSED MINUTES(1)

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

void outcome_count(const struct err *err)
{
        metric_add(METRIC_OF(outcome_calls(), err == NULL ? "ok" : err->code), 1);
}

int64_t outcome_delay(int64_t attempts, const struct err *err)
{
        unsigned random;

        if (err->class != ERR_BUSY)
                return KEY_REFUSED;
        crypto_random(&random, sizeof(random));
        return err->retry_after ?: backoff_ms((int)attempts - 1, random);
}
