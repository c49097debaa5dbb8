/* The bodies of the manual pages: see manual.h. */
#include "cli/manual.h"

#define TENANT_WORD "TENANT is an id, a unique beginning of one (at least 4 characters), or a subdomain.\n"
#define LIST_WORDS                                                                                                     \
        "  --limit N           at most N rows\n"                                                                       \
        "  --watch[=TIME]      repeat, every 2 seconds unless a time is given: on a terminal the whole list,\n"        \
        "                      otherwise what is new or has changed; with --json each changed list on one line.\n"     \
        "                      Ctrl-C ends it with 0\n"
#define WAIT_WORDS                                                                                                     \
        "  --reason TEXT       kept in the history, and shown with the effect\n"                                       \
        "  --wait[=TIME]       wait for the outcome, 5 minutes unless a time is given (90s, 10m)\n"
#define COMMAND_CODES                                                                                                  \
        "\nWithout --wait, 0 means that Kafka has the command. With it: 0 succeeded, 1 failed or superseded by a\n"    \
        "later command, 4 refused, 5 not finished in time (it continues).\n"

const char MANUAL_SIGNUP[] =
        "The gateway checks the signup and hands it to Kafka; the provisioner creates database, schema and first\n"
        "admin, and mails the invitation. The answer contains no secrets.\n\n"
        "  --company COMPANY   the customer's name\n"
        "  --email EMAIL       the first admin's address, to which the invitation is sent\n"
        "  --name NAME         the first admin's name\n"
        "  --subdomain NAME    3 to 40 of a-z, 0-9 and hyphens; derived from the company by default\n"
        "  --plan PLAN         starter by default\n"
        "  --region REGION     where the database is to be, in the provider's terms\n"
        "  --label LABEL       for rollouts and lists, see `tenantry label`; may be repeated. A tenant labelled\n"
        "                      staging may have that subdomain, which is reserved otherwise\n"
        "  --wait[=TIME]       wait until it is ready, 5 minutes unless a time is given (90s, 10m)\n"
        "  --key KEY           Idempotency-Key: the same key and arguments give the same tenant, however often\n\n"
        "Examples:\n"
        "  tenantry signup --company 'Acme Pharmacy' --email ada@acme.example --wait\n"
        "  tenantry signup --company Acme --email ada@acme.example --key order-4711 --json | jq -r .tenant_id\n\n"
        "With --wait: 0 ready, 1 failed, 4 refused (if the subdomain is taken, free ones are shown), 5 not in time.\n";

const char MANUAL_TENANTS[] =
        "The first 100, oldest first; --all shows every one. Deprovisioned tenants are not listed.\n\n"
        "  --state STATE       requested, provisioning, ready, attention or archived\n"
        "  --plan PLAN         only tenants that signed up for this plan\n"
        "  --label LABEL       only tenants with this label\n"
        "  --search TEXT       3 or more characters contained in the subdomain or the company's name\n"
        "  --sort FIELD        created_at, since (when the state last changed) or subdomain; with a hyphen before it\n"
        "                      in descending order: --sort -since\n"
        "  --all               fetch all pages\n" LIST_WORDS
        "\nDOING is the step and progress of work under way, otherwise the reason for the state. A suspended tenant\n"
        "is ready, but closed to its application.\n\n"
        "Examples:\n"
        "  tenantry tenants --state attention --watch\n"
        "  tenantry tenants --search pharmacy --sort subdomain\n"
        "  tenantry tenants --label canary -o wide\n"
        "  tenantry tenants --state attention -o name | xargs -n 1 tenantry retry\n"
        "  tenantry tenants --all --json | jq -r '.tenants[].slug'\n";

const char MANUAL_OPERATION[] =
        "list          the newest 50, or as many as --limit says; ended ones are kept for 90 days\n"
        "show ID       one operation, by its id or a unique beginning of it (at least 4 characters)\n\n"
        "  --tenant TENANT     only operations of this tenant\n"
        "  --state STATE       accepted (under way), succeeded, failed, superseded or rejected\n"
        "  --sort FIELD        of the rows shown: kind, state, slug, created_at, finished_at, ...; with a hyphen\n"
        "                      before it in descending order\n" LIST_WORDS "\nExamples:\n"
        "  tenantry operation list --state failed\n"
        "  tenantry operation list --tenant acme-pharmacy --limit 5\n"
        "  tenantry operation show 8f14e45f\n";

