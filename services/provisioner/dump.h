/* One encrypted dump of a tenant's database by pg_dump, read back by pg_restore and checksummed before it counts. */
#pragma once

#include "common/durable/saga.h"

/* As a step: dumps to ARCHIVE_DIRECTORY/TENANT/SAGA-FENCE.KIND, lists it, records it in the catalog. kind: "backup" or
 * "archive". Each attempt of each worker writes its own file: a late one can never touch one that counts. */
enum step_result dump_take(struct saga *saga, const char *kind);
