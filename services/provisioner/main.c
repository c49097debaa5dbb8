/* The provisioner: turns signups into ready tenants and keeps each tenant in its desired state. This file names its
 * parts. */
#include "common/base/blocking.h"
#include "common/base/memory.h"
#include "common/contracts/mails.h"
#include "common/contracts/tenant.h"
#include "common/durable/alerter.h"
#include "common/durable/resealer.h"
#include "common/durable/worker.h"
#include "common/migration/registry.h"
#include "services/provisioner/driver.h"
#include "services/provisioner/dump_tools.h"
#include "services/provisioner/janitor.h"
#include "services/provisioner/provisioner.h"
#include "services/provisioner/server_life.h"
#include "services/provisioner/waker.h"

#include <string.h>

#define DISK_CALLS   6 /* concurrent, of all backups and archives: a disk that hangs leaves threads for others */
#define MAILS_ON_WAY 4 /* concurrent, on the same threads */

static const struct saga_kind *const KINDS[] = {
        &PROVISION, &DEPROVISION, &ARCHIVE, &ACCESS, &ROTATE, &RETIRE, &BACKUP, &INVITE, &LINK, &RESTORE, &VERIFY, NULL,
};

static void provisioner_name_driver(void *context, json_t *data)
{
        struct provisioner *provisioner = context;

        json_set_text(data, "driver", provisioner->config->driver);
}

static struct resealer *provisioner_make_resealer(const struct provisioner *provisioner)
{
        const struct resealer_ring rings[] = {
                { .name = "app", .keys = provisioner->app_keys },
                { .name = "control", .keys = provisioner->control_keys },
        };

        return resealer_new(provisioner->service, rings, ARRAY_SIZE(rings));
}

static int provisioner_start(struct service *service, const void *config, struct err *err)
{
        struct provisioner *provisioner = NEW(struct provisioner);
        const struct provisioner_config *c = provisioner->config = config;
        struct worker_settings worker = {
                .group = "tenantry-provisioner",
                .contracts = TENANT_CONTRACTS,
                .kinds = KINDS,
                .sagas = (size_t)c->workers,
                .enrich = provisioner_name_driver,
                .context = provisioner,
        };
        int rc;

        service->state = provisioner;
        provisioner->service = service;
        rc = keyring_parse("CONTROL_KEYS", c->keys.control_keys, &provisioner->control_keys, err);
        if (rc == 0)
                rc = keyring_parse("APP_KEYS", c->keys.app_keys, &provisioner->app_keys, err);
        if (rc == 0)
                rc = migration_set_load(c->migrations, &provisioner->migrations, err);
        if (rc == 0)
                rc = mail_template_load(&MAIL_INVITATION, c->mail.templates, &provisioner->invitation, err);
        if (rc < 0)
                return rc;
        provisioner->registry = registry_new();
        /* A quarter of the sagas in hand: with half for backups, some are left whatever hangs. */
        provisioner->mailer =
                mail_config_mailer(&c->mail, &service->loop, (size_t)MAX(1, MIN(MAILS_ON_WAY, c->workers / 4)));
        provisioner->disk = blocking_new(&service->loop, DISK_CALLS);
        provisioner->access = (struct tenant_access){
                .app_keys = provisioner->app_keys,
                .control_keys = provisioner->control_keys,
                .servers = servers_new(service, c->tenants.servers),
                .sslmode = c->tenants.sslmode,
        };
        provisioner->server_life = server_life_new(provisioner);
        provisioner->waker = waker_new(provisioner);
        provisioner->janitor = janitor_new(provisioner);
        provisioner->resealer = provisioner_make_resealer(provisioner);
        provisioner->alerter = alerter_new(service, &c->alerts, provisioner->mailer);
        provisioner->dump_tools = dump_tools_new(provisioner);
        return worker_new(service, &worker, &provisioner->worker, err);
}

static int provisioner_ready(struct service *service, struct err *err)
{
        struct provisioner *provisioner = service->state;

        if (pg_pool_is_up(service->catalog) && !server_life_is_known(provisioner->server_life))
                return err_set(err, ERR_BUSY, "starting", "the catalog does not know the servers yet");
        if (resealer_unknown_key(provisioner->resealer) != NULL)
                return err_set(err, ERR_BUSY, "key_unknown",
                               "secrets are sealed with key %s, which is in no ring: add it",
                               resealer_unknown_key(provisioner->resealer));
        return worker_ready(provisioner->worker, err);
}

static void provisioner_stop(struct service *service)
{
        struct provisioner *provisioner = service->state;

        worker_stop(provisioner->worker);
}

static bool provisioner_idle(struct service *service)
{
        struct provisioner *provisioner = service->state;

        return worker_is_idle(provisioner->worker);
}

static void provisioner_finish(struct service *service)
{
        struct provisioner *provisioner = service->state;

        worker_free(provisioner->worker);
        waker_free(provisioner->waker);
        janitor_free(provisioner->janitor);
        resealer_free(provisioner->resealer);
        mailer_free(provisioner->mailer);
        mail_template_free(provisioner->invitation);
        alerter_free(provisioner->alerter);
        dump_tools_free(provisioner->dump_tools);
        server_life_free(provisioner->server_life);
        servers_free(provisioner->access.servers);
        blocking_free(provisioner->disk);
        registry_free(provisioner->registry);
        migration_set_free(provisioner->migrations);
        keyring_free(provisioner->control_keys);
        keyring_free(provisioner->app_keys);
        free(provisioner);
}

int main(int argc, char **argv)
{
        const struct config_table tables[] = {
                PROVISIONER_OPTIONS,
                config_at(&TENANT_OPTIONS, offsetof(struct provisioner_config, tenants)),
                config_at(&APP_KEY_OPTIONS, offsetof(struct provisioner_config, keys)),
                config_at(&CONTROL_KEY_OPTIONS, offsetof(struct provisioner_config, keys)),
                config_at(&LINK_OPTIONS, offsetof(struct provisioner_config, links)),
                config_at(&MAIL_OPTIONS, offsetof(struct provisioner_config, mail)),
                config_at(&ALERT_OPTIONS, offsetof(struct provisioner_config, alerts)),
        };
        const struct service_definition definition = {
                .name = "provisioner",
                .purpose = "turns signups into isolated, migrated, working databases",
                .schema = "provisioner",
                .tables = tables,
                .table_count = ARRAY_SIZE(tables),
                .config_size = sizeof(struct provisioner_config),
                .start = provisioner_start,
                .ready = provisioner_ready,
                .stop = provisioner_stop,
                .idle = provisioner_idle,
                .finish = provisioner_finish,
        };

        return service_main(argc, argv, &definition);
}
