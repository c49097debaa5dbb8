/* The end of a subscription with the period that is paid, and taking that back; which also takes back a change of plan
 * that was planned. */
#include "common/base/memory.h"
#include "services/billing/kinds.h"

#define LIMIT (7 * 24 * 60 * MINUTES(1))

static char *cancel_path(struct saga *saga)
{
        return mem_printf("/v1/subscriptions/%s", json_text(look_live(saga), "id"));
}

static enum step_result cancel_set(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (stripe_was_made_before(saga, err))
                return stripe_look(saga, cancel_path(saga), NULL, cancel_set);
        if (err != NULL)
                return work_again(saga, err);
        return stripe_keep_one(saga, reply);
}

/* Cancelled already, perhaps by the portal: then that end holds. But its schedule is gone, which must be seen. */
static enum step_result cancel_at_period_end(struct saga *saga)
{
        const json_t *live = look_live(saga);

        if (json_number(live, "cancel_at", 0) > 0) {
                work_result(saga,
                            json_pack("{s:s, s:O?}", "outcome", "ends", "at", json_object_get(live, "cancel_at")));
                return stripe_look(saga, cancel_path(saga), NULL, cancel_set);
        }
        work_result(saga, json_pack("{s:s, s:O?}", "outcome", "ends", "at", json_object_get(live, "period_end")));
        return stripe_change(saga, "cancel", "POST", cancel_path(saga), json_pack("{s:b}", "cancel_at_period_end", 1),
                             cancel_set);
}

static enum step_result cancel_take_back(struct saga *saga)
{
        const json_t *live = look_live(saga);
        json_t *params;

        work_result(saga, json_pack("{s:s}", "outcome", "goes_on"));
        if (json_number(live, "cancel_at", 0) == 0)
                return stripe_look(saga, cancel_path(saga), NULL, cancel_set);
        params = json_flag(live, "at_period_end") ? json_pack("{s:b}", "cancel_at_period_end", 0)
                                                  : json_pack("{s:n}", "cancel_at");
        return stripe_change(saga, "resume", "POST", cancel_path(saga), params, cancel_set);
}

static const struct saga_step CANCEL_STEPS[] = {
        { "look", look_for_subscription, NULL, LIMIT, 20 },
        { "release", look_release_schedule, NULL, LIMIT, 40 },
        { "end", cancel_at_period_end, NULL, LIMIT, 70 },
};

static const struct saga_step RESUME_STEPS[] = {
        { "look", look_for_subscription, NULL, LIMIT, 20 },
        { "release", look_release_schedule, NULL, LIMIT, 40 },
        { "resume", cancel_take_back, NULL, LIMIT, 70 },
};

const struct saga_kind CANCEL = BILLING_KIND("cancel", CANCEL_STEPS);
const struct saga_kind RESUME = BILLING_KIND("resume", RESUME_STEPS);
