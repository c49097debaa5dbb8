/* The provisioner: turns signups into ready tenants and keeps each tenant as it is wanted. This file names its parts.
 */
#include "common/base/blocking.h"
#include "common/base/memory.h"
#include "common/contracts/tenant.h"
#include "common/durable/intake.h"
#include "common/durable/publisher.h"
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
        &PROVISION, &DEPROVISION, &ARCHIVE, &ACCESS, &ROTATE, &RETIRE, &BACKUP, &INVITE, &LINK, NULL,
};

static void name_driver(void *context, json_t *data)
{
        struct provisioner *provisioner = context;

        json_set_text(data, "driver", provisioner->config->driver);
}

static void facts_changed(void *context)
{
        struct provisioner *provisioner = context;

        saga_engine_wake(provisioner->sagas);
        publisher_wake(provisioner->publisher);
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
        struct intake_settings intake = {
                .group = "tenantry-provisioner",
                .contracts = TENANT_CONTRACTS,
                .enrich = name_driver,
                .taken = facts_changed,
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
        provisioner->sagas = saga_engine_new(service, KINDS, (size_t)c->workers);
        provisioner->publisher = publisher_new(service);
        provisioner->waker = waker_new(provisioner);
        provisioner->janitor = janitor_new(provisioner);
        provisioner->rewrap = rewrap_new(provisioner);
        provisioner->alerter = alerter_new(provisioner);
        provisioner->dump_tools = dump_tools_new(provisioner);
        return intake_new(service, &intake, &provisioner->intake, err);
}

static int ready(struct service *service, struct err *err)
{
        struct provisioner *provisioner = service->state;

        if (service_catalog_fits(service, err) < 0)
                return -ERR_BUSY;
        if (!servers_are_known(provisioner->servers))
                return err_set(err, ERR_BUSY, "starting", "the catalog does not know the servers yet");
        if (rewrap_unknown_key(provisioner->rewrap) != NULL)
                return err_set(err, ERR_BUSY, "key_unknown",
                               "secrets are sealed with key %s, which is in no ring: add it",
                               rewrap_unknown_key(provisioner->rewrap));
        if (!intake_is_ready(provisioner->intake))
                return err_set(err, ERR_BUSY, "kafka_not_assigned", "Kafka has given this consumer no partitions yet");
        return 0;
}

static void stop(struct service *service)
{
        struct provisioner *provisioner = service->state;

        intake_stop(provisioner->intake);
        saga_engine_stop(provisioner->sagas);
        publisher_stop(provisioner->publisher);
}

static bool idle(struct service *service)
{
        struct provisioner *provisioner = service->state;

        return intake_is_idle(provisioner->intake) && saga_engine_is_idle(provisioner->sagas) &&
               publisher_is_idle(provisioner->publisher) && pg_pool_pending(service->catalog) == 0;
}

static void finish(struct service *service)
{
        struct provisioner *provisioner = service->state;

        intake_free(provisioner->intake);
        publisher_free(provisioner->publisher);
        saga_engine_free(provisioner->sagas);
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
