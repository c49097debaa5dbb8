/* Another plan: a dearer one at once, and only if it is paid; a cheaper one when the period that is paid ends. */
#include "services/billing/change.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/contracts/stripe_event.h"

#include <stdio.h>
#include <string.h>

#define LIMIT       (7 * 24 * 60 * MINUTES(1)) /* a change that was taken is made, however long Stripe is away */
#define PREVIEW_AGE (24 * 60 * 60)             /* s: what was shown longer ago is looked at again */
#define CLOCKS      (5 * 60)                   /* s by which clocks may differ */

static const char SQL_BLOCKERS[] = "select blockers($1::uuid, $2)::text as blockers";

enum change_way change_way(struct saga *saga)
{
        const json_t *live = look_live(saga), *price = json_object_get(saga_data(saga), "price");
        bool is_month = json_text_is(live, "interval", "month"), to_month = json_text_is(price, "interval", "month");

        if (json_text_is(live, "price", json_text(price, "id")))
                return CHANGE_NONE;
        if (json_text_is(live, "status", "trialing") || (is_month && !to_month))
                return CHANGE_NOW;
        if (!is_month && to_month)
                return CHANGE_LATER;
        return json_number(price, "amount", 0) > json_number(live, "amount", 0) ? CHANGE_NOW : CHANGE_LATER;
}

json_t *change_items(struct saga *saga)
{
        return json_pack("[{s:s?, s:s?}]", "id", json_text(look_live(saga), "item"), "price",
                         json_text(json_object_get(saga_data(saga), "price"), "id"));
}

/* Stripe's clock, as far as it was told. */
static int64_t change_now(struct saga *saga)
{
        struct work *work = work_of(saga);

        return work->date_s > 0 ? work->date_s : json_number(work->facts, "now", 0);
}

int64_t change_date(struct saga *saga)
{
        return json_number(saga_data(saga), "proration_date", change_now(saga));
}

/* A date in the future would make an upgrade cheaper; at the period's end it would cost nothing. */
static bool change_is_dated_well(struct saga *saga)
{
        const json_t *live = look_live(saga);
        int64_t date = change_date(saga), now = change_now(saga);

        return date >= json_number(live, "period_start", 0) && date <= json_number(live, "period_end", 0) &&
               date >= now - PREVIEW_AGE && date <= now + CLOCKS;
}

enum step_result change_check(struct saga *saga)
{
        const json_t *live = look_live(saga);
        enum change_way way = change_way(saga);

        if (json_text_is(live, "status", "past_due") || json_text_is(live, "status", "unpaid"))
                return work_refuse(saga, "payment_due", NULL, NULL,
                                   "an invoice is not paid: pay it first, in the portal");
        if (way == CHANGE_LATER && json_number(live, "cancel_at", 0) > 0)
                return work_refuse(saga, "ends_already", NULL, NULL, "the subscription was cancelled: resume it first");
        if (way == CHANGE_NOW && !change_is_dated_well(saga))
                return work_refuse(saga, "preview_too_old", "proration_date", NULL,
                                   "what was shown is not what it costs now: look again");
        return STEP_DONE;
}

static enum step_result change_blockers_known(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        const char *text = err ? NULL : pg_text(rows, 0, "blockers");
        json_t *blockers = NULL;
        struct err bad;

        if (err != NULL)
                return saga_retry(saga, err);
        if (text != NULL && json_parse(text, strlen(text), &blockers, &bad) < 0)
                return saga_retry(saga, &bad);
        if (json_array_size(blockers) > 0)
                return work_refuse(saga, "usage_over_limits", "plan", json_pack("{s:o}", "blockers", blockers),
                                   "the tenant uses more than the plan allows");
        json_decref(blockers);
        return change_check(saga);
}

static enum step_result change_decide(struct saga *saga)
{
        return saga_query(saga, SQL_BLOCKERS, PARAMS(saga_tenant(saga), json_text(saga_data(saga), "plan")),
                          change_blockers_known);
}

/* An invoice of a change that was not paid: if it were paid later, that change would come after this one. One that is
 * open though no change is pending is of a change that was made, in the portal, and is being paid: a bank takes days.
 */

static enum step_result change_void_next(struct saga *saga);

static enum step_result change_voided(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return work_again(saga, err);
        json_array_remove(json_object_get(saga_data(saga), "unpaid"), 0);
        return stripe_keep(saga, json_pack("[O]", reply), change_void_next);
}

