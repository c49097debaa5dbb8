/* Looks once, as soon as the catalog answers, whether our sessions are our own: a pooler that lends backends by the
 * transaction would mix them up, with search_path, leases and advisory locks. Then the service gives up (exit 2). */
#pragma once

#include "common/service/service.h"

struct catalog_mode;

/* target: as the service's own pool has it; its texts are copied. */
struct catalog_mode *catalog_mode_new(struct service *service, const struct pg_target *target);
/* NULL is fine. */
void catalog_mode_free(struct catalog_mode *mode);
