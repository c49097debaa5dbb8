/* Sorting and watching lists: the second half of listing.h. */
#include "cli/api.h"
#include "cli/listing.h"
#include "cli/terminal.h"
#include "common/base/buf.h"
#include "common/base/memory.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WATCH_MS       2000
#define WATCH_LEAST_MS 100

int listing_options(int *argc, char **argv, struct listing_wish *ret)
{
        const char *limit = cli_option(argc, argv, "limit"), *every = NULL;
        int status = EXIT_GOOD;

        *ret = (struct listing_wish){ .sort = cli_option(argc, argv, "sort") };
        if (cli_optional(argc, argv, "watch", &every)) {
                ret->watch_ms = WATCH_MS;
                status = every ? cli_duration("--watch", every, &ret->watch_ms) : EXIT_GOOD;
                ret->watch_ms = MAX(WATCH_LEAST_MS, ret->watch_ms);
        }
        if (status == EXIT_GOOD && limit != NULL)
                status = cli_count("--limit", limit, &ret->limit);
        return status;
}

static int following_unknown_field(const struct listing *listing, const char *sort)
{
        auto_buf known = { 0 };

        for (const struct column *column = listing->columns; column->heading != NULL; column++)
                if (column->member != NULL)
                        buf_printf(&known, "%s%s", known.length ? ", " : "", column->member);
        return cli_fail(EXIT_USAGE, "--sort is one of %s, optionally with a hyphen before it, not %s", known.data,
                        sort);
}

/* The sort key; qsort has no context argument. */
static const char *sort_member;
static int sort_direction;

static int following_compare_values(const json_t *a, const json_t *b)
{
        if (json_is_number(a) && json_is_number(b))
                return (json_number_value(a) > json_number_value(b)) - (json_number_value(a) < json_number_value(b));
        if (json_is_string(a) && json_is_string(b))
                return strcmp(json_string_value(a), json_string_value(b));
        return (a != NULL && !json_is_null(a)) - (b != NULL && !json_is_null(b)); /* rows without it come first */
}

static int following_compare_rows(const void *a, const void *b)
{
        const json_t *const *left = a, *const *right = b;

        return sort_direction *
               following_compare_values(listing_member(*left, sort_member), listing_member(*right, sort_member));
}

static int following_sort_rows(const struct listing *listing, const char *sort, json_t *rows)
{
        size_t count = json_array_size(rows);
        json_t **list = mem_alloc(count + 1, sizeof(*list));
        const struct column *column = listing->columns;

        sort_direction = *sort == '-' ? -1 : 1;
        sort_member = *sort == '-' ? sort + 1 : sort;
        while (column->heading != NULL && (column->member == NULL || strcmp(column->member, sort_member) != 0))
                column++;
        for (size_t i = 0; i < count; i++)
                list[i] = json_incref(json_array_get(rows, i));
        qsort(list, count, sizeof(*list), following_compare_rows);
        json_array_clear(rows);
        for (size_t i = 0; i < count; i++)
                json_array_append_new(rows, list[i]);
        free(list);
        return column->heading != NULL ? EXIT_GOOD : following_unknown_field(listing, sort);
}

static void following_cut(json_t *rows, size_t most)
{
        while (json_array_size(rows) > most)
                json_array_remove(rows, json_array_size(rows) - 1);
}

/* The list now, and as it was when last shown. */
struct following {
        const struct listing *listing;
        const struct listing_wish *wish;
        bool sorted; /* sorted by the gateway */
        int (*fetch)(void *context, json_t **ret);
        void *context;
        json_t *shown;
};

static int following_look(const struct following *following, json_t **ret)
{
        const struct listing_wish *wish = following->wish;
        int status = following->fetch(following->context, ret);
        json_t *rows;

        if (status != EXIT_GOOD)
                return status;
        rows = json_object_get(*ret, following->listing->items);
        if (wish->sort != NULL && !following->sorted)
                status = following_sort_rows(following->listing, wish->sort, rows);
        if (wish->limit > 0)
                following_cut(rows, (size_t)wish->limit);
        return status;
}

