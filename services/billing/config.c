/* Billing's options: see config.h. */
#include "services/billing/config.h"

#include "common/base/memory.h"
#include "common/contracts/mails.h"
#include "services/billing/return_url.h"

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
        { "BILLING_RETURN_URL", CONFIG_TEXT, 0, NULL,
          "Where Stripe's pages lead back to, {slug} being the tenant's subdomain. After a checkout with the parameter "
          "checkout, the session's id. Without it: the gateway's page PUBLIC_URL/billing/back/{slug}, which waits for "
          "the payment to be known and leads to PRODUCT_URL.",
          AT(return_url), 0, 0 },
        { "STRIPE_PORTAL_CONFIGURATION", CONFIG_TEXT, 0, NULL,
          "Id of a configuration of the customer portal (bpc_...). Without it, the one that `tenantry stripe setup` "
          "has made is used, and if there is none, Stripe's default one.",
          AT(portal_configuration), 0, 0 },
        { "CHECKOUT_TAX", CONFIG_BOOL, 0, "0",
          "1: checkouts compute tax (Stripe Tax) and ask for tax ids and addresses.", AT(checkout_tax), 0, 0 },
        { "CHECKOUT_PROMOTION_CODES", CONFIG_BOOL, 0, "0", "1: checkouts take promotion codes.",
          AT(checkout_promotion_codes), 0, 0 },
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

/* Else what is bought would be of the one mode, and what is applied of the other. */
static int config_check_mode(const struct billing_config *config, struct err *err)
{
        bool is_live = stripe_config_is_live(&config->stripe);

        if (config->stripe.secret_key == NULL || is_live == config->livemode)
                return 0;
        return err_field(err, "STRIPE_LIVEMODE", "STRIPE_SECRET_KEY is %s key of live mode, and STRIPE_LIVEMODE is %d",
                         is_live ? "a" : "no", config->livemode);
}

static int config_check(const void *part, struct err *err)
{
        const struct billing_config *config = part;
        auto_free char *plain = return_url(config, "slug", NULL);
        int rc = config->return_url ? config_check_url("BILLING_RETURN_URL", plain, err) : 0;

        if (rc == 0)
                rc = config_check_choice("EXISTING_TENANTS", config->existing_tenants, "exempt|trial", err);
        if (rc == 0)
                rc = mails_check_templates(BILLING_MAILS, config->mail.templates, err);
        if (rc == 0)
                rc = config_check_mode(config, err);
        return rc;
}

const struct config_table BILLING_OPTIONS = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS), .check = config_check };
