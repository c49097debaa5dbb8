/* The manual pages' bodies: see manual.h. */
#include "cli/manual.h"

#define TENANT_WORD "TENANT is an id, the beginning of one that no other has (4 characters at least), or a subdomain.\n"
#define LIST_WORDS                                                                                                     \
        "  --limit N           so many rows\n"                                                                         \
        "  --watch[=TIME]      again and again, each 2 seconds where no time is given: on a terminal the whole "       \
        "list,\n"                                                                                                      \
        "                      elsewhere what is new or has changed; with --json each list that differs, on a line.\n" \
        "                      Ctrl-C ends it with 0\n"
#define WAIT_WORDS                                                                                                     \
        "  --reason TEXT       kept in the history, and shown where the effect is shown\n"                             \
        "  --wait[=TIME]       wait for the outcome, 5 minutes where no time is given (90s, 10m)\n"
#define COMMAND_CODES                                                                                                  \
        "\nWithout --wait, 0 means that Kafka has the command. With it: 0 it succeeded, 1 it failed or was overtaken " \
        "by\n"                                                                                                         \
        "a later command, 4 it was refused, 5 it goes on but did not end in time.\n"

const char MANUAL_SIGNUP[] =
        "The gateway checks the signup and hands it to Kafka; the provisioner makes database, schema and first admin,\n"
        "and mails the invitation. Nothing secret is answered.\n\n"
        "  --company COMPANY   whose it is\n"
        "  --email EMAIL       the first admin's address; the invitation goes there\n"
        "  --name NAME         the first admin's name\n"
        "  --subdomain NAME    3 to 40 of a-z, 0-9 and hyphens; made from the company where it is missing\n"
        "  --plan PLAN         starter where it is missing\n"
        "  --region REGION     where the database is to live, as the provider calls it\n"
        "  --wait[=TIME]       wait until it is ready, 5 minutes where no time is given (90s, 10m)\n"
        "  --key KEY           Idempotency-Key: the same key and the same words give the same tenant, however often\n\n"
        "Examples:\n"
        "  tenantry signup --company 'Acme Pharmacy' --email ada@acme.example --wait\n"
        "  tenantry signup --company Acme --email ada@acme.example --key order-4711 --json | jq -r .tenant_id\n\n"
        "With --wait: 0 ready, 1 it failed, 4 refused (the subdomain is taken: free ones are shown), 5 not in time.\n";

const char MANUAL_TENANTS[] =
        "The first 100, oldest first; --all shows every one. A tenant that is gone is not listed.\n\n"
        "  --state STATE       requested, provisioning, ready, attention or archived\n"
        "  --plan PLAN         of this plan only\n"
        "  --search TEXT       3 letters or more that stand in the subdomain or the company's name\n"
        "  --sort FIELD        created_at, since (when the state last changed) or subdomain; with a hyphen before it\n"
        "                      the largest first: --sort -since\n"
        "  --all               follow the pages to the end\n" LIST_WORDS
        "\nDOING is the step and progress of work under way, else why the state is what it is. suspended is a tenant "
        "that is\n"
        "ready, yet closed to its application.\n\n"
        "Examples:\n"
        "  tenantry tenants --state attention --watch\n"
        "  tenantry tenants --search pharmacy --sort subdomain\n"
        "  tenantry tenants --state attention -o name | xargs -n 1 tenantry retry\n"
        "  tenantry tenants --all --json | jq -r '.tenants[].slug'\n";

const char MANUAL_OPERATION[] =
        "list          the newest 50, or as many as --limit says; those that have ended are kept for 90 days\n"
        "show ID       one; the beginning of its id will do where no other begins so (4 characters at least)\n\n"
        "  --tenant TENANT     of one tenant only\n"
        "  --state STATE       accepted (under way), succeeded, failed, superseded or rejected\n"
        "  --sort FIELD        of the rows that are shown: kind, state, slug, created_at, finished_at, ...; with a "
        "hyphen\n"
        "                      before it the largest first\n" LIST_WORDS "\nExamples:\n"
        "  tenantry operation list --state failed\n"
        "  tenantry operation list --tenant acme-pharmacy --limit 5\n"
        "  tenantry operation show 8f14e45f\n";

const char MANUAL_TENANT[] = "Shows the snapshot that watchers get, and the last lines of the history.\n\n"
                             "Examples:\n"
                             "  tenantry tenant acme-pharmacy\n"
                             "  tenantry tenant acme-pharmacy --json | jq .access\n";

