/* `tenantry migrate run`, and what is done with a run: status, tenants, watch, and each command. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/migrate.h"
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

int migrate_add_list(json_t *body, const char *field, const char *text, bool are_tenants)
{
        auto_free char *copy = mem_copy_text(text);
        char *rest = copy, *word;
        json_t *list;

        if (text == NULL)
                return EXIT_GOOD;
        list = json_array();
        json_object_set_new(body, field, list);
        while ((word = strsep(&rest, ",")) != NULL) {
                struct id id;
                int status = are_tenants ? api_find_tenant(word, &id) : EXIT_GOOD;

                if (status != EXIT_GOOD)
                        return status;
                if (json_array_append_new(list, json_string(are_tenants ? id.text : word)) < 0)
                        return cli_fail(EXIT_USAGE, "--%s is not valid UTF-8", field);
        }
        return EXIT_GOOD;
}

/* "1,10%,100%": numbers of tenants, and percentages of the fleet; or a label. */
static int run_add_waves(json_t *body, const char *text)
{
        auto_free char *copy = mem_copy_text(text);
        char *rest = copy, *word, *end;
        json_t *list = json_array();

        if (text == NULL)
                return json_decref(list), EXIT_GOOD;
        json_object_set_new(body, "waves", list);
        json_object_set_new(body, "strategy", json_string("waves"));
        while ((word = strsep(&rest, ",")) != NULL) {
                double number = strtod(word, &end);

                if (end != word && strcmp(end, "%") == 0)
                        json_array_append_new(list, json_pack("{s:f}", "percent", number));
                else if (end != word && *end == '\0' && number >= 1)
                        json_array_append_new(list, json_pack("{s:I}", "count", (json_int_t)number));
                else if (*word >= 'a' && *word <= 'z')
                        json_array_append_new(list, json_pack("{s:[s]}", "labels", word));
                else
                        return cli_usage("migrate",
                                         "--waves is a list of numbers, percentages and labels: 1,beta,10%,100%");
        }
        return EXIT_GOOD;
}

static int run_add_canary(json_t *body, const char *word)
{
        struct id id;
        int status = word ? api_find_tenant(word, &id) : EXIT_GOOD;

        if (word == NULL || status != EXIT_GOOD)
                return status;
        json_object_set_new(body, "canary", json_string(id.text));
        if (json_object_get(body, "strategy") == NULL)
                json_object_set_new(body, "strategy", json_string("canary"));
        return EXIT_GOOD;
}

static int run_add_number(json_t *body, const char *option, const char *field, const char *text)
{
        char *end = "";
        double number = text ? strtod(text, &end) : 0;

        if (text == NULL)
                return EXIT_GOOD;
        if (*text == '\0' || (*end != '\0' && strcmp(end, "%") != 0))
                return cli_fail(EXIT_USAGE, "--%s must be a number", option);
        if (*end == '%')
                json_object_set_new(body, field, json_real(number / 100));
        else if (number == (double)(json_int_t)number)
                json_object_set_new(body, field, json_integer((json_int_t)number));
        else
                json_object_set_new(body, field, json_real(number));
        return EXIT_GOOD;
}

static void run_add_text(json_t *body, const char *field, const char *text)
{
        if (text != NULL)
                json_object_set_new(body, field, json_string(text));
}

static void run_add_flag(int *argc, char **argv, json_t *body, const char *option, const char *field)
{
        if (cli_flag(argc, argv, option))
                json_object_set_new(body, field, json_true());
}

