/* `tenantry tenants`, `tenantry tenant` and `tenantry connection`: show tenants. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/pages.h"
#include "cli/story.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define PAGE          100
#define HISTORY_LINES 8

static char *tenants_state_cell(const json_t *tenant)
{
        return mem_copy_text(tenant_state_shown(tenant));
}

static char *tenants_doing_cell(const json_t *tenant)
{
        const json_t *activity = json_object_get(tenant, "activity");
        const char *code = json_text(json_object_get(tenant, "reason"), "code"), *step = json_text(activity, "step");

        if (step == NULL)
                return mem_copy_text(code ? code : "");
        return mem_printf("%s %lld %%", step, (long long)json_number(activity, "progress", 0));
}

/* What it has now; before billing knows of it, or without billing, what it signed up for. */
static char *tenants_plan_cell(const json_t *tenant)
{
        return mem_copy_text(json_text(json_object_get(tenant, "subscription"), "plan") ?: json_text(tenant, "plan") ?: "");
}

static char *tenants_since_cell(const json_t *tenant)
{
        return listing_time(tenant, "since");
}

static char *tenants_created_cell(const json_t *tenant)
{
        return listing_time(tenant, "created_at");
}

static char *tenants_backup_cell(const json_t *tenant)
{
        return listing_time(json_object_get(tenant, "backup"), "at");
}

static char *tenants_labels_cell(const json_t *tenant)
{
        const json_t *label;
        struct buf text = { 0 };
        size_t i;

        json_array_foreach (json_object_get(tenant, "labels"), i, label)
                buf_printf(&text, "%s%s", i ? ", " : "", json_string_value(label) ?: "?");
        return buf_take(&text);
}

static const struct column COLUMNS[] = {
        { .heading = "SUBDOMAIN", .member = "slug" },
        { .heading = "STATE", .cell = tenants_state_cell },
        { .heading = "DOING", .cell = tenants_doing_cell },
        { .heading = "PLAN", .cell = tenants_plan_cell },
        { .heading = "SINCE (UTC)", .cell = tenants_since_cell },
        { .heading = "COMPANY", .member = "company" },
        { .heading = "LABELS", .cell = tenants_labels_cell, .wide = true },
        { .heading = "ACCESS", .member = "access.applied", .wide = true },
        { .heading = "DRIVER", .member = "driver", .wide = true },
        { .heading = "REGION", .member = "region", .wide = true },
        { .heading = "SCHEMA", .member = "schema.version", .wide = true },
        { .heading = "BACKUP (UTC)", .cell = tenants_backup_cell, .wide = true },
        { .heading = "CREATED (UTC)", .cell = tenants_created_cell, .wide = true },
        { .heading = "TENANT", .member = "tenant_id", .wide = true },
        { .heading = NULL },
};

static const struct listing TENANTS = { .items = "tenants",
                                        .none = "no tenants",
                                        .names = { "slug", "tenant_id" },
                                        .id = "tenant_id",
                                        .columns = COLUMNS };

static bool tenants_is_order(const char *sort)
{
        static const char *const orders[] = { "created_at", "since", "subdomain" };

        for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
                if (strcmp(orders[i], sort + (*sort == '-')) == 0)
                        return true;
        return false;
}

static int tenants_check_words(const char *state, const char *sort)
{
        if (state != NULL && (!tenant_state_exists(state) || strcmp(state, "deprovisioned") == 0))
                return cli_usage("tenants", "--state is one of requested, provisioning, ready, attention, archived");
        if (sort != NULL && !tenants_is_order(sort))
                return cli_usage("tenants",
                                 "--sort is one of created_at, since, subdomain, optionally with a hyphen before it");
        return EXIT_GOOD;
}

struct tenants {
        struct pages pages;
        bool more; /* than were fetched */
};

static int tenants_fetch(void *context, json_t **ret)
{
        struct tenants *tenants = context;
        int status = pages_fetch(&tenants->pages, ret);

        tenants->more = status == EXIT_GOOD && json_text(*ret, "next_cursor") != NULL;
        return status;
}

