/* Files with transaction:false, one statement at a time, because some statements must be sent alone (create index
 * concurrently). The position is kept in tenantry.migration_progress, so that the work of a dead worker is continued
 * and not repeated: written in the same transaction as the statement if possible, otherwise right after it
 * (apply_by_itself.c). A successor has its own session, in which it first repeats what the earlier statements had set
 * in theirs. */
#include "common/migration/apply_alone.h"
#include "common/base/failpoint.h"
#include "common/migration/statement_kind.h"

#include <string.h>

/* Held by the session: while an earlier attempt's statement is still running on the server, nobody starts another. */
#define LOCK "hashtextextended('tenantry migration', 0)"

/* An earlier version of ours created the table without them. */
static const char ADD_COLUMNS[] =
        "do $tenantry$ begin if not exists (select from pg_attribute where attname = 'session' "
        "and attrelid = 'tenantry.migration_progress'::regclass and not attisdropped) then "
        "alter table tenantry.migration_progress add column if not exists checksum text, "
        "add column if not exists session text; end if; end $tenantry$;\n";

/* The session's settings as the file has made them, except our own limits; null in a transaction that the file has
 * begun itself, which a successor starts again. */
#define SESSION                                                                                                        \
        "(select md5(coalesce(string_agg(name || '=' || setting, ',' order by name), '') || taken) "                   \
        "from pg_settings where source = 'session' and name not in ('lock_timeout', 'statement_timeout') "             \
        "having now() = statement_timestamp())"

static const char REFUSE_LEFTOVERS[] =
        "if now() = statement_timestamp() and ("
        "exists (select from pg_class where relnamespace = pg_my_temp_schema()) "
        "or exists (select from pg_prepared_statements where from_sql) "
        "or exists (select from pg_cursors where is_holdable)) then "
        "raise exception 'it leaves a temporary object, a prepared statement or a cursor in the session' "
        "using errcode = '0A000', "
        "hint = 'They would be lost if the worker died: use a file that runs in a transaction.'; end if; ";

static const char REFUSE_OTHER_SESSION[] =
        "then raise exception 'an earlier attempt died here, and not all settings that the earlier statements made in "
        "its session could be restored' using errcode = '0A000', "
        "hint = 'Make them with \"set\" or \"select set_config(...)\", each as a separate statement.'; end if; ";

static void alone_apply_statement(struct migration_job *job);

const struct migration *alone_file(const struct migration_job *job)
{
        return &job->set->items[job->next];
}

const char *alone_way(const struct migration_job *job)
{
        return job->versions ? "down:" : "";
}

size_t alone_statement_length(const struct migration_job *job)
{
        return migration_next_statement(job->statement);
}

void alone_begin_own(struct buf *sql)
{
        buf_add_text(sql, "do $tenantry$ declare taken text := current_setting('role'); begin "
                          "perform set_config('role', 'none', true); ");
}

void alone_end_own(struct buf *sql)
{
        buf_add_text(sql, "perform set_config('role', taken, true); end $tenantry$;\n");
}

void alone_add_place(struct migration_job *job, struct buf *sql, int statements)
{
        alone_begin_own(sql);
        migration_add_fence(job, sql);
        buf_add_text(sql, REFUSE_LEFTOVERS);
        buf_printf(sql, "update tenantry.migration_progress set statements = %d, session = " SESSION, statements);
        buf_printf(sql, " where version = '%s%s'; ", alone_way(job), alone_file(job)->version);
        alone_end_own(sql);
}

void alone_failed(struct migration_job *job, const struct err *err)
{
        struct pg_failure failure = pg_failure(job->conn);
        size_t offset = migration_failure_offset(job, &failure), length = alone_statement_length(job);
        size_t start = migration_statement_start(job->statement, length);
        bool is_late = strcmp(err->code, "TN409") == 0;

        if (offset < start || offset >= length + strlen(MIGRATION_SEMICOLON)) /* the error is in our record of it */
                offset = start;
        migration_name_failure(job, err, is_late ? NULL : alone_file(job), job->statement + MIN(offset, length));
        /* A statement that may have been executed is not marked as failed: the next attempt would run into it. */
        if (is_late || job->doubtful || job->unrecorded || !pg_is_usable(job->conn))
                migration_finish(job, &job->failed);
        else
                alone_record_failure(job);
}

void alone_go_on(struct migration_job *job)
{
        job->doubtful = false;
        job->statements++;
        job->statement += alone_statement_length(job);
        alone_apply_statement(job);
}

/* Some statements turn out only now to be of the kind that cannot run in a transaction: a procedure that commits. */
static bool alone_refused_company(const struct err *err, const struct pg_failure *failure)
{
        return !failure->in_transaction && (strcmp(err->code, "25001") == 0 || strcmp(err->code, "2D000") == 0);
}

static void alone_statement_applied(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        struct pg_failure failure = pg_failure(job->conn);

        (void)rows;
        if (err != NULL && alone_refused_company(err, &failure)) {
                alone_run_by_itself(job);
        } else if (err != NULL) {
                job->doubtful = false;
                alone_failed(job, err);
        } else {
                FAILPOINT(migration_after_statement, NULL);
                alone_go_on(job);
        }
}

