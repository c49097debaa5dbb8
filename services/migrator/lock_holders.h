/* Who stood in the way of a statement that waited for a lock in vain. */
#pragma once

#include "common/pg/pg.h"

/* One row, as of now: up to three sessions with locks on the database's relations, of whichever login. */
extern const char LOCK_HOLDERS[];

/* Adds what the query found to the error's message: "; held by shop-backend: RowExclusiveLock on orders". rows may be
 * NULL: it could not be asked. */
void lock_holders_add(struct err *err, const struct pg_rows *rows);
