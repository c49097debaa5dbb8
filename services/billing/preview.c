/* What a change of plan would cost, and when it would come. Nothing is changed. */
#include "common/base/memory.h"
#include "services/billing/change.h"

#include <string.h>

#define LINES_MOST 20

static const char SQL_BLOCKERS[] = "select coalesce(blockers($1::uuid, $2), '[]')::text as blockers";

/* {when, amount_due, currency, lines, proration_date} */
static json_t *preview_of(struct saga *saga, const json_t *invoice)
{
        json_t *lines = json_array();
        const json_t *each;
        size_t i;

        json_array_foreach (json_object_get(json_object_get(invoice, "lines"), "data"), i, each)
                if (i < LINES_MOST)
                        json_array_append_new(lines, json_pack("{s:s?, s:I}", "what", json_text(each, "description"),
                                                               "amount", (json_int_t)json_number(each, "amount", 0)));
        return json_pack("{s:s, s:I, s:s?, s:o, s:I}", "when", "now", "amount_due",
                         (json_int_t)json_number(invoice, "amount_due", 0), "currency", json_text(invoice, "currency"),
                         "lines", lines, "proration_date",
                         (json_int_t)json_number(saga_data(saga), "proration_date", 0));
}

static enum step_result preview_blockers_known(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        json_t *blockers = NULL;
        const char *text;
        struct err bad;

        if (err != NULL)
                return saga_retry(saga, err);
        text = pg_text(rows, 0, "blockers");
        if (json_parse(text, strlen(text), &blockers, &bad) < 0)
                return saga_retry(saga, &bad);
        json_object_set_new(json_object_get(saga_data(saga), "result"), "blockers", blockers);
        return STEP_DONE;
}

static enum step_result preview_blockers(struct saga *saga)
{
        return saga_query(saga, SQL_BLOCKERS, PARAMS(saga_tenant(saga), json_text(saga_data(saga), "plan")),
                          preview_blockers_known);
}

static enum step_result preview_made(struct saga *saga, const json_t *reply, const struct err *err)
{
        if (err != NULL)
                return saga_fail(saga, err);
        work_result(saga, preview_of(saga, reply));
        return STEP_DONE;
}

static enum step_result preview_ask(struct saga *saga)
{
        const json_t *live = look_live(saga), *price = json_object_get(saga_data(saga), "price");
        int64_t date = change_date(saga);
        json_t *details;

        if (change_way(saga) != CHANGE_NOW) {
                work_result(saga, json_pack("{s:s, s:O?, s:i, s:O?}", "when",
                                            change_way(saga) == CHANGE_LATER ? "period_end" : "never", "at",
                                            json_object_get(live, "period_end"), "amount_due", 0, "then",
                                            json_object_get(price, "amount")));
                return STEP_DONE;
        }
        json_object_set_new(saga_data(saga), "proration_date", json_integer(date));
        details = json_pack("{s:o, s:s, s:I}", "items", change_items(saga), "proration_behavior", "always_invoice",
                            "proration_date", (json_int_t)date);
        return stripe_change(saga, "preview", "POST", mem_copy_text("/v1/invoices/create_preview"),
                             json_pack("{s:s?, s:s?, s:o}", "customer", json_text(live, "customer"), "subscription",
                                       json_text(live, "id"), "subscription_details", details),
                             preview_made);
}

static const struct saga_step STEPS[] = {
        { "look", look_for_subscription, NULL, MINUTES(60), 10 }, { "price", look_up_price, NULL, MINUTES(60), 30 },
        { "check", change_check, NULL, MINUTES(60), 50 },         { "ask", preview_ask, NULL, MINUTES(60), 60 },
        { "blockers", preview_blockers, NULL, MINUTES(60), 90 },
};

const struct saga_kind PREVIEW = BILLING_KIND("preview", STEPS);
