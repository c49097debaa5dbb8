/* `tenantry inventory`: an overview of the databases at the providers and the files in the archive. */
#include "cli/api.h"
#include "cli/listing.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define INVENTORY "/api/admin/inventory"

static const char *const VERDICTS[] = { "orphan", "ghost", "drift", "quarantined", "ours" };

static void inventory_print_verdicts(const json_t *items)
{
        const char *separator = "";
        const json_t *item;
        int64_t cents = 0;
        size_t i;

        for (size_t v = 0; v < ARRAY_SIZE(VERDICTS); v++) {
                size_t count = 0;

                json_array_foreach (items, i, item)
                        count += strcmp(json_text(item, "verdict") ?: "", VERDICTS[v]) == 0;
                if (count > 0) {
                        printf("%s%zu %s", separator, count, VERDICTS[v]);
                        separator = ", ";
                }
        }
        json_array_foreach (items, i, item)
                cents += json_number(item, "monthly_cost_cents", 0);
        printf("%s%lld.%02lld USD a month\n\n", *separator ? "; " : "nothing seen yet; ", (long long)cents / 100,
               (long long)cents % 100);
}

static char *inventory_cost_cell(const json_t *item)
{
        int64_t cents = json_number(item, "monthly_cost_cents", 0);

        return cents ? mem_printf("%lld.%02lld USD", (long long)cents / 100, (long long)cents % 100) : NULL;
}

static char *inventory_seen_cell(const json_t *item)
{
        return listing_time(item, "seen_at");
}

static const struct column COLUMNS[] = {
        { .heading = "NAME", .member = "name" },
        { .heading = "VERDICT", .member = "verdict" },
        { .heading = "SERVER", .member = "server" },
        { .heading = "DETAIL", .member = "detail" },
        { .heading = "MONTHLY", .member = "monthly_cost_cents", .cell = inventory_cost_cell },
        { .heading = "DRIVER", .member = "driver" },
        { .heading = "SEEN (UTC)", .member = "seen_at", .cell = inventory_seen_cell },
        { .heading = "TENANT", .member = "tenant_id" },
        { .heading = NULL },
};

static const struct column FILE_COLUMNS[] = {
        { .heading = "FILE", .member = "name" },
        { .heading = "VERDICT", .member = "verdict" },
        { .heading = "BYTES", .member = "bytes" },
        { .heading = "DETAIL", .member = "detail" },
        { .heading = NULL },
};

static const struct listing FILES = { .items = "files", .names = { "name" }, .columns = FILE_COLUMNS };

static void inventory_print_archive(const json_t *archive)
{
        if (json_text(archive, "seen_at") == NULL)
                return;
        printf("\narchive: %lld known, %lld orphan, %lld missing; %.1f MB\n",
               (long long)json_number(archive, "known", 0), (long long)json_number(archive, "orphan", 0),
               (long long)json_number(archive, "missing", 0), (double)json_number(archive, "bytes", 0) / 1e6);
        if (json_array_size(json_object_get(archive, "files")) == 0)
                return;
        puts("");
        listing_show(&FILES, archive);
}

static bool inventory_tell(const json_t *answer);

static const struct listing DATABASES = { .items = "items",
                                          .none = "no databases",
                                          .names = { "name" },
                                          .id = "name",
                                          .columns = COLUMNS,
                                          .told = inventory_tell };

/* A summary, the databases, the archive's files. */
static bool inventory_tell(const json_t *answer)
{
        const json_t *items = json_object_get(answer, "items");

        inventory_print_verdicts(items);
        if (json_array_size(items) > 0)
                listing_show_table(&DATABASES, answer);
        inventory_print_archive(json_object_get(answer, "archive"));
        return true;
}

/* All pages combined into one answer. */
static int inventory_fetch(void *context, json_t **ret)
{
        auto_buf path = { 0 };
        int status;

        (void)context;
        buf_add_text(&path, INVENTORY);
        status = api_get(path.data, ret);
        while (status == EXIT_GOOD && json_text(*ret, "next_cursor") != NULL) {
                auto_json *page = NULL;

                buf_reset(&path);
                buf_add_text(&path, INVENTORY);
                api_add_query(&path, "cursor", json_text(*ret, "next_cursor"));
                status = api_get(path.data, &page);
                if (status != EXIT_GOOD)
                        break;
                json_array_extend(json_object_get(*ret, "items"), json_object_get(page, "items"));
                json_object_set(*ret, "next_cursor", json_object_get(page, "next_cursor"));
        }
        return status;
}

int run_inventory(int argc, char **argv)
{
        struct listing_wish wish;

        if (listing_options(&argc, argv, &wish) != EXIT_GOOD || cli_expect(argc, argv, 0) != EXIT_GOOD)
                return EXIT_USAGE;
        return listing_run(&DATABASES, &wish, false, inventory_fetch, NULL);
}
