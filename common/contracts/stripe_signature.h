/* The signature of Stripe's webhooks: who has the endpoint's secret has sent these bytes, a short while ago.
 * Format: https://docs.stripe.com/webhooks/signature ("Verify manually"). */
#pragma once

#include "common/base/err.h"

#define STRIPE_TOLERANCE_S 300 /* seconds between our clock and theirs, either way */

/* One or several secrets: while one is rolled, Stripe signs with both. */
struct stripe_secrets;

/* text: secrets separated by commas, each as Stripe shows it ("whsec_..."). Returns 0 and *ret (freed with
 * stripe_secrets_free), NULL for NULL; or -ERR_INPUT naming the option, but no secret. */
int stripe_secrets_parse(const char *option, const char *text, struct stripe_secrets **ret, struct err *err);
void stripe_secrets_free(struct stripe_secrets *secrets);

/* header: the value of Stripe-Signature, NULL if there is none. body: as received. now_s, tolerance_s: seconds; 0: of
 * any age. Returns 0, or -ERR_INPUT with one of the codes not_signed, signature_malformed, signature_missing (none of a
 * scheme that we know), signature_mismatch, signature_too_old, signature_too_new: an attacker learns of the age only
 * what he was sent himself. */
int stripe_signature_check(const struct stripe_secrets *secrets, const char *header, const void *body, size_t length,
                           int64_t now_s, int64_t tolerance_s, struct err *err);
