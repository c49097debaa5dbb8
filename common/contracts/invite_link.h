/* Our own signed invitation links: TENANT.NUMBER.EXPIRY.SIGNATURE. Made by the provisioner, checked by the gateway. */
#pragma once

#include "common/base/id.h"
#include "common/base/keyring.h"

#define INVITE_LINK_LIFE_MS (7LL * 24 * 3600 * 1000)

struct invite_link {
        struct id tenant;
        int number; /* of the invitation: a newer one invalidates older ones */
};

/* The caller frees. */
char *invite_link_make(const struct keyring *ring, const char *tenant_id, int number, int64_t now_ms);
/* Where an invitation leads: PRODUCT_URL with the tenant's slug in place of "{slug}", if that occurs. The caller
 * frees. */
char *invite_link_product(const char *product_url, const char *slug);
/* Returns 0, -ERR_INPUT (not one of ours) or -ERR_GONE (expired). */
int invite_link_check(const struct keyring *ring, const char *text, int64_t now_ms, struct invite_link *ret,
                      struct err *err);
