/* Billing's part of `tenantry explain`: what a tenant's subscription is, by which rule, and what at Stripe says so. */
#include "cli/explain_billing.h"

#include "cli/api.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

/* By reason, and by status where there is none. */
static const struct {
        const char *key, *rule;
} RULES[] = {
        { "override", "an operator's override holds, whatever Stripe says" },
        { "exempt", "it was here before billing and has never subscribed" },
        { "payment_failed", "the oldest unpaid invoice counts: seven days after it first failed, access ends" },
        { "trial_ended", "the trial is over, and there is no subscription" },
        { "paused", "its subscription is paused at Stripe" },
        { "unknown_status", "Stripe tells a status that this version does not know: nothing is taken away" },
        { "trial",
          "of the trial and a live subscription, the subscription counts; there is none, or it is on trial at Stripe" },
        { "active", "of its live subscriptions, the oldest active one counts, with the plan of its price" },
        { "cancelled", "its last subscription has ended: access ended with it, and after 30 days it is archived" },
        { "archived", "the strictest of what operator and billing want counts" },
};

const char *explain_billing_rule(const json_t *told)
{
        const char *key = json_text(told, "reason") ?: json_text(told, "status");

        for (size_t i = 0; key != NULL && i < ARRAY_SIZE(RULES); i++)
                if (strcmp(RULES[i].key, key) == 0)
                        return RULES[i].rule;
        return NULL;
}

json_t *explain_billing_get(const char *tenant_id)
{
        auto_free char *path = mem_printf("/api/tenants/%s/billing/forecast", tenant_id);
        struct api_answer answer;
        json_t *now = NULL;

        if (api_send(&(struct api_request){ .method = "GET", .path = path }, &answer) == EXIT_GOOD &&
            json_is_object(json_object_get(answer.body, "now"))) {
                now = json_incref(json_object_get(answer.body, "now"));
                json_set_text(now, "rule", explain_billing_rule(now));
                json_object_set(now, "changes", json_object_get(answer.body, "changes"));
        }
        api_answer_release(&answer);
        return now;
}

static void explain_billing_add(struct buf *text, const char *before, const char *word)
{
        auto_free char *safe = text_safe(word);

        if (word != NULL)
                buf_printf(text, "%s%s", before, safe);
}

void explain_billing_tell(const json_t *now)
{
        const json_t *event = json_object_get(now, "event"), *next = json_array_get(json_object_get(now, "changes"), 0);
        auto_free char *at = text_time(json_text(next, "at")), *created = text_time(json_text(event, "created"));
        auto_buf state = { 0 }, source = { 0 }, told = { 0 }, change = { 0 };

        if (now == NULL)
                return;
        explain_billing_add(&state, "", json_text(now, "status"));
        explain_billing_add(&state, ", ", json_text(now, "reason"));
        explain_billing_add(&state, ", plan ", json_text(now, "plan"));
        explain_billing_add(&state, ", access ", json_text(now, "access"));
        print_pair("billing", state.data);
        print_pair("", json_text(now, "rule"));
        explain_billing_add(&source, "by ", json_text(now, "subscription_id"));
        explain_billing_add(&source, ", invoice ", json_text(now, "invoice_id"));
        print_pair("", source.data);
        if (json_is_object(event)) {
                explain_billing_add(&told, "last told by ", json_text(event, "event_id"));
                explain_billing_add(&told, ", ", json_text(event, "type"));
                explain_billing_add(&told, ", ", created);
                print_pair("", told.data);
        }
        if (json_is_object(next)) {
                explain_billing_add(&change, "next: ", json_text(next, "change"));
                explain_billing_add(&change, " to ", json_text(next, "status"));
                explain_billing_add(&change, ", ", at);
                print_pair("", change.data);
        }
}
