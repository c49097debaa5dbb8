/* How many signups are not ready yet, as the catalog says, for the cap on public signups. */
#pragma once

#include "services/gateway/gateway.h"

struct load;

/* Keeps gateway->signups_in_progress up to date while the catalog answers; asks nothing where signup is not public. */
struct load *load_new(struct gateway *gateway);
void load_free(struct load *load);
