/* The safety net and the clock: see waker.h. */
#include "services/provisioner/waker.h"

#include "common/base/memory.h"

#define WAKE_INTERVAL SECONDS(2)

static const char SQL_WAKE_ALL[] = "select wake_all() as woken";

struct waker {
        struct provisioner *provisioner;
        uv_timer_t timer;
        bool asking;
};

static void woken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct waker *waker = context;

        waker->asking = false;
        if (err == NULL && pg_int(rows, 0, "woken") > 0)
                saga_engine_wake(waker->provisioner->sagas);
}

static void on_timer(uv_timer_t *timer)
{
        struct waker *waker = timer->data;
        struct pg_pool *catalog = waker->provisioner->service->catalog;

        if (waker->asking || waker->provisioner->service->stopping || !pg_pool_is_up(catalog))
                return;
        waker->asking = true;
        pg_pool_exec(catalog, SECONDS(10), SQL_WAKE_ALL, NO_PARAMS, woken, waker);
}

struct waker *waker_new(struct provisioner *provisioner)
{
        struct waker *waker = NEW(struct waker);

        waker->provisioner = provisioner;
        uv_timer_init(&provisioner->service->loop, &waker->timer);
        waker->timer.data = waker;
        uv_timer_start(&waker->timer, on_timer, WAKE_INTERVAL, WAKE_INTERVAL);
        return waker;
}

static void free_waker(uv_handle_t *handle)
{
        free(handle->data);
}

void waker_free(struct waker *waker)
{
        if (waker != NULL)
                uv_close((uv_handle_t *)&waker->timer, free_waker);
}
