/* "-- tenantry:allow RULE why": what a file says that the linter is to let pass. */
#pragma once

#include "common/migration/migration.h"

/* Adds to the migration what a line allows, if it is such a comment; number is the line's, and name the file's. Returns
 * 0 or -ERR_INPUT: more than 100 of them. Whether there is such a rule is for the linter to say. */
int allow_read(const char *name, const char *line, const char *end, int number, struct migration *migration,
               struct err *err);
void allow_release(struct migration *migration);
