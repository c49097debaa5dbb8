/* How many signups are not ready yet according to the catalog, for the cap on public signups. */
#pragma once

#include "services/gateway/gateway.h"

struct load;

/* Keeps gateway->signups_in_progress up to date while the catalog answers; does nothing if signup is not public. */
struct load *load_new(struct gateway *gateway);
void load_free(struct load *load);
