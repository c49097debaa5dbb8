/* Compares what the provider has with what the catalog knows: see janitor.h. */
#include "services/provisioner/janitor.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/lease.h"
#include "common/service/periodic.h"
#include "services/provisioner/archive_files.h"
#include "services/provisioner/driver.h"

static const char SQL_PRUNE[] = "select prune() as pruned";

static const char SQL_WATCH[] = "select watch_stuck()";

static const char SQL_REFUSED[] = "select catalog.raise_alert('inventory:' || $1 || ':' || $2, null, 'the provider "
                                  "does not show what it has', $3)";

static const char SQL_SAMPLE[] = "select sample_backup($1::bigint)";

static const char SQL_REPORT[] = "select report_inventory($1, $2, $3::jsonb)";

struct janitor {
        struct provisioner *provisioner;
        const struct driver *driver;
        struct archive_files *archive;
        struct periodic *rounds;
        struct lease *lease; /* only one provisioner at a time checks; it also paces them */
        bool pruning;
};

static void janitor_reported(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("the inventory could not be stored", "error", err->message, NULL);
}

/* An outage ends by itself; a refused credential does not. The next report ends the alert. */
static void janitor_inventory_refused(struct janitor *janitor, const char *server, const struct err *err)
{
        if (janitor->provisioner->service->stopping)
                return;
        log_warn("the provider's inventory could not be read", "server", server, "error", err->message, NULL);
        if (err->class == ERR_AUTH)
                pg_pool_exec(janitor->provisioner->service->catalog, SECONDS(10), SQL_REFUSED,
                             PARAMS(janitor->driver->name, server, err->message), janitor_reported, NULL);
}

static void janitor_inventory_shown(void *context, const char *server, json_t *list, const struct err *err)
{
        struct janitor *janitor = context;
        auto_free char *text = list ? json_print(list) : NULL;

        json_decref(list);
        if (err != NULL) {
                janitor_inventory_refused(janitor, server, err);
                return;
        }
        if (!janitor->provisioner->service->stopping)
                pg_pool_exec(janitor->provisioner->service->catalog, SECONDS(10), SQL_REPORT,
                             PARAMS(janitor->driver->name, server, text), janitor_reported, NULL);
}

static void janitor_house_kept(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("old rows and stuck tenants could not be processed; it will be tried again", "error",
                         err->message, NULL);
}

static void janitor_prune(struct janitor *janitor);

static void janitor_pruned(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct janitor *janitor = context;

        janitor->pruning = false;
        if (err != NULL)
                janitor_house_kept(NULL, NULL, err);
        else if (pg_int(rows, 0, "pruned") > 0)
                janitor_prune(janitor); /* in batches, until nothing too old is left */
}

static void janitor_prune(struct janitor *janitor)
{
        struct service *service = janitor->provisioner->service;

        if (janitor->pruning || service->stopping || !pg_pool_is_up(service->catalog))
                return;
        janitor->pruning = true;
        pg_pool_exec(service->catalog, SECONDS(30), SQL_PRUNE, NO_PARAMS, janitor_pruned, janitor);
}

static void janitor_sampled(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("no backup could be chosen for a check", "error", err->message, NULL);
}

/* The catalog knows when the last check was, and whose turn it is. */
static void janitor_sample_backup(struct janitor *janitor)
{
        int64_t interval = janitor->provisioner->config->archive_check_interval_ms;
        auto_free char *ms = mem_printf("%lld", (long long)interval);

        if (interval > 0)
                pg_pool_exec(janitor->provisioner->service->catalog, SECONDS(30), SQL_SAMPLE, PARAMS(ms),
                             janitor_sampled, NULL);
}

static void janitor_lease_answered(void *context)
{
        struct janitor *janitor = context;

        if (lease_is_held(janitor->lease) && !janitor->provisioner->service->stopping) {
                janitor->driver->take_inventory(janitor->provisioner, janitor_inventory_shown, janitor);
                archive_files_look(janitor->archive);
                pg_pool_exec(janitor->provisioner->service->catalog, SECONDS(10), SQL_WATCH, NO_PARAMS,
                             janitor_house_kept, NULL);
                janitor_prune(janitor);
                janitor_sample_backup(janitor);
        }
}

static void janitor_begin_round(void *context)
{
        struct janitor *janitor = context;

        lease_ask(janitor->lease);
}

struct janitor *janitor_new(struct provisioner *provisioner)
{
        int64_t interval = provisioner->config->janitor_interval_ms;
        struct janitor *janitor = NEW(struct janitor);

        janitor->provisioner = provisioner;
        janitor->driver = driver_find(provisioner->config->driver);
        janitor->archive = archive_files_new(provisioner);
        janitor->lease = lease_new(provisioner->service, "janitor", 2 * interval, janitor_lease_answered, janitor);
        janitor->rounds = periodic_new(provisioner->service, SECONDS(1), interval, janitor_begin_round, janitor);
        return janitor;
}

void janitor_free(struct janitor *janitor)
{
        if (janitor == NULL)
                return;
        archive_files_free(janitor->archive);
        periodic_free(janitor->rounds);
        lease_free(janitor->lease);
        free(janitor);
}
