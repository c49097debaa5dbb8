/* Commands to a tenant, and how they end: what those share that have a file of their own. */
#pragma once

#include "cli/cli.h"

/* Sends the command to the tenant of that id or subdomain, tells what was answered and, with wait_ms above 0, how the
 * operation ended. Borrows body. Returns an exit code. */
int tenant_command_send(const char *name, const char *tenant, const json_t *body, int64_t wait_ms);
/* Sets a text of the body, unless value is NULL. Complains and returns EXIT_USAGE where it is not valid UTF-8. */
int tenant_command_add(json_t *body, const char *field, const char *value);
