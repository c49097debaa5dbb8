/* Looks into tenants' databases: see inspector.h. */
#include "services/migrator/inspector.h"

#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/service/periodic.h"
#include "services/migrator/coordinator.h"
#include "services/migrator/inspection.h"
#include "services/migrator/results.h"

#include <stdio.h>
#include <utlist.h>

#define INTERVAL 500
#define TIMEOUT  SECONDS(10)
#define LIMIT    8 /* at once: beside the jobs of a rollout, which matter more */
#define CHECKS   6 /* of them, so that a check of tenants that hang does not hold up a wave */

static const char SQL_CLAIM[] = "select * from claim_inspections($1::int, $2::int)";

static const char SQL_END[] = "select end_inspections($1::jsonb)";

struct inspector {
        struct migrator *migrator;
        struct inspection *inspections;
        int held, checks; /* checks: of those held, for checks for drift */
        bool claiming, stopped;
        struct results *results;
        struct periodic *periodic;
        struct metric_family *ended;
};

static void inspector_drop(struct inspector *inspector, struct inspection *inspection)
{
        DL_DELETE(inspector->inspections, inspection);
        inspector->held--;
        inspector->checks -= !inspection->urgent;
        inspection_free(inspection);
}

static void inspector_drop_all(struct inspector *inspector)
{
        struct inspection *inspection, *next;

        DL_FOREACH_SAFE (inspector->inspections, inspection, next)
                inspector_drop(inspector, inspection);
}

static void inspector_take(struct inspector *inspector, const struct pg_rows *rows)
{
        struct inspection *inspection, *next;

        for (int row = 0; row < pg_rows_count(rows); row++) {
                inspection = inspection_new(inspector, inspector->migrator, rows, row);
                DL_APPEND(inspector->inspections, inspection);
                inspector->held++;
                inspector->checks += !inspection->urgent;
        }
        FAILPOINT(inspection_after_claim, NULL);
        DL_FOREACH_SAFE (inspector->inspections, inspection, next)
                if (!inspection->started)
                        inspection_start(inspection);
}

static void inspector_claimed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct inspector *inspector = context;

        inspector->claiming = false;
        if (err != NULL)
                log_warn("no tenant could be taken for inspection", "error", err->message, NULL);
        else if (!inspector->stopped && pg_rows_count(rows) > 0)
                inspector_take(inspector, rows);
}

static void inspector_claim(void *context)
{
        struct inspector *inspector = context;
        char limit[24], checks[24];

        results_send(inspector->results);
        if (inspector->claiming || inspector->stopped || inspector->held >= LIMIT)
                return;
        inspector->claiming = true;
        snprintf(limit, sizeof(limit), "%d", LIMIT - inspector->held);
        snprintf(checks, sizeof(checks), "%d", CHECKS - inspector->checks);
        periodic_ask(inspector->periodic, TIMEOUT, SQL_CLAIM, PARAMS(limit, checks), inspector_claimed);
}

void inspector_wake(struct inspector *inspector)
{
        periodic_act(inspector->periodic);
}

void inspector_ended(struct inspector *inspector, struct inspection *inspection, json_t *result)
{
        metric_add(METRIC_OF(inspector->ended, json_object_get(result, "found") ? "done" : "failed"), 1);
        FAILPOINT(inspection_before_result, NULL);
        inspector_drop(inspector, inspection);
        results_add(inspector->results, result);
        inspector_wake(inspector);
}

static void inspector_results_taken(void *context)
{
        struct inspector *inspector = context;

        coordinator_wake(inspector->migrator->coordinator);
}

struct inspector *inspector_new(struct migrator *migrator)
{
        struct inspector *inspector = NEW(struct inspector);

        inspector->migrator = migrator;
        inspector->results = results_new(migrator->service, SQL_END, inspector_results_taken, inspector);
        inspector->periodic = periodic_new(migrator->service, 0, INTERVAL, inspector_claim, inspector);
        inspector->ended = metric_counter_family("tenantry_inspections_total", "outcome",
                                                 "Looks into tenants' databases, by outcome.");
        return inspector;
}

void inspector_free(struct inspector *inspector)
{
        if (inspector == NULL)
                return;
        inspector_drop_all(inspector);
        periodic_free(inspector->periodic);
        results_free(inspector->results);
        free(inspector);
}

void inspector_stop(struct inspector *inspector)
{
        inspector->stopped = true;
        inspector_drop_all(inspector);
}

bool inspector_is_idle(const struct inspector *inspector)
{
        return inspector->held == 0 && !inspector->claiming && results_is_empty(inspector->results);
}
