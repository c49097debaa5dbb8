/* The table of commands, in the order of the overview. The arguments are what completion offers, too. */
#include "cli/cli.h"
#include "cli/manual.h"

#define COMMAND_OPTIONS "TENANT [--reason TEXT] [--wait[=TIME]]"

const struct command COMMANDS[] = {
        { "signup",
          "--company COMPANY --email EMAIL [--name NAME] [--subdomain SUBDOMAIN] [--plan PLAN] [--region REGION] "
          "[--wait[=TIME]] [--key IDEMPOTENCY_KEY]",
          "ask for a new tenant", MANUAL_SIGNUP, run_signup },
        { "tenants", "[--state STATE] [--plan PLAN] [--all]", "list tenants", MANUAL_TENANTS, run_tenants },
        { "tenant", "ID|SUBDOMAIN", "show one tenant: state, progress, access, what comes next", MANUAL_TENANT,
          run_tenant },
        { "watch", "[ID|SUBDOMAIN]", "follow tenants live", MANUAL_WATCH, run_watch },
        { "wait", "tenant ID|SUBDOMAIN --state STATE [--timeout 5m] | operation ID [--timeout 5m]",
          "wait until a tenant or an operation is there; for pipelines", MANUAL_WAIT, run_wait },
        { "explain", "TENANT|OPERATION", "tell which event led by which rule to which effect", MANUAL_EXPLAIN,
          run_explain },
        { "connection", "TENANT [--env]", "show how to connect to a tenant's database", MANUAL_CONNECTION,
          run_connection },
        { "suspend", COMMAND_OPTIONS, "close a tenant's database to its application", MANUAL_SUSPEND,
          run_tenant_command },
        { "resume", COMMAND_OPTIONS, "take a suspension back", MANUAL_RESUME, run_tenant_command },
        { "rotate", COMMAND_OPTIONS, "give a tenant's application a new login", MANUAL_ROTATE, run_tenant_command },
        { "backup", COMMAND_OPTIONS, "dump a tenant's database, encrypted", MANUAL_BACKUP, run_tenant_command },
        { "resend-invite", COMMAND_OPTIONS, "send the first admin's invitation again", MANUAL_RESEND_INVITE,
          run_tenant_command },
        { "retry", COMMAND_OPTIONS, "try again what waits for a person", MANUAL_RETRY, run_tenant_command },
        { "archive", COMMAND_OPTIONS " | cat FILE | check FILE",
          "dump a tenant and drop its database; open such a dump", MANUAL_ARCHIVE, run_archive },
        { "deprovision", "TENANT --confirm SUBDOMAIN [--reason TEXT] [--wait[=TIME]]", "delete a tenant for good",
          MANUAL_DEPROVISION, run_tenant_command },
        { "inventory", "", "hold what the provider has against what the catalog knows", MANUAL_INVENTORY,
          run_inventory },
        { "alerts", "[--all]", "show what an operator must know", MANUAL_ALERTS, run_alerts },
        { "dlq", "list | show ID | replay ID [ID...]", "look at refused messages and send them again", MANUAL_DLQ,
          run_dlq },
        { "events", "tail [--from-beginning] [--tenant ID] [--count N]", "follow the history, straight from Kafka",
          MANUAL_EVENTS, run_events },
        { "doctor", "", "check configuration, gateway, Kafka, catalog and provider", MANUAL_DOCTOR, run_doctor },
        { "init", "[--migrations DIR] [--partitions N] [--replication N] [--no-topics]",
          "make the catalog, its roles and the topics, or bring them up to date", MANUAL_INIT, run_init },
        { "keys", "new [--id ID] | token --name NAME --scopes SCOPE,SCOPE", "make keys and tokens", MANUAL_KEYS,
          run_keys },
        { "completion", "bash | zsh", "print a script that completes commands and options", MANUAL_COMPLETION,
          run_completion },
        { NULL, NULL, NULL, NULL, NULL },
};
