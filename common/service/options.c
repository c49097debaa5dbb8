/* The options all services have: the table of struct service_config. */
#include "common/service/options.h"

#include "common/service/service.h"

#define AT(field) offsetof(struct service_config, field)

static const struct config_option OPTIONS[] = {
        { "LOG_LEVEL", CONFIG_TEXT, 0, "info", "Least level to log: debug, info, warn or error.", AT(log_level), 0, 0 },
        { "OPS_ADDRESS", CONFIG_TEXT, 0, "127.0.0.1", "Address of /healthz, /readyz and /metrics.", AT(ops_address), 0,
          0 },
        { "OPS_PORT", CONFIG_INTEGER, CONFIG_REQUIRED, NULL, "Port of /healthz, /readyz and /metrics.", AT(ops_port), 1,
          65535 },
        { "SANDBOX", CONFIG_BOOL, 0, "0",
          "Allows failpoints and a movable business clock. Never set it where live keys are.", AT(sandbox), 0, 0 },
        { "FAILPOINTS", CONFIG_TEXT, 0, NULL, "Arms failpoints (see --failpoints); needs SANDBOX=1.", AT(failpoints), 0,
          0 },
        { "KAFKA_BROKERS", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Kafka bootstrap servers, host:port with commas.",
          AT(kafka_brokers), 0, 0 },
        { "KAFKA_PROPERTIES", CONFIG_TEXT, CONFIG_SECRET, NULL,
          "More librdkafka properties, name=value with semicolons: TLS and SASL go here. A semicolon inside a value is "
          "written \\;.",
          AT(kafka_properties), 0, 0 },
        { "CATALOG_DATABASE_URL", CONFIG_TEXT, CONFIG_REQUIRED | CONFIG_SECRET, NULL,
          "The catalog, a direct or session-mode connection with this service's own login.", AT(catalog_url), 0, 0 },
        { "CATALOG_POOL_SIZE", CONFIG_INTEGER, 0, "4", "Connections to the catalog.", AT(catalog_pool_size), 1, 100 },
        { "LEASE", CONFIG_DURATION, 0, "30s",
          "How long work in hand stays reserved for a process that is not heard of.", AT(lease_ms), SECONDS(2),
          MINUTES(60) },
};

const struct config_table SERVICE_OPTIONS = { OPTIONS, ARRAY_SIZE(OPTIONS) };
