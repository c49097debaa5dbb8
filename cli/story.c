/* Events in words: see story.h. The rules are those of the catalog's functions next_activity, accept_command, set_state
 * and saga_ended. */
#include "cli/story.h"

#include "cli/explain_billing.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <string.h>

#define LONG_DETAIL 60 /* characters that may be shown more than once */

struct rule {
        const char *key, *rule;
};

static const struct rule ACTIVITY_RULES[] = {
        { "provision", "its state is requested, and nobody else is at work on it" },
        { "deprovision", "its wanted lifecycle is gone" },
        { "archive", "its wanted lifecycle is archived" },
        { "access", "the wanted access differs from the applied access" },
        { "rotate", "fewer rotations are applied than wanted" },
        { "retire", "the old login's overlap has ended" },
        { "verify", "its server failed over or was restored: the tenant is checked against the catalog" },
        { "backup", "fewer backups are done than wanted" },
        { "checkout", "a page is wanted on which the tenant subscribes" },
        { "portal", "a page is wanted on which the tenant manages its subscription" },
        { "change_plan", "another plan is wanted" },
        { "cancel", "the subscription shall end with its period" },
        { "resume", "the subscription shall go on" },
        { "preview", "what a change would cost is asked" },
        { "end_subscription", "the tenant is archived or deprovisioned, and has a subscription still" },
        { "end_duplicate", "the tenant has more than one subscription" },
        { "restore", "fewer restores are done than wanted" },
        { "invite", "fewer invitations are sent than wanted" },
        { "link", "fewer sign-in links are made than wanted" },
};

static const struct rule COMMAND_RULES[] = {
        { "suspend", "the operator's wanted access becomes none; the stricter of operator and billing wins" },
        { "resume", "the operator's wanted access becomes full; the stricter of operator and billing wins" },
        { "archive", "the operator's wanted lifecycle becomes archived; the stricter of operator and billing wins" },
        { "deprovision", "confirm names the subdomain: the wanted lifecycle becomes gone, running work is cancelled" },
        { "rotate_credentials", "one more rotation is wanted" },
        { "backup", "one more backup is wanted" },
        { "restore", "the backup is known; in place, confirm names the subdomain: one more restore is wanted" },
        { "resend_invite", "one more invitation is wanted" },
        { "invite_link", "one more sign-in link is wanted" },
        { "override", "an operator gives what was not bought, or takes it back" },
        { "checkout", "one checkout at a time: it waits for its turn" },
        { "portal", "one request to Stripe at a time: it waits for its turn" },
        { "change_plan", "one request to Stripe at a time: it waits for its turn" },
        { "cancel", "one request to Stripe at a time: it waits for its turn" },
        { "preview", "one request to Stripe at a time: it waits for its turn" },
        { "end_duplicate", "one request to Stripe at a time: it waits for its turn" },
        { "retry", "the block is lifted; provisioning starts over, or continues if past its point of no return" },
};

static const struct rule STATE_RULES[] = {
        { "provisioning", "its provisioning has begun, or its database is back and is being opened" },
        { "ready", "what it waited for is settled: wanted and actual states are compared again" },
        { "attention", "it cannot continue by itself: it waits for retry or deprovision" },
        { "archived", "the archive is listed and checksummed, the database dropped" },
        { "deprovisioned", "database, logins and secrets are deleted; the name stays reserved for 90 days" },
        { "requested", "its provisioning was undone; it starts over in the next generation" },
};

static const char *story_word(const json_t *data, const char *name)
{
        const char *text = json_text(data, name);

        return text ? text : "?";
}

static const char *story_find_rule(const struct rule *rules, size_t count, const char *key)
{
        for (size_t i = 0; key != NULL && i < count; i++)
                if (strcmp(rules[i].key, key) == 0)
                        return rules[i].rule;
        return NULL;
}

