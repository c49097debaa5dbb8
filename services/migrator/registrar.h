/* Registers the files of TENANT_MIGRATIONS when the process starts. */
#pragma once

#include "services/migrator/migrator.h"

struct registrar;

/* Returns 0 and *ret, or -ERR_INPUT for a directory or a file that cannot be read. */
int registrar_new(struct migrator *migrator, struct registrar **ret, struct err *err);
/* NULL is fine. */
void registrar_free(struct registrar *registrar);
/* Whether the catalog has been told of all of them; those it refuses raise an alert each. */
bool registrar_is_done(const struct registrar *registrar);
