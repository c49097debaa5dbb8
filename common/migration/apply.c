/* Bringing one database forward or back: see apply.h. */
#include "common/migration/apply.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/migration/apply_private.h"
#include "common/tenant/fence.h"
#include "common/tenant/identity.h"

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
                                "    run text,"
                                "    applied_at timestamptz not null default clock_timestamp());" FENCE_TABLE
                                "create table if not exists tenantry.migration_progress ("
                                "    version text primary key,"
                                "    statements int not null,"
                                "    attempts int not null);";

/* An earlier version of ours created the table without it; it is read through to_jsonb, which does not mind. */
static const char ADD_RUN[] = "do $tenantry$ begin if not exists (select from pg_attribute where attname = 'run' "
                              "and attrelid = 'tenantry.migration'::regclass and not attisdropped) then "
                              "alter table tenantry.migration add column if not exists run text; "
                              "end if; end $tenantry$;\n";

/* A tenant may have put anything in the ledger's place: no more is read than the files that there can be. */
#define LEDGER_COLUMNS                                                                                                 \
        "pg_catalog.left(s.version::text, 51) as version, pg_catalog.left(m.checksum, 65) as checksum, "               \
        "pg_catalog.left(to_jsonb(m) ->> 'run', 40) as run"
#define LEDGER_END "order by s.version collate \"C\" limit 10002"

static const char READ_LEDGER[] = "select " LEDGER_COLUMNS " from public.schema_migrations s "
                                  "left join tenantry.migration m using (version) " LEDGER_END;

/* With the marker in each row; one row without a version if the ledger is empty. What it says of the server is about
 * all tenants there: no function or operator of this one's may stand in the way of it. */
static const char READ_MARKED_LEDGER[] = "select i.tenant_id, i.generation, " LEDGER_COLUMNS ", "
                                         "pg_catalog.current_setting('max_connections') as connections, "
                                         "pg_catalog.current_setting('superuser_reserved_connections') as reserved "
                                         "from (" IDENTITY_QUERY ") i "
                                         "left join (public.schema_migrations s "
                                         "left join tenantry.migration m using (version)) on true " LEDGER_END;

/* By what the catalog last counted: sizes that are asked for wait for locks. */
static const char READ_LARGE[] = "select relname from pg_class where relkind in ('r', 'm') and relpages > %d";

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
        free(job->pending.items); /* what they hold is not ours */
        free(job->places);
        free(job->large);
        free(job->is_applied);
        free(job->is_own);
        free(job->usual_lock_timeout);
        free(job);
}

const struct migration_section *migration_section(const struct migration_job *job, const struct migration *m)
{
        return job->versions ? &m->down : &m->up;
}

static struct migration_outcome apply_outcome(struct migration_job *job)
{
        struct migration_outcome outcome = { .is_applied = job->is_applied,
                                             .is_own = job->is_own,
                                             .untried = job->untried,
                                             .large = job->large,
                                             .connections = job->connections };

        for (size_t i = 0; i < job->next; i++) {
                job->is_applied[job->places[i]] = job->versions == NULL;
                job->is_own[job->places[i]] = job->versions == NULL;
        }
        for (size_t i = 0; job->is_applied != NULL && i < job->all->count; i++)
                if (job->is_applied[i])
                        outcome.version = job->all->items[i].version;
        return outcome;
}

void migration_finish(struct migration_job *job, const struct err *err)
{
        struct migration_outcome outcome = apply_outcome(job);

        job->applied(job->context, &outcome, err);
        migration_job_free(job);
}

int64_t migration_statement_timeout(const struct migration_job *job)
{
        return job->options.statement_timeout_ms ? job->options.statement_timeout_ms : MINUTES(10);
}

void migration_add_timeouts(struct migration_job *job, struct buf *sql, const char *how)
{
        if (strcmp(how, "local") ==
            0) /* whoever waits for the tenant does not wait for a statement that nobody wants */
                buf_add_text(sql, "set local client_connection_check_interval = '1s'; ");
        buf_printf(sql, "set %s lock_timeout = '%lldms'; set %s statement_timeout = '%lldms';\n", how,
                   (long long)(job->options.lock_timeout_ms ? job->options.lock_timeout_ms : LOCK_TIMEOUT), how,
                   (long long)migration_statement_timeout(job));
}

void migration_add_fence(struct migration_job *job, struct buf *sql)
{
        auto_free char *raise = fence_raise_sql(job->options.fence);

        buf_add_text(sql, raise);
}

static void apply_add_removal(struct buf *sql, const struct migration *m)
{
        buf_printf(sql,
                   "do $tenantry$ begin delete from public.schema_migrations where version = '%1$s'; if not found then "
                   "raise exception 'another attempt has taken it back' using errcode = '23505'; end if; "
                   "delete from tenantry.migration where version = '%1$s'; "
                   "delete from tenantry.migration_progress where version in ('%1$s', 'down:%1$s'); "
                   "end $tenantry$;\n",
                   m->version);
}

