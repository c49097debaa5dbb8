/* One tenant's part in a rollout: see job.h. */
#include "services/migrator/job.h"

#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/migration/apply.h"
#include "common/pg/pg_json.h"
#include "services/migrator/lock_holders.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT SECONDS(10)
#define VERIFY_TIMEOUT  SECONDS(60)
#define HOLDERS_TIMEOUT SECONDS(3)
#define FORECAST_LOCKS  100 /* ms: nobody waits longer because of a rehearsal */
#define FORECAST_TRIES  2
#define FORECAST_ANSWER SECONDS(3) /* all others of the wave wait for a tenant that does not answer */
#define ATTEMPTS_MOST   6          /* about half a minute of back-off, and as many lock time-outs */

/* It looks, and changes nothing. The transaction ends with the next one, or the connection. */
#define VERIFY                                                                                                         \
        "rollback; begin read only; set local lock_timeout = '2s'; set local statement_timeout = '%ldms'; "            \
        "select (\n%s\n) is true as verified"

static enum job_task job_task_of(const char *state)
{
        if (strcmp(state, "forecasting") == 0)
                return JOB_FORECAST;
        return strcmp(state, "undoing") == 0 ? JOB_UNDO : JOB_APPLY;
}

struct job *job_new(struct fleet *fleet, struct migrator *migrator, const struct pg_rows *rows, int row,
                    int64_t lease_until)
{
        struct job *job = NEW(struct job);

        job->fleet = fleet;
        job->migrator = migrator;
        job->id = mem_copy_text(pg_text(rows, row, "job_id"));
        job->run = mem_copy_text(pg_text(rows, row, "run_id"));
        job->tenant = mem_copy_text(pg_text(rows, row, "tenant_id"));
        job->fence = mem_copy_text(pg_text(rows, row, "fence"));
        job->application_name = mem_printf("tenantry-%.8s-%s", job->run, job->tenant);
        job->task = job_task_of(pg_text(rows, row, "task"));
        job->attempts = (int)pg_int(rows, row, "attempts");
        job->marked = pg_bool(rows, row, "marked");
        job->versions = pg_json(rows, row, "versions");
        job->brought = pg_json(rows, row, "brought");
        job->options = pg_json(rows, row, "options");
        job->login = pg_json(rows, row, "tenant");
        job->lease_until = lease_until;
        return job;
}

void job_free(struct job *job)
{
        migration_job_free(job->migration);
        pg_close(job->conn);
        registered_release(job->files);
        json_decref(job->versions);
        json_decref(job->brought);
        json_decref(job->has);
        json_decref(job->options);
        json_decref(job->login);
        free(job->wanted);
        free(job->revert);
        free(job->id);
        free(job->run);
        free(job->tenant);
        free(job->fence);
        free(job->application_name);
        free(job);
}

static json_t *job_result(const struct job *job, const char *outcome, const struct err *err, int64_t delay_ms)
{
        json_t *result =
                json_pack("{s:s, s:I, s:s, s:O?, s:O?, s:b, s:I}", "job_id", job->id, "fence",
                          (json_int_t)strtoll(job->fence, NULL, 10), "outcome", outcome, "brought", job->brought,
                          "versions", job->has, "unsure", job->unsure, "delay_ms", (json_int_t)delay_ms);

        if (job->connections > 0)
                json_object_set_new(result, "connections", json_integer(job->connections));

        if (err != NULL)
                json_object_set_new(result, "error", json_of_error(err));
        return result;
}

static void job_end(struct job *job, const char *outcome, const struct err *err, int64_t delay_ms)
{
        fleet_job_ended(job->fleet, job, job_result(job, outcome, err, delay_ms));
}

/* foreseen: passed, failed, busy (locks were held just then) or untried. */
static void job_foresee(struct job *job, const char *foreseen, const struct err *err)
{
        json_t *result = job_result(job, "done", err, 0);

        json_object_set_new(result, "forecast", json_string(foreseen));
        fleet_job_ended(job->fleet, job, result);
}