const char MANUAL_TENANT[] = "Shows the snapshot that watchers get, and the last entries of the history.\n\n"
                             "Examples:\n"
                             "  tenantry tenant acme-pharmacy\n"
                             "  tenantry tenant acme-pharmacy --json | jq .access\n";

const char MANUAL_CONNECTION[] = TENANT_WORD
        "Needs a token with the scope app: TENANTRY_APP_TOKEN if set, otherwise TENANTRY_TOKEN. The answer\n"
        "contains a password.\n\n"
        "  --env               lines for the shell, so that the password is on no command line\n\n"
        "Examples:\n"
        "  eval \"$(tenantry connection acme-pharmacy --env)\" && psql\n\n"
        "4 means that the tenant may not be used now: it is suspended, archived or not ready.\n";

const char MANUAL_WATCH[] =
        "On a terminal a board with a progress bar for each tenant, active ones first; otherwise a line for each\n"
        "change; with --json each snapshot on its own line. Shows all tenants first, then every change. Reconnects\n"
        "when the connection is lost. Ctrl-C ends it with 0.\n\n"
        "Examples:\n"
        "  tenantry watch\n"
        "  tenantry watch acme-pharmacy\n"
        "  tenantry watch --json | jq -r 'select(.state == \"attention\") | .slug'\n";

const char MANUAL_WAIT[] =
        "tenant      until the tenant is in the state: requested, provisioning, ready, attention, archived or\n"
        "            deprovisioned. Waits up to 30 seconds for an id that is not known yet.\n"
        "operation   until the operation, whose id signup and the commands print, has ended.\n\n"
        "  --state STATE       for a tenant\n"
        "  --timeout TIME      500ms, 30s, 5m, 1h; 5m by default\n\n"
        "Examples:\n"
        "  id=$(tenantry signup --company Acme --email a@acme.example --json | jq -r .tenant_id)\n"
        "  tenantry wait tenant \"$id\" --state ready --timeout 2m && ./run-smoke-test \"$id\"\n\n"
        "0 reached; 1 in attention, failed, or unable to reach that state; 4 the operation was refused; 5 not in time\n"
        "(it continues). If the gateway restarts meanwhile, the command waits for it.\n";

const char MANUAL_SUSPEND[] = TENANT_WORD
        "The application's login is closed and its sessions are terminated; the data stays. The stricter of operator\n"
        "and billing wins.\n\n" WAIT_WORDS
        "\nExamples:\n  tenantry suspend acme-pharmacy --reason 'asked for by phone' --wait\n" COMMAND_CODES;

const char MANUAL_RESUME[] =
        TENANT_WORD "Reverses a suspend. Access stays closed while billing wants it closed.\n\n" WAIT_WORDS
                    "\nExamples:\n  tenantry resume acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_ROTATE[] =
        TENANT_WORD "The new login and the old one both work for a while (ROTATION_OVERLAP), so that no connection\n"
                    "breaks; then the old one is closed. `tenantry connection` shows the new one.\n\n" WAIT_WORDS
                    "\nExamples:\n  tenantry rotate acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_BACKUP[] = TENANT_WORD
        "An encrypted pg_dump into the archive directory; it counts only once it is listed and checksummed.\n"
        "`tenantry tenant` shows when the last one was made; `tenantry archive cat` decrypts it.\n\n" WAIT_WORDS
        "\nExamples:\n  tenantry backup acme-pharmacy --wait=10m\n" COMMAND_CODES;