static const char *apply_run_of(const struct migration_job *job, const struct migration *m)
{
        const char *run = job->options.runs ? job->options.runs[job->places[m - job->set->items]] : NULL;

        return run ? run : job->options.run;
}

void migration_add_ledger_rows(struct migration_job *job, struct buf *sql, const struct migration *m)
{
        auto_free char *name = pg_quote_literal(job->conn, m->name);
        const char *noted = apply_run_of(job, m);
        auto_free char *run = noted ? pg_quote_literal(job->conn, noted) : NULL;

        if (job->versions != NULL) {
                apply_add_removal(sql, m);
                return;
        }
        if (run != NULL)
                buf_add_text(sql, ADD_RUN);
        buf_printf(
                sql,
                "delete from tenantry.migration m "
                "where not exists (select from public.schema_migrations s where s.version = m.version);\n"
                "insert into public.schema_migrations (version) values ('%s');\n"
                "insert into tenantry.migration (version, name, checksum, fence%s) values ('%s', %s, '%s', %s%s%s);\n"
                "delete from tenantry.migration_progress where version = '%s';\n",
                m->version, run ? ", run" : "", m->version, name, m->checksum, job->options.fence, run ? ", " : "",
                run ? run : "", m->version);
}

void migration_apply_pending(struct migration_job *job)
{
        struct err err;

        if (job->next == job->set->count)
                migration_finish(job, NULL);
        else if (FAILPOINT(migration_before_apply, &err) < 0)
                migration_finish(job, &err);
        else if (job->options.mark || migration_section(job, &job->set->items[job->next])->transaction)
                migration_apply_batch(job);
        else
                migration_apply_alone(job);
}

static int apply_by_version(const void *a, const void *b)
{
        const struct migration *const *one = a, *const *other = b;

        return strcmp((*one)->version, (*other)->version);
}

/* In the order of versions, to be searched. The caller frees. */
static const struct migration **apply_sort_versions(const struct migration_set *set)
{
        const struct migration **sorted = mem_alloc(set->count + 1, sizeof(sorted[0]));

        for (size_t i = 0; i < set->count; i++)
                sorted[i] = &set->items[i];
        qsort(sorted, set->count, sizeof(sorted[0]), apply_by_version);
        return sorted;
}

/* Notes which files of the set the database has. */
static int apply_read_ledger(struct migration_job *job, const struct pg_rows *rows, struct err *err)
{
        const struct migration_set *set = job->all;
        auto_free const struct migration **sorted = apply_sort_versions(set);

        for (int row = 0; row < pg_rows_count(rows); row++) {
                const struct migration wanted = { .version = (char *)(uintptr_t)pg_text(rows, row, "version") };
                const struct migration *key = &wanted, **found;
                const char *checksum = pg_text(rows, row, "checksum"), *run = pg_text(rows, row, "run");

                if (wanted.version == NULL)
                        continue;
                found = bsearch(&key, sorted, set->count, sizeof(sorted[0]), apply_by_version);
                if (found == NULL)
                        return err_set(err, ERR_PERMANENT, "version_unknown",
                                       "the database has version %.50s, which none of these files has", wanted.version);
                if (checksum != NULL && strcmp(checksum, (*found)->checksum) != 0)
                        return err_set(err, ERR_PERMANENT, "migration_changed",
                                       "%.100s is not the file that was applied", (*found)->name);
                job->is_applied[*found - set->items] = true;
                job->is_own[*found - set->items] =
                        job->options.run != NULL && run != NULL && strcmp(run, job->options.run) == 0;
        }
        return 0;
}

/* How many files there are up to the target. */
static int apply_find_end(const struct migration_job *job, size_t *ret, struct err *err)
{
        const char *target = job->options.target;

        for (*ret = 0; *ret < job->all->count; ++*ret)
                if (target != NULL && strcmp(job->all->items[*ret].version, target) == 0) {
                        ++*ret;
                        return 0;
                }
        return target ? err_set(err, ERR_PERMANENT, "target_unknown", "no file has the target's version %.50s", target)
                      : 0;
}

static void apply_add_pending(struct migration_job *job, size_t place)
{
        job->places[job->pending.count] = place;
        job->pending.items[job->pending.count++] = job->all->items[place];
}

static int apply_choose(struct migration_job *job, struct err *err)
{
        const struct migration *last = NULL;
        size_t end;

        if (apply_find_end(job, &end, err) < 0)
                return -ERR_PERMANENT;
        for (size_t i = 0; i < job->all->count; i++)
                if (job->is_applied[i])
                        last = &job->all->items[i];
        for (size_t i = 0; i < end; i++) {
                const struct migration *m = &job->all->items[i];

                if (job->is_applied[i] || (job->options.wanted != NULL && !job->options.wanted[i]))
                        continue;
                if (m < last && !job->options.out_of_order)
                        return err_set(err, ERR_PERMANENT, "out_of_order",
                                       "%.100s sorts before %.100s, which the database has", m->name, last->name);
                apply_add_pending(job, i);
        }
        return 0;
}

