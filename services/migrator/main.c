/* The migrator: brings schema changes to the whole fleet, in waves, and takes them back. This file names its parts. */
#include "common/base/memory.h"
#include "common/contracts/migration.h"
#include "common/durable/worker.h"
#include "services/migrator/coordinator.h"
#include "services/migrator/fleet.h"
#include "services/migrator/inspector.h"
#include "services/migrator/registrar.h"

static void migrator_facts_changed(void *context)
{
        struct migrator *migrator = context;

        coordinator_wake(migrator->coordinator);
        fleet_wake(migrator->fleet);
        inspector_wake(migrator->inspector);
}

/* The policy of this installation, for runs that say nothing. */
static void migrator_add_policy(void *context, json_t *data)
{
        struct migrator *migrator = context;

        if (migrator->config->require_staging && json_object_get(data, "require_staging") == NULL)
                json_object_set_new(data, "require_staging", json_true());
}

static int migrator_start(struct service *service, const void *config, struct err *err)
{
        struct migrator *migrator = NEW(struct migrator);
        const struct migrator_config *c = migrator->config = config;
        struct worker_settings worker = {
                .group = "tenantry-migrator",
                .contracts = MIGRATION_CONTRACTS,
                .has_timers = true,
                .enrich = migrator_add_policy,
                .changed = migrator_facts_changed,
                .context = migrator,
        };
        int rc;

        service->state = migrator;
        migrator->service = service;
        rc = keyring_parse("CONTROL_KEYS", c->keys.control_keys, &migrator->control_keys, err);
        if (rc < 0)
                return rc;
        migrator->access = (struct tenant_access){
                .control_keys = migrator->control_keys,
                .servers = servers_new(service, c->tenants.servers),
                .sslmode = c->tenants.sslmode,
        };
        migrator->registry = registry_new();
        migrator->fleet = fleet_new(migrator);
        migrator->inspector = inspector_new(migrator);
        migrator->coordinator = coordinator_new(migrator);
        rc = registrar_new(migrator, &migrator->registrar, err);
        return rc < 0 ? rc : worker_new(service, &worker, &migrator->worker, err);
}

static int migrator_ready(struct service *service, struct err *err)
{
        struct migrator *migrator = service->state;

        if (worker_ready(migrator->worker, err) < 0)
                return -ERR_BUSY;
        if (!registrar_is_done(migrator->registrar))
                return err_set(err, ERR_BUSY, "starting", "the files of TENANT_MIGRATIONS are being registered");
        return 0;
}

static void migrator_stop(struct service *service)
{
        struct migrator *migrator = service->state;

        worker_stop(migrator->worker);
        fleet_stop(migrator->fleet);
        inspector_stop(migrator->inspector);
        coordinator_stop(migrator->coordinator);
}

static bool migrator_idle(struct service *service)
{
        struct migrator *migrator = service->state;

        return fleet_is_idle(migrator->fleet) && inspector_is_idle(migrator->inspector) &&
               coordinator_is_idle(migrator->coordinator) && worker_is_idle(migrator->worker);
}

static void migrator_finish(struct service *service)
{
        struct migrator *migrator = service->state;

        worker_free(migrator->worker);
        coordinator_free(migrator->coordinator);
        inspector_free(migrator->inspector);
        fleet_free(migrator->fleet);
        registrar_free(migrator->registrar);
        registry_free(migrator->registry);
        servers_free(migrator->access.servers);
        keyring_free(migrator->control_keys);
        free(migrator);
}

int main(int argc, char **argv)
{
        const struct config_table tables[] = {
                MIGRATOR_OPTIONS,
                config_at(&TENANT_OPTIONS, offsetof(struct migrator_config, tenants)),
                config_at(&CONTROL_KEY_OPTIONS, offsetof(struct migrator_config, keys)),
        };
        const struct service_definition definition = {
                .name = "migrator",
                .purpose = "brings schema changes to the whole fleet",
                .schema = "migrator",
                .tables = tables,
                .table_count = ARRAY_SIZE(tables),
                .config_size = sizeof(struct migrator_config),
                .start = migrator_start,
                .ready = migrator_ready,
                .stop = migrator_stop,
                .idle = migrator_idle,
                .finish = migrator_finish,
        };

        return service_main(argc, argv, &definition);
}