const char MANUAL_RESEND_INVITE[] =
        TENANT_WORD "A new link is sent to the first admin's address; older ones stop working.\n\n" WAIT_WORDS
                    "\nExamples:\n  tenantry resend-invite acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_RETRY[] = TENANT_WORD
        "For a tenant in state attention. A provisioning that was undone starts over, one past its point of no return\n"
        "continues where it stopped; otherwise the wanted and actual states are compared again. Fix the cause first:\n"
        "tenantry explain TENANT.\n\n" WAIT_WORDS "\nExamples:\n  tenantry retry acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_LABEL[] = TENANT_WORD
        "Labels are words of your own by which tenants are chosen, such as canary, eu or staging: 1 to 40 of a-z,\n"
        "0-9, hyphen, underscore and dot; a tenant has at most 20. + adds one, - removes one; to add one that it has\n"
        "or to remove one that it lacks is no error. Archived tenants can be labelled, too.\n\n" WAIT_WORDS
        "  --                  what follows is no option: for labels such as o and h\n"
        "\nExamples:\n"
        "  tenantry label acme-pharmacy +canary -eu\n"
        "  tenantry label acme-pharmacy --reason 'moved' -- -o +x\n"
        "  tenantry tenants --label eu --all -o name | xargs -I{} tenantry label {} +wave-2\n" COMMAND_CODES;

const char MANUAL_ARCHIVE[] =
        "archive TENANT        dumps the database, encrypted, and drops it once the dump is listed and checksummed;\n"
        "                      to make only a copy, use backup\n"
        "archive restore TENANT    restores a backup or archive in place of the tenant's database: everything written\n"
        "                      since is lost. It is loaded and proved first, while the tenant keeps working. Also\n"
        "                      brings back an archived tenant\n"
        "archive check TENANT --restore    restores it into a database that is dropped again, as a proof\n"
        "archive check FILE    decrypts one of our files, with CONTROL_KEYS, and discards the output: is it complete?\n"
        "                      Shows its size and SHA-256\n"
        "archive cat FILE      decrypts it to standard output, for pg_restore\n\n"
        "  --beside            restore into a separate database, which the tenant's own login can open\n"
        "  --backup FILE       which one, by its file name; the newest by default\n"
        "  --confirm SUBDOMAIN repeat the tenant's subdomain: its database is replaced\n" WAIT_WORDS
        "\nA truncated or altered backup or archive is detected only when its end is reached: check the exit code.\n\n"
        "Examples:\n"
        "  tenantry archive acme-pharmacy --reason 'contract ended' --wait\n"
        "  tenantry archive check acme-pharmacy --restore --wait=1h\n"
        "  tenantry archive restore acme-pharmacy --beside --wait=1h\n"
        "  tenantry archive restore acme-pharmacy --confirm acme-pharmacy --wait=1h\n" COMMAND_CODES;

const char MANUAL_DEPROVISION[] = TENANT_WORD
        "Drops the database, its logins and secrets, and deletes people's addresses. This cannot be undone: archive\n"
        "first if anything must be kept.\n\n"
        "  --confirm SUBDOMAIN repeat the tenant's subdomain, to protect against accidental deletion\n" WAIT_WORDS
        "\nExamples:\n  tenantry deprovision acme-pharmacy --confirm acme-pharmacy --wait\n" COMMAND_CODES;

const char MANUAL_EXPLAIN[] =
        "For a tenant (id or subdomain), its history, grouped by the event that caused it, with times, the rule by\n"
        "which each effect followed, and how the operation ended. For an operation, only what it caused. The gateway\n"
        "has the last 100 rows; older ones are in tenant.events.v1.\n\n"
        "Examples:\n"
        "  tenantry explain acme-pharmacy\n"
        "  tenantry explain 8f14e45f-ceea-867f-8a2b-0123456789ab\n"
        "  tenantry explain acme-pharmacy --json | jq '.causes[].effects[].rule'\n";

const char MANUAL_INVENTORY[] =
        "What the janitor last found. Verdicts: ours; orphan (at the provider, but belongs to no tenant); ghost (in\n"
        "the catalog, but not at the provider); drift (differs from what was applied: a closed login is open, a\n"
        "project is paused, it is on another server); quarantined (replaced, to be deleted). Sums up the monthly\n"
        "cost. Below, the files in the archive directory: known; orphan (not a backup or archive in the catalog);\n"
        "missing (in the catalog, but not in the directory).\n\n"
        "  --sort FIELD        verdict, server, monthly_cost_cents, ...; with a hyphen before it in descending\n"
        "                      order\n" LIST_WORDS "\nExamples:\n"
        "  tenantry inventory\n"
        "  tenantry inventory --sort -monthly_cost_cents --limit 10\n"
        "  tenantry inventory --json | jq '[.items[] | select(.verdict != \"ours\")]'\n";

