/* Options of the services that connect to tenants' databases. */
#pragma once

#include "common/base/config.h"

struct tenant_config {
        char *servers, *sslmode;
};

/* TENANT_SERVERS (servers.h), whatever the driver of new tenants, since older ones may be on servers; and
 * TENANT_SSLMODE. */
extern const struct config_table TENANT_OPTIONS;
