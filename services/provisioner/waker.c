/* The safety net and the clock: see waker.h. */
#include "services/provisioner/waker.h"

#include "common/base/log.h"
#include "common/base/memory.h"

#include <stdio.h>

#define WAKE_INTERVAL SECONDS(2)
#define BATCH         200 /* in one transaction: nobody waits for longer than that */

static const char SQL_WAKE[] = "select wake_some($1::int) as woken";

struct waker {
        struct provisioner *provisioner;
        uv_timer_t timer;
        bool asking;
};

static void wake_some(struct waker *waker);

static void woken(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct waker *waker = context;
        int64_t count = err ? 0 : pg_int(rows, 0, "woken");

        waker->asking = false;
        if (err != NULL)
                log_warn("tenants that wait could not be woken; it will be tried again", "error", err->message, NULL);
        if (count > 0)
                saga_engine_wake(waker->provisioner->sagas);
        if (count == BATCH) /* there may be more */
                wake_some(waker);
}

static void wake_some(struct waker *waker)
{
        struct pg_pool *catalog = waker->provisioner->service->catalog;
        char limit[8];

        if (waker->asking || waker->provisioner->service->stopping || !pg_pool_is_up(catalog))
                return;
        snprintf(limit, sizeof(limit), "%d", BATCH);
        waker->asking = true;
        pg_pool_exec(catalog, SECONDS(10), SQL_WAKE, PARAMS(limit), woken, waker);
}

static void on_timer(uv_timer_t *timer)
{
        wake_some(timer->data);
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