const char MANUAL_ALERTS[] =
        "list             open ones, newest first; one per cause, with how often it occurred; the default\n"
        "resolve ID...    closes alerts that have been dealt with. While its cause persists, an alert is raised\n"
        "                 again. tenant.events.v1 records who did it\n\n"
        "  --all               include resolved ones\n"
        "  --sort FIELD        of the rows shown: cause, times, last_at, ...; with a hyphen before it in descending\n"
        "                      order\n" LIST_WORDS "\nExamples:\n"
        "  tenantry alerts\n"
        "  tenantry alerts resolve 12 13\n"
        "  tenantry alerts --all --json | jq -r '.items[].cause'\n";

const char MANUAL_DLQ[] =
        "list          the last 200 dead letters, or as many as --limit says: where each came from, and why it was\n"
        "              refused\n"
        "show ID       one with headers and payload; bytes that are not text are shown as \\xNN\n"
        "replay ID...  sends the same bytes to the same topic again, once the cause is fixed\n"
        "drop ID...    discards them; the copy on the topic's .dlq stays as long as Kafka keeps it. tenant.events.v1\n"
        "              records who did it\n\n"
        "  --confirm CODE      for drop: repeat the code shown by list; letters with another code are not dropped\n"
        "  --sort FIELD        of the rows shown: code, service, at, ...; with a hyphen before it in descending\n"
        "                      order\n" LIST_WORDS "\nExamples:\n"
        "  tenantry dlq list\n"
        "  tenantry dlq show 12\n"
        "  tenantry dlq replay 12 13 14\n"
        "  tenantry dlq drop 15 16 --confirm not_json\n";

const char MANUAL_EVENTS[] =
        "Reads tenant.events.v1 from KAFKA_BROKERS, without a group; works while gateway and catalog are down. One\n"
        "line per event: time, tenant, what happened. With --json the event as it is: partition, offset, key,\n"
        "headers, data.\n\n"
        "  --from-beginning    start with everything Kafka still has, instead of now\n"
        "  --tenant TENANT     only events of this tenant; the gateway resolves a subdomain or the beginning of an id\n"
        "  --count N           end after N events; otherwise Ctrl-C ends it with 0\n\n"
        "Examples:\n"
        "  tenantry events tail\n"
        "  tenantry events tail --from-beginning --json | jq -r '.headers.ce_type'\n";

const char MANUAL_DOCTOR[] =
        "One line per check: good, bad (and what to do about it) or skipped (cannot be checked from here). Run it\n"
        "with the services' environment, for instance through TENANTRY_ENV_FILE, and it sees as much as they do:\n"
        "TENANT_DRIVER, TENANT_SERVERS, SUPABASE_ACCESS_TOKEN, CONTROL_KEYS, APP_KEYS, ARCHIVE_DIRECTORY. It changes\n"
        "nothing.\n\n"
        "Examples:\n"
        "  tenantry doctor\n"
        "  TENANTRY_ENV_FILE=/etc/tenantry/provisioner.env tenantry doctor --json |\n"
        "      jq '.checks[] | select(.verdict == \"bad\")'\n\n"
        "1 if a check is bad.\n";

const char MANUAL_INIT[] =
        "Reads CATALOG_ADMIN_URL, KAFKA_BROKERS and, for each service, CATALOG_PASSWORD_GATEWAY and so on: if one is\n"
        "set, that service's login gets that password. Safe to run again at any time.\n\n"
        "  --migrations DIR    the catalog's migrations; migrations/catalog by default\n"
        "  --partitions N      of new topics, 6 by default\n"
        "  --replication N     of new topics, 1 by default; from 3 on, two must be in sync\n"
        "  --no-topics         only the catalog: something else creates the topics\n\n"
        "Examples:\n"
        "  tenantry init --replication 3\n";

