/* Shared by apply_alone.c (a file without a transaction) and apply_by_itself.c (a statement outside of any). */
#pragma once

#include "common/base/memory.h"
#include "common/migration/apply_private.h"

/* The current file, and the length of its next statement. */
const struct migration *alone_file(const struct migration_job *job);
size_t alone_statement_length(const struct migration_job *job);
/* What a version begins with in tenantry.migration_progress: the two ways have a place each. */
const char *alone_way(const struct migration_job *job);

/* Wraps PL/pgSQL that runs as the login itself, whatever role the file has set, and in the file's own transaction if it
 * has begun one. */
void alone_begin_own(struct buf *sql);
void alone_end_own(struct buf *sql);
/* Checks that the database is still ours, and records how many statements are done. */
void alone_add_place(struct migration_job *job, struct buf *sql, int statements);

/* The statement is done and recorded: continues with the next. */
void alone_go_on(struct migration_job *job);
/* The statement failed: names it, records that, and ends the job. Call only in the callback that received err. */
void alone_failed(struct migration_job *job, const struct err *err);

/* apply_by_itself.c: the next statement, then its record. */
void alone_run_by_itself(struct migration_job *job);
/* job->failed has the reason; removes what the statement left half built, and ends the job. */
void alone_record_failure(struct migration_job *job);
