/* Checks once, as soon as the catalog answers, whether our sessions are our own: a pooler in transaction mode would mix
 * them up, with search_path, leases and advisory locks. In that case the service gives up (exit 2). */
#pragma once

#include "common/service/service.h"

struct catalog_mode;

/* target: the same as for the service's own pool; its texts are copied. */
struct catalog_mode *catalog_mode_new(struct service *service, const struct pg_target *target);
/* NULL is fine. */
void catalog_mode_free(struct catalog_mode *mode);
