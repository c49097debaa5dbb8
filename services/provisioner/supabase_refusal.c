/* What Supabase's refusals mean, and how they are reported: see supabase_api.h. */
#include "common/base/memory.h"
#include "services/provisioner/supabase_api.h"

#include <string.h>

#define QUOTA_DELAY SECONDS(60)
#define WORDS_MOST  8

static bool refusal_mentions(const char *text, const char *const *words)
{
        for (; *words != NULL; words++)
                if (strcasestr(text, *words) != NULL)
                        return true;
        return false;
}

/* The message of a refusal: a text, a list of texts, or an object containing them. NULL = there is none. The caller
 * frees. */
static char *refusal_read_message(const json_t *said)
{
        char *words = NULL;
        json_t *each;
        size_t i;

        if (json_is_string(said) && *json_string_value(said) != '\0')
                return mem_copy_text(json_string_value(said));
        if (json_is_object(said))
                return mem_copy_text(json_text(said, "message"));
        json_array_foreach ((json_t *)(uintptr_t)said, i, each) {
                auto_free char *before = words;

                if (json_string_value(each) == NULL || i >= WORDS_MOST) {
                        words = TAKE_PTR(before);
                        continue;
                }
                words = before ? mem_printf("%s; %s", before, json_string_value(each))
                               : mem_copy_text(json_string_value(each));
        }
        return words;
}

/* Their services do not agree on where the message is. "error" is last: next to a description it is only a code. */
static char *refusal_words(const json_t *reply)
{
        static const char *const places[] = { "message", "msg", "error_description", "error" };

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                char *words = refusal_read_message(json_object_get(reply, places[i]));

                if (words != NULL)
                        return words;
        }
        return mem_copy_text("no message");
}

/* A token that is refused altogether, or one that lacks a right, possibly for only one project. */
static void refusal_not_allowed(const struct supabase_reply *reply, const char *words, struct err *err)
{
        if (reply->from_auth)
                err_set(err, ERR_BUSY, "service_key_refused",
                        "the project's Auth refuses our service key for it (%d): %.200s", reply->status, words);
        else if (reply->status == 401)
                err_set(err, ERR_AUTH, "provider_auth", "Supabase refuses our token (401): %.200s", words);
        else
                err_set(err, ERR_AUTH, "provider_forbidden",
                        "Supabase says our token lacks the right to do this (403): %.200s", words);
}

void supabase_reply_error(const struct supabase_reply *reply, struct err *err)
{
        static const char *const quota[] = { "limit", "quota", "maximum", NULL }, *const capacity[] = { "capacity",
                                                                                                        NULL };
        auto_free char *words = refusal_words(reply->body);
        int status = reply->status;

        if (status >= 200 && status < 300) /* something between us and Supabase, or a change of their API */
                err_set(err, ERR_BUSY, "provider_answer", "Supabase's answer (%d) is not as documented", status);
        else if (status == 0 || status >= 500)
                err_set(err, ERR_BUSY, "provider_trouble", "Supabase answers %d: %.200s", status, words);
        else if (status == 401 || status == 403)
                refusal_not_allowed(reply, words, err);
        else if (status == 402)
                err_set(err, ERR_BUSY, "provider_billing", "Supabase requires payment first (402): %.200s", words);
        else if (refusal_mentions(words, capacity))
                err_set(err, ERR_BUSY, "provider_capacity", "Supabase has no room in the region: %.200s", words);
        else if (refusal_mentions(words, quota))
                err_set(err, ERR_BUSY, "provider_quota", "the organization's quota is full: %.200s", words);
        else if (status == 404)
                err_set(err, ERR_GONE, "provider_not_found", "Supabase does not know it (404): %.200s", words);
        else if (status == 409)
                err_set(err, ERR_CONFLICT, "provider_conflict", "Supabase says 409: %.200s", words);
        else
                err_set(err, ERR_PERMANENT, "provider_refused", "Supabase refuses the request (%d): %.200s", status,
                        words);
        if (strcmp(err->code, "provider_quota") == 0 || strcmp(err->code, "provider_billing") == 0)
                err->retry_after = QUOTA_DELAY;
}

void supabase_error(const struct activity *activity, struct err *err)
{
        supabase_reply_error(&(struct supabase_reply){ .status = activity->reply_status,
                                                       .body = activity->reply,
                                                       .from_auth = activity->reply_from_auth },
                             err);
}

enum step_result supabase_give_up(struct saga *saga, const struct err *err)
{
        if (err->class != ERR_AUTH)
                return saga_retry(saga, err);
        return saga_hold(saga, strcmp(err->code, "provider_auth") == 0 ? "supabase-token" : "supabase-rights", err);
}

enum step_result supabase_refuse(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        return supabase_give_up(saga, &err);
}

enum step_result supabase_refuse_for_now(struct saga *saga)
{
        struct err err;

        supabase_error(activity_of(saga), &err);
        if (err.class == ERR_GONE)
                err.class = ERR_BUSY;
        return supabase_give_up(saga, &err);
}
