/* A statement that PostgreSQL runs outside of any transaction, recorded right after it. One that builds an index may
 * leave it half built when it fails or its worker dies: that index, and no other, is dropped before the next
 * attempt. */
#include "common/base/failpoint.h"
#include "common/migration/apply_alone.h"
#include "common/migration/statement_kind.h"

#include <string.h>

/* A concurrent statement waits for unrelated transactions, and nothing waits for the statement. */
#define CONCURRENT_LOCK_TIMEOUT MINUTES(5)

/* The timeout, unless the file has set its own; and the index that the statement names, if it is invalid. "On only"
 * makes indexes of partitioned tables invalid on purpose: they have another relkind. */
static const char LOOK[] =
        "select case when %1$s and current_setting('lock_timeout') = '%2$s' "
        "then set_config('lock_timeout', '%3$lldms', false) is not null else false end as waits_longer, "
        "half.name, half.being_built "
        "from (values (1)) as one left join ("
        "select i.indexrelid::regclass as name, "
        "exists (select from pg_stat_progress_create_index p "
        "join pg_locks l on l.pid = p.pid and l.relation = i.indrelid "
        "where p.datname = current_database() and p.pid <> pg_backend_pid()) as being_built "
        "from pg_index i join pg_class c on c.oid = i.indexrelid "
        "where %4$s and i.indrelid = to_regclass(%5$s) and c.relname = (parse_ident(%6$s))[1]::name "
        "and not i.indisvalid and c.relkind = 'i') as half on true";

static void by_itself_add_look(const struct migration_job *job, struct buf *sql)
{
        size_t length = alone_statement_length(job);
        auto_free char *index = NULL, *table = NULL, *index_text = NULL, *table_text = NULL;

        statement_index(job->statement, length, &index, &table);
        index_text = pg_quote_literal(job->conn, index ? index : "none");
        table_text = pg_quote_literal(job->conn, table ? table : "none");
        buf_printf(sql, LOOK, statement_is_concurrent(job->statement, length) ? "true" : "false",
                   job->usual_lock_timeout, (long long)CONCURRENT_LOCK_TIMEOUT, index ? "true" : "false", table_text,
                   index_text);
}

static void by_itself_drop_index(struct migration_job *job, const char *name, pg_done_fn dropped)
{
        buf_reset(&job->script);
        buf_printf(&job->script, "drop index concurrently if exists %s", name);
        pg_script(job->conn, migration_statement_timeout(job), job->script.data, dropped, job);
}

static void by_itself_index_dropped(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        (void)err; /* the first error is the one reported; the next attempt finds the index */
        migration_finish(job, &job->failed);
}

static void by_itself_failure_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        if (err == NULL && pg_text(rows, 0, "name") != NULL && !pg_bool(rows, 0, "being_built"))
                by_itself_drop_index(job, pg_text(rows, 0, "name"), by_itself_index_dropped);
        else
                migration_finish(job, &job->failed);
}

/* It clearly failed: nothing is in doubt, and a half-built index is of no use. */
void alone_record_failure(struct migration_job *job)
{
        struct buf *sql = &job->script;

        buf_reset(sql);
        buf_add_text(sql, "rollback;\n");
        alone_begin_own(sql);
        buf_printf(sql, "update tenantry.migration_progress set attempts = 0 where version = '%s%s'; ", alone_way(job),
                   alone_file(job)->version);
        alone_end_own(sql);
        by_itself_add_look(job, sql);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, sql->data, by_itself_failure_recorded, job);
}

/* "Already exists", or does not exist, for the very statement that an earlier attempt was running when it died: that
 * attempt completed it. */
static bool by_itself_was_done_before(const struct migration_job *job, const struct err *err)
{
        static const char *const done[] = { "42P07", "42704" };

        for (size_t i = 0; job->doubtful && i < ARRAY_SIZE(done); i++)
                if (strcmp(err->code, done[i]) == 0)
                        return true;
        return false;
}

static void by_itself_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                alone_failed(job, err);
                return;
        }
        job->unrecorded = false;
        alone_go_on(job);
}

static void by_itself_add_usual_limit(struct migration_job *job, struct buf *sql)
{
        if (job->waits_longer)
                buf_printf(sql, "set lock_timeout = '%s';\n", job->usual_lock_timeout);
        job->waits_longer = false;
}

/* With the file's own ledger row, or together with the position before the next such statement: saves a round trip. */
static bool by_itself_is_recorded_later(const struct migration_job *job)
{
        size_t length = alone_statement_length(job);
        const char *next = job->statement + length;

        if (!statement_is_concurrent(job->statement, length))
                return false;
        while ((length = migration_next_statement(next)) > 0 && migration_statement_start(next, length) == length)
                next += length;
        return length == 0 || statement_is_concurrent(next, length);
}

static void by_itself_ended(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL && !by_itself_was_done_before(job, err)) {
                job->doubtful = false;
                alone_failed(job, err);
                return;
        }
        FAILPOINT(migration_after_statement, NULL);
        job->unrecorded = true;
        if (by_itself_is_recorded_later(job)) {
                alone_go_on(job);
                return;
        }
        buf_reset(&job->script);
        by_itself_add_usual_limit(job, &job->script);
        alone_add_place(job, &job->script, job->statements + 1);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, job->script.data, by_itself_recorded, job);
}

static void by_itself_run(struct migration_job *job)
{
        buf_reset(&job->script);
        buf_add(&job->script, job->statement, alone_statement_length(job));
        pg_script(job->conn, migration_statement_timeout(job), job->script.data, by_itself_ended, job);
}

static void by_itself_cleared_away(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL)
                alone_failed(job, err);
        else
                by_itself_run(job);
}

static void by_itself_place_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        struct err building;

        if (err != NULL) {
                alone_failed(job, err);
                return;
        }
        job->unrecorded = false;
        job->waits_longer = pg_bool(rows, 0, "waits_longer");
        if (pg_text(rows, 0, "name") == NULL) {
                by_itself_run(job);
        } else if (!pg_bool(rows, 0, "being_built")) {
                by_itself_drop_index(job, pg_text(rows, 0, "name"), by_itself_cleared_away);
        } else {
                err_set(&building, ERR_BUSY, "55006", "the index %.100s is being built by another session",
                        pg_text(rows, 0, "name"));
                alone_failed(job, &building);
        }
}

void alone_run_by_itself(struct migration_job *job)
{
        buf_reset(&job->script);
        by_itself_add_usual_limit(job, &job->script);
        alone_add_place(job, &job->script, job->statements);
        by_itself_add_look(job, &job->script);
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, job->script.data, by_itself_place_taken, job);
}