const char MANUAL_CONNECTION[] =
        TENANT_WORD "Needs a token with the scope app: TENANTRY_APP_TOKEN where it is set, else TENANTRY_TOKEN. The "
                    "answer holds a\n"
                    "password.\n\n"
                    "  --env               lines for the shell, so that the password is on no command line\n\n"
                    "Examples:\n"
                    "  eval \"$(tenantry connection acme-pharmacy --env)\" && psql\n\n"
                    "4 means that the tenant may not be used now: it is suspended, archived or not ready.\n";

const char MANUAL_WATCH[] =
        "On a terminal a board with a progress bar for each tenant, those at work first; elsewhere a line for each\n"
        "change; with --json each snapshot on a line of its own. First all as they are, then every change. A lost\n"
        "connection is made again. Ctrl-C ends it with 0.\n\n"
        "Examples:\n"
        "  tenantry watch\n"
        "  tenantry watch acme-pharmacy\n"
        "  tenantry watch --json | jq -r 'select(.state == \"attention\") | .slug'\n";

const char MANUAL_WAIT[] =
        "tenant      until the tenant is in the state: requested, provisioning, ready, attention, archived or\n"
        "            deprovisioned. An id that is not known yet is waited for up to 30 seconds.\n"
        "operation   until what signup and the commands answered with has ended.\n\n"
        "  --state STATE       for a tenant\n"
        "  --timeout TIME      500ms, 30s, 5m, 1h; 5m where it is missing\n\n"
        "Examples:\n"
        "  id=$(tenantry signup --company Acme --email a@acme.example --json | jq -r .tenant_id)\n"
        "  tenantry wait tenant \"$id\" --state ready --timeout 2m && ./run-smoke-test \"$id\"\n\n"
        "0 reached; 1 it came to attention, failed, or cannot reach that state any more; 4 the operation was refused;\n"
        "5 not in time (it goes on). A gateway that restarts meanwhile is waited for.\n";

const char MANUAL_SUSPEND[] = TENANT_WORD
        "The application's login is closed and its sessions are ended; data stays. The stricter of operator and "
        "billing\n"
        "wins.\n\n" WAIT_WORDS
        "\nExamples:\n  tenantry suspend acme-pharmacy --reason 'asked for by phone' --wait\n" COMMAND_CODES;

const char MANUAL_RESUME[] =
        TENANT_WORD "Takes back a suspend. It stays closed while billing wants it closed.\n\n" WAIT_WORDS
                    "\nExamples:\n  tenantry resume acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_ROTATE[] =
        TENANT_WORD "The new login and the old one work side by side for a while (ROTATION_OVERLAP), so that no "
                    "connection breaks;\n"
                    "then the old one is closed. `tenantry connection` shows the new one.\n\n" WAIT_WORDS
                    "\nExamples:\n  tenantry rotate acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_BACKUP[] = TENANT_WORD
        "pg_dump, encrypted, into the archive directory; listed and checksummed before it counts. `tenantry tenant`\n"
        "shows when the last one was; `tenantry archive cat` opens it.\n\n" WAIT_WORDS
        "\nExamples:\n  tenantry backup acme-pharmacy --wait=10m\n" COMMAND_CODES;

const char MANUAL_RESEND_INVITE[] =
        TENANT_WORD "A new link goes to the first admin's address; the older ones stop working.\n\n" WAIT_WORDS
                    "\nExamples:\n  tenantry resend-invite acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_RETRY[] =
        TENANT_WORD "For a tenant in state attention. A provisioning that was undone begins anew, one past its point "
                    "of no return goes\n"
                    "on where it stands, anything else is compared anew. First mend the cause: tenantry explain "
                    "TENANT.\n\n" WAIT_WORDS "\nExamples:\n  tenantry retry acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_ARCHIVE[] =
        "archive TENANT        dumps the database, encrypted, and drops it once the dump is listed and checksummed; "
        "for a "
        "copy\n"
        "                      alone: backup\n"
        "archive restore TENANT    brings a backup or archive back in the place of what the tenant has: all that was "
        "written\n"
        "                      since is lost. It is loaded and proved first, while the tenant works on. An archived "
        "tenant\n"
        "                      comes back to life\n"
        "archive check TENANT --restore    restores it into a database that is dropped again: the proof that it can "
        "be\n"
        "archive check FILE    decrypts a file of ours to nowhere, with CONTROL_KEYS: is it whole? Shows its size and "
        "SHA-256\n"
        "archive cat FILE      decrypts it to standard output, for pg_restore\n\n"
        "  --beside            restore into a database beside the tenant's; the tenant's own login opens it\n"
        "  --backup FILE       which one, by its file's name; the newest where it is missing\n"
        "  --confirm SUBDOMAIN the tenant's subdomain, once more: what it has is replaced\n" WAIT_WORDS
        "\nA backup or archive that was cut or changed is noticed when its end is not reached: heed the exit code.\n\n"
        "Examples:\n"
        "  tenantry archive acme-pharmacy --reason 'contract ended' --wait\n"
        "  tenantry archive check acme-pharmacy --restore --wait=1h\n"
        "  tenantry archive restore acme-pharmacy --beside --wait=1h\n"
        "  tenantry archive restore acme-pharmacy --confirm acme-pharmacy --wait=1h\n" COMMAND_CODES;

