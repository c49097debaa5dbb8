/* One backup of a tenant read from ARCHIVE_DIRECTORY, opened, and loaded into an empty database by pg_restore. */
#pragma once

#include "common/durable/saga.h"

/* As the end of a step: loads the file of the restore in hand into the database, as the tenant's owner, then goes on
 * with then. Without error only where every object was restored and the file was read to its end and is the one that
 * the catalog knows. What pg_restore sets for a session that an older server does not know is passed over. */
enum step_result restore_load(struct saga *saga, const char *database, saga_then then);
