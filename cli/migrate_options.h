/* What a run is wished to be, from the options of `tenantry migrate run`; and fields that other requests have too. Each
 * function that can fail complains and returns the exit code. */
#pragma once

#include "cli/cli.h"

/* Removes a run's options from argv and adds them to the body (borrowed) of its request. */
int migrate_read_options(int *argc, char **argv, json_t *body);
/* "a,b,c" as a list of texts, or of tenants' ids, in the body's field; nothing for NULL. */
int migrate_add_list(json_t *body, const char *field, const char *text, bool are_tenants);
/* Nothing for NULL. */
void migrate_add_text(json_t *body, const char *field, const char *text);
