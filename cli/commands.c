/* The table of commands. */
#include "cli/cli.h"

const struct command COMMANDS[] = {
        { "init", "[--migrations DIR] [--partitions N] [--replication N] [--no-topics]",
          "make the catalog, its roles and the topics, or bring them up to date",
          "Reads CATALOG_ADMIN_URL, KAFKA_BROKERS and, for each service, CATALOG_PASSWORD_GATEWAY and so on: where one is\n"
          "set, that service's login gets that password. Safe to run again at any time.\n",
          run_init },
        { "keys", "new [--id ID] | token --name NAME --scopes SCOPE,SCOPE", "make keys and tokens",
          "new    prints a key for CONTROL_KEYS or APP_KEYS. To rotate: add it behind the present ones everywhere, then\n"
          "       put it first everywhere; secrets are sealed anew as they are used.\n"
          "token  prints a bearer token once, and the line for the gateway's TOKENS file.\n",
          run_keys },
        { NULL, NULL, NULL, NULL, NULL },
};
