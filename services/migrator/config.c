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
};

const struct config_table MIGRATOR_OPTIONS = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS) };
