/* The migrator's configuration. */
#pragma once

#include "common/service/options.h"
#include "common/service/service.h"
#include "common/tenant/tenant_options.h"

struct migrator_config {
        struct service_config service;
        struct tenant_config tenants;
        struct key_config keys;
        char *migrations;
        int64_t connections;
        bool require_staging;
};

extern const struct config_table MIGRATOR_OPTIONS;