const char *story_rule(const char *type, const json_t *data)
{
        if (strcmp(type, "tenant.requested.v1") == 0)
                return "the tenant id is new and the subdomain is free";
        if (strcmp(type, "tenant.activity.started.v1") == 0)
                return story_find_rule(ACTIVITY_RULES, ARRAY_SIZE(ACTIVITY_RULES), json_text(data, "activity"));
        if (strcmp(type, "tenant.command.accepted.v1") == 0)
                return story_find_rule(COMMAND_RULES, ARRAY_SIZE(COMMAND_RULES), json_text(data, "command"));
        if (strcmp(type, "tenant.state.changed.v1") == 0 && strcmp(story_word(data, "from"), "provisioning") == 0 &&
            strcmp(story_word(data, "to"), "ready") == 0)
                return "every step of its provisioning is done";
        if (strcmp(type, "tenant.state.changed.v1") == 0)
                return story_find_rule(STATE_RULES, ARRAY_SIZE(STATE_RULES), json_text(data, "to"));
        if (strcmp(type, "tenant.lifecycle.wanted.v1") == 0)
                return "the strictest of what operator and billing want counts; a restore takes back what was wanted";
        if (strcmp(type, "tenant.subscription.changed.v1") == 0)
                return explain_billing_rule(json_object_get(data, "to"));
        if (strcmp(type, "tenant.labelled.v1") == 0)
                return "of the labels in the command, it lacked those with + and had those with -";
        if (strcmp(type, "tenant.ledger.corrected.v1") == 0)
                return "the ledger in its database decides what it has, and the catalog follows it";
        if (strcmp(type, "tenant.activity.delayed.v1") == 0)
                return "a transient error is retried, later each time";
        if (strcmp(type, "tenant.activity.progressed.v1") == 0 && strcmp(story_word(data, "status"), "undoing") == 0)
                return "a failure before the point of no return is undone step by step";
        return NULL;
}

static void story_add_words(struct buf *out, const char *detail, const char *code)
{
        auto_free char *said = text_detail(detail);

        if (detail != NULL)
                buf_printf(out, ": %s", said);
        if (code != NULL)
                buf_printf(out, detail ? " (%s)" : ": %s", code);
}

static void story_add_detail(struct buf *out, const json_t *error)
{
        story_add_words(out, json_text(error, "detail"), json_text(error, "code"));
}

/* Each label after a space and its sign. */
static void story_add_labels(struct buf *out, const json_t *labels, const char *sign)
{
        const json_t *label;
        size_t i;

        json_array_foreach (labels, i, label)
                buf_printf(out, " %s%s", sign, json_string_value(label) ?: "?");
}

static void story_tell_requested(struct buf *out, const json_t *data)
{
        const json_t *labels = json_object_get(data, "labels");

        buf_printf(out, "signup of %s as %s, plan %s", story_word(data, "company"), story_word(data, "slug"),
                   story_word(data, "plan"));
        if (json_array_size(labels) > 0)
                buf_add_text(out, ", labels");
        story_add_labels(out, labels, "");
}

static void story_tell_labels(struct buf *out, const json_t *data)
{
        buf_add_text(out, "labels");
        story_add_labels(out, json_object_get(data, "added"), "+");
        story_add_labels(out, json_object_get(data, "removed"), "-");
        if (json_text(data, "reason") != NULL)
                buf_printf(out, ": %s", json_text(data, "reason"));
}

static void story_tell_ledger(struct buf *out, const json_t *data)
{
        const json_t *versions = json_object_get(data, "versions");
        size_t count = json_array_size(versions);

        buf_printf(out, "a check for drift finds %zu migrations in its ledger, not those that the catalog knew of",
                   count);
        if (count > 0)
                buf_printf(out, "; the last is %s", json_string_value(json_array_get(versions, count - 1)) ?: "?");
}

static void story_tell_command(struct buf *out, const json_t *data)
{
        buf_printf(out, "command %s accepted", story_word(data, "command"));
        if (json_text(data, "reason") != NULL)
                buf_printf(out, ": %s", json_text(data, "reason"));
}

