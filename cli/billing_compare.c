/* `tenantry billing reconcile`: how Stripe and the catalog compare; `billing forecast`: what becomes of a subscription.
 */
#include "cli/api.h"
#include "cli/billing.h"
#include "cli/listing.h"
#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>

#define RECONCILE "/api/admin/billing/reconcile"

static char *compare_at_cell(const json_t *row)
{
        return listing_time(row, "at");
}

static char *compare_began_cell(const json_t *row)
{
        return listing_time(row, "began_at");
}

static char *compare_ended_cell(const json_t *row)
{
        return listing_time(row, "ended_at");
}

static const struct column RUN_COLUMNS[] = {
        { .heading = "RUN", .member = "run" },
        { .heading = "KIND", .member = "kind" },
        { .heading = "BEGAN (UTC)", .member = "began_at", .cell = compare_began_cell },
        { .heading = "ENDED (UTC)", .member = "ended_at", .cell = compare_ended_cell },
        { .heading = "LISTED", .member = "listed" },
        { .heading = "MISSED", .member = "missed" },
        { .heading = "DRIFT", .member = "drift" },
        { .heading = "ERROR", .member = "error" },
        { .heading = NULL },
};

static const struct listing RUNS_LISTED = {
        .items = "runs", .none = "nothing was compared yet", .names = { "run" }, .id = "run", .columns = RUN_COLUMNS
};

static const struct column DRIFT_COLUMNS[] = {
        { .heading = "RUN", .member = "run" },
        { .heading = "AT (UTC)", .member = "at", .cell = compare_at_cell },
        { .heading = "CLASS", .member = "class" },
        { .heading = "OBJECT", .member = "object_id" },
        { .heading = "TENANT", .member = "tenant_id" },
        { .heading = "HERE", .member = "before.status" },
        { .heading = "AT STRIPE", .member = "after.status" },
        { .heading = NULL },
};

static const struct listing DRIFT_LISTED = {
        .items = "drift", .none = "no drift", .names = { "number" }, .id = "number", .columns = DRIFT_COLUMNS
};

static int compare_begin(void)
{
        auto_json *answer = NULL;
        int status = api_post(RECONCILE, NULL, NULL, &answer);

        if (status != EXIT_GOOD)
                return status;
        if (cli_output != OUTPUT_TEXT)
                cli_print_answer(answer);
        else
                printf("%lld comparisons begin\n", (long long)json_number(answer, "begun", 0));
        return EXIT_GOOD;
}

int billing_reconcile(int argc, char **argv)
{
        bool now = cli_flag(&argc, argv, "now");
        auto_json *answer = NULL;
        int status = cli_expect(argc, argv, 1);

        if (status == EXIT_GOOD && now)
                return compare_begin();
        if (status == EXIT_GOOD)
                status = api_get(RECONCILE, &answer);
        if (status != EXIT_GOOD)
                return status;
        if (cli_json) {
                cli_print_answer(answer);
                return EXIT_GOOD;
        }
        listing_show(&RUNS_LISTED, answer);
        if (cli_output != OUTPUT_NAME && json_array_size(json_object_get(answer, "drift")) > 0) {
                putchar('\n');
                listing_show(&DRIFT_LISTED, answer);
        }
        return EXIT_GOOD;
}

static const struct column FORECAST_COLUMNS[] = {
        { .heading = "AT (UTC)", .member = "at", .cell = compare_at_cell },
        { .heading = "CHANGE", .member = "change" },
        { .heading = "STATUS", .member = "status" },
        { .heading = "ACCESS", .member = "access" },
        { .heading = "PLAN", .member = "plan" },
        { .heading = "REASON", .member = "reason" },
        { .heading = NULL },
};

static const struct listing FORECAST_LISTED = {
        .items = "changes", .none = "nothing changes", .names = { "at" }, .id = "at", .columns = FORECAST_COLUMNS
};

int billing_forecast(int argc, char **argv)
{
        auto_free char *path = NULL;
        auto_json *answer = NULL, *first = NULL;
        struct id id;
        int status = cli_expect(argc, argv, 2);

        if (status == EXIT_GOOD)
                status = api_find_tenant(argv[2], &id);
        if (status != EXIT_GOOD)
                return status;
        path = mem_printf("/api/tenants/%s/billing/forecast", id.text);
        status = api_get(path, &answer);
        if (status != EXIT_GOOD)
                return status;
        if (cli_json) {
                cli_print_answer(answer);
                return EXIT_GOOD;
        }
        first = json_copy(json_object_get(answer, "now")); /* the table begins with what is */
        json_object_set(first, "at", json_object_get(answer, "at"));
        json_set_text(first, "change", "now");
        json_array_insert(json_object_get(answer, "changes"), 0, first);
        listing_show(&FORECAST_LISTED, answer);
        return EXIT_GOOD;
}
