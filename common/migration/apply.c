/* Bringing one database to the newest version: see apply.h. */
#include "common/migration/apply.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/migration/apply_private.h"
#include "common/tenant/fence.h"

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
                                "    applied_at timestamptz not null default clock_timestamp());" FENCE_TABLE
                                "create table if not exists tenantry.migration_progress ("
                                "    version text primary key,"
                                "    statements int not null,"
                                "    attempts int not null);";

static const char READ_LEDGER[] = "select s.version, m.checksum "
                                  "from public.schema_migrations s "
                                  "left join tenantry.migration m using (version) "
                                  "order by s.version collate \"C\"";

const char MIGRATION_KEEP_LEDGER[] =
        "set session authorization default; reset role;\n"
        "do $tenantry$ begin "
        "if to_regclass('tenantry.migration') is null or to_regclass('tenantry.fence') is null then "
        "raise exception 'the schema tenantry is gone, which holds the ledger and the fence' using errcode = '55000'; "
        "end if; "
        "if to_regclass('public.schema_migrations') is null then "
        "create schema if not exists public; "
        "create table public.schema_migrations (version varchar(50) primary key, "
        "applied_at timestamptz default current_timestamp); "
        "insert into public.schema_migrations (version, applied_at) select version, applied_at from "
        "tenantry.migration; "
        "end if; end $tenantry$;\n";

/* What "discard all" does, which cannot be combined with other statements. */
const char MIGRATION_CLEAN_SESSION[] = "set session authorization default; reset role; reset all; close all; "
                                       "deallocate all; unlisten *; discard plans; discard temp; discard sequences; "
                                       "select pg_advisory_unlock_all();\n";

void migration_job_free(struct migration_job *job)
{
        if (job == NULL)
                return;
        buf_free(&job->script);
        free(job->usual_lock_timeout);
        free(job);
}

void migration_finish(struct migration_job *job, const struct err *err)
{
        const char *version = job->next > 0 ? job->set->items[job->next - 1].version : NULL;

        job->applied(job->context, version, err);
        migration_job_free(job);
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

void migration_add_fence(struct migration_job *job, struct buf *sql)
{
        auto_free char *raise = fence_raise_sql(job->options.fence);

        buf_add_text(sql, raise);
}

void migration_add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m)
{
        auto_free char *name = pg_quote_literal(job->conn, m->name);

        buf_printf(sql,
                   "delete from tenantry.migration m "
                   "where not exists (select from public.schema_migrations s where s.version = m.version);\n"
                   "insert into public.schema_migrations (version) values ('%s');\n"
                   "insert into tenantry.migration (version, name, checksum, fence) values ('%s', %s, '%s', %s);\n"
                   "delete from tenantry.migration_progress where version = '%s';\n",
                   m->version, m->version, name, m->checksum, job->options.fence, m->version);
}

void migration_apply_pending(struct migration_job *job)
{
        struct err err;

        if (job->next == job->set->count)
                migration_finish(job, NULL);
        else if (FAILPOINT(migration_before_apply, &err) < 0)
                migration_finish(job, &err);
        else if (job->set->items[job->next].up.transaction)
                migration_apply_batch(job);
        else
                migration_apply_alone(job);
}

/* The applied ones must be a prefix of the set, byte for byte; versions unknown to the set are refused too, since the
 * database is then newer than we are. */
static int apply_compare_ledger(struct migration_job *job, const struct pg_rows *rows, struct err *err)
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

static void apply_ledger_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        struct err refused;

        if (err != NULL)
                migration_finish(job, err);
        else if (apply_compare_ledger(job, rows, &refused) < 0)
                migration_finish(job, &refused);
        else
                migration_apply_pending(job);
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
        job->suspect = set->count;
        pg_exec(conn, MIGRATION_READ_TIMEOUT, READ_LEDGER, 0, NULL, apply_ledger_arrived, job);
        return job;
}
