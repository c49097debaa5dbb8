/* Checks at startup whether pg_dump exists and is no older than the tenant servers, rather than when a backup is
 * needed. Reports problems in the log, and as an alert. */
#pragma once

#include "services/provisioner/provisioner.h"

struct dump_tools;

struct dump_tools *dump_tools_new(struct provisioner *provisioner);
/* NULL is fine. */
void dump_tools_free(struct dump_tools *tools);
