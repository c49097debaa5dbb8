/* What may be requested of the fleet's schema: the contracts of migration files, runs, and commands to runs. */
#pragma once

#include "common/contracts/contract.h"

#define MIGRATION_TOPIC       "tenant.migration.v1"
#define MIGRATION_EVENT_LIMIT (512 * 1024) /* bytes of a file that is registered by an event */

/* Ends with a NULL type. A file's data are completed with version, checksum, transaction, reversible and findings. */
extern const struct contract MIGRATION_CONTRACTS[];

/* {name, sql, verify, version, checksum, transaction, reversible, findings} of a file, as the catalog takes it; the
 * caller releases. */
struct migration;
json_t *migration_file_facts(const struct migration *migration);
