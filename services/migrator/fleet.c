/* The jobs in hand: see fleet.h. */
#include "services/migrator/fleet.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "services/migrator/coordinator.h"
#include "services/migrator/job.h"
#include "services/migrator/results.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define POLL_INTERVAL 200
#define TIMEOUT       SECONDS(10)
#define CLAIM_TAIL    SECONDS(12) /* a claim whose answer was lost may still take something: its lease is waited for */

static const char SQL_CLAIM[] = "select * from claim_jobs($1, $2::bigint, $3::int)";

static const char SQL_RENEW[] = "select * from renew_jobs($1, $2::uuid[], $3::bigint)";

static const char SQL_END[] = "select end_jobs($1::jsonb)";

struct fleet {
        struct migrator *migrator;
        struct job *jobs;
        size_t held, limit;
        bool claiming, claim_again, loading, renewing, stopped;
        int64_t claim_lease, renew_lease, next_claim_at;
        struct results *results;
        uv_timer_t poll, renew;
        unsigned handles;
        struct metric *in_hand;
        struct metric_family *ended;
};

static void fleet_claim(struct fleet *fleet);

static struct service *fleet_service(const struct fleet *fleet)
{
        return fleet->migrator->service;
}

/* A job ends at once in here if its tenant cannot even be looked for. */
static void fleet_start_jobs(struct fleet *fleet)
{
        struct job *job, *next;

        DL_FOREACH_SAFE (fleet->jobs, job, next)
                if (!job->started)
                        job_start(job, registry_files(fleet->migrator->registry));
}

static void fleet_files_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct fleet *fleet = context;
        struct registered *files = NULL;
        bool *wanted = NULL;
        struct err unreadable;
        struct job *job, *next;

        fleet->loading = false;
        if (err == NULL && registry_learn(fleet->migrator->registry, rows, &files, &wanted, &unreadable) < 0)
                err = &unreadable;
        registered_release(files);
        free(wanted);
        if (err == NULL) {
                fleet_start_jobs(fleet);
                return;
        }
        log_warn("the registered migrations cannot be read", "error", err->message, NULL);
        fleet->next_claim_at = clock_boot_ms() + SECONDS(2);
        DL_FOREACH_SAFE (fleet->jobs, job, next)
                if (!job->started)
                        job_give_way(job);
}

static void fleet_load_files(struct fleet *fleet)
{
        if (fleet->loading)
                return;
        fleet->loading = true;
        pg_pool_exec(fleet_service(fleet)->catalog, TIMEOUT, REGISTRY_QUERY,
                     PARAMS(registry_state(fleet->migrator->registry)), fleet_files_arrived, fleet);
}

static void fleet_give_way(struct fleet *fleet)
{
        struct job *job, *next;

        DL_FOREACH_SAFE (fleet->jobs, job, next)
                job_give_way(job);
}

static void fleet_take(struct fleet *fleet, const struct pg_rows *rows)
{
        const char *have = registry_state(fleet->migrator->registry);
        bool fresh = true;

        for (int row = 0; row < pg_rows_count(rows); row++) {
                struct job *job = job_new(fleet, fleet->migrator, rows, row, fleet->claim_lease);

                DL_APPEND(fleet->jobs, job);
                fleet->held++;
                fresh &= have != NULL && strcmp(have, pg_text(rows, row, "register")) == 0;
        }
        metric_set(fleet->in_hand, (double)fleet->held);
        FAILPOINT(job_after_claim, NULL);
        if (fleet->stopped)
                fleet_give_way(fleet); /* the claim was on its way */
        else if (fresh && !fleet->loading)
                fleet_start_jobs(fleet);
        else
                fleet_load_files(fleet);
}

static void fleet_claimed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct fleet *fleet = context;
        bool more;

        fleet->claiming = false;
        if (err != NULL) {
                log_debug("no claim", "error", err->message, NULL);
                fleet->claim_again = false;
                if (strcmp(err->code, "55P03") != 0) /* that it waited in vain is certain */
                        fleet->next_claim_at = clock_boot_ms() + CLAIM_TAIL;
                return;
        }
        more = pg_rows_count(rows) > 0 || fleet->claim_again;
        fleet->claim_again = false;
        if (pg_rows_count(rows) > 0)
                fleet_take(fleet, rows);
        if (more)
                fleet_claim(fleet);
}

static void fleet_claim(struct fleet *fleet)
{
        char lease[24], limit[24];
        struct service *service = fleet_service(fleet);

        if (fleet->claiming || fleet->stopped || fleet->held >= fleet->limit ||
            clock_boot_ms() < fleet->next_claim_at || !pg_pool_is_up(service->catalog)) {
                fleet->claim_again = fleet->claiming;
                return;
        }
        fleet->claiming = true;
        fleet->claim_lease = clock_boot_ms() + service->config->lease_ms;
        snprintf(lease, sizeof(lease), "%lld", (long long)service->config->lease_ms);
        snprintf(limit, sizeof(limit), "%zu", fleet->limit - fleet->held);
        pg_pool_exec(service->catalog, TIMEOUT, SQL_CLAIM, PARAMS(service->instance, lease, limit), fleet_claimed,
                     fleet);
}

void fleet_wake(struct fleet *fleet)
{
        fleet_claim(fleet);
}