static bool job_is_about_locks(const struct err *err)
{
        static const char *const codes[] = { "55P03", "40P01", "40001" };

        for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
                if (strcmp(err->code, codes[i]) == 0)
                        return true;
        return false;
}

/* Tried again only where that can help: a lock, a connection, a serialization failure; or where a newer attempt, or
 * another activity, has had the database since. */
static bool job_may_try_again(const struct job *job, const struct err *err)
{
        int most = job->task == JOB_FORECAST ? FORECAST_TRIES : ATTEMPTS_MOST;

        if (job->task == JOB_FORECAST && strcmp(err->code, "connect_timeout") == 0)
                return false;
        return (err_is_transient(err) || strcmp(err->code, "TN409") == 0) && job->attempts < most;
}

static void job_fail(struct job *job, const struct err *err)
{
        unsigned random;

        if (job->task == JOB_FORECAST && job_is_about_locks(err)) {
                job_foresee(job, "busy", err);
        } else if (job_may_try_again(job, err)) {
                crypto_random((unsigned char *)&random, sizeof(random));
                job_end(job, "retry", err, backoff_ms(job->attempts, random));
        } else if (job->task == JOB_FORECAST) {
                job_foresee(job, "failed", err);
        } else {
                job_end(job, "failed", err, 0);
        }
}

static void job_verify_next(struct job *job);

static void job_verified(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct job *job = context;
        const struct migration *m = &job->files->set->items[job->next_verify];
        bool may_pass = err != NULL && (!pg_is_usable(job->conn) || job_is_about_locks(err));
        struct err wrong;

        if (err == NULL && pg_rows_count(rows) == 1 && pg_bool(rows, 0, "verified")) {
                job->next_verify++;
                job_verify_next(job);
                return;
        }
        err_set(&wrong, may_pass ? err->class : ERR_PERMANENT, "verify_failed", "%.100s: its verify %s%.300s", m->name,
                err ? "failed: " : "did not return true", err ? err->message : "");
        job_fail(job, &wrong);
}

static bool job_is_brought(const struct job *job, const char *version)
{
        size_t i;
        json_t *brought;

        json_array_foreach (job->brought, i, brought)
                if (strcmp(json_string_value(brought), version) == 0)
                        return true;
        return false;
}

/* Of the files that the tenant has from this run, one after the other. */
static void job_verify_next(struct job *job)
{
        const struct migration_set *set = job->files->set;
        auto_free char *sql = NULL;

        while (job->next_verify < set->count && (set->items[job->next_verify].verify == NULL ||
                                                 !job_is_brought(job, set->items[job->next_verify].version)))
                job->next_verify++;
        if (job->next_verify == set->count) {
                job_end(job, "done", NULL, 0);
                return;
        }
        sql = mem_printf(VERIFY, VERIFY_TIMEOUT, set->items[job->next_verify].verify);
        pg_script(job->conn, VERIFY_TIMEOUT, sql, job_verified, job);
}

static void job_rehearsed(struct job *job, const struct migration_outcome *outcome)
{
        struct err untried;

        if (outcome->untried == NULL) {
                job_foresee(job, "passed", NULL);
                return;
        }
        if (outcome->large != NULL)
                err_set(&untried, ERR_PERMANENT, "untried", "from %.100s on nothing was tried: %.100s is large here",
                        outcome->untried, outcome->large);
        else
                err_set(&untried, ERR_PERMANENT, "untried",
                        "from %.100s on nothing was tried: it runs without a transaction", outcome->untried);
        job_foresee(job, "untried", &untried);
}

static void job_holders_named(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct job *job = context;

        lock_holders_add(&job->failed, err == NULL ? rows : NULL);
        job_fail(job, &job->failed);
}

static void job_attempt_failed(struct job *job, const struct err *err)
{
        if (strcmp(err->code, "55P03") != 0 || !pg_is_usable(job->conn)) {
                job_fail(job, err);
                return;
        }
        job->failed = *err;
        pg_exec(job->conn, HOLDERS_TIMEOUT, LOCK_HOLDERS, 0, NULL, job_holders_named, job);
}

