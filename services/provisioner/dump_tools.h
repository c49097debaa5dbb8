/* Looks at the start whether pg_dump is there and no older than the tenant servers: a backup that fails only when it is
 * needed is too late. Says it in the log, and as an alert. */
#pragma once

#include "services/provisioner/provisioner.h"

struct dump_tools;

struct dump_tools *dump_tools_new(struct provisioner *provisioner);
/* NULL is fine. */
void dump_tools_free(struct dump_tools *tools);