static void alone_file_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                migration_name_failure(job, err, strcmp(err->code, "TN409") == 0 ? NULL : alone_file(job), NULL);
                migration_finish(job, &job->failed);
                return;
        }
        FAILPOINT(migration_after_apply, NULL);
        job->next++;
        job->unrecorded = false;
        migration_apply_pending(job);
}

static void alone_record_file(struct migration_job *job)
{
        struct buf *sql = &job->script;

        buf_reset(sql);
        buf_add_text(sql, "commit;\n" /* end of a transaction that the file has left open */
                          "set session authorization default; reset role; reset all;\n"
                          "begin; do $tenantry$ begin ");
        migration_add_fence(job, sql);
        buf_add_text(sql, "end $tenantry$;\n");
        buf_add_text(sql, MIGRATION_KEEP_LEDGER);
        migration_add_ledger_rows(job, sql, alone_file(job));
        buf_add_text(sql, "commit;\n");
        buf_add_text(sql, MIGRATION_CLEAN_SESSION);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, sql->data, alone_file_recorded, job);
}

static bool alone_is_empty(const char *statement, size_t length)
{
        return length > 0 && migration_statement_start(statement, length) == length;
}

static void alone_apply_statement(struct migration_job *job)
{
        struct buf *sql = &job->script;
        size_t length;

        for (; alone_is_empty(job->statement, length = alone_statement_length(job)); job->statement += length)
                job->statements++;
        if (length == 0) {
                alone_record_file(job);
        } else if (statement_is_alone(job->statement, length)) {
                alone_run_by_itself(job);
        } else {
                buf_reset(sql);
                buf_add(sql, job->statement, length);
                buf_add_text(sql, MIGRATION_SEMICOLON);
                alone_add_place(job, sql, job->statements + 1);
                pg_script(job->conn, migration_statement_timeout(job), sql->data, alone_statement_applied, job);
        }
}

static void alone_session_restored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL)
                alone_failed(job, err);
        else
                alone_apply_statement(job);
}

/* Advances to the position that the earlier attempt reached, repeating what it had set in its session up to there. */
static void alone_restore_session(struct migration_job *job)
{
        struct buf *sql = &job->script;
        size_t length;

        buf_reset(sql);
        for (int i = 0; i < job->statements && (length = alone_statement_length(job)) > 0; i++) {
                if (statement_is_begin(job->statement, length))
                        buf_add_text(sql, "commit;\n"); /* otherwise it would include what precedes it */
                if (statement_is_of_session(job->statement, length)) {
                        buf_add(sql, job->statement, length);
                        buf_add_text(sql, MIGRATION_SEMICOLON);
                }
                job->statement += length;
        }
        alone_begin_own(sql);
        buf_printf(sql, "if exists (select from tenantry.migration_progress where version = '%s%s' ", alone_way(job),
                   alone_file(job)->version);
        buf_add_text(sql, "and session <> " SESSION ") ");
        buf_add_text(sql, REFUSE_OTHER_SESSION);
        alone_end_own(sql);
        pg_script(job->conn, migration_statement_timeout(job), sql->data, alone_session_restored, job);
}

static void alone_begun(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        struct err changed;

        if (err != NULL) {
                migration_finish(job, err);
                return;
        }
        if (pg_rows_count(rows) == 0) {
                err_set(&changed, ERR_PERMANENT, "migration_changed",
                        "migration %.100s is not the file that was started here and not finished: put that one back, "
                        "or undo what it did and delete its row from tenantry.migration_progress",
                        alone_file(job)->name);
                migration_finish(job, &changed);
                return;
        }
        job->statements = (int)pg_int(rows, 0, "statements");
        job->doubtful = pg_int(rows, 0, "attempts") > 1;
        free(job->usual_lock_timeout);
        job->usual_lock_timeout = mem_copy_text(pg_text(rows, 0, "lock_timeout"));
        if (job->statements > 0)
                alone_restore_session(job);
        else
                alone_apply_statement(job);
}

void migration_apply_alone(struct migration_job *job)
{
        struct buf *sql = &job->script;

        job->statement = migration_section(job, alone_file(job))->sql;
        buf_reset(sql);
        migration_add_timeouts(job, sql, "session");
        buf_add_text(sql, "do $tenantry$ begin if not pg_try_advisory_lock(" LOCK ") then raise exception "
                          "'an earlier attempt is still under way' using errcode = '55006'; end if; ");
        migration_add_fence(job, sql);
        buf_add_text(sql, "end $tenantry$;\n");
        buf_add_text(sql, ADD_COLUMNS);
        buf_printf(sql,
                   "insert into tenantry.migration_progress as p (version, statements, attempts, checksum) "
                   "values ('%s%s', 0, 1, '%s') on conflict (version) do update "
                   "set attempts = p.attempts + 1, checksum = excluded.checksum "
                   "where p.checksum is null or p.checksum = excluded.checksum or (p.statements, p.attempts) = (0, 0) "
                   "returning statements, attempts, current_setting('lock_timeout') as lock_timeout;",
                   alone_way(job), alone_file(job)->version, alone_file(job)->checksum);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, sql->data, alone_begun, job);
}
