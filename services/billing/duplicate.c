/* Of two subscriptions the later one ends at once, and what was paid for it goes back. */
#include "common/base/memory.h"
#include "services/billing/kinds.h"

#include <string.h>

#define LIMIT (7 * 24 * 60 * MINUTES(1))

/* Chosen once: when this begins anew, the chosen one may have ended already, and its money must go back all the same.
 */
static enum step_result duplicate_choose(struct saga *saga)
{
        json_t *data = saga_data(saga), *live = json_object_get(data, "live");
        const json_t *each, *later = json_array_get(live, 0);
        size_t i;

        if (json_text(data, "later") != NULL)
                return STEP_DONE;
        if (json_array_size(live) < 2)
                return work_refuse(saga, "no_duplicate", NULL, NULL, "the tenant does not have two subscriptions");
        json_array_foreach (live, i, each) {
                int64_t start = json_number(each, "start", 0), latest = json_number(later, "start", 0);

                if (start > latest || (start == latest && strcmp(json_text(each, "id"), json_text(later, "id")) > 0))
                        later = each;
        }
        json_set_text(data, "later", json_text(later, "id"));
        work_result(saga, json_pack("{s:s, s:s?, s:[]}", "outcome", "ended", "subscription_id", json_text(later, "id"),
                                    "refunds"));
        return STEP_DONE;
}

static enum step_result duplicate_ended(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL && err->class != ERR_GONE)
                return work_again(saga, err);
        return reply ? stripe_keep_one(saga, reply) : STEP_DONE;
}

static enum step_result duplicate_end(struct saga *saga)
{
        const char *id = json_text(saga_data(saga), "later");
        auto_free char *name = mem_printf("end:%s", id);

        return stripe_change(saga, name, "DELETE", mem_printf("/v1/subscriptions/%s", id), NULL, duplicate_ended);
}

static enum step_result duplicate_invoices_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *paid = json_array();
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(reply, "data"), i, each)
                if (json_number(each, "amount_paid", 0) > 0)
                        json_array_append(paid, json_object_get(each, "id"));
        json_object_set_new(saga_data(saga), "paid", paid);
        return err ? saga_fail(saga, err) : STEP_DONE;
}

static enum step_result duplicate_invoices(struct saga *saga)
{
        return stripe_look(saga, mem_copy_text("/v1/invoices"),
                           json_pack("{s:s?, s:s, s:i}", "subscription", json_text(saga_data(saga), "later"), "status",
                                     "paid", "limit", 100),
                           duplicate_invoices_listed);
}

/* What each invoice was paid with. */

static enum step_result duplicate_look_at_next(struct saga *saga);

static enum step_result duplicate_payments_listed(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *intents = json_object_get(saga_data(saga), "intents");
        const json_t *each;
        size_t i;

        if (err != NULL)
                return saga_fail(saga, err);
        json_array_foreach (json_object_get(reply, "data"), i, each) {
                const json_t *intent = json_object_get(json_object_get(each, "payment"), "payment_intent");

                if (json_is_string(intent))
                        json_array_append(intents, (json_t *)(uintptr_t)intent);
        }
        json_array_remove(json_object_get(saga_data(saga), "paid"), 0);
        return duplicate_look_at_next(saga);
}

static enum step_result duplicate_look_at_next(struct saga *saga)
{
        const char *invoice = json_string_value(json_array_get(json_object_get(saga_data(saga), "paid"), 0));

        if (invoice == NULL)
                return STEP_DONE;
        return stripe_look(saga, mem_copy_text("/v1/invoice_payments"),
                           json_pack("{s:s, s:s, s:i}", "invoice", invoice, "status", "paid", "limit", 100),
                           duplicate_payments_listed);
}

static enum step_result duplicate_payments(struct saga *saga)
{
        if (json_object_get(saga_data(saga), "intents") == NULL)
                json_object_set_new(saga_data(saga), "intents", json_array());
        return duplicate_look_at_next(saga);
}

static enum step_result duplicate_refund_next(struct saga *saga);

static enum step_result duplicate_refunded(struct saga *saga, const json_t *reply, const struct err *err)
{
        json_t *refunds = json_object_get(json_object_get(saga_data(saga), "result"), "refunds");

        if (err != NULL && strcmp(err->code, "stripe_charge_already_refunded") != 0)
                return saga_fail(saga, err);
        if (reply != NULL)
                json_array_append(refunds, json_object_get(reply, "id"));
        json_array_remove(json_object_get(saga_data(saga), "intents"), 0);
        return duplicate_refund_next(saga);
}

static enum step_result duplicate_refund_next(struct saga *saga)
{
        const char *intent = json_string_value(json_array_get(json_object_get(saga_data(saga), "intents"), 0));
        auto_free char *name = NULL;

        if (intent == NULL)
                return STEP_DONE;
        name = mem_printf("refund:%s", intent);
        return stripe_change(saga, name, "POST", mem_copy_text("/v1/refunds"),
                             json_pack("{s:s, s:s}", "payment_intent", intent, "reason", "duplicate"),
                             duplicate_refunded);
}

static const struct saga_step STEPS[] = {
        { "look", look_at_subscriptions, NULL, LIMIT, 10 },  { "choose", duplicate_choose, NULL, LIMIT, 20 },
        { "end", duplicate_end, NULL, LIMIT, 30 },           { "invoices", duplicate_invoices, NULL, LIMIT, 50 },
        { "payments", duplicate_payments, NULL, LIMIT, 60 }, { "refund", duplicate_refund_next, NULL, LIMIT, 80 },
};

const struct saga_kind END_DUPLICATE = BILLING_KIND("end_duplicate", STEPS);