static enum step_result change_void_next(struct saga *saga)
{
        const char *id = json_string_value(json_array_get(json_object_get(saga_data(saga), "unpaid"), 0));
        auto_free char *name = NULL;

        if (id == NULL)
                return STEP_DONE;
        name = mem_printf("void:%s", id);
        return stripe_change(saga, name, "POST", mem_printf("/v1/invoices/%s/void", id), NULL, change_voided);
}

static enum step_result change_unpaid_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *unpaid = json_array();
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(reply, "data"), i, each)
                if (json_text_is(each, "billing_reason", "subscription_update"))
                        json_array_append(unpaid, json_object_get(each, "id"));
        json_object_set_new(saga_data(saga), "unpaid", unpaid);
        return err ? saga_fail(saga, err) : change_void_next(saga);
}

static enum step_result change_void(struct saga *saga)
{
        if (json_is_false(json_object_get(look_live(saga), "is_pending")))
                return STEP_DONE;
        return stripe_look(saga, mem_copy_text("/v1/invoices"),
                           json_pack("{s:s?, s:s, s:i}", "subscription", json_text(look_live(saga), "id"), "status",
                                     "open", "limit", 100),
                           change_unpaid_listed);
}

/* At once. */

static enum step_result change_page_known(struct saga *saga, const json_t *reply, const struct err *err)
{
        const char *page = json_text(reply, "hosted_invoice_url");

        if (err != NULL)
                return saga_fail(saga, err);
        work_result(saga, json_pack("{s:s, s:s?}", "outcome", "payment_needed", "invoice_id", json_text(reply, "id")));
        return page ? stripe_keep_link(saga, page, work_done) : STEP_DONE;
}

static enum step_result change_look_at_page(struct saga *saga)
{
        return stripe_look(saga, mem_printf("/v1/invoices/%s", json_text(saga_data(saga), "unpaid_invoice") ?: ""),
                           NULL, change_page_known);
}

static enum step_result change_made(struct saga *saga, const json_t *reply, const struct err *err)
{
        bool is_pending = json_is_object(json_object_get(reply, "pending_update"));
        bool made_before = stripe_was_made_before(saga, err);

        if (err != NULL && !made_before)
                return work_again(saga, err);
        if (!is_pending) {
                work_result(saga, json_pack("{s:s}", "outcome", "changed"));
                return made_before ? STEP_DONE : stripe_keep_one(saga, reply);
        }
        json_set_text(saga_data(saga), "unpaid_invoice", stripe_id_of(json_object_get(reply, "latest_invoice")));
        return made_before ? change_look_at_page(saga)
                           : stripe_keep(saga, json_pack("[O]", reply), change_look_at_page);
}

static enum step_result change_apply(struct saga *saga)
{
        json_t *params;

        if (change_way(saga) != CHANGE_NOW)
                return STEP_DONE;
        params =
                json_pack("{s:o, s:s, s:s, s:I}", "items", change_items(saga), "proration_behavior", "always_invoice",
                          "payment_behavior", "pending_if_incomplete", "proration_date", (json_int_t)change_date(saga));
        return stripe_change(saga, "change", "POST",
                             mem_printf("/v1/subscriptions/%s", json_text(look_live(saga), "id")), params, change_made);
}

/* At the end of the period. */

/* {price, quantity} of each item of a phase: what is not said again when it is changed would be gone. */
static json_t *change_read_items(const json_t *phase)
{
        json_t *items = json_array();
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(phase, "items"), i, each)
                json_array_append_new(items,
                                      json_pack("{s:s?, s:I}", "price", stripe_id_of(json_object_get(each, "price")),
                                                "quantity", (json_int_t)json_number(each, "quantity", 1)));
        return items;
}

/* The same of what makes it cheaper: each is one of three. */
static json_t *change_read_discounts(const json_t *phase)
{
        static const char *const KINDS[] = { "discount", "coupon", "promotion_code" };
        json_t *discounts = json_array();
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(phase, "discounts"), i, each)
                for (size_t kind = 0; kind < ARRAY_SIZE(KINDS); kind++) {
                        const char *id = stripe_id_of(json_object_get(each, KINDS[kind]));

                        if (id == NULL)
                                continue;
                        json_array_append_new(discounts, json_pack("{s:s}", KINDS[kind], id));
                        break;
                }
        return discounts;
}

