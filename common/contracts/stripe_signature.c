/* The signature of Stripe's webhooks: see stripe_signature.h. */
#include "common/contracts/stripe_signature.h"

#include "common/base/crypto.h"
#include "common/base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECRETS_MOST 8
#define TIME_DIGITS  12 /* until the year 33658 */
#define HEX_LENGTH   64

struct stripe_secrets {
        struct crypto_mac *macs[SECRETS_MOST];
        size_t count;
};

void stripe_secrets_free(struct stripe_secrets *secrets)
{
        if (secrets == NULL)
                return;
        for (size_t i = 0; i < secrets->count; i++)
                crypto_mac_free(secrets->macs[i]);
        free(secrets);
}

static bool stripe_is_secret(const char *word)
{
        for (const char *p = word; *p; p++)
                if (*p <= ' ' || *p >= 0x7f)
                        return false;
        return *word != '\0';
}

int stripe_secrets_parse(const char *option, const char *text, struct stripe_secrets **ret, struct err *err)
{
        auto_secret char *copy = text ? mem_copy_text(text) : NULL;
        struct stripe_secrets *secrets;
        char *rest = copy, *word;

        *ret = NULL;
        if (text == NULL)
                return 0;
        secrets = NEW(struct stripe_secrets);
        while ((word = strsep(&rest, ",")) != NULL) {
                if (!stripe_is_secret(word) || secrets->count == SECRETS_MOST) {
                        stripe_secrets_free(secrets);
                        return err_field(err, option, "%s is one to %d secrets, separated by commas without blanks",
                                         option, SECRETS_MOST);
                }
                secrets->macs[secrets->count++] = crypto_mac_new(word, strlen(word));
        }
        *ret = secrets;
        return 0;
}

/* The header's parts. */
struct signature {
        const char *time; /* digits */
        int64_t seconds;
        size_t candidates; /* values of the scheme v1 */
};

static int stripe_malformed(struct err *err)
{
        return err_set(err, ERR_INPUT, "signature_malformed", "the header Stripe-Signature is not t=TIME,v1=SIGNATURE");
}

/* A plain number: neither sign, blank, nor leading zero, so that one time is written in one way. */
static bool stripe_read_time(struct signature *signature, const char *text)
{
        size_t digits = strspn(text, "0123456789");

        if (signature->time != NULL || digits == 0 || digits > TIME_DIGITS || text[digits] != '\0' || text[0] == '0')
                return false;
        signature->time = text;
        signature->seconds = strtoll(text, NULL, 10);
        return true;
}

/* Cuts header into its parts, in place; each v1 is moved to the front of values. */
static int stripe_read_header(char *header, struct signature *ret, char **values, size_t most, struct err *err)
{
        char *item;

        while ((item = strsep(&header, ",")) != NULL) {
                char *value = strchr(item, '=');

                if (value == NULL)
                        return stripe_malformed(err);
                *value++ = '\0';
                if (strcmp(item, "t") == 0 && !stripe_read_time(ret, value))
                        return stripe_malformed(err);
                if (strcmp(item, "v1") == 0) {
                        if (ret->candidates == most)
                                return stripe_malformed(err);
                        values[ret->candidates++] = value;
                }
        }
        if (ret->time == NULL)
                return stripe_malformed(err);
        if (ret->candidates == 0)
                return err_set(err, ERR_INPUT, "signature_missing", "the header Stripe-Signature has no signature v1");
        return 0;
}

/* What is signed is the time, a point, and the body. */
static bool stripe_secret_has_signed(struct crypto_mac *secret, const struct signature *signature, char *const *values,
                                     const void *body, size_t length)
{
        auto_free char *expected = NULL;
        struct crypto_digest digest;
        bool found = false;

        crypto_mac_add(secret, signature->time, strlen(signature->time));
        crypto_mac_add(secret, ".", 1);
        crypto_mac_add(secret, body, length);
        crypto_mac_digest(secret, &digest);
        expected = crypto_hex(digest.bytes, sizeof(digest.bytes));
        for (size_t i = 0; i < signature->candidates; i++)
                found |= strlen(values[i]) == HEX_LENGTH && crypto_equal(values[i], expected, HEX_LENGTH);
        return found;
}

int stripe_signature_check(const struct stripe_secrets *secrets, const char *header, const void *body, size_t length,
                           int64_t now_s, int64_t tolerance_s, struct err *err)
{
        auto_free char *copy = NULL;
        struct signature signature = { 0 };
        char *values[SECRETS_MOST];
        bool good = false;

        if (header == NULL)
                return err_set(err, ERR_INPUT, "not_signed", "there is no header Stripe-Signature");
        copy = mem_copy_text(header);
        if (stripe_read_header(copy, &signature, values, ARRAY_SIZE(values), err) < 0)
                return -ERR_INPUT;
        for (size_t i = 0; i < secrets->count; i++)
                good |= stripe_secret_has_signed(secrets->macs[i], &signature, values, body, length);
        if (!good)
                return err_set(err, ERR_INPUT, "signature_mismatch",
                               "no secret of ours has made this signature for these bytes");
        if (tolerance_s > 0 && signature.seconds < now_s - tolerance_s)
                return err_set(err, ERR_INPUT, "signature_too_old", "this was signed more than %lld seconds ago",
                               (long long)tolerance_s);
        if (tolerance_s > 0 && signature.seconds > now_s + tolerance_s)
                return err_set(err, ERR_INPUT, "signature_too_new",
                               "this was signed more than %lld seconds in the future: one of the clocks is wrong",
                               (long long)tolerance_s);
        return 0;
}
