/* Calls to Stripe's API: see stripe_api.h. */
#include "common/net/stripe_api.h"

#include "common/base/buf.h"
#include "common/base/memory.h"
#include "common/net/http_client.h"
#include "common/net/retry_after.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CALL_TIMEOUT    SECONDS(30)
#define LIMITED_MS      SECONDS(2)
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* The form. */

static void stripe_escape(struct buf *form, const char *text)
{
        for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
                if (strchr(NAME_CHARACTERS "-.~", *p) != NULL)
                        buf_add(form, p, 1);
                else
                        buf_printf(form, "%%%02X", *p);
        }
}

static void stripe_add_value(struct buf *form, const char *name, const json_t *value)
{
        assert(!json_is_real(value));
        buf_printf(form, "%s%s=", form->length > 0 ? "&" : "", name);
        if (json_is_string(value))
                stripe_escape(form, json_string_value(value));
        else if (json_is_integer(value))
                buf_printf(form, "%lld", (long long)json_integer_value(value));
        else if (json_is_boolean(value))
                buf_add_text(form, json_is_true(value) ? "true" : "false");
}

static void stripe_add(struct buf *form, const char *name, const json_t *value);

/* One more level: "name[part]". */
static void stripe_add_part(struct buf *form, const char *name, const char *part, const json_t *value)
{
        auto_buf whole = { 0 };

        assert(*part != '\0');
        if (*name != '\0')
                buf_printf(&whole, "%s[", name);
        stripe_escape(&whole, part);
        if (*name != '\0')
                buf_add_text(&whole, "]");
        stripe_add(form, whole.data, value);
}

static void stripe_add(struct buf *form, const char *name, const json_t *value)
{
        char number[24];
        const char *part;
        json_t *each;
        size_t i;

        if ((json_is_object(value) && json_object_size(value) > 0) || *name == '\0') {
                json_object_foreach ((json_t *)value, part, each)
                        stripe_add_part(form, name, part, each);
        } else if (json_array_size(value) > 0) {
                json_array_foreach (value, i, each) {
                        snprintf(number, sizeof(number), "%zu", i);
                        stripe_add_part(form, name, number, each);
                }
        } else {
                stripe_add_value(form, name, value);
        }
}

char *stripe_api_encode(const json_t *params)
{
        struct buf form = { 0 };

        assert(params == NULL || json_is_object(params));
        if (params != NULL)
                stripe_add(&form, "", params);
        return buf_take(&form);
}

/* The answer. */

/* Stripe shows parts of a key that it refuses; a log is to have none of it. Words are cut behind what tells their kind.
 */
static char *stripe_without_keys(const char *text)
{
        static const char *const kinds[] = { "sk_test_", "sk_live_", "rk_test_", "rk_live_", "whsec_" };
        struct buf out = { 0 };

        buf_add_text(&out, "");
        while (text != NULL && *text != '\0') {
                size_t kind = 0;

                while (kind < ARRAY_SIZE(kinds) && strncmp(text, kinds[kind], strlen(kinds[kind])) != 0)
                        kind++;
                if (kind == ARRAY_SIZE(kinds)) {
                        buf_add(&out, text++, 1);
                        continue;
                }
                buf_printf(&out, "%s...", kinds[kind]);
                text += strlen(kinds[kind]);
                text += strspn(text, NAME_CHARACTERS "*");
        }
        return buf_take(&out);
}

/* For machines: small letters, digits and underscores, whatever was sent. */
static void stripe_set_code(struct err *err, const json_t *error)
{
        const char *code = json_text(error, "code") ?: json_text(error, "type") ?: "error";
        size_t length = strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_");

        snprintf(err->code, sizeof(err->code), "stripe_%s", code[length] == '\0' && length > 0 ? code : "error");
}

static void stripe_set_message(struct err *err, const struct stripe_answer *answer, const json_t *error)
{
        auto_free char *words = stripe_without_keys(json_text(error, "message"));
        const char *type = json_text(error, "type"), *code = json_text(error, "code"),
                   *param = json_text(error, "param"), *doc = json_text(error, "doc_url");
        auto_buf more = { 0 };

        buf_printf(&more, "%d", answer->status);
        if (type != NULL)
                buf_printf(&more, ", %.60s", type);
        if (code != NULL)
                buf_printf(&more, ", code %.60s", code);
        if (param != NULL)
                buf_printf(&more, ", param %.60s", param);
        if (answer->request_id != NULL)
                buf_printf(&more, ", request %.60s", answer->request_id);
        if (doc != NULL)
                buf_printf(&more, ", see %.100s", doc);
        snprintf(err->message, sizeof(err->message), "Stripe: %.200s (%s)", *words ? words : "no reason is given",
                 more.data);
        snprintf(err->field, sizeof(err->field), "%s", param ?: "");
}

static bool stripe_header_is(const char *header, const char *word)
{
        return header != NULL && strcasecmp(header, word) == 0;
}

/* Stripe knows best whether another attempt makes sense. But where it repeats a failure of its own that it has saved,
 * it speaks of the key: what was asked for may go well under another. */
static enum err_class stripe_class_of(const struct stripe_answer *answer, const json_t *error)
{
        if (answer->status == 429 || stripe_header_is(answer->should_retry, "true"))
                return ERR_BUSY;
        if (answer->status == 401 || answer->status == 403)
                return ERR_AUTH;
        if (answer->status == 404)
                return ERR_GONE;
        if (strcmp(json_text(error, "type") ?: "", "idempotency_error") == 0)
                return ERR_CONFLICT;
        if (stripe_is_saved_failure(answer->status, answer->replayed))
                return ERR_BUSY;
        if (stripe_header_is(answer->should_retry, "false"))
                return ERR_PERMANENT;
        return answer->status == 409 || answer->status >= 500 ? ERR_BUSY : ERR_PERMANENT;
}

