/* Files with transaction:false, one statement at a time, for some statements refuse company (create index
 * concurrently). How far it came stands in tenantry.migration_progress, so that a worker that died is followed and not
 * repeated. */
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/migration/apply_private.h"

#include <string.h>

/* Held by the session: as long as an earlier attempt's statement still runs on the server, nobody begins beside it. */
#define LOCK "hashtextextended('tenantry migration', 0)"

/* What a concurrent build leaves behind when it fails: of no use to anybody, and in the way of the next attempt. */
static const char DROP_INVALID[] =
        "do $tenantry$ declare r record; begin "
        "for r in select i.indexrelid::regclass as name from pg_index i join pg_class c on c.oid = i.indexrelid "
        "where not i.indisvalid and pg_get_userbyid(c.relowner) = current_user loop "
        "execute format('drop index %s', r.name); end loop; end $tenantry$;";

static void apply_statement(struct migration_job *job);

static const struct migration *current(const struct migration_job *job)
{
        return &job->set->items[job->next];
}

static void record_file(struct migration_job *job)
{
        auto_buf sql = { 0 };

        job->batch_end = job->next + 1;
        buf_add_text(&sql, "begin;");
        migration_add_fence(job, &sql);
        migration_add_ledger_rows(job, &sql, current(job));
        buf_printf(&sql, "delete from tenantry.migration_progress where version = '%s'; commit; ",
                   current(job)->version);
        buf_add_text(&sql, "select pg_advisory_unlock(" LOCK ");");
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, sql.data, migration_batch_applied, job);
}

/* "Already there", of the very statement an earlier attempt had in hand when it died: then that attempt did it. */
static bool was_done_before(const struct migration_job *job, const struct err *err)
{
        static const char *const there[] = { "42P07", "42710", "42701", "42P06" };

        for (size_t i = 0; job->doubtful && i < ARRAY_SIZE(there); i++)
                if (strcmp(err->code, there[i]) == 0)
                        return true;
        return false;
}

static void statement_applied(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        auto_free char *undo = NULL;

        (void)rows;
        if (err != NULL && !was_done_before(job, err)) {
                undo = mem_printf("rollback; update tenantry.migration_progress set attempts = 0 where version = '%s'",
                                  current(job)->version); /* it failed in the open: nothing is doubtful */
                migration_fail(job, undo, err);
                return;
        }
        FAILPOINT(migration_after_statement, NULL);
        job->doubtful = false;
        job->statements++;
        job->statement += migration_next_statement(job->statement);
        apply_statement(job);
}

static void fence_passed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                migration_fail(job, NULL, err);
                return;
        }
        free(job->piece);
        job->piece = mem_copy_bytes(job->statement, migration_next_statement(job->statement));
        pg_script(job->conn, migration_statement_timeout(job), job->piece, statement_applied, job);
}

static bool is_at_end(const char *statement)
{
        return migration_next_statement(statement) == 0 || statement[strspn(statement, " \t\r\n;")] == '\0';
}

/* Before each statement: is the database still ours, and how far are we? */
static void apply_statement(struct migration_job *job)
{
        auto_buf sql = { 0 };

        if (is_at_end(job->statement)) {
                record_file(job);
                return;
        }
        migration_add_fence(job, &sql);
        buf_printf(&sql, "update tenantry.migration_progress set statements = %d where version = '%s';",
                   job->statements, current(job)->version);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, sql.data, fence_passed, job);
}

static void invalid_dropped(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL)
                migration_fail(job, NULL, err);
        else
                apply_statement(job);
}

static void begun(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        if (err != NULL) {
                migration_fail(job, NULL, err);
                return;
        }
        job->statements = (int)pg_int(rows, 0, "statements");
        job->doubtful = pg_int(rows, 0, "attempts") > 1;
        for (int i = 0; i < job->statements && !is_at_end(job->statement); i++)
                job->statement += migration_next_statement(job->statement);
        if (job->doubtful)
                pg_script(job->conn, migration_statement_timeout(job), DROP_INVALID, invalid_dropped, job);
        else
                apply_statement(job);
}

void migration_apply_alone(struct migration_job *job)
{
        auto_buf sql = { 0 };

        job->statement = current(job)->up.sql;
        buf_add_text(&sql, "reset role; reset all;");
        migration_add_timeouts(job, &sql, "session");
        buf_add_text(&sql, "do $tenantry$ begin if not pg_try_advisory_lock(" LOCK ") then raise exception "
                           "'an earlier attempt is still under way' using errcode = '55006'; end if; end $tenantry$;");
        migration_add_fence(job, &sql);
        buf_printf(&sql,
                   "insert into tenantry.migration_progress as p (version, statements, attempts) values ('%s', 0, 1) "
                   "on conflict (version) do update set attempts = p.attempts + 1 returning statements, attempts;",
                   current(job)->version);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, sql.data, begun, job);
}
