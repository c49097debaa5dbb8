/* `tenantry alerts`: shows what an operator must know, and resolves alerts that have been dealt with. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/numbered.h"
#include "cli/pages.h"
#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define ALERTS "/api/admin/alerts"

static char *alerts_first_cell(const json_t *alert)
{
        return listing_time(alert, "first_at");
}

static char *alerts_last_cell(const json_t *alert)
{
        return listing_time(alert, "last_at");
}

static char *alerts_resolved_cell(const json_t *alert)
{
        return listing_time(alert, "resolved_at");
}

static const struct column COLUMNS[] = {
        { .heading = "ALERT", .member = "alert_id" },
        { .heading = "CAUSE", .member = "cause" },
        { .heading = "TITLE", .member = "title" },
        { .heading = "TIMES", .member = "times" },
        { .heading = "FIRST (UTC)", .member = "first_at", .cell = alerts_first_cell },
        { .heading = "LAST (UTC)", .member = "last_at", .cell = alerts_last_cell },
        { .heading = "RESOLVED (UTC)", .member = "resolved_at", .cell = alerts_resolved_cell },
        { .heading = "TENANT", .member = "tenant_id" },
        { .heading = "DETAIL", .member = "detail" },
        { .heading = NULL },
};

static const struct numbered_action RESOLVE = { .command = "alerts",
                                                .verb = "resolve",
                                                .what = "alert",
                                                .path = ALERTS,
                                                .end = "/resolve",
                                                .method = "POST",
                                                .list = "resolved",
                                                .flag = "resolved",
                                                .done = "resolved" };

static void alerts_show(const json_t *alert)
{
        auto_free char *first = alerts_first_cell(alert), *last = alerts_last_cell(alert);
        auto_free char *title = text_safe(json_text(alert, "title")), *detail = text_safe(json_text(alert, "detail"));
        auto_free char *cause = text_safe(json_text(alert, "cause"));
        long long id = json_number(alert, "alert_id", 0), times = json_number(alert, "times", 1);
        bool resolved = json_text(alert, "resolved_at") != NULL;

        printf("%s  %s%s\n  %s\n  alert %lld, %s, %lld time%s, last %s\n", first, title, resolved ? " (resolved)" : "",
               detail, id, cause, times, times == 1 ? "" : "s", last);
}

static bool alerts_tell(const json_t *answer)
{
        const json_t *items = json_object_get(answer, "items"), *alert;
        size_t i;

        if (cli_output != OUTPUT_TEXT || json_array_size(items) == 0)
                return false;
        json_array_foreach (items, i, alert)
                alerts_show(alert);
        return true;
}

static const struct listing LISTED = { .items = "items",
                                       .none = "no alerts",
                                       .names = { "alert_id" },
                                       .id = "alert_id",
                                       .columns = COLUMNS,
                                       .told = alerts_tell };

int run_alerts(int argc, char **argv)
{
        bool all = cli_flag(&argc, argv, "all");
        bool named = argc >= 2 && strcmp(argv[1], "list") == 0; /* in the form that the other lists use */
        struct listing_wish wish;

        if (argc >= 2 && strcmp(argv[1], "resolve") == 0)
                return numbered_act(&RESOLVE, argc, argv);
        if (listing_options(&argc, argv, &wish) != EXIT_GOOD || cli_expect(argc, argv, named) != EXIT_GOOD)
                return EXIT_USAGE;
        return listing_run(
                &LISTED, &wish, false, pages_fetch,
                &(struct pages){ .path = all ? ALERTS "?all=1" : ALERTS, .items = LISTED.items, .limit = wish.limit });
}
