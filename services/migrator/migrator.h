/* The parts of the migrator, as they see each other. */
#pragma once

#include "common/base/keyring.h"
#include "common/migration/registry.h"
#include "common/tenant/tenant_access.h"
#include "services/migrator/config.h"

struct migrator {
        struct service *service;
        const struct migrator_config *config;
        struct keyring *control_keys;
        struct tenant_access access; /* owners' logins only */
        struct registry *registry;
        struct registrar *registrar;
        struct worker *worker;
        struct fleet *fleet;
        struct inspector *inspector;
        struct coordinator *coordinator;
};