static void story_tell_lifecycle(struct buf *out, const json_t *data)
{
        buf_printf(out, "%s wants it %s, and the strictest wish is %s", story_word(data, "source"),
                   story_word(data, "wanted"), story_word(data, "strictest"));
        if (json_text(data, "reason") != NULL)
                buf_printf(out, ": %s", json_text(data, "reason"));
}

static void story_tell_started(struct buf *out, const json_t *data)
{
        buf_printf(out, "%s begins", story_word(data, "activity"));
}

static void story_tell_progress(struct buf *out, const json_t *data)
{
        bool undoing = strcmp(story_word(data, "status"), "undoing") == 0;

        buf_printf(out, "%s: %s %s (%lld %%)", story_word(data, "activity"), undoing ? "undoing back to" : "comes to",
                   story_word(data, "step"), (long long)json_number(data, "progress", 0));
        story_add_detail(out, json_object_get(data, "error"));
}

static void story_tell_delay(struct buf *out, const json_t *data)
{
        buf_printf(out, "%s: %s is delayed", story_word(data, "activity"), story_word(data, "step"));
        story_add_detail(out, json_object_get(data, "error"));
}

static void story_tell_finished(struct buf *out, const json_t *data)
{
        buf_printf(out, "%s ends: %s", story_word(data, "activity"), story_word(data, "outcome"));
        story_add_detail(out, json_object_get(data, "error"));
}

static void story_tell_state(struct buf *out, const json_t *data)
{
        const json_t *reason = json_object_get(data, "reason");

        buf_printf(out, "state %s -> %s", story_word(data, "from"), story_word(data, "to"));
        if (json_is_object(reason))
                story_add_detail(out, reason);
        else /* a text, as in the first versions */
                story_add_words(out, json_text(data, "detail"), json_string_value(reason));
}

static void story_tell_rejection(struct buf *out, const json_t *data)
{
        auto_free char *detail = text_refusal(json_text(data, "field"), json_text(data, "detail"));

        buf_printf(out, "%s refused", story_word(data, "type"));
        story_add_words(out, *detail ? detail : NULL, json_text(data, "code"));
}

static void story_tell_deed(struct buf *out, const json_t *data)
{
        buf_printf(out, "%s: %lld, %s", story_word(data, "action"), (long long)json_number(data, "id", 0),
                   story_word(data, "about"));
        if (json_text(data, "code") != NULL)
                buf_printf(out, " (%s)", json_text(data, "code"));
        buf_printf(out, ", by %s", story_word(data, "by"));
}

/* "trial, plan starter"; nothing for what there is not. */
static void story_add_subscription(struct buf *out, const json_t *told)
{
        buf_printf(out, "%s", story_word(told, "status"));
        if (json_text(told, "reason") != NULL)
                buf_printf(out, " (%s)", json_text(told, "reason"));
        if (json_text(told, "plan") != NULL)
                buf_printf(out, ", plan %s", json_text(told, "plan"));
        if (json_text(told, "cancel_at") != NULL)
                buf_printf(out, ", ends %s", json_text(told, "cancel_at"));
}

static void story_tell_subscription(struct buf *out, const json_t *data)
{
        buf_add_text(out, "subscription ");
        if (json_is_object(json_object_get(data, "from"))) {
                story_add_subscription(out, json_object_get(data, "from"));
                buf_add_text(out, " -> ");
        }
        story_add_subscription(out, json_object_get(data, "to"));
}