static bool apply_is_listed(const struct migration_job *job, const char *version)
{
        for (size_t i = 0; i < job->version_count; i++)
                if (strcmp(job->versions[i], version) == 0)
                        return true;
        return false;
}

static int apply_choose_reverted(struct migration_job *job, struct err *err)
{
        size_t known = 0;

        for (size_t i = job->all->count; i > 0; i--) {
                bool listed = apply_is_listed(job, job->all->items[i - 1].version);

                known += listed;
                if (listed && job->is_applied[i - 1] && (job->options.run == NULL || job->is_own[i - 1]))
                        apply_add_pending(job, i - 1);
        }
        if (known < job->version_count)
                return err_set(err, ERR_PERMANENT, "target_unknown", "no file has one of the versions to revert");
        return 0;
}

static int apply_compare_ledger(struct migration_job *job, const struct pg_rows *rows, struct err *err)
{
        size_t count = job->all->count + 1;

        if (job->options.tenant_id != NULL &&
            identity_check(rows, job->options.tenant_id, job->options.generation, err) < 0)
                return -ERR_PERMANENT;
        if (job->options.tenant_id != NULL)
                job->connections = (int)(pg_int(rows, 0, "connections") - pg_int(rows, 0, "reserved"));
        job->is_own = mem_alloc(count, sizeof(job->is_own[0]));
        job->is_applied = mem_alloc(count, sizeof(job->is_applied[0]));
        job->places = mem_alloc(count, sizeof(job->places[0]));
        job->pending.items = mem_alloc(count, sizeof(job->pending.items[0]));
        if (apply_read_ledger(job, rows, err) < 0) {
                free(TAKE_PTR(job->is_applied)); /* it was not read to its end */
                free(TAKE_PTR(job->is_own));
                return -ERR_PERMANENT;
        }
        if ((job->versions ? apply_choose_reverted(job, err) : apply_choose(job, err)) < 0)
                return -ERR_PERMANENT;
        job->suspect = job->pending.count;
        return 0;
}

/* From this file on, nothing is rehearsed: what follows may need what it does. */
static void apply_cut(struct migration_job *job, size_t count)
{
        if (count >= job->pending.count)
                return;
        job->untried = job->pending.items[count].name;
        job->pending.count = count;
}

static void apply_large_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;

        if (err != NULL) {
                migration_finish(job, err);
                return;
        }
        apply_cut(job, MIGRATION_BATCH_FILES);
        for (size_t i = 0; i < job->pending.count; i++) {
                const struct migration_section *section = migration_section(job, &job->pending.items[i]);

                for (int row = 0; row < pg_rows_count(rows) && job->large == NULL; row++)
                        if (strstr(section->sql, pg_text(rows, row, "relname")) != NULL)
                                job->large = mem_copy_text(pg_text(rows, row, "relname"));
                if (job->large != NULL || !section->transaction)
                        apply_cut(job, i);
        }
        job->suspect = job->pending.count;
        migration_apply_pending(job);
}

static void apply_look_for_large(struct migration_job *job)
{
        auto_free char *sql = mem_printf(READ_LARGE, MIGRATION_LARGE_PAGES);

        pg_exec(job->conn, MIGRATION_READ_TIMEOUT, sql, 0, NULL, apply_large_arrived, job);
}

static void apply_ledger_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct migration_job *job = context;
        struct err refused;

        if (err != NULL)
                migration_finish(job, err);
        else if (apply_compare_ledger(job, rows, &refused) < 0)
                migration_finish(job, &refused);
        else if (job->options.rehearse && job->pending.count > 0)
                apply_look_for_large(job);
        else
                migration_apply_pending(job);
}

static struct migration_job *apply_begin(struct pg_conn *conn, const struct migration_set *set,
                                         const struct migration_options *options, migration_applied_fn applied,
                                         void *context)
{
        struct migration_job *job = NEW(struct migration_job);

        job->conn = conn;
        job->all = set;
        job->set = &job->pending;
        job->options = *options;
        job->applied = applied;
        job->context = context;
        pg_exec(conn, MIGRATION_READ_TIMEOUT, options->tenant_id ? READ_MARKED_LEDGER : READ_LEDGER, 0, NULL,
                apply_ledger_arrived, job);
        return job;
}

struct migration_job *migration_apply(struct pg_conn *conn, const struct migration_set *set,
                                      const struct migration_options *options, migration_applied_fn applied,
                                      void *context)
{
        return apply_begin(conn, set, options, applied, context);
}

struct migration_job *migration_revert(struct pg_conn *conn, const struct migration_set *set,
                                       const char *const *versions, size_t count,
                                       const struct migration_options *options, migration_applied_fn applied,
                                       void *context)
{
        struct migration_job *job = apply_begin(conn, set, options, applied, context);

        job->versions = versions;
        job->version_count = count;
        return job;
}
