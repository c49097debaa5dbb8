/* `tenantry watch`: follows tenants as they change. On a terminal a live board with progress bars, elsewhere one line
 * per change. */
#include "cli/api.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "common/base/clock.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#define DRAW_INTERVAL_MS 50
#define NAME_WIDTH       24
#define LEAST_NAME_WIDTH 16
#define FULL_WIDTH       90 /* from this width on, bars have their full length */
#define SMALL_WIDTH      60 /* below it, there are no bars */

struct watched {
        char id[ID_LENGTH + 1];
        json_t *snapshot;
        int64_t version, changed_at; /* our own: the order on the board */
        UT_hash_handle hh;
};

struct watch {
        struct watched *tenants; /* by id */
        bool board, dirty, lost;
        int drawn; /* lines on the terminal */
        int64_t drawn_at, changes;
};

/* "ready", or what it is doing; on the board the step comes first, since the rest may be cut off, and the bar shows the
 * percentage. */
static char *watch_describe(const struct watch *watch, const json_t *snapshot)
{
        const json_t *activity = json_object_get(snapshot, "activity"), *error = json_object_get(activity, "error");
        const char *detail = json_text(error, "detail"), *state = tenant_state_shown(snapshot);
        const char *reason = json_text(json_object_get(snapshot, "reason"), "detail");
        const char *kind = json_text(activity, "kind"), *step = json_text(activity, "step");
        auto_free char *text = NULL;

        if (reason == NULL && strcmp(state, "suspended") == 0)
                reason = json_text(json_object_get(snapshot, "access"), "reason");
        if (json_is_object(activity) && watch->board)
                text = mem_printf("%s (%s)%s%s", step, kind, detail ? ": " : "", detail ? detail : "");
        else if (json_is_object(activity))
                text = mem_printf("%s, %s: %s %lld %%%s%s", state, kind, step,
                                  (long long)json_number(activity, "progress", 0), detail ? ": " : "",
                                  detail ? detail : "");
        else
                text = mem_printf("%s%s%s", state, reason ? ": " : "", reason ? reason : "");
        return text_safe(text);
}

static const char *watch_name_of(const json_t *snapshot)
{
        const char *slug = json_text(snapshot, "slug");

        return slug ? slug : json_text(snapshot, "tenant_id");
}

static void watch_print_line(const struct watch *watch, const json_t *snapshot)
{
        auto_free char *name = text_safe(watch_name_of(snapshot)), *text = watch_describe(watch, snapshot);
        char now[25];

        clock_format(clock_wall_ms(), now);
        printf("%s  %s  %s\n", now, name, text);
        fflush(stdout);
}

/* On a narrow terminal the bar is shortened first, then the name: what the tenant is doing matters most. */
static int watch_bar_width(int width)
{
        return width >= FULL_WIDTH ? PROGRESS_BAR_WIDTH : width >= SMALL_WIDTH ? PROGRESS_BAR_WIDTH / 2 : 0;
}

static int watch_name_width(int width)
{
        return MAX(LEAST_NAME_WIDTH, MIN(NAME_WIDTH, NAME_WIDTH - (SMALL_WIDTH - width) / 2));
}

static void watch_draw_tenant(const struct watch *watch, const struct watched *tenant, int width)
{
        const json_t *activity = json_object_get(tenant->snapshot, "activity");
        const char *colour = colour_of(tenant_state_shown(tenant->snapshot));
        auto_free char *name = text_safe(watch_name_of(tenant->snapshot)),
                       *text = watch_describe(watch, tenant->snapshot);
        auto_free char *short_name = text_cut(name, watch_name_width(width)), *line = NULL, *shown = NULL;
        int padding = watch_name_width(width) - (int)text_width(short_name);
        char bar[48];

        progress_bar(bar, sizeof(bar), watch_bar_width(width),
                     json_is_object(activity) ? (int)json_number(activity, "progress", 0) : 100);
        line = mem_printf("%s%*s %s  %s", short_name, padding, "", bar, text);
        shown = text_cut(line, width - 1);
        printf("%s%s%s\033[K\n", colour, shown, *colour ? colour_end() : "");
}