const char MANUAL_MIGRATE[] =
        "new NAME      an empty file YYYYMMDDHHMMSS_name.sql (UTC) with migrate:up and migrate:down; prints its path.\n"
        "              Never replaces a file\n"
        "lint          reads files, or all of a directory, and names what would hold tenants up, fail on their rows,\n"
        "              or fail the programs of the previous release (breaking): rule, reason, safe way. A file allows\n"
        "              a rule with a line: -- tenantry:allow RULE and the reason\n"
        "import NAME   reads what `alembic upgrade A:B --sql` prints and writes it as files: each transaction, and\n"
        "              each autocommit_block(), is one, YYYYMMDDHHMMSS_NAME.sql or, if they are several,\n"
        "              YYYYMMDDHHMMSS_NAME_N.sql. Prints their paths. Either all are written or none, and nothing is\n"
        "              overwritten\n"
        "register      makes files known to all migrators, by content. What a tenant has cannot be changed any more\n"
        "show          lists the registered files, or shows one\n"
        "withdraw      takes a file that no tenant has out of the register\n"
        "run           brings the registered files to the fleet, in waves; shows the plan\n"
        "dry-run       tries the files on each tenant and rolls them back: who would fail, and why. Takes the options\n"
        "              of run, and waits for the outcome\n"
        "status        the run at work, those that wait and the last that ended; or one run\n"
        "tenants       the tenants of a run: state, error, what each waits for\n"
        "watch         follows a run until it has ended or halted\n"
        "pause, resume, promote (to the next wave, before its soak is over), halt, rollback (exactly what the run\n"
        "brought), cancel, retry (the failed tenants), mark (a failed tenant has by hand what the files say: they are "
        "only\n"
        "noted in its ledger): commands to a run\n"
        "signal        what your monitoring says of a run: halt halts it at once, good takes back what was said under\n"
        "              the same NAME\n\n"
        "RUN is a run's number, its id, or the beginning of that; where it may be left out, the run at work.\n\n"
        "  --directory DIR     for new and import: where to; migrations by default\n"
        "  --down FILE         for import: the output of `alembic downgrade B:A --sql`, for their migrate:down; "
        "without\n"
        "                      it they cannot be taken back\n"
        "  --target VERSION    up to this file; the newest by default\n"
        "  --strategy STRATEGY gradual (10, 50, 100 percent; the default), canary (one tenant for a day, then all) or "
        "all\n"
        "  --canary TENANT     begins with this one for a day; otherwise with one that is labelled canary\n"
        "  --waves LIST        your own: numbers, percentages and labels, such as 1,beta,10%,100%\n"
        "  --labels LIST, --tenants LIST    only these tenants\n"
        "  --soak TIME         how long each wave is watched before the next; 10m by default, 24h for canary\n"
        "  --max-failures N, --max-failure-rate RATE    above these the run halts; 10 tenants, 2% of a wave by "
        "default\n"
        "  --on-halt ACTION    pause (the default) or rollback\n"
        "  --forecast WHOM     on whom its files are tried before each wave: sample (200 of each wave; the default), "
        "all\n"
        "                      or none\n"
        "  --concurrency N     how many tenants at once; 32 by default\n"
        "  --lock-timeout TIME, --statement-timeout TIME    2s and 10m by default\n"
        "  --allow RULES       breaking rules of the linter that this run may break\n"
        "  --out-of-order      also brings (or registers) files that sort before one that tenants have\n"
        "  --queue             waits until the run at work has ended\n"
        "  --watch             follows it\n"
        "  --tenant TENANT, --code CODE    for retry: only this tenant, or those that failed with this code; mark "
        "needs TENANT\n"
        "  --state STATE       for tenants: waiting, forecasting, applying, done, failed, current, left, "
        "undo_waiting,\n"
        "                      undo_waiting, undoing, undone or undo_failed\n"
        "\nnew, lint and import need neither gateway nor token; lint and register without arguments read "
        "migrations.\n\n"
        "Examples:\n"
        "  tenantry migrate new 'add branches'\n"
        "  tenantry migrate lint && tenantry migrate register\n"
        "  alembic upgrade 3f2a:9c41 --sql | tenantry migrate import invoices\n"
        "  tenantry migrate run --strategy canary --reason 'branches' --watch\n"
        "  tenantry migrate tenants --state failed\n"
        "  tenantry migrate retry 7 --code 55P03\n"
        "  tenantry wait migration 7 --timeout 1h && deploy-the-code\n\n"
        "lint: 0 if nothing is breaking that no file allows; otherwise, and if a file is malformed, 1. watch and\n"
        "run --watch: 0 if the run was completed on all tenants, otherwise 1.\n";