static void fleet_drop(struct fleet *fleet, struct job *job)
{
        DL_DELETE(fleet->jobs, job);
        fleet->held--;
        metric_set(fleet->in_hand, (double)fleet->held);
        job_free(job);
}

static void fleet_results_taken(void *context)
{
        struct fleet *fleet = context;

        FAILPOINT(job_after_result, NULL);
        fleet_claim(fleet);
        coordinator_wake(fleet->migrator->coordinator);
}

void fleet_job_ended(struct fleet *fleet, struct job *job, json_t *result)
{
        bool rehearsed = json_object_get(result, "forecast") != NULL;

        metric_add(METRIC_OF(fleet->ended, rehearsed ? "rehearsed" : json_text(result, "outcome")), 1);
        fleet_drop(fleet, job);
        results_add(fleet->results, result); /* until it is taken, the job counts as one of the run's concurrency */
}

static void fleet_on_poll(uv_timer_t *timer)
{
        struct fleet *fleet = timer->data;

        results_send(fleet->results);
        fleet_claim(fleet);
}

static int fleet_find_row(const struct pg_rows *rows, const struct job *job)
{
        int row = pg_rows_count(rows) - 1;

        while (row >= 0 && strcmp(pg_text(rows, row, "job_id"), job->id) != 0)
                row--;
        return row;
}

static void fleet_renewed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct fleet *fleet = context;
        struct job *job, *next;

        fleet->renewing = false;
        DL_FOREACH_SAFE (fleet->jobs, job, next) {
                bool asked = job->renewing; /* not if the answer to its claim came after the renewal was sent */
                int row;

                job->renewing = false;
                if (err != NULL || !asked)
                        continue;
                row = fleet_find_row(rows, job);
                if (row < 0)
                        fleet_drop(fleet, job); /* somebody else's by now */
                else if (pg_bool(rows, row, "way_wanted"))
                        job_give_way(job);
                else
                        job->lease_until = fleet->renew_lease;
        }
}

/* A job whose lease has run out may be in other hands: its connection is closed before it does more. */
static void fleet_drop_expired(struct fleet *fleet)
{
        struct job *job, *next;

        DL_FOREACH_SAFE (fleet->jobs, job, next)
                if (clock_boot_ms() >= job->lease_until)
                        fleet_drop(fleet, job);
}

static void fleet_on_renew(uv_timer_t *timer)
{
        struct fleet *fleet = timer->data;
        struct service *service = fleet_service(fleet);
        auto_buf list = { 0 };
        char lease[24];
        struct job *job;

        fleet_drop_expired(fleet);
        if (fleet->held == 0 || fleet->renewing || !pg_pool_is_up(service->catalog))
                return;
        buf_add_text(&list, "{");
        DL_FOREACH (fleet->jobs, job) {
                buf_printf(&list, "%s%s", job == fleet->jobs ? "" : ",", job->id);
                job->renewing = true;
        }
        buf_add_text(&list, "}");
        fleet->renewing = true;
        fleet->renew_lease = clock_boot_ms() + service->config->lease_ms;
        snprintf(lease, sizeof(lease), "%lld", (long long)service->config->lease_ms);
        pg_pool_exec(service->catalog, TIMEOUT, SQL_RENEW, PARAMS(service->instance, list.data, lease), fleet_renewed,
                     fleet);
}

static void fleet_start_timer(struct fleet *fleet, uv_timer_t *timer, uv_timer_cb tick, int64_t interval)
{
        uv_timer_init(&fleet_service(fleet)->loop, timer);
        timer->data = fleet;
        uv_timer_start(timer, tick, (uint64_t)interval, (uint64_t)interval);
}

struct fleet *fleet_new(struct migrator *migrator)
{
        struct fleet *fleet = NEW(struct fleet);
        int64_t lease = migrator->service->config->lease_ms;

        fleet->migrator = migrator;
        fleet->limit = (size_t)migrator->config->connections;
        fleet->results = results_new(migrator->service, SQL_END, fleet_results_taken, fleet);
        fleet->in_hand = metric_gauge("tenantry_jobs_in_hand", NULL, "Tenants this process is migrating.");
        fleet->ended =
                metric_counter_family("tenantry_jobs_total", "outcome", "Attempts to migrate a tenant, by outcome.");
        fleet_start_timer(fleet, &fleet->poll, fleet_on_poll, POLL_INTERVAL);
        fleet_start_timer(fleet, &fleet->renew, fleet_on_renew, MIN(SECONDS(2), MAX(200, lease / 3)));
        return fleet;
}

/* Everything is given back at once. */
void fleet_stop(struct fleet *fleet)
{
        fleet->stopped = true;
        fleet_give_way(fleet);
}

bool fleet_is_idle(const struct fleet *fleet)
{
        return fleet->held == 0 && !fleet->claiming && results_is_empty(fleet->results);
}

static void fleet_on_closed(uv_handle_t *handle)
{
        struct fleet *fleet = handle->data;

        if (--fleet->handles > 0)
                return;
        free(fleet);
}

void fleet_free(struct fleet *fleet)
{
        struct job *job, *next;

        if (fleet == NULL)
                return;
        DL_FOREACH_SAFE (fleet->jobs, job, next)
                fleet_drop(fleet, job);
        results_free(fleet->results);
        fleet->handles = 2;
        uv_close((uv_handle_t *)&fleet->poll, fleet_on_closed);
        uv_close((uv_handle_t *)&fleet->renew, fleet_on_closed);
}
