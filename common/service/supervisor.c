/* Notifications to the supervisor: see supervisor.h. */
#include "common/service/supervisor.h"

#include "common/base/log.h"
#include "common/base/memory.h"

#include <string.h>
#include <systemd/sd-daemon.h>

#define LOOK_INTERVAL SECONDS(1)
#define SIGNS         3 /* keep-alives within the time after which the supervisor considers us dead */

struct supervisor {
        struct service *service;
        uv_timer_t timer;
        bool watched, stopping;
        char *status; /* as last reported */
};

static char *supervisor_print_status(struct service *service)
{
        struct err err = { 0 };

        if (service->definition->ready(service, &err) == 0)
                return mem_copy_text("ready");
        return mem_printf("not ready: %s", err.message);
}

/* Once for each change: `systemctl status` shows the last one. */
static void supervisor_tell_status(struct supervisor *supervisor)
{
        char *status = supervisor_print_status(supervisor->service);

        if (supervisor->status == NULL || strcmp(status, supervisor->status) != 0)
                sd_notifyf(0, "STATUS=%s", status);
        free(supervisor->status);
        supervisor->status = status;
}

static void supervisor_tick(uv_timer_t *timer)
{
        struct supervisor *supervisor = timer->data;

        if (supervisor->watched)
                sd_notify(0, "WATCHDOG=1");
        if (!supervisor->stopping)
                supervisor_tell_status(supervisor);
}

struct supervisor *supervisor_new(struct service *service)
{
        struct supervisor *supervisor;
        uint64_t watchdog_us = 0, interval = LOOK_INTERVAL;
        int told = sd_notify(0, "READY=1");

        if (told < 0)
                log_warn("the supervisor cannot be notified", "variable", "NOTIFY_SOCKET", "error", strerror(-told),
                         NULL);
        if (told <= 0)
                return NULL;
        supervisor = NEW(struct supervisor);
        supervisor->service = service;
        supervisor->watched = sd_watchdog_enabled(0, &watchdog_us) > 0;
        if (supervisor->watched)
                interval = MAX(1, MIN(interval, watchdog_us / 1000 / SIGNS));
        uv_timer_init(&service->loop, &supervisor->timer);
        supervisor->timer.data = supervisor;
        uv_timer_start(&supervisor->timer, supervisor_tick, 0, interval);
        return supervisor;
}

void supervisor_stopping(struct supervisor *supervisor, int64_t within_ms)
{
        if (supervisor == NULL || supervisor->stopping)
                return;
        supervisor->stopping = true;
        sd_notifyf(0, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%lld", (long long)within_ms * 1000);
}

static void supervisor_closed(uv_handle_t *handle)
{
        struct supervisor *supervisor = handle->data;

        free(supervisor->status);
        free(supervisor);
}

void supervisor_free(struct supervisor *supervisor)
{
        if (supervisor != NULL)
                uv_close((uv_handle_t *)&supervisor->timer, supervisor_closed);
}
