/* Bringing one database to the newest version: see apply.h. */
#include "common/migration/apply.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/migration/apply_private.h"

#include <stdio.h>
#include <string.h>

#define LOCK_TIMEOUT SECONDS(2)

const char MIGRATION_LEDGER[] = "create schema if not exists tenantry;"
                                "create table if not exists public.schema_migrations ("
                                "    version varchar(50) primary key,"
                                "    applied_at timestamptz default current_timestamp);"
                                "create table if not exists tenantry.migration ("
                                "    version text primary key,"
                                "    name text not null,"
                                "    checksum text not null,"
                                "    fence bigint not null,"
                                "    applied_at timestamptz not null default clock_timestamp());"
                                "create table if not exists tenantry.fence ("
                                "    only_row boolean primary key default true check (only_row),"
                                "    fence bigint not null);"
                                "insert into tenantry.fence (fence) values (0) on conflict do nothing;"
                                "create table if not exists tenantry.migration_progress ("
                                "    version text primary key,"
                                "    statements int not null,"
                                "    attempts int not null);";

static const char READ_LEDGER[] = "select s.version, m.checksum "
                                  "from public.schema_migrations s "
                                  "left join tenantry.migration m using (version) "
                                  "order by s.version collate \"C\"";

static void read_ledger(struct migration_job *job);

static void finish(struct migration_job *job, const struct err *err)
{
        const char *version = job->next > 0 ? job->set->items[job->next - 1].version : NULL;

        job->applied(job->context, version, err);
        migration_job_free(job);
}

void migration_job_free(struct migration_job *job)
{
        if (job == NULL)
                return;
        free(job->piece);
        free(job);
}

static void rolled_back(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                finish(job, &job->failed);
                return;
        }
        job->reading_after_failure = true; /* which of the batch was it? */
        read_ledger(job);
}

void migration_fail(struct migration_job *job, const char *undo, const struct err *err)
{
        job->failed = *err;
        if (!pg_is_usable(job->conn)) {
                finish(job, &job->failed);
                return;
        }
        pg_script(job->conn, MIGRATION_READ_TIMEOUT, undo ? undo : "rollback", rolled_back, job);
}

/* A script is parsed as a whole: one by one, the file with the bad syntax is found, and those before it are applied. */
static bool is_worth_another_try(const struct migration_job *job)
{
        return !job->one_by_one && strcmp(job->failed.code, "42601") == 0 && job->batch_end > job->next + 1;
}

static void name_failure(struct migration_job *job)
{
        struct err named = job->failed;

        if (is_worth_another_try(job)) {
                job->one_by_one = true;
                job->reading_after_failure = false;
                migration_apply_pending(job);
                return;
        }
        if (job->next < job->set->count && named.class != ERR_BUSY)
                err_set(&named, job->failed.class, job->failed.code, "migration %.100s: %.280s",
                        job->set->items[job->next].name, job->failed.message);
        finish(job, &named);
}

void migration_batch_applied(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                migration_fail(job, NULL, err);
                return;
        }
        FAILPOINT(migration_after_apply, NULL);
        job->next = job->batch_end;
        migration_apply_pending(job);
}

int64_t migration_statement_timeout(const struct migration_job *job)
{
        return job->options.statement_timeout_ms ? job->options.statement_timeout_ms : MINUTES(10);
}

void migration_add_timeouts(struct migration_job *job, struct buf *sql, const char *how)
{
        buf_printf(sql, "set %s lock_timeout = '%lldms'; set %s statement_timeout = '%lldms';\n", how,
                   (long long)(job->options.lock_timeout_ms ? job->options.lock_timeout_ms : LOCK_TIMEOUT), how,
                   (long long)migration_statement_timeout(job));
}

