/* What apply.c (the ledger, and files that are transactions) and apply_alone.c (files that go without one) share. */
#pragma once

#include "common/base/buf.h"
#include "common/migration/apply.h"

#define MIGRATION_READ_TIMEOUT SECONDS(15)

struct migration_job {
        struct pg_conn *conn;
        const struct migration_set *set;
        struct migration_options options;
        migration_applied_fn applied;
        void *context;
        size_t next;      /* first migration not yet applied */
        size_t batch_end; /* behind the last one of the batch under way */
        bool one_by_one;
        const char *statement; /* inside one without transaction */
        int statements;        /* done of it */
        bool doubtful;         /* an earlier attempt may have done the next one, and died before it could say so */
        char *piece;
        struct err failed;
        bool reading_after_failure;
};

int64_t migration_statement_timeout(const struct migration_job *job);
void migration_add_timeouts(struct migration_job *job, struct buf *sql, const char *how);
/* Whoever is late finds its fence used up, and does nothing. */
void migration_add_fence(struct migration_job *job, struct buf *sql);
void migration_add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m);
/* Answer to the script that ended the batch: goes on behind it. context: the job. */
void migration_batch_applied(void *context, const struct pg_rows *rows, const struct err *err);
/* Goes on with the next file, or ends the job. */
void migration_apply_pending(struct migration_job *job);
/* The file failed: undo (NULL = rollback) is run, then the ledger tells which file it was, and the job ends. */
void migration_fail(struct migration_job *job, const char *undo, const struct err *err);

/* apply_alone.c: the next file, one statement at a time. */
void migration_apply_alone(struct migration_job *job);
