/* Keeps rollouts going: see coordinator.h. */
#include "services/migrator/coordinator.h"

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/lease.h"
#include "common/durable/worker.h"
#include "common/service/periodic.h"
#include "services/migrator/fleet.h"
#include "services/migrator/inspector.h"

#define INTERVAL 250 /* not more often, whatever ends: each time, all jobs of the run are counted */
#define LEASE    SECONDS(5)
#define TIMEOUT  SECONDS(15)

#define PRUNE_INTERVAL MINUTES(1) /* a piece each time */

static const char SQL_ADVANCE[] = "select advance() as advanced";
static const char SQL_PRUNE[] = "select prune() as pruned";

struct coordinator {
        struct migrator *migrator;
        struct lease *lease;
        struct periodic *periodic, *upkeep;
        int64_t asked_at;
        bool asking, stopped;
};

static void coordinator_advanced(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct coordinator *coordinator = context;

        coordinator->asking = false;
        if (err != NULL) {
                log_warn("the rollout cannot be advanced", "error", err->message, NULL);
                return;
        }
        FAILPOINT(run_after_advance, NULL);
        if (coordinator->stopped) {
                lease_drop(coordinator->lease);
                return;
        }
        if (pg_bool(rows, 0, "advanced")) {
                fleet_wake(coordinator->migrator->fleet);
                inspector_wake(coordinator->migrator->inspector);
                worker_wake(coordinator->migrator->worker);
        }
}

static void coordinator_act(void *context)
{
        struct coordinator *coordinator = context;

        if (coordinator->stopped)
                return;
        lease_ask(coordinator->lease);
        if (!lease_is_held(coordinator->lease))
                return;
        FAILPOINT(run_before_advance, NULL);
        coordinator->asking = true;
        coordinator->asked_at = clock_boot_ms();
        periodic_ask(coordinator->periodic, TIMEOUT, SQL_ADVANCE, NO_PARAMS, coordinator_advanced);
}

static void coordinator_pruned(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("old rows could not be removed; it will be tried again", "error", err->message, NULL);
}

static void coordinator_prune(void *context)
{
        struct coordinator *coordinator = context;

        if (lease_is_held(coordinator->lease) && !coordinator->stopped)
                periodic_ask(coordinator->upkeep, SECONDS(30), SQL_PRUNE, NO_PARAMS, coordinator_pruned);
}

static void coordinator_lease_answered(void *context)
{
        struct coordinator *coordinator = context;

        if (coordinator->stopped && !coordinator->asking)
                lease_drop(coordinator->lease);
}

struct coordinator *coordinator_new(struct migrator *migrator)
{
        struct coordinator *coordinator = NEW(struct coordinator);

        coordinator->migrator = migrator;
        coordinator->lease = lease_new(migrator->service, "rollouts", LEASE, coordinator_lease_answered, coordinator);
        coordinator->periodic = periodic_new(migrator->service, 0, INTERVAL, coordinator_act, coordinator);
        coordinator->upkeep =
                periodic_new(migrator->service, SECONDS(5), PRUNE_INTERVAL, coordinator_prune, coordinator);
        return coordinator;
}

void coordinator_free(struct coordinator *coordinator)
{
        if (coordinator == NULL)
                return;
        periodic_free(coordinator->periodic);
        periodic_free(coordinator->upkeep);
        lease_free(coordinator->lease);
        free(coordinator);
}

void coordinator_wake(struct coordinator *coordinator)
{
        if (!coordinator->asking && clock_boot_ms() >= coordinator->asked_at + INTERVAL)
                periodic_act(coordinator->periodic);
}

void coordinator_stop(struct coordinator *coordinator)
{
        coordinator->stopped = true;
        if (!coordinator->asking)
                lease_drop(coordinator->lease);
}

bool coordinator_is_idle(const struct coordinator *coordinator)
{
        return !coordinator->asking && lease_is_idle(coordinator->lease);
}