/* Whoever is late finds its fence used up, and does nothing. */
void migration_add_fence(struct migration_job *job, struct buf *sql)
{
        buf_printf(sql,
                   "do $tenantry$ begin update tenantry.fence set fence = %s where fence <= %s; if not found then "
                   "raise exception 'a newer activity has this database' using errcode = 'TN409'; end if; end "
                   "$tenantry$;\n",
                   job->options.fence, job->options.fence);
}

void migration_add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m)
{
        auto_free char *name = pg_quote_literal(job->conn, m->name);

        buf_printf(sql,
                   "insert into public.schema_migrations (version) values ('%s');\n"
                   "insert into tenantry.migration (version, name, checksum, fence) values ('%s', %s, '%s', %s);\n",
                   m->version, m->version, name, m->checksum, job->options.fence);
}

/* All that may run in transactions, one each, in one round trip: over a network, round trips decide. */
static void apply_batch(struct migration_job *job)
{
        auto_buf sql = { 0 };

        job->batch_end = job->next;
        while (job->batch_end < job->set->count && job->set->items[job->batch_end].up.transaction &&
               !(job->one_by_one && job->batch_end > job->next)) {
                const struct migration *m = &job->set->items[job->batch_end++];

                buf_add_text(&sql, "begin; reset role; reset all;\n"); /* what a file before it has left behind */
                migration_add_timeouts(job, &sql, "local");
                migration_add_fence(job, &sql);
                migration_add_ledger_rows(job, &sql, m); /* before the DDL: two at once meet here, not half way */
                buf_add_text(&sql, m->up.sql);
                buf_add_text(&sql, "\n;commit;\n");
        }
        pg_script(job->conn, migration_statement_timeout(job), sql.data, migration_batch_applied, job);
}

void migration_apply_pending(struct migration_job *job)
{
        struct err err;

        if (job->next == job->set->count) {
                finish(job, NULL);
        } else if (FAILPOINT(migration_before_apply, &err) < 0) {
                finish(job, &err);
        } else if (job->set->items[job->next].up.transaction) {
                apply_batch(job);
        } else {
                migration_apply_alone(job);
        }
}

/* The applied ones must be a prefix of the set, byte for byte; versions the set does not know are refused too, for the
 * database is then newer than we are. */
static int compare_ledger(struct migration_job *job, const struct pg_rows *rows, struct err *err)
{
        size_t applied = (size_t)pg_rows_count(rows);

        for (size_t i = 0; i < applied; i++) {
                const char *version = pg_text(rows, (int)i, "version"), *checksum = pg_text(rows, (int)i, "checksum");

                if (i >= job->set->count || strcmp(job->set->items[i].version, version) != 0)
                        return err_set(err, ERR_PERMANENT, "out_of_order",
                                       "the database has version %.50s where these files have %.50s", version,
                                       i < job->set->count ? job->set->items[i].version : "none");
                if (checksum != NULL && strcmp(checksum, job->set->items[i].checksum) != 0)
                        return err_set(err, ERR_PERMANENT, "migration_changed",
                                       "%.100s is not the file that was applied", job->set->items[i].name);
        }
        job->next = applied;
        return 0;
}

static void ledger_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        struct err refused;

        if (err != NULL) {
                finish(job, job->reading_after_failure ? &job->failed : err);
        } else if (compare_ledger(job, rows, &refused) < 0) {
                finish(job, &refused);
        } else if (job->reading_after_failure) {
                name_failure(job);
        } else {
                migration_apply_pending(job);
        }
}

static void read_ledger(struct migration_job *job)
{
        pg_exec(job->conn, MIGRATION_READ_TIMEOUT, READ_LEDGER, 0, NULL, ledger_arrived, job);
}

struct migration_job *migration_apply(struct pg_conn *conn, const struct migration_set *set,
                                      const struct migration_options *options, migration_applied_fn applied,
                                      void *context)
{
        struct migration_job *job = NEW(struct migration_job);

        job->conn = conn;
        job->set = set;
        job->options = *options;
        job->applied = applied;
        job->context = context;
        read_ledger(job);
        return job;
}
