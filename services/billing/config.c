/* Billing's options: see config.h. */
#include "services/billing/config.h"

#define AT(field) offsetof(struct billing_config, field)

static const struct config_option OPTIONS[] = {
        { "EXISTING_TENANTS", CONFIG_TEXT, 0, "exempt",
          "What tenants get who were here before billing was: exempt (nothing changes for them until they subscribe) "
          "or "
          "trial (theirs begins when billing first starts).",
          AT(existing_tenants), 0, 0 },
        { "STRIPE_LIVEMODE", CONFIG_BOOL, 0, "0",
          "1: events of live mode are applied, 0: those of test mode. Others are set aside. The same as the gateway's.",
          AT(livemode), 0, 0 },
        { "STRIPE_CALLS_PER_SECOND", CONFIG_INTEGER, 0, "20",
          "How many calls to Stripe all billing processes make in a second, at most. Stripe allows 25 in test mode and "
          "100 in live mode, to everybody with this account together.",
          AT(calls_per_second), 1, 100 },
        { "RECONCILE_INTERVAL", CONFIG_DURATION, 0, "1h",
          "How often Stripe's list of events is read for those that were not delivered.", AT(reconcile_ms), SECONDS(1),
          MINUTES(24 * 60) },
        { "RECONCILE_SUBSCRIPTIONS", CONFIG_DURATION, 0, "24h",
          "How often all of Stripe's subscriptions are compared with what is known of them.", AT(subscriptions_ms),
          SECONDS(1), 30 * MINUTES(24 * 60) },
};

static int config_check(const void *part, struct err *err)
{
        const struct billing_config *config = part;

        return config_check_choice("EXISTING_TENANTS", config->existing_tenants, "exempt|trial", err);
}

const struct config_table BILLING_OPTIONS = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS), .check = config_check };
