/* `tenantry migrate run`, and what is done with a run: status, tenants, watch, and each command. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/migrate.h"
#include "cli/migrate_options.h"
#include "cli/migrate_watch.h"
#include "cli/pages.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS "/api/admin/migrations/runs"

static void run_show_plan(const json_t *plan)
{
        const json_t *files = json_object_get(plan, "files"), *waves = json_object_get(plan, "waves");
        json_t *each;
        size_t i;

        json_array_foreach (files, i, each) {
                auto_free char *name = text_safe(json_text(each, "name"));

                printf("file %s%s%s\n", name, json_flag(each, "transaction") ? "" : ", without a transaction",
                       json_flag(each, "reversible") ? "" : ", cannot be taken back");
        }
        json_array_foreach (waves, i, each)
                printf("wave %lld: %lld tenants, %lld of them have all\n", (long long)json_number(each, "wave", 0),
                       (long long)json_number(each, "tenants", 0), (long long)json_number(each, "current", 0));
}

/* Sends a request and waits for its operation; with --json, shows both. The caller releases them. */
static int run_ask(const char *path, json_t *body, json_t **answer, json_t **operation)
{
        int status = wait_request(path, body, WAIT_DEFAULT_MS, answer, operation);

        if (cli_json && *answer != NULL) {
                json_object_set(*answer, "operation", *operation);
                cli_print_answer(*answer);
        }
        return status;
}

int migrate_run(int argc, char **argv)
{
        auto_json *body = json_object(), *answer = NULL, *operation = NULL;
        bool dry = strcmp(argv[1], "dry-run") == 0, watch = cli_flag(&argc, argv, "watch") || dry;
        int status = migrate_read_options(&argc, argv, body);
        const char *run;

        if (dry)
                json_object_set_new(body, "dry_run", json_true());

        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 1);
        if (status == EXIT_GOOD)
                status = run_ask("/api/admin/migrations/run", body, &answer, &operation);
        if (status != EXIT_GOOD || cli_json)
                return status;
        run = json_text(answer, "run_id");
        print_pair("run", run);
        run_show_plan(json_object_get(operation, "result"));
        fflush(stdout);
        return watch ? migrate_watch_run(run, INT64_MAX) : status;
}

/* Sends it and waits for its end; shows the run's state then. */
static int run_send_command(const char *word, const char *command, json_t *body)
{
        auto_json *answer = NULL, *operation = NULL;
        auto_free char *path = NULL;
        struct id run;
        int status = migrate_find_run(word, &run);

        if (status != EXIT_GOOD)
                return status;
        path = mem_printf(RUNS "/%s/%s", run.text, command);
        status = run_ask(path, body, &answer, &operation);
        if (status == EXIT_GOOD && !cli_json) {
                print_pair("run", run.text);
                print_pair("state", json_text(json_object_get(operation, "result"), "state"));
        }
        return status;
}

/* pause, resume, promote, halt, rollback, cancel, retry, mark: by argv[1]. */
int migrate_command(int argc, char **argv)
{
        const char *reason = cli_option(&argc, argv, "reason"), *code = cli_option(&argc, argv, "code");
        const char *tenant = cli_option(&argc, argv, "tenant");
        auto_json *body = json_object();
        bool retries = strcmp(argv[1], "retry") == 0, marks = strcmp(argv[1], "mark") == 0;
        struct id id;
        int status;

        if ((code != NULL && !retries) || (tenant != NULL && !retries && !marks))
                return cli_usage("migrate", "--code is for retry, --tenant for retry and mark");
        if (marks && (tenant == NULL || reason == NULL))
                return cli_usage("migrate",
                                 "mark needs --tenant TENANT and --reason TEXT: what was done by hand, and why");
        status = cli_expect(argc, argv, 2);
        if (status == EXIT_GOOD && tenant != NULL)
                status = api_find_tenant(tenant, &id);
        if (status != EXIT_GOOD)
                return status;
        migrate_add_text(body, "reason", reason);
        migrate_add_text(body, "code", code);
        migrate_add_text(body, "tenant_id", tenant ? id.text : NULL);
        return run_send_command(argv[2], argv[1], body);
}

/* signal RUN NAME VERDICT */
int migrate_signal(int argc, char **argv)
{
        const char *reason = cli_option(&argc, argv, "reason");
        auto_json *body = json_object();
        int status = cli_expect(argc, argv, 4);

        if (status != EXIT_GOOD)
                return status;
        migrate_add_text(body, "name", argv[3]);
        migrate_add_text(body, "verdict", argv[4]);
        migrate_add_text(body, "reason", reason);
        return run_send_command(argv[2], "signals", body);
}

static char *run_error_cell(const json_t *job)
{
        return text_detail(json_text(json_object_get(job, "error"), "detail"));
}

static const struct column JOBS[] = {
        { .heading = "SUBDOMAIN", .member = "slug" },
        { .heading = "WAVE", .member = "wave" },
        { .heading = "STATE", .member = "state" },
        { .heading = "ATTEMPTS", .member = "attempts" },
        { .heading = "WAITS FOR", .member = "waits_for" },
        { .heading = "CODE", .member = "error.code" },
        { .heading = "ERROR", .member = "error.detail", .cell = run_error_cell },
        { .heading = "TENANT", .member = "tenant_id", .wide = true },
        { .heading = NULL },
};

static const struct listing JOBS_LISTED = { .items = "tenants",
                                            .none = "no such tenants",
                                            .names = { "slug", "tenant_id" },
                                            .id = "tenant_id",
                                            .columns = JOBS };

int migrate_tenants(int argc, char **argv)
{
        const char *state = cli_option(&argc, argv, "state"), *code = cli_option(&argc, argv, "code");
        auto_buf path = { 0 };
        struct listing_wish wish;
        struct id run;
        int status = listing_options(&argc, argv, &wish);

        if (status == EXIT_GOOD && argc > 3)
                status = cli_expect(argc, argv, 2);
        if (status == EXIT_GOOD)
                status = migrate_find_run(argc == 3 ? argv[2] : NULL, &run);
        if (status != EXIT_GOOD)
                return status;
        buf_printf(&path, RUNS "/%s/tenants", run.text);
        api_add_query(&path, "state", state);
        api_add_query(&path, "code", code);
        return listing_run(&JOBS_LISTED, &wish, false, pages_fetch,
                           &(struct pages){ .path = path.data, .items = JOBS_LISTED.items, .limit = wish.limit });
}
