/* Options of the services that go to tenants' databases. */
#pragma once

#include "common/base/config.h"

struct tenant_config {
        char *servers, *sslmode;
};

/* TENANT_SERVERS (servers.h), whatever the driver of new tenants: there may be older ones on servers; and
 * TENANT_SSLMODE. */
extern const struct config_table TENANT_OPTIONS;
