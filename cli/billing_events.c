/* `tenantry billing events|replay|held|release`: what became of Stripe's events, and the suspensions that wait for an
 * operator. */
#include "cli/api.h"
#include "cli/billing.h"
#include "cli/listing.h"
#include "cli/numbered.h"
#include "cli/pages.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define EVENTS  "/api/admin/billing/events"
#define HELD    "/api/admin/billing/held"
#define RELEASE "/api/admin/billing/release"

static char *billing_at_cell(const json_t *event)
{
        return listing_time(event, "at");
}

static char *billing_created_cell(const json_t *event)
{
        return listing_time(event, "created");
}

static char *billing_until_cell(const json_t *tenant)
{
        return listing_time(tenant, "access_until");
}

static const struct column EVENT_COLUMNS[] = {
        { .heading = "NUMBER", .member = "number" },
        { .heading = "AT (UTC)", .member = "at", .cell = billing_at_cell },
        { .heading = "OUTCOME", .member = "outcome" },
        { .heading = "TYPE", .member = "type" },
        { .heading = "OBJECT", .member = "object_id" },
        { .heading = "TENANT", .member = "tenant_id" },
        { .heading = "EVENT", .member = "event_id" },
        { .heading = "STRIPE'S TIME (UTC)", .member = "created", .cell = billing_created_cell },
        { .heading = "REASON", .member = "reason" },
        { .heading = NULL },
};

static const struct listing EVENTS_LISTED = {
        .items = "items", .none = "no events", .names = { "number" }, .id = "number", .columns = EVENT_COLUMNS
};

static const struct column HELD_COLUMNS[] = {
        { .heading = "TENANT", .member = "tenant_id" },
        { .heading = "SUBDOMAIN", .member = "slug" },
        { .heading = "PLAN", .member = "plan" },
        { .heading = "STATUS", .member = "status" },
        { .heading = "WAITS TO", .member = "what" },
        { .heading = "TIME WAS OVER (UTC)", .member = "access_until", .cell = billing_until_cell },
        { .heading = NULL },
};

static const struct listing HELD_LISTED = {
        .items = "items", .none = "no suspension waits", .names = { "slug" }, .id = "tenant_id", .columns = HELD_COLUMNS
};

static const struct numbered_action REPLAY = { .command = "billing",
                                               .verb = "replay",
                                               .what = "event",
                                               .path = EVENTS,
                                               .end = "/replay",
                                               .method = "POST",
                                               .list = "replayed",
                                               .flag = "replayed",
                                               .done = "applied" };

int billing_events(int argc, char **argv)
{
        const char *tenant = cli_option(&argc, argv, "tenant"), *outcome = cli_option(&argc, argv, "outcome");
        const char *object = cli_option(&argc, argv, "object");
        auto_buf path = { 0 };
        struct listing_wish wish;
        struct id id;
        int status = listing_options(&argc, argv, &wish);

        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 1);
        if (status == EXIT_GOOD && tenant != NULL)
                status = api_find_tenant(tenant, &id);
        if (status != EXIT_GOOD)
                return status;
        buf_add_text(&path, EVENTS);
        api_add_query(&path, "tenant_id", tenant ? id.text : NULL);
        api_add_query(&path, "outcome", outcome);
        api_add_query(&path, "object_id", object);
        return listing_run(&EVENTS_LISTED, &wish, false, pages_fetch,
                           &(struct pages){ .path = path.data, .items = EVENTS_LISTED.items, .limit = wish.limit });
}

int billing_replay(int argc, char **argv)
{
        return numbered_act(&REPLAY, argc, argv);
}

int billing_held(int argc, char **argv)
{
        struct listing_wish wish;
        int status = listing_options(&argc, argv, &wish);

        if (status == EXIT_GOOD)
                status = cli_expect(argc, argv, 1);
        if (status != EXIT_GOOD)
                return status;
        return listing_run(&HELD_LISTED, &wish, false, pages_fetch,
                           &(struct pages){ .path = HELD, .items = HELD_LISTED.items, .limit = wish.limit });
}

int billing_release(int argc, char **argv)
{
        auto_json *answer = NULL;
        int status = cli_expect(argc, argv, 1);

        if (status == EXIT_GOOD)
                status = api_post(RELEASE, NULL, NULL, &answer);
        if (status != EXIT_GOOD)
                return status;
        if (cli_output != OUTPUT_TEXT)
                cli_print_answer(answer);
        else
                printf("%lld suspensions released\n", (long long)json_number(answer, "released", 0));
        return EXIT_GOOD;
}