static void job_applied(void *context, const struct migration_outcome *outcome, const struct err *err)
{
        struct job *job = context;

        job->migration = NULL; /* it frees itself */
        job->connections = outcome->connections;
        job->unsure =
                outcome->is_applied != NULL && err != NULL && !pg_is_usable(job->conn) && job->task != JOB_FORECAST;
        if (outcome->is_applied != NULL && !job->unsure) {
                json_decref(job->brought);
                json_decref(job->has);
                job->brought = migration_versions(job->files->set, outcome->is_own);
                job->has = migration_versions(job->files->set, outcome->is_applied);
        }
        FAILPOINT(job_before_result, NULL);
        if (err != NULL)
                job_attempt_failed(job, err);
        else if (job->task == JOB_FORECAST)
                job_rehearsed(job, outcome);
        else if (job->task == JOB_UNDO)
                job_end(job, "done", NULL, 0);
        else
                job_verify_next(job);
}

static void job_work(struct job *job)
{
        struct migration_options options = {
                .lock_timeout_ms =
                        job->task == JOB_FORECAST ? FORECAST_LOCKS : json_number(job->options, "lock_timeout_ms", 0),
                .statement_timeout_ms = json_number(job->options, "statement_timeout_ms", 0),
                .wanted = job->wanted,
                .rehearse = job->task == JOB_FORECAST,
                .mark = job->marked && job->task == JOB_APPLY,
                .out_of_order = json_flag(job->options, "out_of_order"),
                .fence = job->fence,
                .run = job->run,
                .tenant_id = job->tenant,
                .generation = (int)json_number(job->login, "generation", 0),
        };
        size_t count = json_array_size(job->versions);

        if (job->task != JOB_UNDO) {
                job->migration = migration_apply(job->conn, job->files->set, &options, job_applied, job);
                return;
        }
        job->revert = mem_alloc(count + 1, sizeof(job->revert[0]));
        for (size_t i = 0; i < count; i++)
                job->revert[i] = json_string_value(json_array_get(job->versions, i));
        job->migration = migration_revert(job->conn, job->files->set, job->revert, count, &options, job_applied, job);
}

static void job_connected(void *context, const struct err *err)
{
        struct job *job = context;

        if (err != NULL)
                job_fail(job, err);
        else
                job_work(job);
}

/* The files may be those from before the run: the next attempt reads them anew. */
static bool job_lacks_files(const struct job *job, struct err *err)
{
        size_t count = 0;

        for (size_t i = 0; i < job->files->set->count; i++)
                count += job->wanted[i];
        if (count == json_array_size(job->versions))
                return false;
        err_set(err, ERR_BUSY, "file_missing", "a file of the run is not among those that were read from the register");
        return true;
}

void job_start(struct job *job, struct registered *files)
{
        struct migrator *migrator = job->migrator;
        auto_secret char *keep = NULL;
        struct pg_target target = { 0 };
        struct err err;

        job->started = true;
        job->files = files;
        job->wanted = registered_mask(files, job->versions);
        if (job_lacks_files(job, &err) || FAILPOINT(job_before_connect, &err) < 0 ||
            tenant_target(&migrator->access, job->login, TENANT_OWNER, &target, &keep, &err) < 0) {
                job_fail(job, &err);
                return;
        }
        target.application_name = job->application_name;
        target.connect_timeout_ms = job->task == JOB_FORECAST ? FORECAST_ANSWER : CONNECT_TIMEOUT;
        job->conn = pg_open(&migrator->service->loop, &target, job_connected, job);
}

/* PostgreSQL rolls back what it has not been told to commit; the next attempt goes on from there. */
void job_give_way(struct job *job)
{
        job->unsure = job->migration != NULL && job->task != JOB_FORECAST; /* its commit may be on its way */
        migration_job_free(TAKE_PTR(job->migration));
        pg_close(TAKE_PTR(job->conn));
        job_end(job, "given_way", NULL, SECONDS(2));
}