int run_tenants(int argc, char **argv)
{
        const char *state = cli_option(&argc, argv, "state"), *plan = cli_option(&argc, argv, "plan");
        const char *search = cli_option(&argc, argv, "search"), *label = cli_option(&argc, argv, "label");
        bool all = cli_flag(&argc, argv, "all");
        auto_buf path = { 0 };
        struct listing_wish wish;
        struct tenants tenants;
        int status = listing_options(&argc, argv, &wish);

        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 0);
        if (status == EXIT_GOOD)
                status = tenants_check_words(state, wish.sort);
        if (status != EXIT_GOOD)
                return status;
        buf_add_text(&path, "/api/tenants");
        api_add_query(&path, "state", state);
        api_add_query(&path, "plan", plan);
        api_add_query(&path, "label", label);
        api_add_query(&path, "search", search);
        api_add_query(&path, "sort", wish.sort);
        tenants = (struct tenants){ .pages = { .path = path.data,
                                               .items = TENANTS.items,
                                               .limit = wish.limit ? wish.limit
                                                        : all      ? PAGES_ALL
                                                                   : PAGE } };
        status = listing_run(&TENANTS, &wish, true, tenants_fetch, &tenants);
        if (status == EXIT_GOOD && tenants.more && wish.limit == 0 && wish.watch_ms == 0 && !cli_json)
                fputs("there are more: add --all\n", stderr);
        return status;
}

/* The detail, or only its code if the history below shows it. */
static void tenant_show_trouble(const char *name, const json_t *trouble, const json_t *history)
{
        const char *detail = json_text(trouble, "detail"), *code = json_text(trouble, "code");
        size_t count = MIN(json_array_size(history), HISTORY_LINES);
        auto_free char *shown = text_detail(detail);
        bool below = code != NULL && story_tells(history, count, code, detail);

        print_pair(name, detail == NULL || below ? code : shown);
}

static void tenant_show_activity(const json_t *activity, const json_t *history)
{
        auto_free char *text = NULL;
        char bar[48];

        if (!json_is_object(activity))
                return;
        progress_bar(bar, sizeof(bar), PROGRESS_BAR_WIDTH, (int)json_number(activity, "progress", 0));
        text = mem_printf("%s %s: %s%s", bar, json_text(activity, "kind"), json_text(activity, "step"),
                          strcmp(json_text(activity, "status") ?: "", "undoing") == 0 ? " (undoing)" : "");
        print_pair("doing", text);
        tenant_show_trouble("trouble", json_object_get(activity, "error"), history);
}

static void tenant_show_next(const json_t *next)
{
        auto_free char *at = text_time(json_text(next, "at"));
        auto_free char *text = json_is_object(next) ? mem_printf("%s%s%s", json_text(next, "what"),
                                                                 json_text(next, "at") ? ", not before " : "",
                                                                 json_text(next, "at") ? at : "")
                                                    : NULL;

        print_pair("next", text);
}

static void tenant_show_access(const json_t *access)
{
        const char *wanted = json_text(access, "wanted"), *applied = json_text(access, "applied");
        const char *reason = json_text(access, "reason");
        auto_free char *text = NULL;

        if (wanted == NULL || applied == NULL)
                return;
        text = mem_printf("%s%s%s%s%s%s", applied, strcmp(wanted, applied) ? ", wanted: " : "",
                          strcmp(wanted, applied) ? wanted : "", reason ? " (" : "", reason ? reason : "",
                          reason ? ")" : "");
        print_pair("access", text);
}

/* The newest rows, oldest first. */
static void tenant_show_history(const json_t *history)
{
        size_t count = MIN(json_array_size(history), HISTORY_LINES);
        auto_json *shown = json_array();

        for (size_t i = 0; i < count; i++)
                json_array_append(shown, json_array_get(history, i));
        if (count > 0)
                printf("\nlast events (all: tenantry explain)\n");
        for (size_t i = count; i > 0; i--) {
                auto_free char *time = text_time(json_text(json_array_get(shown, i - 1), "at"));
                auto_free char *effect = story_row(shown, i - 1);

                printf("  %s  %s\n", time, effect);
        }
}

