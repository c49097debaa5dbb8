/* A checkout: a page of Stripe's on which the tenant subscribes. One page is open at a time: the same price gets the
 * same page, for another one the page before is closed first; and none for who has a subscription. */
#include "common/base/memory.h"
#include "services/billing/kinds.h"
#include "services/billing/return_url.h"

#include <string.h>

#define LEAST_TRIAL (48 * 3600 + 5 * 60) /* s: Stripe wants two days, and somebody must read the page first */
#define LEAST_LIFE  600                  /* s that a page must have left to be given once more */

static const char SESSIONS[] = "/v1/checkout/sessions";

static enum step_result checkout_check(struct saga *saga)
{
        if (look_live(saga) == NULL)
                return STEP_DONE;
        return work_refuse(saga, "already_subscribed", NULL, NULL,
                           "the tenant has a subscription: change its plan instead");
}

/* By the price itself: its key may have moved to another one since the page was made. */
static bool checkout_is_wanted(struct saga *saga, const json_t *session)
{
        const char *price = json_text(json_object_get(session, "metadata"), "price");
        const char *wanted = json_text(json_object_get(saga_data(saga), "price"), "id");

        return price != NULL && wanted != NULL && strcmp(price, wanted) == 0 && json_text(session, "url") != NULL &&
               json_number(session, "expires_at", 0) > work_of(saga)->date_s + LEAST_LIFE;
}

static void checkout_tell(struct saga *saga)
{
        work_result(saga,
                    json_pack("{s:s, s:O?, s:O?}", "outcome", "page", "plan", json_object_get(saga_data(saga), "plan"),
                              "interval", json_object_get(saga_data(saga), "interval")));
}

static enum step_result checkout_sorted(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *others = json_array();
        const json_t *each, *same = NULL;
        size_t i;

        if (err != NULL) {
                json_decref(others);
                return saga_fail(saga, err);
        }
        json_array_foreach (json_object_get(reply, "data"), i, each) {
                if (!look_is_ours(saga, each))
                        continue;
                if (same == NULL && checkout_is_wanted(saga, each))
                        same = each;
                else
                        json_array_append(others, json_object_get(each, "id"));
        }
        json_object_set_new(saga_data(saga), "others", others);
        json_object_set_new(saga_data(saga), "has_page", json_boolean(same != NULL));
        if (same == NULL)
                return STEP_DONE;
        checkout_tell(saga);
        return stripe_keep_link(saga, json_text(same, "url"), work_done);
}

static enum step_result checkout_look(struct saga *saga)
{
        return stripe_look(saga, mem_copy_text(SESSIONS),
                           json_pack("{s:s, s:s, s:i}", "customer", json_text(saga_data(saga), "customer"), "status",
                                     "open", "limit", 100),
                           checkout_sorted);
}

static enum step_result checkout_close_next(struct saga *saga);

/* Whoever pressed the button of a page that was to be closed has a subscription now. */
static enum step_result checkout_closed(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return work_again(saga, err);
        json_array_remove(json_object_get(saga_data(saga), "others"), 0);
        return stripe_keep(saga, json_pack("[O]", reply), checkout_close_next);
}

static enum step_result checkout_close_next(struct saga *saga)
{
        const char *id = json_string_value(json_array_get(json_object_get(saga_data(saga), "others"), 0));
        auto_free char *name = NULL;

        if (id == NULL)
                return STEP_DONE;
        name = mem_printf("expire:%s", id);
        return stripe_change(saga, name, "POST", mem_printf("%s/%s/expire", SESSIONS, id), NULL, checkout_closed);
}

static enum step_result checkout_made(struct saga *saga, const json_t *reply, const struct err *err)
{
        struct err lost;

        if (err != NULL)
                return saga_fail(saga, err);
        if (json_text(reply, "url") == NULL) { /* an answer from before: the page is closed or was used */
                err_set(&lost, ERR_PERMANENT, "page_closed", "the page was closed meanwhile");
                return work_again(saga, &lost);
        }
        checkout_tell(saga);
        return stripe_keep_link(saga, json_text(reply, "url"), work_done);
}

/* A page that was used since the first look is not among the open ones any more. Now none is: what there is stays. */
static enum step_result checkout_look_again(struct saga *saga)
{
        return json_flag(saga_data(saga), "has_page") ? STEP_DONE : look_at_subscriptions(saga);
}

/* A trial goes on at Stripe, where there is enough left of it: the first money is taken when it ends. */
static json_t *checkout_subscription_data(struct saga *saga)
{
        const json_t *facts = work_of(saga)->facts;
        int64_t end = json_number(facts, "trial_end", 0);
        json_t *data = json_pack("{s:{s:s}}", "metadata", "tenant_id", saga_tenant(saga));

        if (end > json_number(facts, "now", 0) + LEAST_TRIAL)
                json_object_set_new(data, "trial_end", json_integer(end));
        return data;
}

static enum step_result checkout_make(struct saga *saga)
{
        struct work *work = work_of(saga);
        const struct billing_config *config = work->billing->config;
        const char *slug = json_text(work->facts, "slug");
        auto_free char *back = return_url(config, slug, NULL);
        auto_free char *done = return_url(config, slug, "checkout={CHECKOUT_SESSION_ID}");
        const json_t *data = saga_data(saga);
        json_t *params;

        if (json_flag(data, "has_page"))
                return STEP_DONE;
        params = json_pack("{s:s, s:s?, s:s, s:[{s:s?, s:i}], s:{s:s, s:s?, s:s?}, s:o, s:s, s:s}", "mode",
                           "subscription", "customer", json_text(data, "customer"), "client_reference_id",
                           saga_tenant(saga), "line_items", "price", json_text(json_object_get(data, "price"), "id"),
                           "quantity", 1, "metadata", "tenant_id", saga_tenant(saga), "lookup_key",
                           json_text(data, "lookup_key"), "price", json_text(json_object_get(data, "price"), "id"),
                           "subscription_data", checkout_subscription_data(saga), "success_url", done, "cancel_url",
                           back);
        if (config->checkout_promotion_codes)
                json_object_set_new(params, "allow_promotion_codes", json_true());
        if (config->checkout_tax) {
                json_object_set_new(params, "automatic_tax", json_pack("{s:b}", "enabled", 1));
                json_object_set_new(params, "tax_id_collection", json_pack("{s:b}", "enabled", 1));
                json_object_set_new(params, "customer_update",
                                    json_pack("{s:s, s:s}", "address", "auto", "name", "auto"));
        }
        return stripe_change(saga, "session", "POST", mem_copy_text(SESSIONS), params, checkout_made);
}

static const struct saga_step STEPS[] = {
        { "customer", customer_ensure, NULL, MINUTES(60), 10 },
        { "look", look_at_subscriptions, NULL, MINUTES(60), 20 },
        { "check", checkout_check, NULL, MINUTES(60), 30 },
        { "price", look_up_price, NULL, MINUTES(60), 40 },
        { "sessions", checkout_look, NULL, MINUTES(60), 50 },
        { "close", checkout_close_next, NULL, MINUTES(60), 60 },
        { "look_again", checkout_look_again, NULL, MINUTES(60), 65 },
        { "check_again", checkout_check, NULL, MINUTES(60), 70 },
        { "open", checkout_make, NULL, MINUTES(60), 80 },
};

const struct saga_kind CHECKOUT = BILLING_KIND("checkout", STEPS);
