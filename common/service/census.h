/* Counts what is in the catalog, for the metrics: tenants by state, open alerts, dead letters. The catalog counts again
 * when a process asks and the last count is old enough; all processes show the same numbers. */
#pragma once

#include "common/service/service.h"

struct census;

struct census *census_new(struct service *service);
/* NULL is fine. */
void census_free(struct census *census);
