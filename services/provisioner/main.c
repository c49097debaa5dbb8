/* The provisioner: turns signups into ready tenants and keeps each tenant as it is wanted. This file names its parts.
 */
#include "common/base/blocking.h"
#include "common/base/memory.h"
#include "common/contracts/tenant.h"
#include "common/durable/worker.h"
#include "services/provisioner/alerter.h"
#include "services/provisioner/driver.h"
#include "services/provisioner/dump_tools.h"
#include "services/provisioner/janitor.h"
#include "services/provisioner/provisioner.h"
#include "services/provisioner/rewrap.h"
#include "services/provisioner/servers.h"
#include "services/provisioner/waker.h"

#include <string.h>

#define DISK_CALLS   6 /* at once, of all backups and archives: a disk that hangs leaves threads to the others */
#define MAILS_ON_WAY 4 /* at once: of the same threads */

static const struct saga_kind *const KINDS[] = {
        &PROVISION, &DEPROVISION, &ARCHIVE, &ACCESS, &ROTATE, &RETIRE, &BACKUP, &INVITE, &LINK, &RESTORE, &VERIFY, NULL,
};

static void name_driver(void *context, json_t *data)
{
        struct provisioner *provisioner = context;

        json_set_text(data, "driver", provisioner->config->driver);
}

static struct mailer *make_mailer(struct service *service, const struct provisioner_config *config)
{
        struct mail_settings settings = {
                .smtp_url = config->smtp_url,
                .user = config->smtp_user,
                .password = config->smtp_password,
                .ca = config->smtp_ca,
                .directory = config->mail_directory,
                .from = config->mail_from,
        };

        /* A quarter of the sagas in hand: beside the half that may be backups, some are left whatever hangs. */
        return mailer_new(&service->loop, &settings, (size_t)MAX(1, MIN(MAILS_ON_WAY, config->workers / 4)));
}

static int start(struct service *service, const void *config, struct err *err)
{
        struct provisioner *provisioner = NEW(struct provisioner);
        const struct provisioner_config *c = provisioner->config = config;
        struct worker_settings worker = {
                .group = "tenantry-provisioner",
                .contracts = TENANT_CONTRACTS,
                .kinds = KINDS,
                .sagas = (size_t)c->workers,
                .enrich = name_driver,
                .context = provisioner,
        };
        int rc;

        service->state = provisioner;
        provisioner->service = service;
        rc = keyring_parse("CONTROL_KEYS", c->control_keys, &provisioner->control_keys, err);
        if (rc == 0)
                rc = keyring_parse("APP_KEYS", c->app_keys, &provisioner->app_keys, err);
        if (rc == 0)
                rc = migration_set_load(c->migrations, &provisioner->migrations, err);
        if (rc < 0)
                return rc;
        provisioner->mailer = make_mailer(service, c);
        provisioner->disk = blocking_new(&service->loop, DISK_CALLS);
        provisioner->servers = servers_new(provisioner);
        provisioner->waker = waker_new(provisioner);
        provisioner->janitor = janitor_new(provisioner);
        provisioner->rewrap = rewrap_new(provisioner);
        provisioner->alerter = alerter_new(provisioner);
        provisioner->dump_tools = dump_tools_new(provisioner);
        return worker_new(service, &worker, &provisioner->worker, err);
}

static int ready(struct service *service, struct err *err)
{
        struct provisioner *provisioner = service->state;

        if (pg_pool_is_up(service->catalog) && !servers_are_known(provisioner->servers))
                return err_set(err, ERR_BUSY, "starting", "the catalog does not know the servers yet");
        if (rewrap_unknown_key(provisioner->rewrap) != NULL)
                return err_set(err, ERR_BUSY, "key_unknown",
                               "secrets are sealed with key %s, which is in no ring: add it",
                               rewrap_unknown_key(provisioner->rewrap));
        return worker_ready(provisioner->worker, err);
}

static void stop(struct service *service)
{
        struct provisioner *provisioner = service->state;

        worker_stop(provisioner->worker);
}

static bool idle(struct service *service)
{
        struct provisioner *provisioner = service->state;

        return worker_is_idle(provisioner->worker);
}

static void finish(struct service *service)
{
        struct provisioner *provisioner = service->state;

        worker_free(provisioner->worker);
        waker_free(provisioner->waker);
        janitor_free(provisioner->janitor);
        rewrap_free(provisioner->rewrap);
        mailer_free(provisioner->mailer);
        alerter_free(provisioner->alerter);
        dump_tools_free(provisioner->dump_tools);
        servers_free(provisioner->servers);
        blocking_free(provisioner->disk);
        migration_set_free(provisioner->migrations);
        keyring_free(provisioner->control_keys);
        keyring_free(provisioner->app_keys);
        free(provisioner);
}

int main(int argc, char **argv)
{
        static struct service_definition definition = {
                .name = "provisioner",
                .purpose = "turns signups into isolated, migrated, working databases",
                .schema = "provisioner",
                .config_size = sizeof(struct provisioner_config),
                .check = provisioner_config_check,
                .start = start,
                .ready = ready,
                .stop = stop,
                .idle = idle,
                .finish = finish,
        };

        definition.options = PROVISIONER_OPTIONS;
        return service_main(argc, argv, &definition);
}
