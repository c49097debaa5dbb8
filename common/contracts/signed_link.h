/* Our own signed links, which mails carry: SUBJECT.NUMBER.EXPIRY.SIGNATURE, each for one purpose. The key of the
 * signature is derived for the purpose, so no link is valid for another. One service makes them, and the gateway checks
 * them. */
#pragma once

#include "common/base/id.h"
#include "common/base/keyring.h"

#include <stdint.h>

#define SIGNED_LINK_WEEK (7LL * 24 * 3600) /* how long links in mails hold, in seconds */

enum link_purpose {
        LINK_INVITATION, /* the number is the invitation's: a newer one invalidates older ones */
        LINK_BILLING,    /* leads the owner of a tenant to its billing pages; the number is 0 */
};

struct signed_link {
        struct id subject; /* whom it is about: a tenant */
        int number;
        int64_t expires; /* Unix time in seconds */
};

/* Signed with the ring's primary key. The caller frees. */
char *signed_link_make(const struct keyring *ring, enum link_purpose purpose, const char *subject, int number,
                       int64_t expires);
/* Any key of the ring may have signed text. Returns 0 and *ret, -ERR_INPUT (not one of ours for this purpose) or
 * -ERR_GONE (expired). */
int signed_link_check(const struct keyring *ring, enum link_purpose purpose, const char *text, int64_t now_ms,
                      struct signed_link *ret, struct err *err);
