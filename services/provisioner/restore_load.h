/* One backup of a tenant: read from ARCHIVE_DIRECTORY, decrypted, and loaded into an empty database by pg_restore. */
#pragma once

#include "common/durable/saga.h"

/* As the end of a step: loads the file of the current restore into the database, as the tenant's owner, then continues
 * with `then`. Without an error only if every object was restored, the file was read completely and is the one the
 * catalog knows. Settings made by pg_restore that an older server does not know are skipped. */
enum step_result restore_load(struct saga *saga, const char *database, saga_then then);
