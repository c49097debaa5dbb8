/* The migrator's options: see config.h. */
#include "services/migrator/config.h"

#define AT(field) offsetof(struct migrator_config, field)

static const struct config_option OPTIONS[] = {
        { "TENANT_MIGRATIONS", CONFIG_TEXT, 0, NULL,
          "Directory of the product's migrations in dbmate's format, registered at start. Not set: files are "
          "registered "
          "only by tenantry migrate register, or by events.",
          AT(migrations), 0, 0 },
        { "MIGRATION_CONNECTIONS", CONFIG_INTEGER, 0, "32", "How many tenants this process migrates at once.",
          AT(connections), 1, 500 },
        { "MIGRATION_REQUIRE_STAGING", CONFIG_BOOL, 0, "0",
          "Refuses runs that do not say otherwise (require_staging) until their files are on every tenant labelled "
          "staging.",
          AT(require_staging), 0, 0 },
};

const struct config_table MIGRATOR_OPTIONS = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS) };
