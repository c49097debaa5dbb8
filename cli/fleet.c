/* `tenantry inventory` and `tenantry alerts`: the whole fleet at a glance. */
#include "cli/api.h"
#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

static const char *const VERDICTS[] = { "orphan", "ghost", "drift", "quarantined", "ours" };

static void print_verdicts(const json_t *items)
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

static void add_item(struct table *table, const json_t *item)
{
        int64_t cents = json_number(item, "monthly_cost_cents", 0);
        auto_free char *cost =
                cents ? mem_printf("%lld.%02lld USD", (long long)cents / 100, (long long)cents % 100) : NULL;
        auto_free char *seen = text_time(json_text(item, "seen_at"));

        table_add(table, json_text(item, "verdict"), json_text(item, "driver"), json_text(item, "server"),
                  json_text(item, "name"), json_text(item, "tenant_id"), cost, seen, json_text(item, "detail"));
}

static void print_archive(const json_t *archive)
{
        const json_t *files = json_object_get(archive, "files"), *file;
        struct table *table;
        size_t i;

        if (json_text(archive, "seen_at") == NULL)
                return;
        printf("\narchive: %lld known, %lld orphan, %lld missing; %.1f MB\n",
               (long long)json_number(archive, "known", 0), (long long)json_number(archive, "orphan", 0),
               (long long)json_number(archive, "missing", 0), (double)json_number(archive, "bytes", 0) / 1e6);
        if (json_array_size(files) == 0)
                return;
        puts("");
        table = table_new("VERDICT", "FILE", "BYTES", "DETAIL", NULL);
        json_array_foreach (files, i, file) {
                auto_free char *bytes = mem_printf("%lld", (long long)json_number(file, "bytes", 0));

                table_add(table, json_text(file, "verdict"), json_text(file, "name"), bytes, json_text(file, "detail"));
        }
        table_print(table);
}

int run_inventory(int argc, char **argv)
{
        int status = cli_expect(argc, argv, 0);
        auto_json *answer = NULL;
        const json_t *items, *item;
        struct table *table;
        size_t i;

        if (status == EXIT_GOOD)
                status = api_get("/api/admin/inventory", &answer);
        if (status != EXIT_GOOD)
                return status;
        if (cli_json) {
                print_json(answer);
                return EXIT_GOOD;
        }
        items = json_object_get(answer, "items");
        print_verdicts(items);
        if (json_array_size(items) > 0) {
                table = table_new("VERDICT", "DRIVER", "SERVER", "NAME", "TENANT", "MONTHLY", "SEEN (UTC)", "DETAIL",
                                  NULL);
                json_array_foreach (items, i, item)
                        add_item(table, item);
                table_print(table);
        }
        print_archive(json_object_get(answer, "archive"));
        return EXIT_GOOD;
}

static void show_alert(const json_t *alert)
{
        auto_free char *first = text_time(json_text(alert, "first_at")), *last = text_time(json_text(alert, "last_at"));
        auto_free char *title = text_safe(json_text(alert, "title")), *detail = text_safe(json_text(alert, "detail"));
        auto_free char *cause = text_safe(json_text(alert, "cause"));
        long long times = json_number(alert, "times", 1);
        bool resolved = json_text(alert, "resolved_at") != NULL;

        printf("%s  %s%s\n  %s\n  %s, %lld time%s, last %s\n", first, title, resolved ? " (resolved)" : "", detail,
               cause, times, times == 1 ? "" : "s", last);
}

int run_alerts(int argc, char **argv)
{
        bool all = cli_flag(&argc, argv, "all");
        int status = cli_expect(argc, argv, 0);
        auto_json *answer = NULL;
        const json_t *items, *alert;
        size_t i;

        if (status == EXIT_GOOD)
                status = api_get(all ? "/api/admin/alerts?all=1" : "/api/admin/alerts", &answer);
        if (status != EXIT_GOOD)
                return status;
        items = json_object_get(answer, "items");
        if (cli_json)
                print_json(answer);
        else if (json_array_size(items) == 0)
                puts("no alerts");
        else
                json_array_foreach (items, i, alert)
                        show_alert(alert);
        return EXIT_GOOD;
}
