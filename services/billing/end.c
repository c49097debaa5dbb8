/* A tenant that is archived or gone: its subscriptions end at Stripe at once, and no page of its stays open. */
#include "common/base/memory.h"
#include "services/billing/kinds.h"

#define LIMIT (30 * 24 * 60 * MINUTES(1)) /* money would be taken for nothing: nobody gives up soon */

/* Also one whose first payment has not come. */
static enum step_result end_look(struct saga *saga)
{
        json_object_set_new(saga_data(saga), "with_incomplete", json_true());
        return look_at_subscriptions(saga);
}

static enum step_result end_next(struct saga *saga);

static enum step_result end_ended(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *live = json_object_get(saga_data(saga), "live");

        if (err != NULL && err->class != ERR_GONE) /* it had ended */
                return work_again(saga, err);
        json_array_remove(live, 0);
        return stripe_keep(saga, reply ? json_pack("[O]", reply) : json_array(), end_next);
}

static enum step_result end_next(struct saga *saga)
{
        const char *id = json_text(look_live(saga), "id");
        auto_free char *name = NULL;

        if (id == NULL)
                return STEP_DONE;
        name = mem_printf("end:%s", id);
        return stripe_change(saga, name, "DELETE", mem_printf("/v1/subscriptions/%s", id), NULL, end_ended);
}

static enum step_result end_look_for_pages(struct saga *saga);
static enum step_result end_close_next(struct saga *saga);

/* A page that was used just now made a subscription, which its events will tell: then the end is asked for again. */
static enum step_result end_closed(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return work_again(saga, err);
        json_array_remove(json_object_get(saga_data(saga), "pages"), 0);
        return stripe_keep(saga, json_pack("[O]", reply), end_close_next);
}

static enum step_result end_close_next(struct saga *saga)
{
        const char *id = json_string_value(json_array_get(json_object_get(saga_data(saga), "pages"), 0));
        auto_free char *name = NULL;

        if (id == NULL)
                return end_look_for_pages(saga);
        name = mem_printf("expire:%s", id);
        return stripe_change(saga, name, "POST", mem_printf("/v1/checkout/sessions/%s/expire", id), NULL, end_closed);
}

static enum step_result end_pages_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *pages = json_array();
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(reply, "data"), i, each)
                if (look_is_ours(saga, each))
                        json_array_append(pages, json_object_get(each, "id"));
        json_object_set_new(saga_data(saga), "pages", pages);
        if (err != NULL && err->class != ERR_GONE)
                return saga_fail(saga, err);
        json_array_remove(work_of(saga)->left, 0);
        return end_close_next(saga);
}

static enum step_result end_look_for_pages(struct saga *saga)
{
        const char *id = json_string_value(json_array_get(work_of(saga)->left, 0));

        if (id == NULL)
                return STEP_DONE;
        return stripe_look(saga, mem_copy_text("/v1/checkout/sessions"),
                           json_pack("{s:s, s:s, s:i}", "customer", id, "status", "open", "limit", 100),
                           end_pages_listed);
}

static enum step_result end_pages(struct saga *saga)
{
        struct work *work = work_of(saga);

        json_decref(work->left);
        work->left = json_copy(json_object_get(work->facts, "customers"));
        return end_look_for_pages(saga);
}

/* Pages first: none can become a subscription after the look. Since this was asked for, the tenant may have been
 * restored or have paid: then it keeps what it has (see freeze_call). */
static const struct saga_step STEPS[] = {
        { "look", end_pages, NULL, LIMIT, 20 },
        { "subscriptions", end_look, NULL, LIMIT, 50 },
        { "end", end_next, NULL, LIMIT, 70 },
};

const struct saga_kind END_SUBSCRIPTION = BILLING_KIND("end_subscription", STEPS);
