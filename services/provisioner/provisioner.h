/* The parts of the provisioner, as its sagas see them. */
#pragma once

#include "common/base/keyring.h"
#include "common/durable/saga.h"
#include "common/migration/migration.h"
#include "common/net/mail.h"
#include "common/tenant/tenant_access.h"
#include "services/provisioner/config.h"

struct blocking;
struct driver;
struct mail_template;
struct registry;

struct provisioner {
        struct service *service;
        const struct provisioner_config *config;
        struct keyring *control_keys, *app_keys;
        struct migration_set *migrations; /* of TENANT_MIGRATIONS: for tenants made before any file is registered */
        struct registry *registry;
        struct mailer *mailer;
        struct mail_template *invitation;
        struct blocking *disk;       /* calls to ARCHIVE_DIRECTORY, which may hang */
        struct tenant_access access; /* for tenants' databases: the rings above, and servers */
        struct server_life *server_life;
        struct worker *worker;
        struct waker *waker;
        struct janitor *janitor;
        struct resealer *resealer;
        struct alerter *alerter;
        struct dump_tools *dump_tools;
};

/* The kinds of sagas, each in the file of its name. */
extern const struct saga_kind PROVISION, DEPROVISION, ARCHIVE, ACCESS, ROTATE, RETIRE, BACKUP, INVITE, LINK, RESTORE,
        VERIFY;
