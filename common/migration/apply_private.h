/* Shared by apply.c (the ledgers), apply_batch.c (files that run in a transaction) and apply_alone.c (files that run
 * without one). */
#pragma once

#include "common/base/buf.h"
#include "common/migration/apply.h"

#define MIGRATION_READ_TIMEOUT SECONDS(15)
#define MIGRATION_BATCH_FILES  64
#define MIGRATION_SEMICOLON    "\n;" /* follows a file's SQL, which may end in a comment */

/* Where a file begins in the script of its batch, and where its own SQL begins. */
struct migration_part {
        size_t begin, sql;
};

struct migration_job {
        struct pg_conn *conn;
        const struct migration_set *all;
        const struct migration_set *set; /* those to apply, in their order: pending */
        struct migration_set pending;    /* its items are all's own */
        size_t *places;                  /* of these in all */
        bool *is_applied, *is_own;       /* for each of all; up to date when the job ends */
        const char *const *versions;     /* to revert; NULL when applying */
        size_t version_count;
        struct migration_options options;
        const char *untried;
        char *large;     /* the relation for which it is */
        int connections; /* of the server; 0 = not known */
        migration_applied_fn applied;
        void *context;
        size_t next;       /* first of set not yet applied */
        struct buf script; /* under way */
        struct err failed;

        size_t batch_end; /* one past the last file of the batch */
        size_t suspect;   /* the file that kept a script from being parsed: those before it are sent without it */
        struct migration_part parts[MIGRATION_BATCH_FILES];

        const char *statement; /* the next statement of a file without a transaction */
        int statements;        /* how many of its statements are done */
        bool doubtful;         /* an earlier attempt may have executed the next one, and died before recording it */
        bool unrecorded;       /* this attempt has executed the previous one, but not recorded it yet */
        char *usual_lock_timeout;
        bool waits_longer; /* the statement under way has a longer one */
};

/* What the job runs of the file: its up, or its down. */
const struct migration_section *migration_section(const struct migration_job *job, const struct migration *m);

int64_t migration_statement_timeout(const struct migration_job *job);
/* how: "local" or "session". */
void migration_add_timeouts(struct migration_job *job, struct buf *sql, const char *how);
/* PL/pgSQL. A late attempt finds a higher fence, and does nothing. */
void migration_add_fence(struct migration_job *job, struct buf *sql);
/* The file's rows in the ledgers, or their removal; dbmate's is authoritative, ours follows it. Fails with 23505 where
 * another attempt was first. */
void migration_add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m);
/* After the file's own statements, in the transaction that writes its ledger rows: a file may drop the schema
 * public. */
extern const char MIGRATION_KEEP_LEDGER[];
/* After that: nothing of the file remains in the session. */
extern const char MIGRATION_CLEAN_SESSION[];

/* Continues with the next file, or ends the job. */
void migration_apply_pending(struct migration_job *job);
/* Notifies the owner, and frees the job. */
void migration_finish(struct migration_job *job, const struct err *err);

/* failure.c: names what failed in job->failed. m: the file, or NULL; sql: where the failed statement is in
 * migration_section, or NULL for one of our own. Call only in the callback that received err. */
void migration_name_failure(struct migration_job *job, const struct err *err, const struct migration *m,
                            const char *sql);
/* Where in the job's script the failure is: the position PostgreSQL reports, or the beginning of the statement. */
size_t migration_failure_offset(const struct migration_job *job, const struct pg_failure *failure);

/* apply_batch.c: the next files that run in a transaction. */
void migration_apply_batch(struct migration_job *job);
/* apply_alone.c: the next file, one statement at a time. */
void migration_apply_alone(struct migration_job *job);
