/* Whether the catalog's sessions are our own: see catalog_mode.h. One session is marked; it must find its mark each
 * time, and no other session must ever see it. */
#include "common/service/catalog_mode.h"

#include "common/base/memory.h"

#include <string.h>

#define AGAIN    SECONDS(2)
#define TIMEOUT  SECONDS(5)
#define ROUNDS   20
#define INTERVAL 100

static const char SQL_MARK[] = "select set_config('tenantry.session', $1, false) as mark";

static const char SQL_LOOK[] = "select coalesce(current_setting('tenantry.session', true), '') as mark";

struct catalog_mode {
        struct service *service;
        char *url, *name;
        struct pg_conn *first, *second;
        int rounds;
        uv_timer_t timer;
};

static void mode_begin(uv_timer_t *timer);
static void mode_look_at_first(uv_timer_t *timer);

static void mode_leave(struct catalog_mode *mode)
{
        pg_close(TAKE_PTR(mode->first));
        pg_close(TAKE_PTR(mode->second));
}

/* The catalog is down, or has no free connection: nothing is known yet. */
static void mode_begin_later(struct catalog_mode *mode)
{
        mode_leave(mode);
        if (!mode->service->stopping)
                uv_timer_start(&mode->timer, mode_begin, AGAIN, 0);
}

static void mode_refuse(struct catalog_mode *mode)
{
        struct err err;

        mode_leave(mode);
        err_set(&err, ERR_INPUT, "catalog_mode",
                "CATALOG_DATABASE_URL leads to a pooler in transaction mode: connect directly or in session mode");
        service_give_up(mode->service, &err);
}

static void mode_second_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct catalog_mode *mode = context;

        if (err != NULL)
                mode_begin_later(mode);
        else if (strcmp(pg_text(rows, 0, "mark"), mode->service->instance) == 0)
                mode_refuse(mode);
        else if (++mode->rounds == ROUNDS)
                mode_leave(mode);
        else
                uv_timer_start(&mode->timer, mode_look_at_first, INTERVAL, 0);
}

static void mode_first_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct catalog_mode *mode = context;

        if (err != NULL)
                mode_begin_later(mode);
        else if (strcmp(pg_text(rows, 0, "mark"), mode->service->instance) != 0)
                mode_refuse(mode);
        else
                pg_exec(mode->second, TIMEOUT, SQL_LOOK, 0, NULL, mode_second_told, mode);
}

static void mode_look_at_first(uv_timer_t *timer)
{
        struct catalog_mode *mode = timer->data;

        pg_exec(mode->first, TIMEOUT, SQL_LOOK, 0, NULL, mode_first_told, mode);
}

static void mode_second_opened(void *context, const struct err *err)
{
        struct catalog_mode *mode = context;
        const char *mark = mode->service->instance;

        if (err != NULL)
                mode_begin_later(mode);
        else
                pg_exec(mode->first, TIMEOUT, SQL_MARK, 1, &mark, mode_first_told, mode);
}

static struct pg_conn *mode_open_session(struct catalog_mode *mode, pg_opened_fn opened)
{
        struct pg_target target = { .url = mode->url, .application_name = mode->name, .connect_timeout_ms = TIMEOUT };

        return pg_open(&mode->service->loop, &target, opened, mode);
}

static void mode_first_opened(void *context, const struct err *err)
{
        struct catalog_mode *mode = context;

        if (err != NULL)
                mode_begin_later(mode);
        else
                mode->second = mode_open_session(mode, mode_second_opened);
}

static void mode_begin(uv_timer_t *timer)
{
        struct catalog_mode *mode = timer->data;

        mode->rounds = 0;
        mode->first = mode_open_session(mode, mode_first_opened);
}

struct catalog_mode *catalog_mode_new(struct service *service, const struct pg_target *target)
{
        struct catalog_mode *mode = NEW(struct catalog_mode);

        mode->service = service;
        mode->url = mem_copy_text(target->url);
        mode->name = mem_copy_text(target->application_name);
        uv_timer_init(&service->loop, &mode->timer);
        mode->timer.data = mode;
        uv_timer_start(&mode->timer, mode_begin, 0, 0);
        return mode;
}

static void mode_closed(uv_handle_t *handle)
{
        struct catalog_mode *mode = handle->data;

        mem_free_secret(mode->url);
        free(mode->name);
        free(mode);
}

void catalog_mode_free(struct catalog_mode *mode)
{
        if (mode == NULL)
                return;
        mode_leave(mode);
        uv_close((uv_handle_t *)&mode->timer, mode_closed);
}
