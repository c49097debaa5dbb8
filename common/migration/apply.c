/* Bringing one database to the newest version: see apply.h. */
#include "common/migration/apply.h"

#include "common/base/buf.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_LOCK_TIMEOUT      SECONDS(2)
#define DEFAULT_STATEMENT_TIMEOUT MINUTES(10)
#define READ_TIMEOUT              SECONDS(15)

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
                                "insert into tenantry.fence (fence) values (0) on conflict do nothing;";

static const char READ_LEDGER[] = "select s.version, m.checksum "
                                  "from public.schema_migrations s "
                                  "left join tenantry.migration m using (version) "
                                  "order by s.version collate \"C\"";

struct migration_job {
        struct pg_conn *conn;
        const struct migration_set *set;
        struct migration_options options;
        migration_applied_fn applied;
        void *context;
        size_t next;           /* first migration not yet applied */
        const char *statement; /* inside one without transaction */
        char *piece;
        struct err failed;
        bool reading_after_failure;
};

static void read_ledger(struct migration_job *job);
static void apply_pending(struct migration_job *job);

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

static void fail(struct migration_job *job, const struct err *err)
{
        job->failed = *err;
        if (!pg_is_usable(job->conn)) {
                finish(job, &job->failed);
                return;
        }
        pg_script(job->conn, READ_TIMEOUT, "rollback", rolled_back, job);
}

static void name_failure(struct migration_job *job)
{
        struct err named = job->failed;

        if (job->next < job->set->count && named.class != ERR_BUSY)
                err_set(&named, job->failed.class, job->failed.code, "migration %.100s: %.280s",
                        job->set->items[job->next].name, job->failed.message);
        finish(job, &named);
}

static void batch_applied(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                fail(job, err);
                return;
        }
        FAILPOINT(migration_after_apply, NULL);
        while (job->next < job->set->count && job->set->items[job->next].up.transaction)
                job->next++;
        apply_pending(job);
}

static int64_t or_default(int64_t given, int64_t fallback)
{
        return given ? given : fallback;
}

static void add_timeouts(struct migration_job *job, struct buf *sql, const char *how)
{
        buf_printf(sql, "set %s lock_timeout = '%lldms'; set %s statement_timeout = '%lldms';\n", how,
                   (long long)or_default(job->options.lock_timeout_ms, DEFAULT_LOCK_TIMEOUT), how,
                   (long long)or_default(job->options.statement_timeout_ms, DEFAULT_STATEMENT_TIMEOUT));
}

/* Whoever is late finds its fence used up, and does nothing. */
static void add_fence(struct migration_job *job, struct buf *sql)
{
        buf_printf(sql,
                   "do $tenantry$ begin update tenantry.fence set fence = %s where fence <= %s; if not found then "
                   "raise exception 'a newer activity has this database' using errcode = 'TN409'; end if; end "
                   "$tenantry$;\n",
                   job->options.fence, job->options.fence);
}

static void add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m)
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

        for (size_t i = job->next; i < job->set->count && job->set->items[i].up.transaction; i++) {
                const struct migration *m = &job->set->items[i];

                buf_add_text(&sql, "begin;\n");
                add_timeouts(job, &sql, "local");
                add_fence(job, &sql);
                add_ledger_rows(job, &sql, m); /* before the DDL: two at once meet here, not half way */
                buf_add_text(&sql, m->up.sql);
                buf_add_text(&sql, "\n;commit;\n");
        }
        pg_script(job->conn, or_default(job->options.statement_timeout_ms, DEFAULT_STATEMENT_TIMEOUT), sql.data,
                  batch_applied, job);
}

static void apply_statement(struct migration_job *job);

static void single_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL) {
                fail(job, err);
                return;
        }
        FAILPOINT(migration_after_apply, NULL);
        job->statement = NULL;
        job->next++;
        apply_pending(job);
}

static void statement_applied(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        (void)rows;
        if (err != NULL)
                fail(job, err);
        else
                apply_statement(job);
}

static void record_single(struct migration_job *job)
{
        auto_buf sql = { 0 };

        buf_add_text(&sql, "begin;");
        add_fence(job, &sql);
        add_ledger_rows(job, &sql, &job->set->items[job->next]);
        buf_add_text(&sql, "commit;");
        pg_script(job->conn, READ_TIMEOUT, sql.data, single_recorded, job);
}

/* One statement of a migration without transaction, alone, for some refuse company (create index concurrently). */
static void apply_statement(struct migration_job *job)
{
        size_t length = migration_next_statement(job->statement);

        if (length == 0 || job->statement[strspn(job->statement, " \t\r\n;")] == '\0') {
                record_single(job);
                return;
        }
        free(job->piece);
        job->piece = mem_copy_bytes(job->statement, length);
        job->statement += length;
        pg_script(job->conn, or_default(job->options.statement_timeout_ms, DEFAULT_STATEMENT_TIMEOUT), job->piece,
                  statement_applied, job);
}

static void apply_single(struct migration_job *job)
{
        auto_buf sql = { 0 };

        job->statement = job->set->items[job->next].up.sql;
        add_timeouts(job, &sql, "session");
        add_fence(job, &sql);
        pg_script(job->conn, READ_TIMEOUT, sql.data, statement_applied, job);
}

static void apply_pending(struct migration_job *job)
{
        struct err err;

        if (job->next == job->set->count) {
                finish(job, NULL);
        } else if (FAILPOINT(migration_before_apply, &err) < 0) {
                finish(job, &err);
        } else if (job->set->items[job->next].up.transaction) {
                apply_batch(job);
        } else {
                apply_single(job);
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
                apply_pending(job);
        }
}

static void read_ledger(struct migration_job *job)
{
        pg_exec(job->conn, READ_TIMEOUT, READ_LEDGER, 0, NULL, ledger_arrived, job);
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