/* Those at work first, then those that changed last. */
static int watch_by_interest(const struct watched *a, const struct watched *b)
{
        int busy_a = json_is_object(json_object_get(a->snapshot, "activity"));
        int busy_b = json_is_object(json_object_get(b->snapshot, "activity"));

        if (busy_a != busy_b)
                return busy_b - busy_a;
        return a->changed_at < b->changed_at ? 1 : a->changed_at > b->changed_at ? -1 : 0;
}

static void watch_draw_line(int width, const char *text)
{
        auto_free char *shown = text_cut(text, width - 1);

        printf("%s\033[K\n", shown);
}

static void watch_draw_head(const struct watch *watch, int width)
{
        size_t count = HASH_COUNT(watch->tenants), working = 0;
        auto_free char *text = NULL;

        for (struct watched *tenant = watch->tenants; tenant != NULL; tenant = tenant->hh.next)
                working += json_is_object(json_object_get(tenant->snapshot, "activity"));
        text = mem_printf("%zu tenant%s, %zu at work%s", count, count == 1 ? "" : "s", working,
                          watch->lost ? "; connection lost, trying again" : "");
        watch_draw_line(width, text);
}

/* As many as there is room for; the last line says how many more there are. Returns the number of lines used. */
static int watch_draw_tenants(const struct watch *watch, int width, int room)
{
        int count = (int)HASH_COUNT(watch->tenants), shown = count <= room ? count : room - 1, line = 0;
        const struct watched *tenant = watch->tenants;
        auto_free char *more = mem_printf("and %d more", count - shown);

        for (; line < shown; tenant = tenant->hh.next, line++)
                watch_draw_tenant(watch, tenant, width);
        if (count > shown)
                watch_draw_line(width, more);
        return line + (count > shown);
}

static void watch_draw(struct watch *watch)
{
        int width = terminal_width();

        HASH_SORT(watch->tenants, watch_by_interest);
        if (watch->drawn > 0)
                printf("\033[%dA\r", watch->drawn);
        watch_draw_head(watch, width);
        watch->drawn = 1 + watch_draw_tenants(watch, width, terminal_height() - 2);
        fputs("\033[J", stdout);
        fflush(stdout);
        watch->drawn_at = clock_boot_ms();
        watch->dirty = false;
}

/* The terminal has rewrapped its lines: we no longer know where ours are. */
static void watch_begin_anew(struct watch *watch)
{
        fputs("\033[H\033[2J", stdout);
        watch->drawn = 0;
        watch->dirty = true;
}

static void watch_turned(void *context)
{
        struct watch *watch = context;

        if (watch->board && terminal_resized())
                watch_begin_anew(watch);
        if (watch->board && watch->dirty && clock_boot_ms() - watch->drawn_at >= DRAW_INTERVAL_MS)
                watch_draw(watch);
}

/* A snapshot counts when its version is higher than what we saw; the end of a tenant has none and always counts. */
static bool watch_is_news(const struct watched *known, const json_t *snapshot)
{
        int64_t version = json_number(snapshot, "version", 0);

        if (known->snapshot == NULL || version > known->version)
                return true;
        return version == 0 && strcmp(json_text(known->snapshot, "state"), "deprovisioned") != 0;
}

static void watch_arrived(void *context, const char *name, const json_t *snapshot)
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
        if (!watch_is_news(tenant, snapshot))
                return;
        json_decref(tenant->snapshot);
        tenant->snapshot = json_deep_copy(snapshot);
        tenant->version = MAX(tenant->version, json_number(snapshot, "version", 0));
        tenant->changed_at = ++watch->changes;
        watch->dirty = true;
        if (cli_json)
                print_json_line(snapshot);
        else if (!watch->board)
                watch_print_line(watch, snapshot);
}

static void watch_changed(void *context, const char *why)
{
        struct watch *watch = context;

        if (!watch->board && why != NULL && !watch->lost)
                fprintf(stderr, "tenantry: %s; trying again\n", why);
        else if (!watch->board && why == NULL && watch->lost)
                fputs("tenantry: connected again\n", stderr);
        watch->lost = why != NULL;
        watch->dirty = true;
        if (watch->board)
                watch_draw(watch);
}

static void watch_free(struct watch *watch)
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
        static const struct stream_events events = { .arrived = watch_arrived,
                                                     .turned = watch_turned,
                                                     .changed = watch_changed };
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
                watch_draw(&watch);
        watch_free(&watch);
        return status;
}
