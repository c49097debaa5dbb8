/* The safety net and the clock: see waker.h. */
#include "services/provisioner/waker.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/worker.h"
#include "common/service/periodic.h"

#include <stdio.h>

#define WAKE_INTERVAL SECONDS(2)
#define BATCH         200 /* per transaction: nobody waits longer than one of them */

static const char SQL_WAKE[] = "select wake_some($1::int) as woken";

struct waker {
        struct provisioner *provisioner;
        struct periodic *periodic;
};

static void waker_woke(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct waker *waker = context;
        int64_t count = err ? 0 : pg_int(rows, 0, "woken");

        if (err != NULL)
                log_warn("waiting tenants could not be woken; it will be tried again", "error", err->message, NULL);
        if (count > 0)
                worker_wake(waker->provisioner->worker);
        if (count == BATCH) /* there may be more */
                periodic_act(waker->periodic);
}

static void waker_act(void *context)
{
        struct waker *waker = context;
        char limit[8];

        snprintf(limit, sizeof(limit), "%d", BATCH);
        periodic_ask(waker->periodic, SECONDS(10), SQL_WAKE, PARAMS(limit), waker_woke);
}

struct waker *waker_new(struct provisioner *provisioner)
{
        struct waker *waker = NEW(struct waker);

        waker->provisioner = provisioner;
        waker->periodic = periodic_new(provisioner->service, WAKE_INTERVAL, WAKE_INTERVAL, waker_act, waker);
        return waker;
}

void waker_free(struct waker *waker)
{
        if (waker == NULL)
                return;
        periodic_free(waker->periodic);
        free(waker);
}