const char MANUAL_BILLING[] =
        "show TENANT   plan, status, what comes next, and the last invoices\n"
        "override      gives the tenant a plan that it has not bought (sold by talking, or a gift), or takes that\n"
        "              back\n"
        "end-duplicate of two subscriptions ends the later one at once, and refunds what was paid for it\n"
        "events        what became of Stripe's events, the newest first: applied; stale (an older state of the object\n"
        "              than is known); twin (the same once more); tie (another state of the same second: Stripe is\n"
        "              asked); thin (it carries nothing: Stripe is asked); parked (nobody's yet); quarantined (of\n"
        "              another mode or account: set aside)\n"
        "replay N...   applies events that were set aside once more, when the cause is mended\n"
        "held          tenants whose time is over, but so many at once that nobody is suspended before somebody looks\n"
        "release       suspends and archives those\n"
        "reconcile     the last comparisons with Stripe, and the subscriptions that were different there (drift)\n"
        "verify        rebuilds every state from Stripe's events in Kafka, with the functions that billing uses, and\n"
        "              compares; 1 if something is different. Also shown, but no difference: asked (Stripe answered\n"
        "              when it was asked), listed (found in Stripe's list, never delivered), lost (Kafka has deleted\n"
        "              its events). Reads CATALOG_ADMIN_URL and KAFKA_BROKERS; changes nothing\n"
        "forecast      what becomes of a tenant's subscription within 45 days if nothing changes and all is "
        "paid\n\n" TENANT_WORD "  --plan PLAN         of override: a plan of PLANS\n"
        "  --until TIME        2027-12-31, or 2027-12-31T12:00:00Z; without it, until somebody removes it\n"
        "  --reason TEXT       why; kept with it\n"
        "  --by NAME           who decided it; your login's name by default\n"
        "  --remove            takes the override back\n"
        "  --tenant TENANT     of events: only those about this tenant\n"
        "  --outcome OUTCOME   only those with this outcome\n"
        "  --now               of reconcile: compare now\n"
        "  --object ID         only those about this object of Stripe's, as sub_1PqR...\n" LIST_WORDS "\nExamples:\n"
        "  tenantry billing show acme-pharmacy\n"
        "  tenantry billing override acme-pharmacy --plan enterprise --until 2027-12-31 --reason 'order 4711'\n"
        "  tenantry billing override acme-pharmacy --remove --reason 'order 4711 was cancelled'\n"
        "  tenantry billing events --tenant acme\n"
        "  tenantry billing events --outcome quarantined -o name | xargs tenantry billing replay\n\n"
        "0 done; 4 refused: no such plan, a time that has passed, or there is only one subscription.\n";

const char MANUAL_DRIFT[] =
        "Has the migrators look into each tenant's database, and lists those that differ: in the versions that their\n"
        "ledger names from what the catalog says (which is put right), by a version that no file has, by an invalid\n"
        "index, or by not answering.\n\n"
        "  --schema            also compares their schemas, apart from rights and owners: who is not like most "
        "tenants\n"
        "                      with the same files, and in what\n"
        "  --labels LIST, --tenants LIST    only these\n"
        "  --last              what the last check found, or has found so far; begins none\n\n"
        "Examples:\n"
        "  tenantry drift\n"
        "  tenantry drift --schema --labels canary\n"
        "  tenantry drift --last -o json | jq -r '.tenants[].slug'\n\n"
        "0 if no tenant has drifted, otherwise 1; 5 while the check goes on. A new check ends the one before it.\n";

const char MANUAL_CLOCK[] =
        "Trials, grace periods, reminders and the like use business time, which is real time except in a sandbox.\n"
        "There, `advance` moves it forward: it stops whenever a timer is due, and waits until that is handled and no\n"
        "work on a tenant is under way. So a month can pass in a few seconds.\n\n"
        "  advance DURATION    14d, 24h, 90m; needs SANDBOX=1, and services that run with SANDBOX=1: others refuse a\n"
        "                      catalog whose clock was advanced\n"
        "  --timeout TIME      how long to wait at each stop, 60 seconds by default\n\n"
        "CATALOG_ADMIN_URL (or CATALOG_DATABASE_URL) is the catalog; the login must own it.\n\n"
        "Examples:\n"
        "  tenantry clock\n"
        "  SANDBOX=1 tenantry clock advance 14d\n\n"
        "4 if this is not a sandbox; 5 if something did not finish in time: it is named, and the clock stays there.\n";

