/* The SQL that `alembic upgrade A:B --sql` and `alembic downgrade B:A --sql` print, cut into what stands inside its
 * transactions and what stands outside. */
#pragma once

#include "common/base/err.h"

#define ALEMBIC_LIMIT 1000 /* transactions, and revisions */

enum alembic_direction { ALEMBIC_UPGRADE, ALEMBIC_DOWNGRADE };

struct alembic_part {
        char *sql;        /* with its comments, without the BEGIN and COMMIT around it; "" if there is nothing */
        bool transaction; /* it stood between them */
        bool empty;       /* no statement, at most comments */
        size_t revision;  /* how many revisions had begun before its first statement */
};

struct alembic {
        const char *name;
        char *sql; /* all of it, as it was read */
        /* Outside, transaction, outside, transaction, ..., outside: an odd number. An autocommit_block() is what stands
         * outside, between the two halves of its revision. */
        struct alembic_part *parts;
        size_t part_count;
        char **revisions; /* "OLD -> NEW" in the order in which they stand; of a downgrade, too, the older one first */
        size_t revision_count;
};

/* Takes a copy of the bytes; name (borrowed as long as *ret is used) is what errors call them. Comments before a BEGIN
 * or COMMIT go to what comes next. Returns 0 and *ret, released with alembic_release. -ERR_INPUT, with the line, for
 * what no migration may contain, for transactions that are nested or not ended, for more than ALEMBIC_LIMIT of
 * something, for revisions in the other direction, and if there is no statement at all. */
int alembic_split(const char *name, const char *bytes, size_t length, enum alembic_direction direction,
                  struct alembic *ret, struct err *err);
void alembic_release(struct alembic *alembic);
/* Says in err what is wrong with the statement or line that begins at statement, within alembic->sql. Returns
 * -ERR_INPUT. */
int alembic_complain(const struct alembic *alembic, const char *statement, const char *wrong, struct err *err);

/* How many of its parts have statements. */
size_t alembic_count_full(const struct alembic *alembic);
/* Whether all of its SQL, with each BEGIN and COMMIT, can be a section that runs without a transaction. Returns 0, or
 * -ERR_INPUT with the line that cannot. */
int alembic_check_as_one(const struct alembic *alembic, struct err *err);
/* Whether the downgrade takes the upgrade's parts back one by one, from the last to the first. Returns 0, or -ERR_INPUT
 * with what to do about it. */
int alembic_check_mirrored(const struct alembic *upgrade, const struct alembic *downgrade, struct err *err);
/* Behind a downgrade's last transaction, alembic drops its own table: moves that into the transaction, whose
 * counterpart in the upgrade creates it. alembic_split does it. */
void alembic_join_drop(struct alembic *downgrade);
/* Whether both are about the same revisions, in whatever order. Returns 0 or -ERR_INPUT. */
int alembic_check_revisions(const struct alembic *upgrade, const struct alembic *downgrade, struct err *err);
