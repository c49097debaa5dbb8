/* Forgets what billing keeps for a time only: see billing.prune in migrations/catalog. Each process does, piece by
 * piece; what another has in hand is left to it. */
#pragma once

#include "services/billing/billing.h"

struct retention *retention_new(struct billing *billing);
/* NULL is fine. */
void retention_free(struct retention *retention);
