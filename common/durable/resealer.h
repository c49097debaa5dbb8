/* Key rotation: what an older key has sealed is sealed anew with the primary one, a few at a time. The service brings,
 * in its schema, secrets_to_rewrap(ring, primary, limit), which finds what is sealed with another key than the primary
 * one: rows of (tenant_id, field, generation, sealed); and rewrapped(tenant_id, field, generation, old, new), which
 * puts the new one in the old one's place if that is still there. */
#pragma once

#include "common/base/keyring.h"
#include "common/service/service.h"

struct resealer;

struct resealer_ring {
        const char *name; /* as the catalog knows it */
        const struct keyring *keys;
};

/* rings are copied, what they point to is borrowed; 1 to 4 of them, which take turns. */
struct resealer *resealer_new(struct service *service, const struct resealer_ring *rings, size_t count);
/* NULL is fine. */
void resealer_free(struct resealer *resealer);
/* NULL, or the id of a key that sealed something and that we do not have: then we are not ready. */
const char *resealer_unknown_key(const struct resealer *resealer);
