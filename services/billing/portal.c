/* The customer portal: a page of Stripe's on which the tenant sees its invoices, and changes card and plan. */
#include "common/base/memory.h"
#include "services/billing/kinds.h"
#include "services/billing/return_url.h"

static enum step_result portal_opened(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return work_again(saga, err);
        work_result(saga, json_pack("{s:s}", "outcome", "page"));
        return stripe_keep_link(saga, json_text(reply, "url") ?: "", work_done);
}

static enum step_result portal_open(struct saga *saga)
{
        struct work *work = work_of(saga);
        const struct billing_config *config = work->billing->config;
        auto_free char *back = return_url(config, json_text(work->facts, "slug"), NULL);
        json_t *params =
                json_pack("{s:s?, s:s}", "customer", json_text(saga_data(saga), "customer"), "return_url", back);

        if (config->portal_configuration != NULL)
                json_set_text(params, "configuration", config->portal_configuration);
        return stripe_change(saga, "portal", "POST", mem_copy_text("/v1/billing_portal/sessions"), params,
                             portal_opened);
}

static const struct saga_step STEPS[] = {
        { "customer", customer_find, NULL, MINUTES(60), 20 },
        { "open", portal_open, NULL, MINUTES(60), 60 },
};

const struct saga_kind PORTAL = BILLING_KIND("portal", STEPS);