static enum step_result change_scheduled(struct saga *saga, const json_t *reply, const struct err *err)
{
        const json_t *phase = json_array_get(json_object_get(reply, "phases"), 0);

        if (err != NULL)
                return work_again(saga, err);
        json_object_set_new(saga_data(saga), "schedule",
                            json_pack("{s:s?, s:I, s:I, s:o, s:o}", "id", json_text(reply, "id"), "start",
                                      (json_int_t)json_number(phase, "start_date", 0), "end",
                                      (json_int_t)json_number(phase, "end_date", 0), "items", change_read_items(phase),
                                      "discounts", change_read_discounts(phase)));
        return stripe_keep_one(saga, reply);
}

static enum step_result change_schedule(struct saga *saga)
{
        if (change_way(saga) != CHANGE_LATER)
                return STEP_DONE;
        return stripe_change(saga, "schedule", "POST", mem_copy_text("/v1/subscription_schedules"),
                             json_pack("{s:s?}", "from_subscription", json_text(look_live(saga), "id")),
                             change_scheduled);
}

static enum step_result change_planned(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return work_again(saga, err);
        work_result(saga, json_pack("{s:s, s:O?}", "outcome", "planned", "at",
                                    json_object_get(json_object_get(saga_data(saga), "schedule"), "end")));
        return stripe_keep_one(saga, reply);
}

/* The items as they are; the one that is changed with the price, if that is not NULL. */
static json_t *change_phase_items(struct saga *saga, const char *price)
{
        json_t *items = json_deep_copy(json_object_get(json_object_get(saga_data(saga), "schedule"), "items")), *each;
        size_t i;

        json_array_foreach (items, i, each)
                if (price != NULL && json_text_is(each, "price", json_text(look_live(saga), "price")))
                        json_set_text(each, "price", price);
        return items;
}

/* Its second phase lasts one period, after which the subscription goes on by itself. */
static enum step_result change_plan_phases(struct saga *saga)
{
        const json_t *schedule = json_object_get(saga_data(saga), "schedule");
        const json_t *price = json_object_get(saga_data(saga), "price");
        json_t *discounts, *now, *then;

        if (change_way(saga) != CHANGE_LATER)
                return STEP_DONE;
        now = json_pack("{s:o, s:O?, s:O?}", "items", change_phase_items(saga, NULL), "start_date",
                        json_object_get(schedule, "start"), "end_date", json_object_get(schedule, "end"));
        then = json_pack("{s:o, s:s, s:{s:s?, s:i}}", "items", change_phase_items(saga, json_text(price, "id")),
                         "proration_behavior", "none", "duration", "interval", json_text(price, "interval"),
                         "interval_count", 1);
        discounts = json_object_get(schedule, "discounts");
        if (json_array_size(discounts) > 0) {
                json_object_set(now, "discounts", discounts);
                json_object_set(then, "discounts", discounts);
        }
        return stripe_change(
                saga, "phases", "POST", mem_printf("/v1/subscription_schedules/%s", json_text(schedule, "id") ?: ""),
                json_pack("{s:s, s:[o, o]}", "end_behavior", "release", "phases", now, then), change_planned);
}

/* The subscription as it is after that, for who looks before Stripe's events are there. */
static enum step_result change_seen(struct saga *saga, const json_t *reply, const struct err *err)
{
        return err ? saga_fail(saga, err) : stripe_keep_one(saga, reply);
}

static enum step_result change_look_again(struct saga *saga)
{
        if (change_way(saga) == CHANGE_NONE)
                work_result(saga, json_pack("{s:s}", "outcome", "kept"));
        return stripe_look(saga, mem_printf("/v1/subscriptions/%s", json_text(look_live(saga), "id")), NULL,
                           change_seen);
}

static const struct saga_step STEPS[] = {
        { "look", look_for_subscription, NULL, LIMIT, 10 },    { "price", look_up_price, NULL, LIMIT, 20 },
        { "decide", change_decide, NULL, LIMIT, 30 },          { "void", change_void, NULL, LIMIT, 40 },
        { "release", look_release_schedule, NULL, LIMIT, 50 }, { "change", change_apply, NULL, LIMIT, 60 },
        { "schedule", change_schedule, NULL, LIMIT, 70 },      { "phases", change_plan_phases, NULL, LIMIT, 80 },
        { "see", change_look_again, NULL, LIMIT, 90 },
};

const struct saga_kind CHANGE_PLAN = BILLING_KIND("change_plan", STEPS);
