/* Requests that asked to wait for their outcome: see waiters.h. */
#include "services/gateway/waiters.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/memory.h"

#include <string.h>
#include <utlist.h>

#define POLL_INTERVAL 100

/* An operation that waits for something else (a command for its tenant's signup) has a code though it has not ended. */
static const char SQL_TOLD[] = "select operation_id, to_jsonb(o) - 'body_hash' as operation from gateway.operation o "
                               "where operation_id = any ($1::uuid[]) and (state <> 'accepted' or code is not null)";

struct waiter {
        struct waiter *prev, *next;
        struct id operation;
        int64_t until;
        void (*told)(void *context, const json_t *operation);
        void *context;
};

struct waiters {
        struct gateway *gateway;
        struct waiter *list;
        uv_timer_t timer;
        bool asking;
};

static void waiters_tell(struct waiters *waiters, struct waiter *waiter, const json_t *operation)
{
        DL_DELETE(waiters->list, waiter);
        waiter->told(waiter->context, operation);
        free(waiter);
}

static void waiters_told_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct waiters *waiters = context;
        struct waiter *waiter, *next;

        waiters->asking = false;
        if (err != NULL)
                return;
        for (int row = 0; row < pg_rows_count(rows); row++) {
                const char *text = pg_text(rows, row, "operation");
                auto_json *operation = NULL;

                if (json_parse(text, strlen(text), &operation, NULL) < 0)
                        continue;
                DL_FOREACH_SAFE (waiters->list, waiter, next)
                        if (strcmp(waiter->operation.text, pg_text(rows, row, "operation_id")) == 0)
                                waiters_tell(waiters, waiter, operation);
        }
}

static void waiters_on_timer(uv_timer_t *timer)
{
        struct waiters *waiters = timer->data;
        struct pg_pool *catalog = waiters->gateway->service->catalog;
        int64_t now = clock_boot_ms();
        struct waiter *waiter, *next;
        auto_buf ids = { 0 };

        DL_FOREACH_SAFE (waiters->list, waiter, next)
                if (waiter->until <= now || waiters->gateway->service->stopping || !pg_pool_is_up(catalog))
                        waiters_tell(waiters, waiter, NULL);
                else
                        buf_printf(&ids, "%s%s", ids.length ? "," : "{", waiter->operation.text);
        if (waiters->list == NULL || waiters->asking)
                return;
        buf_add_text(&ids, "}");
        waiters->asking = true;
        pg_pool_exec(catalog, SECONDS(2), SQL_TOLD, PARAMS(ids.data), waiters_told_arrived, waiters);
}

struct waiters *waiters_new(struct gateway *gateway)
{
        struct waiters *waiters = NEW(struct waiters);

        waiters->gateway = gateway;
        uv_timer_init(&gateway->service->loop, &waiters->timer);
        waiters->timer.data = waiters;
        uv_timer_start(&waiters->timer, waiters_on_timer, POLL_INTERVAL, POLL_INTERVAL);
        return waiters;
}

static void waiters_closed(uv_handle_t *handle)
{
        free(handle->data);
}

void waiters_free(struct waiters *waiters)
{
        struct waiter *waiter, *next;

        if (waiters == NULL)
                return;
        DL_FOREACH_SAFE (waiters->list, waiter, next)
                waiters_tell(waiters, waiter, NULL);
        uv_close((uv_handle_t *)&waiters->timer, waiters_closed);
}

void waiters_add(struct waiters *waiters, const char *operation_id, int64_t ms,
                 void (*told)(void *context, const json_t *operation), void *context)
{
        struct waiter *waiter = NEW(struct waiter);

        memcpy(waiter->operation.text, operation_id, sizeof(waiter->operation.text));
        waiter->until = clock_boot_ms() + ms;
        waiter->told = told;
        waiter->context = context;
        DL_APPEND(waiters->list, waiter);
}

int64_t waiters_preference(const struct http_request *request, int64_t most)
{
        const char *prefer = http_header(request, "Prefer"), *wait = prefer ? strstr(prefer, "wait=") : NULL;
        long seconds = wait ? strtol(wait + 5, NULL, 10) : 0;

        if (seconds <= 0)
                return 0;
        return MIN(SECONDS(MIN(seconds, 3600)), most);
}