const char MANUAL_DEPROVISION[] =
        TENANT_WORD "Drops the database, its logins and secrets, and forgets the people's addresses. Not to be taken "
                    "back. Archive\n"
                    "first what must be kept.\n\n"
                    "  --confirm SUBDOMAIN the tenant's subdomain, once more: deletion is protected\n" WAIT_WORDS
                    "\nExamples:\n  tenantry deprovision acme-pharmacy --confirm acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_EXPLAIN[] = "For a tenant (id or subdomain) its history, grouped by the event that caused it, with "
                              "times, the rule\n"
                              "by which each effect followed, and how the operation ended. For an operation only what "
                              "it caused. The gateway\n"
                              "keeps the last 100 rows at hand; older ones are in tenant.events.v1.\n\n"
                              "Examples:\n"
                              "  tenantry explain acme-pharmacy\n"
                              "  tenantry explain 8f14e45f-ceea-867f-8a2b-0123456789ab\n"
                              "  tenantry explain acme-pharmacy --json | jq '.causes[].effects[].rule'\n";

const char MANUAL_INVENTORY[] =
        "What the janitor saw last. Verdicts: ours; orphan (the provider has it, no tenant knows it); ghost (the\n"
        "catalog knows it, the provider does not have it); drift (what it is differs from what was applied: a closed\n"
        "login is open, a project is paused, it stands on another server); quarantined (replaced, waits to be\n"
        "deleted). Sums the monthly cost. Below, the files of the archive directory: known; orphan (no backup or "
        "archive\n"
        "of the catalog); missing (the catalog knows it, the directory does not have it).\n\n"
        "  --sort FIELD        verdict, server, monthly_cost_cents, ...; with a hyphen before it the largest "
        "first\n" LIST_WORDS "\nExamples:\n"
        "  tenantry inventory\n"
        "  tenantry inventory --sort -monthly_cost_cents --limit 10\n"
        "  tenantry inventory --json | jq '[.items[] | select(.verdict != \"ours\")]'\n";

const char MANUAL_ALERTS[] =
        "list             open ones, newest first; one per cause, with how often it came; also without the word\n"
        "resolve ID...    puts them away, when what they tell of is dealt with. While its cause goes on, an alert "
        "comes\n"
        "                 again. Who did it is told on tenant.events.v1\n\n"
        "  --all               resolved ones too\n"
        "  --sort FIELD        of the rows that are shown: cause, times, last_at, ...; with a hyphen before it the "
        "largest\n"
        "                      first\n" LIST_WORDS "\nExamples:\n"
        "  tenantry alerts\n"
        "  tenantry alerts resolve 12 13\n"
        "  tenantry alerts --all --json | jq -r '.items[].cause'\n";

const char MANUAL_DLQ[] =
        "list          the last 200 dead letters, or as many as --limit says: where each came from, and why it was "
        "refused\n"
        "show ID       one with headers and payload; what is no text is shown as \\xNN\n"
        "replay ID...  sends the same bytes to the same topic once more, after the cause was mended\n"
        "drop ID...    throws them away; the copy on the topic's .dlq stays as long as Kafka keeps it. Who did it is "
        "told on\n"
        "              tenant.events.v1\n\n"
        "  --confirm CODE      for drop: the code that list shows, once more; one with another code is not dropped\n"
        "  --sort FIELD        of the rows that are shown: code, service, at, ...; with a hyphen before it the largest "
        "first\n" LIST_WORDS "\nExamples:\n"
        "  tenantry dlq list\n"
        "  tenantry dlq show 12\n"
        "  tenantry dlq replay 12 13 14\n"
        "  tenantry dlq drop 15 16 --confirm not_json\n";

