/* Key rotation: secrets sealed with an older key are re-sealed with the primary one, a few at a time. The service
 * provides, in its schema, secrets_to_rewrap(ring, primary, limit), which finds secrets sealed with a key other than
 * the primary one: rows of (tenant_id, field, generation, sealed); and rewrapped(tenant_id, field, generation, old,
 * new), which replaces the old one by the new one if it is still there. */
#pragma once

#include "common/base/keyring.h"
#include "common/service/service.h"

struct resealer;

struct resealer_ring {
        const char *name; /* its name in the catalog */
        const struct keyring *keys;
};

/* rings are copied, what they point to is borrowed; 1 to 4 of them, processed in turn. */
struct resealer *resealer_new(struct service *service, const struct resealer_ring *rings, size_t count);
/* NULL is fine. */
void resealer_free(struct resealer *resealer);
/* NULL, or the id of a key that sealed something but that we do not have: then we are not ready. */
const char *resealer_unknown_key(const struct resealer *resealer);