static void tenant_show(const json_t *tenant)
{
        const json_t *history = json_object_get(tenant, "history");
        auto_free char *since = text_time(json_text(tenant, "since"));
        auto_free char *created = text_time(json_text(tenant, "created_at"));
        auto_free char *backup = text_time(json_text(json_object_get(tenant, "backup"), "at"));
        auto_free char *labels = tenants_labels_cell(tenant);
        const char *state = tenant_state_shown(tenant);
        auto_free char *entered = mem_printf("%s since %s", state, since);
        bool timed = strcmp(state, "suspended") != 0 && json_text(tenant, "since") != NULL; /* since: of the state */

        print_pair("tenant", json_text(tenant, "tenant_id"));
        print_pair("subdomain", json_text(tenant, "slug"));
        print_pair("company", json_text(tenant, "company"));
        print_pair("plan", json_text(tenant, "plan"));
        print_pair("labels", *labels ? labels : NULL);
        print_pair("driver", json_text(tenant, "driver"));
        print_pair("region", json_text(tenant, "region"));
        print_pair("state", timed ? entered : state);
        tenant_show_trouble("reason", json_object_get(tenant, "reason"), history);
        tenant_show_activity(json_object_get(tenant, "activity"), history);
        tenant_show_next(json_object_get(tenant, "next"));
        tenant_show_access(json_object_get(tenant, "access"));
        print_pair("schema", json_text(json_object_get(tenant, "schema"), "version"));
        print_pair("last backup", backup);
        print_pair("created", created);
        tenant_show_history(history);
}

int run_tenant(int argc, char **argv)
{
        int status = cli_expect(argc, argv, 1);
        auto_free char *path = NULL;
        auto_json *tenant = NULL;
        struct id id;

        if (status == EXIT_GOOD)
                status = api_find_tenant(argv[1], &id);
        if (status != EXIT_GOOD)
                return status;
        path = mem_printf("/api/tenants/%s", id.text);
        status = api_get(path, &tenant);
        if (status != EXIT_GOOD)
                return status;
        if (!listing_show_one(&TENANTS, tenant))
                tenant_show(tenant);
        return EXIT_GOOD;
}

/* Quotes a word for the shell. */
static void tenant_print_quoted(const char *name, const char *value)
{
        printf("export %s='", name);
        for (const char *p = value ? value : ""; *p; p++)
                if (*p == '\'')
                        fputs("'\\''", stdout);
                else
                        putchar(*p);
        fputs("'\n", stdout);
}

static void tenant_show_connection(const json_t *connection, bool exports)
{
        static const char *const names[][2] = { { "host", "PGHOST" },
                                                { "port", "PGPORT" },
                                                { "database", "PGDATABASE" },
                                                { "user", "PGUSER" },
                                                { "password", "PGPASSWORD" } };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const json_t *member = json_object_get(connection, names[i][0]);
                auto_secret char *number = json_is_integer(member) ? json_print(member) : NULL;
                const char *value = number ? number : json_string_value(member);

                if (exports)
                        tenant_print_quoted(names[i][1], value);
                else
                        print_pair(names[i][0], value);
        }
        if (!exports)
                printf("%-13s %lld\n", "version", (long long)json_number(connection, "credential_version", 0));
}

int run_connection(int argc, char **argv)
{
        bool exports = cli_flag(&argc, argv, "env");
        int status = cli_expect(argc, argv, 1);
        auto_free char *path = NULL;
        struct api_answer answer;
        struct id id;

        if (status == EXIT_GOOD)
                status = api_find_tenant(argv[1], &id);
        if (status != EXIT_GOOD)
                return status;
        path = mem_printf("/api/tenants/%s/connection", id.text);
        status = api_send(
                &(struct api_request){ .method = "GET", .path = path, .token = cli_setting("TENANTRY_APP_TOKEN") },
                &answer);
        if (status != EXIT_GOOD)
                api_complain(&answer, status);
        else if (cli_json)
                print_json(answer.body);
        else
                tenant_show_connection(answer.body, exports);
        api_answer_release(&answer);
        return status;
}