static int run_read_options(int *argc, char **argv, json_t *body)
{
        static const char *const texts[][2] = {
                { "target", "target" },
                { "strategy", "strategy" },
                { "soak", "soak" },
                { "on-halt", "on_halt" },
                { "forecast", "forecast" },
                { "lock-timeout", "lock_timeout" },
                { "statement-timeout", "statement_timeout" },
                { "reason", "reason" },
        };
        static const char *const numbers[][2] = { { "max-failures", "max_failures" },
                                                  { "max-failure-rate", "max_failure_rate" },
                                                  { "concurrency", "concurrency" } };
        const char *labels = cli_option(argc, argv, "labels"), *tenants = cli_option(argc, argv, "tenants");
        const char *canary = cli_option(argc, argv, "canary");
        const char *allow = cli_option(argc, argv, "allow"), *waves = cli_option(argc, argv, "waves");
        int status = EXIT_GOOD;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                run_add_text(body, texts[i][1], cli_option(argc, argv, texts[i][0]));
        for (size_t i = 0; status == EXIT_GOOD && i < ARRAY_SIZE(numbers); i++)
                status = run_add_number(body, numbers[i][0], numbers[i][1], cli_option(argc, argv, numbers[i][0]));
        run_add_flag(argc, argv, body, "out-of-order", "out_of_order");
        run_add_flag(argc, argv, body, "queue", "queue");
        if (status == EXIT_GOOD)
                status = run_add_canary(body, canary);
        if (status == EXIT_GOOD)
                status = run_add_waves(body, waves);
        if (status == EXIT_GOOD)
                status = migrate_add_list(body, "labels", labels, false);
        if (status == EXIT_GOOD)
                status = migrate_add_list(body, "allow", allow, false);
        return status == EXIT_GOOD ? migrate_add_list(body, "tenants", tenants, true) : status;
}

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

int migrate_run(int argc, char **argv)
{
        auto_json *body = json_object(), *answer = NULL, *operation = NULL;
        bool dry = strcmp(argv[1], "dry-run") == 0, watch = cli_flag(&argc, argv, "watch") || dry;
        int status = run_read_options(&argc, argv, body);
        const char *run;

        if (dry)
                json_object_set_new(body, "dry_run", json_true());

        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 1);
        if (status == EXIT_GOOD)
                status = api_post("/api/admin/migrations/run", body, NULL, &answer);
        if (status != EXIT_GOOD)
                return status;
        run = json_text(answer, "run_id");
        status = wait_operation(json_text(answer, "operation_id"), NULL, WAIT_DEFAULT_MS, &operation);
        if (cli_json) {
                json_object_set(answer, "operation", operation);
                cli_print_answer(answer);
                return status;
        }
        if (status != EXIT_GOOD)
                return status;
        print_pair("run", run);
        run_show_plan(json_object_get(operation, "result"));
        fflush(stdout);
        return watch ? migrate_watch_run(run, INT64_MAX) : status;
}

/* A run among those of one member of the status. */
static const json_t *run_find_among(const json_t *runs, const char *word)
{
        json_t *run;
        size_t i;

        json_array_foreach (runs, i, run) {
                auto_free char *number = mem_printf("%lld", (long long)json_number(run, "number", 0));

                if (strcmp(number, word) == 0 ||
                    (strlen(word) >= 4 && strncmp(json_text(run, "run_id"), word, strlen(word)) == 0))
                        return run;
        }
        return NULL;
}

int migrate_find_run(const char *word, struct id *ret)
{
        auto_json *status = NULL, *active = json_array();
        const json_t *found;
        int code;

        if (word != NULL && id_is_valid(word)) {
                memcpy(ret->text, word, sizeof(ret->text));
                return EXIT_GOOD;
        }
        code = api_get("/api/admin/migrations/status", &status);
        if (code != EXIT_GOOD)
                return code;
        if (json_is_object(json_object_get(status, "active")))
                json_array_append(active, json_object_get(status, "active"));
        if (word == NULL) {
                found = json_array_get(active, 0) ?: json_array_get(json_object_get(status, "ended"), 0);
                found = found ?: json_array_get(json_object_get(status, "queued"), 0);
        } else {
                found = run_find_among(active, word) ?: run_find_among(json_object_get(status, "queued"), word);
                found = found ?: run_find_among(json_object_get(status, "ended"), word);
        }
        if (found == NULL)
                return cli_fail(EXIT_NOT_FOUND, "there is no such run (see: tenantry migrate status)");
        memcpy(ret->text, json_text(found, "run_id"), sizeof(ret->text));
        return EXIT_GOOD;
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
        status = api_post(path, body, NULL, &answer);
        if (status != EXIT_GOOD)
                return status;
        status = wait_operation(json_text(answer, "operation_id"), NULL, WAIT_DEFAULT_MS, &operation);
        if (cli_json) {
                json_object_set(answer, "operation", operation);
                cli_print_answer(answer);
                return status;
        }
        if (status == EXIT_GOOD) {
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
        run_add_text(body, "reason", reason);
        run_add_text(body, "code", code);
        run_add_text(body, "tenant_id", tenant ? id.text : NULL);
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
        run_add_text(body, "name", argv[3]);
        run_add_text(body, "verdict", argv[4]);
        run_add_text(body, "reason", reason);
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
