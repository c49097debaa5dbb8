/* `tenantry watch`: tenants as they change. On a terminal a live board with progress bars, elsewhere a line a change.
 */
#include "cli/api.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#define DRAW_INTERVAL_MS 50
#define NAME_WIDTH       24
#define LEAST_NAME_WIDTH 8
#define FULL_WIDTH       80 /* from here on names have all their width */

struct watched {
        char id[ID_LENGTH + 1];
        json_t *snapshot;
        int64_t version, changed_at; /* ours: the order on the board */
        UT_hash_handle hh;
};

struct watch {
        struct watched *tenants; /* by id */
        bool board, dirty, lost;
        int drawn; /* lines on the terminal */
        int64_t drawn_at, changes;
};

/* Ready, yet suspended: by the operator or by billing. */
static bool is_closed(const json_t *snapshot)
{
        const char *applied = json_text(json_object_get(snapshot, "access"), "applied");

        return applied != NULL && strcmp(applied, "full") != 0 && strcmp(json_text(snapshot, "state"), "ready") == 0;
}

/* "ready", or what it is doing. */
static char *describe(const json_t *snapshot)
{
        const json_t *activity = json_object_get(snapshot, "activity"), *error = json_object_get(activity, "error");
        const char *detail = json_text(error, "detail"), *state = json_text(snapshot, "state");
        const char *reason = json_text(json_object_get(snapshot, "reason"), "detail");
        const char *access = is_closed(snapshot) ? ", closed to its application" : "";
        auto_free char *text = NULL;

        if (json_is_object(activity))
                text = mem_printf("%s, %s: %s %lld %%%s%s", state, json_text(activity, "kind"),
                                  json_text(activity, "step"), (long long)json_number(activity, "progress", 0),
                                  detail ? ": " : "", detail ? detail : "");
        else
                text = mem_printf("%s%s%s%s", state, access, reason ? ": " : "", reason ? reason : "");
        return text_safe(text);
}

static const char *name_of(const json_t *snapshot)
{
        const char *slug = json_text(snapshot, "slug");

        return slug ? slug : json_text(snapshot, "tenant_id");
}

static void print_line(const json_t *snapshot)
{
        auto_free char *name = text_safe(name_of(snapshot)), *text = describe(snapshot);
        char now[25];

        clock_format(clock_wall_ms(), now);
        printf("%s  %s  %s\n", now, name, text);
        fflush(stdout);
}

/* On a narrow terminal the name gives way first: what the tenant is doing is what is watched. */
static int name_width(int width)
{
        return MAX(LEAST_NAME_WIDTH, MIN(NAME_WIDTH, NAME_WIDTH - (FULL_WIDTH - width)));
}

static void draw_tenant(const struct watched *tenant, int width)
{
        const json_t *activity = json_object_get(tenant->snapshot, "activity");
        const char *state = json_text(tenant->snapshot, "state"),
                   *colour = is_closed(tenant->snapshot) ? "" : colour_of(state);
        auto_free char *name = text_safe(name_of(tenant->snapshot)), *text = describe(tenant->snapshot);
        auto_free char *short_name = text_cut(name, name_width(width)), *line = NULL, *shown = NULL;
        int padding = name_width(width) - (int)text_width(short_name);
        char bar[48];

        progress_bar(bar, sizeof(bar), json_is_object(activity) ? (int)json_number(activity, "progress", 0) : 100);
        line = mem_printf("%s%*s %s  %s", short_name, padding, "", bar, text);
        shown = text_cut(line, width - 1);
        printf("%s%s%s\033[K\n", colour, shown, *colour ? colour_end() : "");
}

/* Those at work first, then those that changed last. */
static int by_interest(const struct watched *a, const struct watched *b)
{
        int busy_a = json_is_object(json_object_get(a->snapshot, "activity"));
        int busy_b = json_is_object(json_object_get(b->snapshot, "activity"));

        if (busy_a != busy_b)
                return busy_b - busy_a;
        return a->changed_at < b->changed_at ? 1 : a->changed_at > b->changed_at ? -1 : 0;
}

