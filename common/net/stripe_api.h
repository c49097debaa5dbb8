/* Calls to Stripe's API, for the services and the command. One call, one answer: how often Stripe may be asked, and
 * when something is tried again, is the caller's business. Source of the facts: Stripe's API reference (request ids,
 * idempotent requests, errors, versioning) and its client libraries' rules for trying again. */
#pragma once

#include "common/base/json.h"
#include "common/net/transfers.h"

/* The version of the API that this code is written for: sent with each call, and pinned on the webhook endpoint. */
#define STRIPE_VERSION "2026-07-29.dahlia"
#define STRIPE_API_URL "https://api.stripe.com"

/* In the metadata of what `tenantry stripe setup` has made: by this it is found again. */
#define STRIPE_MARK "tenantry"

#define STRIPE_KEY_LONGEST 255 /* of an idempotency key */

/* Both borrowed for as long as calls are made. */
struct stripe_account {
        const char *url; /* without a slash at its end */
        const char *secret_key;
};

struct stripe_call {
        const char *method;          /* "GET", "POST", "DELETE"; all borrowed during stripe_api_call */
        const char *path;            /* "/v1/prices" */
        const json_t *params;        /* an object, or NULL; see stripe_api_encode */
        const char *idempotency_key; /* of a POST, which must have one: a repetition under it does nothing twice */
        int64_t timeout_ms;          /* 0 = 30 s */
};

struct stripe_reply {
        int status;
        const json_t *body;  /* an object */
        int64_t date_s;      /* Stripe's clock when it answered, seconds since 1970; 0 = not told */
        char request_id[64]; /* for logs, and for Stripe's support; "" = not told */
        bool replayed;       /* the answer to an earlier call under the same idempotency key */
};

/* reply is NULL where there was no usable answer; err is NULL for success (2xx). Both are borrowed during the call.
 * The class of err decides:
 *   ERR_BUSY       may be tried again under the same idempotency key, no earlier than err->retry_after (0 = after the
 *                  usual back-off): no answer, the header Stripe-Should-Retry, 409, 5xx. Whether it was carried out is
 *                  unknown. Also 429, which is never to be repeated at once: retry_after is then at least 2 s, unless
 *                  Stripe-Should-Retry says otherwise
 *   ERR_AUTH       the key is refused, or has not the right (401, 403)
 *   ERR_GONE       404
 *   ERR_CONFLICT   the idempotency key was used for another request: a defect of the caller
 *   ERR_PERMANENT  everything else: Stripe will not do this
 * Its code is "stripe_" and Stripe's own code ("stripe_resource_missing"), or its type where there is none; its field
 * is Stripe's param. No key of ours is in any of it. */
typedef void (*stripe_called_fn)(void *context, const struct stripe_reply *reply, const struct err *err);

struct stripe_request;

/* done is called once, later, unless the request is cancelled; the request is gone then. */
struct stripe_request *stripe_api_call(struct transfers *transfers, const struct stripe_account *account,
                                       const struct stripe_call *call, stripe_called_fn done, void *context);
/* NULL is fine. */
void stripe_api_cancel(struct stripe_request *request);

/* An object as Stripe's form: {"a": {"b": [1, true]}, "c": null} is "a[b][0]=1&a[b][1]=true&c=". null, and an empty
 * list or object, say that there is to be no value. No numbers with fractions. The caller frees. */
char *stripe_api_encode(const json_t *params);

/* What is to be done about an answer, from its parts; for tests, too. */
struct stripe_answer {
        int status;
        const char *body;
        size_t length;
        const char *should_retry, *retry_after, *date; /* headers; NULL = absent */
        const char *request_id;
        bool replayed; /* Stripe has said this before, to the same key */
};

/* A failure of Stripe's own that it has saved under an idempotency key: it says so for a day, whatever it has done. */
static inline bool stripe_is_saved_failure(int status, bool replayed)
{
        return replayed && status >= 500;
}

/* Returns 0 and *ret (which the caller releases), the body of a success; or an error as above, with *ret where the body
 * is an object all the same. */
int stripe_api_judge(const struct stripe_answer *answer, json_t **ret, struct err *err);
