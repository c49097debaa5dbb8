/* What apply.c (the ledgers), apply_batch.c (files that are transactions) and apply_alone.c (files that go without one)
 * share. */
#pragma once

#include "common/base/buf.h"
#include "common/migration/apply.h"

#define MIGRATION_READ_TIMEOUT SECONDS(15)
#define MIGRATION_BATCH_FILES  64
#define MIGRATION_SEMICOLON    "\n;" /* behind SQL of a file, which may end with a comment or without one */

/* Where a file begins in the script of its batch, and where its own SQL does. */
struct migration_part {
        size_t begin, sql;
};

struct migration_job {
        struct pg_conn *conn;
        const struct migration_set *set;
        struct migration_options options;
        migration_applied_fn applied;
        void *context;
        size_t next;       /* first migration not yet applied */
        struct buf script; /* under way */
        struct err failed;

        size_t batch_end; /* behind the last file of the batch */
        size_t suspect;   /* the file that kept a script from being parsed: those before it go without it */
        struct migration_part parts[MIGRATION_BATCH_FILES];

        const char *statement; /* of the file without transaction: the next one */
        int statements;        /* done of it */
        bool doubtful;         /* an earlier attempt may have done the next one, and died before it could say so */
        bool unrecorded;       /* this attempt has done the one before, and has still to say so */
        char *usual_lock_timeout;
        bool waits_longer; /* for the statement under way it is not the usual one */
};

int64_t migration_statement_timeout(const struct migration_job *job);
/* how: "local" or "session". */
void migration_add_timeouts(struct migration_job *job, struct buf *sql, const char *how);
/* PL/pgSQL. Whoever is late finds its fence used up, and does nothing. */
void migration_add_fence(struct migration_job *job, struct buf *sql);
/* The entries of the next file in the ledgers; dbmate's decides, ours follows it. */
void migration_add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m);
/* Behind the file's own statements, in the transaction that has its entries: a file may drop the schema public. */
extern const char MIGRATION_KEEP_LEDGER[];
/* Behind that: nothing of the file's stays in the session. */
extern const char MIGRATION_CLEAN_SESSION[];

/* Goes on with the next file, or ends the job. */
void migration_apply_pending(struct migration_job *job);
/* Tells the owner, and frees the job. */
void migration_finish(struct migration_job *job, const struct err *err);

/* failure.c: names what failed in job->failed. m: the file, or NULL; sql: where the statement that failed stands in its
 * migrate:up, or NULL for one of our own. To be called in the callback that was given err. */
void migration_name_failure(struct migration_job *job, const struct err *err, const struct migration *m,
                            const char *sql);
/* Where in the script of the job the failure is: what PostgreSQL points at, or where the statement begins. */
size_t migration_failure_offset(const struct migration_job *job, const struct pg_failure *failure);

/* apply_batch.c: the next files that are transactions. */
void migration_apply_batch(struct migration_job *job);
/* apply_alone.c: the next file, one statement at a time. */
void migration_apply_alone(struct migration_job *job);
