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

/* configuration: NULL is Stripe's default one. */
static enum step_result portal_make(struct saga *saga, const char *configuration)
{
        struct work *work = work_of(saga);
        const struct billing_config *config = work->billing->config;
        auto_free char *back = return_url(config, json_text(work->facts, "slug"), NULL);
        json_t *params =
                json_pack("{s:s?, s:s}", "customer", json_text(saga_data(saga), "customer"), "return_url", back);

        if (configuration != NULL)
                json_set_text(params, "configuration", configuration);
        return stripe_change(saga, "portal", "POST", mem_copy_text("/v1/billing_portal/sessions"), params,
                             portal_opened);
}

/* That of `tenantry stripe setup`, the newest if there are several, as there; and the default one if there is none. */
static enum step_result portal_configurations_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        const json_t *each;
        size_t i;

        if (err != NULL)
                return saga_fail(saga, err);
        json_array_foreach (json_object_get(reply, "data"), i, each)
                if (json_text(json_object_get(each, "metadata"), STRIPE_MARK) != NULL)
                        return portal_make(saga, json_text(each, "id"));
        return portal_make(saga, NULL);
}

/* Asked each time: one that was replaced or switched off while a request waited must not be opened. */
static enum step_result portal_open(struct saga *saga)
{
        const char *told = work_of(saga)->billing->config->portal_configuration;

        if (told != NULL)
                return portal_make(saga, told);
        return stripe_look(saga, mem_copy_text("/v1/billing_portal/configurations"),
                           json_pack("{s:b, s:i}", "active", 1, "limit", 100), portal_configurations_listed);
}

static const struct saga_step STEPS[] = {
        { "customer", customer_find, NULL, MINUTES(60), 20 },
        { "open", portal_open, NULL, MINUTES(60), 60 },
};

const struct saga_kind PORTAL = BILLING_KIND("portal", STEPS);