static void draw(struct watch *watch)
{
        int width = terminal_width(), room = terminal_height() - 2, line = 0;
        size_t count = HASH_COUNT(watch->tenants), working = 0;
        struct watched *tenant, *next;

        HASH_SORT(watch->tenants, by_interest);
        HASH_ITER (hh, watch->tenants, tenant, next)
                working += json_is_object(json_object_get(tenant->snapshot, "activity"));
        if (watch->drawn > 0)
                printf("\033[%dA\r", watch->drawn);
        printf("%zu tenants, %zu at work%s\033[K\n", count, working,
               watch->lost ? "; connection lost, trying again" : "");
        HASH_ITER (hh, watch->tenants, tenant, next)
                if (line < room) {
                        draw_tenant(tenant, width);
                        line++;
                }
        fputs("\033[J", stdout);
        fflush(stdout);
        watch->drawn = line + 1;
        watch->drawn_at = clock_boot_ms();
        watch->dirty = false;
}

static void turned(void *context)
{
        struct watch *watch = context;

        if (watch->board && watch->dirty && clock_boot_ms() - watch->drawn_at >= DRAW_INTERVAL_MS)
                draw(watch);
}

/* A snapshot counts when its version is higher than what we saw; the end of a tenant has none and always counts. */
static bool is_news(const struct watched *known, const json_t *snapshot)
{
        int64_t version = json_number(snapshot, "version", 0);

        if (known->snapshot == NULL || version > known->version)
                return true;
        return version == 0 && strcmp(json_text(known->snapshot, "state"), "deprovisioned") != 0;
}

static void arrived(void *context, const char *name, const json_t *snapshot)
{
        struct watch *watch = context;
        const char *id = json_text(snapshot, "tenant_id");
        struct watched *tenant;

        if (strcmp(name, "status") != 0 || id == NULL || !id_is_valid(id) || json_text(snapshot, "state") == NULL)
                return;
        HASH_FIND_STR(watch->tenants, id, tenant);
        if (tenant == NULL) {
                tenant = NEW(struct watched);
                memcpy(tenant->id, id, sizeof(tenant->id));
                HASH_ADD_STR(watch->tenants, id, tenant);
        }
        if (!is_news(tenant, snapshot))
                return;
        json_decref(tenant->snapshot);
        tenant->snapshot = json_deep_copy(snapshot);
        tenant->version = MAX(tenant->version, json_number(snapshot, "version", 0));
        tenant->changed_at = ++watch->changes;
        watch->dirty = true;
        if (cli_json)
                print_json_line(snapshot);
        else if (!watch->board)
                print_line(snapshot);
}

static void changed(void *context, const char *why)
{
        struct watch *watch = context;

        if (!watch->board && why != NULL && !watch->lost)
                fprintf(stderr, "tenantry: %s; trying again\n", why);
        else if (!watch->board && why == NULL && watch->lost)
                fputs("tenantry: connected again\n", stderr);
        watch->lost = why != NULL;
        watch->dirty = true;
        if (watch->board)
                draw(watch);
}

static void free_watch(struct watch *watch)
{
        struct watched *tenant, *next;

        HASH_ITER (hh, watch->tenants, tenant, next) {
                HASH_DEL(watch->tenants, tenant);
                json_decref(tenant->snapshot);
                free(tenant);
        }
}

int run_watch(int argc, char **argv)
{
        static const struct stream_events events = { arrived, turned, changed };
        struct watch watch = { .board = terminal_is(stdout) && !cli_json };
        auto_free char *path = NULL;
        struct id id;
        int status = argc == 1 ? EXIT_GOOD : cli_expect(argc, argv, 1);

        if (status == EXIT_GOOD && argc == 2)
                status = api_find_tenant(argv[1], &id);
        if (status != EXIT_GOOD)
                return status;
        path = argc == 2 ? mem_printf("/api/stream?tenant_id=%s", id.text) : mem_copy_text("/api/stream");
        status = stream_follow(path, &events, &watch);
        if (watch.board && watch.dirty)
                draw(&watch);
        free_watch(&watch);
        return status;
}