const char MANUAL_EVENTS[] =
        "Reads tenant.events.v1 on KAFKA_BROKERS, in no group; works while gateway and catalog are away. One line an "
        "event:\n"
        "time, tenant, what happened. With --json the event as it is: partition, offset, key, headers, data.\n\n"
        "  --from-beginning    with all that Kafka still has, else from now on\n"
        "  --tenant TENANT     of one tenant only; a subdomain or the beginning of an id is asked for at the gateway\n"
        "  --count N           end after N events; else Ctrl-C ends it with 0\n\n"
        "Examples:\n"
        "  tenantry events tail\n"
        "  tenantry events tail --from-beginning --json | jq -r '.headers.ce_type'\n";

const char MANUAL_DOCTOR[] =
        "One line a check: good, bad (and what to do about it) or skipped (cannot be looked at from here). Run it with "
        "the\n"
        "services' environment, for instance by TENANTRY_ENV_FILE, and it sees as much as they do: TENANT_DRIVER,\n"
        "TENANT_SERVERS, SUPABASE_ACCESS_TOKEN, CONTROL_KEYS, APP_KEYS, ARCHIVE_DIRECTORY. It changes nothing.\n\n"
        "Examples:\n"
        "  tenantry doctor\n"
        "  TENANTRY_ENV_FILE=/etc/tenantry/provisioner.env tenantry doctor --json | jq '.checks[] | select(.verdict == "
        "\"bad\")'\n\n"
        "1 when a check is bad.\n";

const char MANUAL_INIT[] = "Reads CATALOG_ADMIN_URL, KAFKA_BROKERS and, for each service, CATALOG_PASSWORD_GATEWAY and "
                           "so on: where one is\n"
                           "set, that service's login gets that password. Safe to run again at any time.\n\n"
                           "  --migrations DIR    the catalog's migrations; migrations/catalog where it is missing\n"
                           "  --partitions N      of new topics, 6 where it is missing\n"
                           "  --replication N     of new topics, 1 where it is missing; from 3 on two must be in sync\n"
                           "  --no-topics         the catalog only: something else makes the topics\n\n"
                           "Examples:\n"
                           "  tenantry init --replication 3\n";

const char MANUAL_CLOCK[] =
        "Trials, grace periods, reminders and the like go by business time, which is real time except in a sandbox.\n"
        "There `advance` moves it on: it stops at each instant at which a timer is due, and waits until that is dealt "
        "with\n"
        "and no work on a tenant is under way. So a month can be lived through in a few seconds.\n\n"
        "  advance DURATION    14d, 24h, 90m; needs SANDBOX=1, and services that run with SANDBOX=1: others refuse a\n"
        "                      catalog whose clock was moved\n"
        "  --timeout TIME      how long to wait at one stop, 60 seconds where it is missing\n\n"
        "CATALOG_ADMIN_URL (or CATALOG_DATABASE_URL) names the catalog; the login must own it.\n\n"
        "Examples:\n"
        "  tenantry clock\n"
        "  SANDBOX=1 tenantry clock advance 14d\n\n"
        "4 where this is no sandbox; 5 where something did not end in time: it is named, and the clock stands there.\n";

const char MANUAL_KEYS[] =
        "new    prints a key for CONTROL_KEYS or APP_KEYS. To rotate: add it behind the present ones everywhere, then\n"
        "       put it first everywhere; the provisioners then seal what is stored anew.\n"
        "token  prints a bearer token once, and the line for the gateway's TOKENS file. Scopes: signup, read, app "
        "(the\n"
        "       product's backend: connection details), admin (all but app).\n\n"
        "  --id ID             of the key; k and today's date where it is missing, as k20260131\n"
        "  --name NAME         of the token's owner, told in logs; keep it when you rotate the token\n"
        "  --scopes SCOPES     one or more, with commas\n\n"
        "Examples:\n"
        "  tenantry keys new --id k2\n"
        "  tenantry keys token --name website --scopes signup\n";

const char MANUAL_COMPLETION[] = "Subdomains are asked for at the gateway, by `completion tenants`.\n\n"
                                 "Examples:\n"
                                 "  . <(tenantry completion bash)\n"
                                 "  tenantry completion fish > ~/.config/fish/completions/tenantry.fish\n"
                                 "  tenantry completion zsh > \"${fpath[1]}/_tenantry\"\n";