static const struct {
        const char *type;
        void (*tell)(struct buf *out, const json_t *data);
} TELLERS[] = {
        { .type = "tenant.requested.v1", .tell = story_tell_requested },
        { .type = "tenant.command.accepted.v1", .tell = story_tell_command },
        { .type = "tenant.lifecycle.wanted.v1", .tell = story_tell_lifecycle },
        { .type = "tenant.labelled.v1", .tell = story_tell_labels },
        { .type = "tenant.ledger.corrected.v1", .tell = story_tell_ledger },
        { .type = "tenant.activity.started.v1", .tell = story_tell_started },
        { .type = "tenant.activity.progressed.v1", .tell = story_tell_progress },
        { .type = "tenant.activity.delayed.v1", .tell = story_tell_delay },
        { .type = "tenant.activity.finished.v1", .tell = story_tell_finished },
        { .type = "tenant.subscription.changed.v1", .tell = story_tell_subscription },
        { .type = "tenant.state.changed.v1", .tell = story_tell_state },
        { .type = "tenant.request.rejected.v1", .tell = story_tell_rejection },
        { .type = "tenant.operator.acted.v1", .tell = story_tell_deed },
        { .type = "tenant.subscription.changed.v1", .tell = story_tell_subscription },
};

char *story_effect(const char *type, const json_t *data)
{
        auto_free char *whole = NULL;
        auto_buf out = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(TELLERS); i++)
                if (strcmp(TELLERS[i].type, type) == 0) {
                        TELLERS[i].tell(&out, data);
                        return text_safe(out.data);
                }
        whole = json_print(data); /* a type from a newer version: shown as it is */
        buf_printf(&out, "%s %s", type, whole);
        return text_safe(out.data);
}

/* The object that has a row's error: the error of an activity, or the reason of a state. */
static const json_t *story_trouble_of(const json_t *row)
{
        const json_t *data = json_object_get(row, "data"), *error = json_object_get(data, "error");
        const json_t *reason = json_object_get(data, "reason");

        return error != NULL ? error : json_is_object(reason) ? reason : data;
}

static bool story_ends_activity(const json_t *row)
{
        return strcmp(json_text(row, "type") ?: "", "tenant.activity.finished.v1") == 0;
}

static bool story_is_same(const char *a, const char *b)
{
        return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool story_is_long(const char *detail)
{
        return detail != NULL && text_width(detail) > LONG_DETAIL;
}

bool story_tells(const json_t *history, size_t count, const char *code, const char *detail)
{
        for (size_t i = 0; story_is_long(detail) && i < count; i++) {
                const json_t *row = json_array_get(history, i), *trouble = story_trouble_of(row);
                bool ends = story_ends_activity(row) && story_is_same(json_text(trouble, "code"), code);

                if (json_text(trouble, "detail") != NULL &&
                    (ends || story_is_same(json_text(trouble, "detail"), detail)))
                        return true;
        }
        return false;
}

/* Whether another row shows it: one that ends an activity, or a newer one. */
static bool story_told_elsewhere(const json_t *history, size_t at, const char *code, const char *detail)
{
        for (size_t i = 0; i < json_array_size(history); i++) {
                const json_t *row = json_array_get(history, i), *trouble = story_trouble_of(row);

                if (i == at || json_text(trouble, "detail") == NULL)
                        continue;
                if (story_ends_activity(row) && story_is_same(json_text(trouble, "code"), code))
                        return true;
                if (i < at && story_is_same(json_text(trouble, "detail"), detail))
                        return true;
        }
        return false;
}

char *story_row(const json_t *history, size_t at)
{
        const json_t *row = json_array_get(history, at), *data = json_object_get(row, "data");
        const char *type = json_text(row, "type") ?: "", *detail = json_text(story_trouble_of(row), "detail");
        const char *code = json_text(story_trouble_of(row), "code") ?: json_text(data, "reason");
        auto_json *brief = NULL;

        if (story_ends_activity(row) || code == NULL || !story_is_long(detail) ||
            !story_told_elsewhere(history, at, code, detail))
                return story_effect(type, data);
        brief = json_deep_copy(data);
        json_object_del(brief, "detail");
        json_object_del(json_object_get(brief, "error"), "detail");
        json_object_del(json_object_get(brief, "reason"), "detail");
        return story_effect(type, brief);
}