const char MANUAL_KEYS[] =
        "new    prints a key for CONTROL_KEYS or APP_KEYS. To rotate: append it to the present ones everywhere, then\n"
        "       put it first everywhere; the provisioners then re-seal the stored secrets.\n"
        "token  prints a bearer token once, and the line for the gateway's TOKENS file. Scopes: signup, read, app\n"
        "       (the product's backend: connection details), signal (monitoring: signals to a run, nothing else),\n"
        "       admin (all but app).\n\n"
        "  --id ID             of the key; k and today's date by default, such as k20260131\n"
        "  --name NAME         of the token's owner, shown in logs; keep it when you rotate the token\n"
        "  --scopes SCOPES     one or more, separated by commas\n\n"
        "Examples:\n"
        "  tenantry keys new --id k2\n"
        "  tenantry keys token --name website --scopes signup\n";

const char MANUAL_STRIPE[] =
        "setup  makes products, prices, a configuration of the customer portal and the webhook endpoint, as the plans\n"
        "       say, keeps what is right, and changes what is not; may be run again at any time. A new amount is a "
        "new\n"
        "       price, to which the lookup key moves: subscribers stay on the price that they have\n"
        "check  says how Stripe differs from that, one line each, and changes nothing\n\n"
        "  --endpoint URL      where Stripe delivers; PUBLIC_URL and /api/webhooks/stripe by default\n"
        "  --secret-file FILE  where the endpoint's secret is written when the endpoint is made, since Stripe shows "
        "it\n"
        "                      once: a new file, for its owner alone. Give it to each gateway as\n"
        "                      STRIPE_WEBHOOK_SECRET_FILE\n"
        "  --roll              make another endpoint in the place of the present one, whose secret is lost or whose\n"
        "                      API version is old; FILE is replaced\n\n"
        "Reads STRIPE_SECRET_KEY (better: STRIPE_SECRET_KEY_FILE), STRIPE_API_URL, PLANS and PUBLIC_URL; check also\n"
        "compares STRIPE_WEBHOOK_SECRET, STRIPE_LIVEMODE and STRIPE_PORTAL_CONFIGURATION, where they are set. Rights\n"
        "of the key: docs/security.md.\n\n"
        "Examples:\n"
        "  tenantry stripe setup --endpoint https://api.example.com/api/webhooks/stripe --secret-file stripe-webhook\n"
        "  TENANTRY_ENV_FILE=/etc/tenantry/gateway.env tenantry stripe check\n\n"
        "check: 1 if anything differs. setup: 1 if a person must look at something. 4 the key is refused, 6 Stripe\n"
        "cannot be reached.\n";

const char MANUAL_MAIL[] =
        "preview [KIND]          the mail of that kind, with a made-up tenant's data; without KIND, which kinds there "
        "are\n\n"
        "  --html                its HTML instead of its text\n"
        "  --templates DIRECTORY your own words, as the services' MAIL_TEMPLATES; by default MAIL_TEMPLATES, where "
        "that\n"
        "                        is set. Where the directory has no files of the kind, ours are shown\n\n"
        "Nothing is sent, and no service is asked. A mistake in a file is told with its line.\n\n"
        "Examples:\n"
        "  tenantry mail preview\n"
        "  tenantry mail preview trial_ending --templates ./mails\n"
        "  tenantry mail preview suspended --html > suspended.html\n";

const char MANUAL_COMPLETION[] = "The scripts get subdomains from the gateway, through `completion tenants`.\n\n"
                                 "Examples:\n"
                                 "  . <(tenantry completion bash)\n"
                                 "  tenantry completion fish > ~/.config/fish/completions/tenantry.fish\n"
                                 "  tenantry completion zsh > \"${fpath[1]}/_tenantry\"\n";
