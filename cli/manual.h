/* The bodies of the manual pages: what follows usage and summary in `tenantry COMMAND --help`. */
#pragma once

#define MANUAL_ENVIRONMENT                                                                                             \
        "\nEnvironment:\n"                                                                                             \
        "  TENANTRY_URL          the gateway, as http://127.0.0.1:8080\n"                                              \
        "  TENANTRY_TOKEN        bearer token; not accepted on the command line, where others could read it\n"         \
        "  TENANTRY_APP_TOKEN    token of the product's backend, for `connection`\n"                                   \
        "  TENANTRY_OPS_URL      services' ops ports for `doctor`, as http://host:port, separated by commas\n"         \
        "  KAFKA_BROKERS         for `init`, `events` and `doctor`; KAFKA_PROPERTIES adds librdkafka properties\n"     \
        "  CATALOG_ADMIN_URL     for `init` and `doctor`\n"                                                            \
        "  CATALOG_PASSWORD_...  for `init`: GATEWAY, PROVISIONER, MIGRATOR, BILLING\n"                                \
        "  CONTROL_KEYS          for `archive cat` and `archive check`\n"                                              \
        "  STRIPE_SECRET_KEY     for `stripe`; PLANS names the file of plans\n"                                        \
        "  TENANTRY_ENV_FILE     a file of NAME=value lines, for variables that the environment does not set\n"        \
        "  NO_COLOR              no colours\n"                                                                         \
        "Each may be given as NAME_FILE instead: a file that contains the value. `doctor` also reads the services' "   \
        "own.\n"

/* Options of every command. */
#define MANUAL_COMMON                                                                                                  \
        "\nFor every command:\n"                                                                                       \
        "  -o json, --json     the answer, or the error, as one JSON object; -o yaml as YAML\n"                        \
        "  --help              this page; `tenantry --help` lists the environment variables\n"

/* Options of every command that lists or shows something. */
#define MANUAL_LISTED                                                                                                  \
        "  -o name             only the names that other commands take, one per line: for xargs\n"                     \
        "  -o wide             all columns, however wide; without it a table fits the terminal\n"

#define MANUAL_EXIT_CODES                                                                                              \
        "\nExit codes:\n"                                                                                              \
        "  0 done            1 tried and failed      2 wrong usage    3 not found\n"                                   \
        "  4 refused         5 not in time           6 gateway, Kafka or PostgreSQL cannot be reached\n"

extern const char MANUAL_INIT[], MANUAL_CLOCK[], MANUAL_KEYS[], MANUAL_SIGNUP[], MANUAL_TENANTS[], MANUAL_TENANT[],
        MANUAL_CONNECTION[], MANUAL_WATCH[], MANUAL_WAIT[], MANUAL_SUSPEND[], MANUAL_RESUME[], MANUAL_ARCHIVE[],
        MANUAL_DEPROVISION[], MANUAL_OPERATION[], MANUAL_RETRY[], MANUAL_ROTATE[], MANUAL_BACKUP[],
        MANUAL_RESEND_INVITE[], MANUAL_LABEL[], MANUAL_EXPLAIN[], MANUAL_INVENTORY[], MANUAL_ALERTS[], MANUAL_DLQ[],
        MANUAL_EVENTS[], MANUAL_BILLING[], MANUAL_DOCTOR[], MANUAL_MIGRATE[], MANUAL_DRIFT[], MANUAL_STRIPE[],
        MANUAL_MAIL[], MANUAL_COMPLETION[];
