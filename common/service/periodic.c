/* Periodic work: see periodic.h. */
#include "common/service/periodic.h"

#include "common/base/memory.h"

struct periodic {
        struct service *service;
        uv_timer_t timer;
        void (*act)(void *context);
        pg_done_fn answered;
        void *context;
        bool asking;
};

void periodic_act(struct periodic *periodic)
{
        if (!periodic->asking && !periodic->service->stopping && pg_pool_is_up(periodic->service->catalog))
                periodic->act(periodic->context);
}

static void periodic_tick(uv_timer_t *timer)
{
        periodic_act(timer->data);
}

static void periodic_answered(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct periodic *periodic = context;

        periodic->asking = false;
        periodic->answered(periodic->context, rows, err);
}

void periodic_ask(struct periodic *periodic, int64_t timeout_ms, const char *sql, size_t count,
                  const char *const *params, pg_done_fn answered)
{
        assert(!periodic->asking);
        periodic->asking = true;
        periodic->answered = answered;
        pg_pool_exec(periodic->service->catalog, timeout_ms, sql, count, params, periodic_answered, periodic);
}

struct periodic *periodic_new(struct service *service, int64_t first_ms, int64_t interval_ms,
                              void (*act)(void *context), void *context)
{
        struct periodic *periodic = NEW(struct periodic);

        periodic->service = service;
        periodic->act = act;
        periodic->context = context;
        uv_timer_init(&service->loop, &periodic->timer);
        periodic->timer.data = periodic;
        uv_timer_start(&periodic->timer, periodic_tick, (uint64_t)first_ms, (uint64_t)interval_ms);
        return periodic;
}

static void periodic_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void periodic_free(struct periodic *periodic)
{
        if (periodic != NULL)
                uv_close((uv_handle_t *)&periodic->timer, periodic_closed);
}