/* As many rows as fit the terminal, replacing the previous ones. */
static void following_draw(const struct listing *listing, json_t *answer)
{
        json_t *rows = json_object_get(answer, listing->items);
        size_t count = json_array_size(rows), room = (size_t)MAX(1, terminal_height() - 3);

        following_cut(rows, room);
        fputs("\033[H\033[J", stdout);
        listing_show_table(listing, answer);
        if (count > room)
                printf("and %zu more\n", count - room);
        fflush(stdout);
}

static bool following_was_shown(const struct following *following, const json_t *row)
{
        const json_t *before;
        size_t i;

        json_array_foreach (json_object_get(following->shown, following->listing->items), i, before)
                if (json_equal(json_object_get(before, following->listing->id),
                               json_object_get(row, following->listing->id)))
                        return json_equal(before, row);
        return false;
}

/* The rows that are new or changed. */
static void following_print_changes(const struct following *following, const json_t *answer)
{
        auto_json *news = json_array(), *part = NULL;
        const json_t *row;
        size_t i;

        json_array_foreach (json_object_get(answer, following->listing->items), i, row)
                if (!following_was_shown(following, row))
                        json_array_append(news, (json_t *)row);
        part = json_pack("{s:O}", following->listing->items, news);
        if (following->shown == NULL)
                listing_show_table(following->listing, part);
        else if (json_array_size(news) > 0)
                listing_show_more(following->listing, part);
        fflush(stdout);
}

static void following_show_again(struct following *following, json_t *answer)
{
        bool same = following->shown != NULL && json_equal(following->shown, answer);
        bool drawn = terminal_is(stdout) && !cli_json && cli_output != OUTPUT_NAME;
        auto_json *whole = json_deep_copy(answer);

        if (drawn && (!same || terminal_resized()))
                following_draw(following->listing, answer);
        else if (!drawn && !same && cli_json)
                print_json_line(answer);
        else if (!drawn && !same)
                following_print_changes(following, answer);
        json_decref(following->shown);
        following->shown = TAKE_PTR(whole);
}

/* Waits until the time is up, a signal arrives, or our reader is gone. */
static void following_pause_for(int64_t ms)
{
        struct pollfd output = { .fd = STDOUT_FILENO };

        poll(&output, 1, (int)MIN(ms, INT32_MAX));
}

/* Reports failures, but only once that a gateway which had answered is down. */
static int following_look_again(struct following *following, json_t **ret)
{
        int status;

        cli_keep_silent(following->shown != NULL);
        status = following_look(following, ret);
        cli_keep_silent(false);
        if (following->shown != NULL && status != EXIT_GOOD && status != EXIT_AWAY && !cli_interrupted)
                status = following_look(following, ret);
        return status;
}

/* Waits for a gateway that had answered; any other failure is final. */
static int following_run(struct following *following)
{
        bool away = false;

        cli_catch_interrupt();
        while (!cli_interrupted && !terminal_reader_gone()) {
                auto_json *answer = NULL;
                int status = following_look_again(following, &answer);

                if (cli_interrupted)
                        break;
                if (status != EXIT_GOOD && (status != EXIT_AWAY || following->shown == NULL))
                        return status;
                if (status == EXIT_GOOD)
                        following_show_again(following, answer);
                else if (!away)
                        fputs("tenantry: the gateway is down; waiting for it\n", stderr);
                away = status == EXIT_AWAY;
                following_pause_for(following->wish->watch_ms);
        }
        return EXIT_GOOD;
}

int listing_run(const struct listing *listing, const struct listing_wish *wish, bool sorted,
                int (*fetch)(void *context, json_t **ret), void *context)
{
        struct following following = {
                .listing = listing, .wish = wish, .sorted = sorted, .fetch = fetch, .context = context
        };
        auto_json *answer = NULL;
        int status;

        if (wish->watch_ms > 0) {
                status = following_run(&following);
                json_decref(following.shown);
                return status;
        }
        status = following_look(&following, &answer);
        if (status == EXIT_GOOD)
                listing_show(listing, answer);
        return status;
}
