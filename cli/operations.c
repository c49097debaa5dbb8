/* `tenantry operation`: what became of signups and commands. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/pages.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define OPERATIONS "/api/operations"

static char *operations_created_cell(const json_t *operation)
{
        return listing_time(operation, "created_at");
}

static char *operations_finished_cell(const json_t *operation)
{
        return listing_time(operation, "finished_at");
}

static const struct column COLUMNS[] = {
        { .heading = "OPERATION", .member = "operation_id" },
        { .heading = "KIND", .member = "kind" },
        { .heading = "STATE", .member = "state" },
        { .heading = "SUBDOMAIN", .member = "slug" },
        { .heading = "CREATED (UTC)", .member = "created_at", .cell = operations_created_cell },
        { .heading = "FINISHED (UTC)", .member = "finished_at", .cell = operations_finished_cell },
        { .heading = "CODE", .member = "code" },
        { .heading = "DETAIL", .member = "detail", .wide = true },
        { .heading = "SERVICE", .member = "service", .wide = true },
        { .heading = "TENANT", .member = "tenant_id", .wide = true },
        { .heading = NULL },
};

static const struct listing LISTED = { .items = "operations",
                                       .none = "no operations",
                                       .names = { "operation_id" },
                                       .id = "operation_id",
                                       .columns = COLUMNS };

static bool operations_is_state(const char *state)
{
        static const char *const states[] = { "accepted", "succeeded", "failed", "superseded", "rejected" };

        for (size_t i = 0; i < ARRAY_SIZE(states); i++)
                if (strcmp(states[i], state) == 0)
                        return true;
        return false;
}

static int operations_list(int argc, char **argv)
{
        const char *state = cli_option(&argc, argv, "state"), *tenant = cli_option(&argc, argv, "tenant");
        auto_buf path = { 0 };
        struct listing_wish wish;
        struct id id;
        int status = listing_options(&argc, argv, &wish);

        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 1);
        if (status == EXIT_GOOD && state != NULL && !operations_is_state(state))
                status = cli_usage("operation", "--state is one of accepted, succeeded, failed, superseded, rejected");
        if (status == EXIT_GOOD && tenant != NULL)
                status = api_find_tenant(tenant, &id);
        if (status != EXIT_GOOD)
                return status;
        buf_add_text(&path, OPERATIONS);
        api_add_query(&path, "tenant_id", tenant ? id.text : NULL);
        api_add_query(&path, "state", state);
        return listing_run(&LISTED, &wish, false, pages_fetch,
                           &(struct pages){ .path = path.data, .items = LISTED.items, .limit = wish.limit });
}

static void operations_show_times(const json_t *operation)
{
        auto_free char *created = text_time(json_text(operation, "created_at"));
        auto_free char *finished = text_time(json_text(operation, "finished_at"));

        print_pair("created", json_text(operation, "created_at") ? created : NULL);
        print_pair("finished", json_text(operation, "finished_at") ? finished : NULL);
}

static void operations_show_one(const json_t *operation)
{
        const json_t *result = json_object_get(operation, "result");
        auto_free char *made = json_object_size(result) > 0 ? json_print(result) : NULL;

        print_pair("operation", json_text(operation, "operation_id"));
        print_pair("kind", json_text(operation, "kind"));
        print_pair("state", json_text(operation, "state"));
        print_pair("tenant", json_text(operation, "tenant_id"));
        print_pair("subdomain", json_text(operation, "slug"));
        print_pair("service", json_text(operation, "service"));
        operations_show_times(operation);
        print_pair("code", json_text(operation, "code"));
        print_pair("field", json_text(operation, "field"));
        print_pair("detail", json_text(operation, "detail"));
        print_pair("result", made);
}

static int operations_show(int argc, char **argv)
{
        auto_free char *path = NULL;
        auto_json *operation = NULL;
        int status = cli_expect(argc, argv, 2);
        struct id id;

        if (status == EXIT_GOOD)
                status = api_find_operation(argv[2], &id);
        if (status != EXIT_GOOD)
                return status;
        path = mem_printf(OPERATIONS "/%s", id.text);
        status = api_get(path, &operation);
        if (status == EXIT_GOOD && !listing_show_one(&LISTED, operation))
                operations_show_one(operation);
        return status;
}

int run_operation(int argc, char **argv)
{
        if (argc >= 2 && strcmp(argv[1], "list") == 0)
                return operations_list(argc, argv);
        if (argc >= 2 && strcmp(argv[1], "show") == 0)
                return operations_show(argc, argv);
        return cli_usage("operation", "use `operation list` or `operation show ID`");
}
