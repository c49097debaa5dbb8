/* Commands to a tenant and their outcome: shared by the commands that have their own file. */
#pragma once

#include "cli/cli.h"

/* Sends the command to the tenant with that id or subdomain, prints the answer and, with wait_ms above 0, how the
 * operation ended. Borrows body. Returns an exit code. */
int tenant_command_send(const char *name, const char *tenant, const json_t *body, int64_t wait_ms);
/* Sets a text in the body, unless value is NULL. Complains and returns EXIT_USAGE if it is not valid UTF-8. */
int tenant_command_add(json_t *body, const char *field, const char *value);
