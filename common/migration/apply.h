/* Bringing one database forward or back: dbmate's ledger, ours and the fence, all in the DDL's own transaction. */
#pragma once

#include "common/migration/migration.h"
#include "common/pg/pg.h"

/* SQL that creates the two ledgers and the fence if missing; safe to run again. */
extern const char MIGRATION_LEDGER[];

struct migration_options {
        int64_t lock_timeout_ms;      /* 0 = 2 s */
        int64_t statement_timeout_ms; /* per migration; 0 = 10 min */
        const char *target;           /* the version of the last file to apply; NULL = the last one there is */
        const bool *wanted;           /* for each file of the set, whether to apply it; NULL = all */
        bool rehearse;                /* applies everything in one transaction, and rolls it back */
        bool mark;                    /* only notes the files in the ledgers: somebody has done by hand what they say */
        bool out_of_order;            /* also applies a file that sorts before an applied one */
        const char *fence;            /* decimal: a database that has seen a higher one refuses (code TN409) */
        const char *run;              /* noted beside what is applied: versions with this note are the caller's own */
        const char *const *runs; /* for each file of the set, the run to be noted instead; NULL in it, or NULL: run */
        const char *tenant_id;   /* whose marker the database must have (identity.h); NULL = that is known */
        int generation;
};

struct migration_outcome {
        const char *version;    /* of the last file, in the files' order, that the database has now; NULL = none */
        const bool *is_applied; /* for each file of the set, whether the database has it; NULL = nobody knows */
        const char *untried; /* name of the first file that a rehearsal could not try; NULL = none, or no rehearsal */
        const char *large;   /* the large relation for which it was not; NULL = it runs without a transaction */
        const bool *is_own;  /* for each, whether the database has it from the run of the options */
        int connections;     /* that the server has for those who are no superusers; 0 = not known */
};

/* outcome is borrowed. err names the migration that failed; ERR_BUSY if trying again may work. */
typedef void (*migration_applied_fn)(void *context, const struct migration_outcome *outcome, const struct err *err);

struct migration_job;

/* A relation of more than this many pages (1 GiB) is not touched by a rehearsal, by which its tenant would have to
 * wait. */
#define MIGRATION_LARGE_PAGES 131072

/* Applies pending migrations, on an idle connection of the owner. set, conn and the texts of options are borrowed until
 * applied is called, once, later. The ledger is compared as a set. Refused: a pending file that sorts before an applied
 * one (out_of_order), an applied file that has changed (migration_changed), an applied version that no file has
 * (version_unknown: the database is newer than these files), a target that no file has (target_unknown), and another
 * tenant's database (wrong_identity). A rehearsal tries the files up to the first that runs without a transaction or
 * names a large relation, and 64 at most. */
struct migration_job *migration_apply(struct pg_conn *conn, const struct migration_set *set,
                                      const struct migration_options *options, migration_applied_fn applied,
                                      void *context);
/* Takes these versions back (borrowed until applied is called), by the files' migrate:down, from the last to the first
 * in the files' order. Those that the database does not have, or that with a run are not the caller's own, are passed
 * over. Refused: what migration_apply refuses, but for the order. */
struct migration_job *migration_revert(struct pg_conn *conn, const struct migration_set *set,
                                       const char *const *versions, size_t count,
                                       const struct migration_options *options, migration_applied_fn applied,
                                       void *context);
/* For when the connection is closed before applied was called. */
void migration_job_free(struct migration_job *job);
