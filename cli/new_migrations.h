/* Migration files that are written together: all of them, or none. */
#pragma once

#include "common/base/err.h"

/* One file; everything is borrowed. */
struct new_migration {
        const char *up, *down;     /* "" if the section is empty */
        bool up_alone, down_alone; /* the section runs without a transaction */
};

/* Writes them into the directory in their order, as YYYYMMDDHHMMSS_NAME.sql, or YYYYMMDDHHMMSS_NAME_N.sql if they are
 * several: with the present time in UTC, each a second after the one before, the first one after every file that is
 * there already and has a time for its version. Nothing that exists is overwritten. Each is read as a migration before
 * any is written.
 * Returns 0 and *ret_paths, an array of count paths (the caller frees it and each of them). -ERR_INPUT: one is no
 * migration, or the versions are used up; -ERR_PERMANENT: one cannot be written. Then no file is left. */
int new_migrations_write(const char *directory, const char *name, const struct new_migration *migrations, size_t count,
                         char ***ret_paths, struct err *err);
/* Whether it can be a part of a file's name: 1 to 100 letters, digits, hyphens and underscores, not beginning with a
 * hyphen or an underscore. */
bool new_migrations_name_is_good(const char *name);