static int64_t stripe_wait(const struct stripe_answer *answer)
{
        bool capped;
        int64_t asked_ms = retry_after_ms(
                &(struct retry_asked){ .retry_after = answer->retry_after, .date = answer->date }, &capped);

        if (answer->status == 429 && !stripe_header_is(answer->should_retry, "true"))
                return MAX(asked_ms, LIMITED_MS);
        return asked_ms;
}

/* err_set cuts what it is given into valid UTF-8, so the texts go through it. */
static int stripe_refuse(const struct stripe_answer *answer, const json_t *error, struct err *err)
{
        struct err told = { 0 };
        enum err_class class = stripe_class_of(answer, error);

        stripe_set_code(&told, error);
        stripe_set_message(&told, answer, error);
        err_field(err, told.field, "%s", told.message);
        if (err != NULL) {
                err->class = class;
                memcpy(err->code, told.code, sizeof(err->code));
                if (class == ERR_BUSY)
                        err->retry_after = stripe_wait(answer);
        }
        return -(int)class;
}

int stripe_api_judge(const struct stripe_answer *answer, json_t **ret, struct err *err)
{
        json_t *body = NULL;
        bool good = answer->status >= 200 && answer->status < 300;

        *ret = NULL;
        if (json_parse(answer->body, answer->length, &body, NULL) == 0 && json_is_object(body))
                *ret = body;
        else
                json_decref(body);
        if (good && *ret != NULL)
                return 0;
        /* It came from something between Stripe and us; what became of the request is unknown. */
        if (good)
                return err_set(err, ERR_BUSY, "stripe_not_json", "the answer (%d) is not one of Stripe's",
                               answer->status);
        return stripe_refuse(answer, json_object_get(*ret, "error"), err);
}

/* The call. */

struct stripe_request {
        struct http_exchange *exchange;
        stripe_called_fn done;
        void *context;
};

static void stripe_give(const struct stripe_request *request, const struct http_reply *reply)
{
        auto_free char *should_retry = mem_copy_text(http_reply_header(reply, "Stripe-Should-Retry")),
                       *retry_after = mem_copy_text(http_reply_header(reply, "Retry-After")),
                       *date = mem_copy_text(http_reply_header(reply, "Date")),
                       *id = mem_copy_text(http_reply_header(reply, "Request-Id"));
        const struct stripe_answer answer = { .status = reply->status,
                                              .body = reply->body,
                                              .length = reply->length,
                                              .should_retry = should_retry,
                                              .retry_after = retry_after,
                                              .date = date,
                                              .request_id = id,
                                              .replayed = stripe_header_is(
                                                      http_reply_header(reply, "Idempotent-Replayed"), "true") };
        struct stripe_reply told = { .status = reply->status, .replayed = answer.replayed };
        auto_json *body = NULL;
        struct err err;
        int rc = stripe_api_judge(&answer, &body, &err);

        told.body = body;
        told.date_s = date ? MAX(0, (int64_t)curl_getdate(date, NULL)) : 0;
        snprintf(told.request_id, sizeof(told.request_id), "%s", id ?: "");
        request->done(request->context, body ? &told : NULL, rc < 0 ? &err : NULL);
}

static void stripe_answered(void *context, const struct http_reply *reply, const struct err *err)
{
        struct stripe_request *request = context;

        if (err != NULL)
                request->done(request->context, NULL, err);
        else
                stripe_give(request, reply);
        free(request);
}

static char *stripe_url(const struct stripe_account *account, const struct stripe_call *call, const char *form)
{
        bool query = strcmp(call->method, "POST") != 0 && *form != '\0';

        return mem_printf("%s%s%s%s", account->url, call->path, query ? "?" : "", query ? form : "");
}

struct stripe_request *stripe_api_call(struct transfers *transfers, const struct stripe_account *account,
                                       const struct stripe_call *call, stripe_called_fn done, void *context)
{
        bool post = strcmp(call->method, "POST") == 0;
        struct stripe_request *request = NEW(struct stripe_request);
        auto_free char *form = stripe_api_encode(call->params), *url = stripe_url(account, call, form);
        auto_secret char *key = mem_printf("Authorization: Bearer %s", account->secret_key);
        auto_free char *once = post ? mem_printf("Idempotency-Key: %s", call->idempotency_key) : NULL;

        assert(!post || (call->idempotency_key != NULL && strlen(call->idempotency_key) <= STRIPE_KEY_LONGEST));
        request->done = done;
        request->context = context;
        request->exchange = http_client_call(
                transfers,
                &(struct http_call){
                        .method = call->method,
                        .url = url,
                        .headers = (const char *[]){ "Stripe-Version: " STRIPE_VERSION, "Accept: application/json",
                                                     "User-Agent: tenantry/" TENANTRY_VERSION, key,
                                                     post ? "Content-Type: application/x-www-form-urlencoded" : NULL,
                                                     once, NULL },
                        .body = post ? form : NULL,
                        .timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : CALL_TIMEOUT,
                },
                stripe_answered, request);
        return request;
}

void stripe_api_cancel(struct stripe_request *request)
{
        if (request == NULL)
                return;
        http_client_cancel(request->exchange);
        free(request);
}
