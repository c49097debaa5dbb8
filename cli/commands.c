/* The table of commands, in the order of the overview. Completion uses the arguments, too. */
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/manual.h"

#define COMMAND_OPTIONS "TENANT [--reason TEXT] [--wait[=TIME]]"

const struct command COMMANDS[] = {
        { "signup",
          "--company COMPANY --email EMAIL [--name NAME] [--subdomain SUBDOMAIN] [--plan PLAN] [--region REGION] "
          "[--label LABEL]... [--wait[=TIME]] [--key IDEMPOTENCY_KEY]",
          "request a new tenant", MANUAL_SIGNUP, run_signup, false },
        { "tenants", "[--state STATE] [--plan PLAN] [--label LABEL] [--search TEXT] [--all] " LISTING_OPTIONS,
          "list tenants", MANUAL_TENANTS, run_tenants, true },
        { "tenant", "ID|SUBDOMAIN", "show one tenant: state, progress, access, what comes next", MANUAL_TENANT,
          run_tenant, true },
        { "watch", "[ID|SUBDOMAIN]", "follow tenants live", MANUAL_WATCH, run_watch, false },
        { "wait",
          "tenant ID|SUBDOMAIN --state STATE [--timeout 5m] | operation ID [--timeout 5m] | migration RUN [--timeout "
          "5m]",
          "wait for a tenant's state, or the end of an operation or a rollout; for pipelines", MANUAL_WAIT, run_wait,
          false },
        { "operation", "list [--tenant TENANT] [--state STATE] " LISTING_OPTIONS " | show ID",
          "show what became of signups and commands", MANUAL_OPERATION, run_operation, true },
        { "explain", "TENANT|OPERATION", "show which event had which effect, and by which rule", MANUAL_EXPLAIN,
          run_explain, false },
        { "connection", "TENANT [--env]", "show how to connect to a tenant's database", MANUAL_CONNECTION,
          run_connection, false },
        { "suspend", COMMAND_OPTIONS, "close a tenant's database to its application", MANUAL_SUSPEND,
          run_tenant_command, false },
        { "resume", COMMAND_OPTIONS, "reverse a suspension", MANUAL_RESUME, run_tenant_command, false },
        { "rotate", COMMAND_OPTIONS, "give a tenant's application a new login", MANUAL_ROTATE, run_tenant_command,
          false },
        { "backup", COMMAND_OPTIONS, "dump a tenant's database, encrypted", MANUAL_BACKUP, run_tenant_command, false },
        { "resend-invite", COMMAND_OPTIONS, "send the first admin's invitation again", MANUAL_RESEND_INVITE,
          run_tenant_command, false },
        { "retry", COMMAND_OPTIONS, "retry work that is waiting for a person", MANUAL_RETRY, run_tenant_command,
          false },
        { "label", "TENANT +LABEL|-LABEL... [--reason TEXT] [--wait[=TIME]]", "give a tenant labels, or remove them",
          MANUAL_LABEL, run_label, false },
        { "archive",
          COMMAND_OPTIONS
          " | restore TENANT [--beside] [--backup FILE] [--confirm SUBDOMAIN] | check TENANT --restore | "
          "check FILE | cat FILE",
          "dump a tenant and drop its database; restore, check or decrypt a dump", MANUAL_ARCHIVE, run_archive, false },
        { "deprovision", "TENANT --confirm SUBDOMAIN [--reason TEXT] [--wait[=TIME]]", "delete a tenant for good",
          MANUAL_DEPROVISION, run_tenant_command, false },
        { "inventory", LISTING_OPTIONS, "compare what the provider has with what the catalog knows", MANUAL_INVENTORY,
          run_inventory, true },
        { "alerts", "[list] [--all] " LISTING_OPTIONS " | resolve ID [ID...]", "show what an operator must know",
          MANUAL_ALERTS, run_alerts, true },
        { "dlq", "list " LISTING_OPTIONS " | show ID | replay ID [ID...] | drop ID [ID...] --confirm CODE",
          "show refused messages, send them again or discard them", MANUAL_DLQ, run_dlq, true },
        { "events", "tail [--from-beginning] [--tenant TENANT] [--count N]", "follow the history, directly from Kafka",
          MANUAL_EVENTS, run_events, false },
        { "doctor", "", "check configuration, gateway, Kafka, catalog and provider", MANUAL_DOCTOR, run_doctor, false },
        { "init", "[--migrations DIR] [--partitions N] [--replication N] [--no-topics]",
          "create or update the catalog, its roles and the topics", MANUAL_INIT, run_init, false },
        { "migrate",
          "new NAME [--directory DIR] | lint [FILE|DIRECTORY ...] | "
          "import NAME [--down FILE] [--directory DIR] | register [FILE|DIRECTORY ...] [--out-of-order] | "
          "show [VERSION] | withdraw VERSION | run [--target VERSION] [--strategy STRATEGY] [--canary TENANT] [--waves "
          "LIST] "
          "[--labels LIST] [--tenants LIST] [--soak TIME] [--max-failures N] [--max-failure-rate RATE] "
          "[--on-halt ACTION] [--forecast WHOM] [--concurrency N] [--lock-timeout TIME] [--statement-timeout TIME] "
          "[--allow RULES] "
          "[--out-of-order] [--queue] [--reason TEXT] [--watch] | dry-run [OPTIONS OF run] | status [RUN] | "
          "tenants [RUN] [--state STATE] [--code CODE] " LISTING_OPTIONS " | watch [RUN] | pause RUN | resume RUN | "
          "promote RUN | halt RUN | rollback RUN | cancel RUN | retry RUN [--tenant TENANT] [--code CODE] | mark RUN "
          "--tenant TENANT --reason TEXT | signal RUN NAME halt|good [--reason TEXT]",
          "create and check migrations, and bring them to the whole fleet", MANUAL_MIGRATE, run_migrate, true },
        { "drift", "[--schema] [--labels LIST] [--tenants LIST] | --last",
          "find tenants whose databases are not as they should be", MANUAL_DRIFT, run_drift, true },
        { "billing",
          "show TENANT | override TENANT --plan PLAN --reason TEXT [--until TIME] [--by NAME] | "
          "override TENANT --remove --reason TEXT [--by NAME] | end-duplicate TENANT [--reason TEXT] | "
          "events [--tenant TENANT] [--outcome OUTCOME] [--object ID] " LISTING_OPTIONS
          " | replay NUMBER [NUMBER...] | "
          "held " LISTING_OPTIONS " | release",
          "show what a tenant has bought, give it what it has not, and what became of Stripe's events", MANUAL_BILLING,
          run_billing, true },
        { "stripe", "setup [--endpoint URL] [--secret-file FILE] [--roll] | check [--endpoint URL]",
          "bring the plans to Stripe, and find what differs there", MANUAL_STRIPE, run_stripe, false },
        { "mail", "preview [KIND] [--html] [--templates DIRECTORY]", "show a mail as people get it, with example data",
          MANUAL_MAIL, run_mail, false },
        { "clock", "[advance DURATION] [--timeout TIME]", "show business time; in a sandbox, advance it", MANUAL_CLOCK,
          run_clock, false },
        { "keys", "new [--id ID] | token --name NAME --scopes SCOPE,SCOPE", "create keys and tokens", MANUAL_KEYS,
          run_keys, false },
        { "completion", "bash | zsh | fish | tenants [BEGINNING]", "print a script that completes commands and options",
          MANUAL_COMPLETION, run_completion, false },
        { NULL, NULL, NULL, NULL, NULL, false },
};
