/* The saga engine: claims the rows that are due, keeps their leases, and hands them to saga.c. See saga.h. */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/durable/saga_private.h"

#include <string.h>
#include <utlist.h>

#define POLL_INTERVAL  200
#define GAUGE_INTERVAL SECONDS(5)

static const char SQL_CLAIM[] = "select * from saga_claim($1, $2::text[], $3::uuid[], $4::bigint, $5::int, $6::int)";

static const char SQL_RENEW[] = "select * from saga_renew($1, $2::uuid[], $3::bigint)";

static const char SQL_BACKLOG[] = "select due, oldest_seconds from saga_backlog()";

static void engine_claim(struct saga_engine *engine);

static void engine_claimed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga_engine *engine = context;

        engine->claiming = false;
        if (err != NULL) {
                log_debug("no claim", "error", err->message, NULL);
                engine->claim_again = false;
                engine->next_claim_at =
                        clock_boot_ms() + SAGA_CALL_TAIL; /* the claim may still take something without our knowledge */
                return;
        }
        for (int row = 0; row < pg_rows_count(rows); row++)
                saga_begin(engine, rows, row, engine->claim_lease);
        if (engine->claim_again || (pg_rows_count(rows) > 0 && engine->held < engine->limit)) {
                engine->claim_again = false;
                engine_claim(engine);
        }
}

static char *engine_list_held(const struct saga_engine *engine)
{
        struct buf list = { 0 };
        const struct saga *saga;

        buf_add_text(&list, "{");
        DL_FOREACH (engine->sagas, saga)
                buf_printf(&list, "%s%s", saga == engine->sagas ? "" : ",", saga->id);
        buf_add_text(&list, "}");
        return buf_take(&list);
}

static void engine_claim(struct saga_engine *engine)
{
        char lease[24], limit[24], background[24];
        auto_free char *held = NULL;

        if (engine->claiming || engine->stopped || engine->held >= engine->limit ||
            clock_boot_ms() < engine->next_claim_at || !pg_pool_is_up(engine->service->catalog)) {
                engine->claim_again = engine->claiming;
                return;
        }
        engine->claiming = true;
        engine->claim_lease = clock_boot_ms() + engine->service->config->lease_ms;
        snprintf(lease, sizeof(lease), "%lld", (long long)engine->service->config->lease_ms);
        snprintf(limit, sizeof(limit), "%zu", engine->limit - engine->held);
        snprintf(background, sizeof(background), "%zu",
                 engine->background_limit - MIN(engine->background_limit, engine->held_background));
        held = engine_list_held(engine);
        pg_pool_exec(engine->service->catalog, SAGA_STATEMENT_TIMEOUT, SQL_CLAIM,
                     PARAMS(engine->service->instance, engine->known, held, lease, limit, background), engine_claimed,
                     engine);
}

void saga_engine_wake(struct saga_engine *engine)
{
        engine_claim(engine);
}

static void engine_on_poll(uv_timer_t *timer)
{
        engine_claim(timer->data);
}

/* Only one renewal at a time: which sagas it covers, and since when. */
struct renewal {
        struct saga_engine *engine;
        int64_t lease_until;
        char *held;
};

static int engine_find_row(const struct pg_rows *rows, const struct saga *saga)
{
        int row = pg_rows_count(rows) - 1;

        while (row >= 0 && strcmp(pg_text(rows, row, "saga_id"), saga->id) != 0)
                row--;
        return row;
}

static void engine_renewed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct renewal *renewal = context;
        struct saga *saga;

        if (err == NULL)
                DL_FOREACH (renewal->engine->sagas, saga) {
                        int row = engine_find_row(rows, saga);

                        if (strstr(renewal->held, saga->id) == NULL)
                                continue; /* claimed after the renewal was sent */
                        if (row < 0) {
                                saga->lost = true;
                                continue;
                        }
                        saga->lease_until = MAX(saga->lease_until, renewal->lease_until);
                        if (pg_bool(rows, row, "cancel_wanted"))
                                saga_want_cancelled(saga);
                }
        free(renewal->held);
        free(renewal);
}

static void engine_on_renew(uv_timer_t *timer)
{
        struct saga_engine *engine = timer->data;
        struct renewal *renewal;
        char lease[24];

        if (engine->held == 0 || !pg_pool_is_up(engine->service->catalog))
                return;
        renewal = NEW(struct renewal);
        renewal->engine = engine;
        renewal->held = engine_list_held(engine);
        renewal->lease_until = clock_boot_ms() + engine->service->config->lease_ms;
        snprintf(lease, sizeof(lease), "%lld", (long long)engine->service->config->lease_ms);
        pg_pool_exec(engine->service->catalog, SAGA_STATEMENT_TIMEOUT, SQL_RENEW,
                     PARAMS(engine->service->instance, renewal->held, lease), engine_renewed, renewal);
}

static void engine_backlog_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga_engine *engine = context;

        if (err != NULL)
                return;
        metric_set(engine->due, (double)pg_int(rows, 0, "due"));
        metric_set(engine->oldest, strtod(pg_text(rows, 0, "oldest_seconds"), NULL));
}

static void engine_on_gauge(uv_timer_t *timer)
{
        struct saga_engine *engine = timer->data;

        if (!engine->stopped && pg_pool_is_up(engine->service->catalog))
                pg_pool_exec(engine->service->catalog, SAGA_STATEMENT_TIMEOUT, SQL_BACKLOG, NO_PARAMS,
                             engine_backlog_arrived, engine);
}

static char *engine_list_known(const struct saga_kind *const *kinds)
{
        struct buf list = { 0 };

        buf_add_text(&list, "{");
        for (; *kinds != NULL; kinds++)
                for (size_t i = 0; i < (*kinds)->count; i++)
                        buf_printf(&list, "%s%s/%s", list.length > 1 ? "," : "", (*kinds)->name,
                                   (*kinds)->steps[i].name);
        buf_add_text(&list, "}");
        return buf_take(&list);
}

static void engine_start_timer(struct saga_engine *engine, uv_timer_t *timer, uv_timer_cb tick, int64_t interval)
{
        uv_timer_init(&engine->service->loop, timer);
        timer->data = engine;
        uv_timer_start(timer, tick, (uint64_t)interval, (uint64_t)interval);
}

struct saga_engine *saga_engine_new(struct service *service, const struct saga_kind *const *kinds, size_t limit)
{
        struct saga_engine *engine = NEW(struct saga_engine);

        engine->service = service;
        engine->kinds = kinds;
        engine->limit = limit;
        engine->background_limit = MAX(1, limit / 2);
        engine->known = engine_list_known(kinds);
        engine->in_hand = metric_gauge("tenantry_sagas_in_hand", NULL, "Sagas this process is working on.");
        engine->due = metric_gauge("tenantry_sagas_due", NULL, "Sagas waiting for a worker: scale on this.");
        engine->oldest = metric_gauge("tenantry_sagas_oldest_seconds", NULL, "How long the oldest of them has waited.");
        engine->lost = metric_counter("tenantry_sagas_lost_total", NULL, "Sagas dropped because the lease was lost.");
        engine->failures = metric_counter_family("tenantry_step_failures_total", "activity,step,code,result",
                                                 "Failed attempts at a step, by cause and consequence.");
        engine_start_timer(engine, &engine->poll, engine_on_poll, POLL_INTERVAL);
        engine_start_timer(engine, &engine->renew, engine_on_renew, MAX(200, service->config->lease_ms / 3));
        engine_start_timer(engine, &engine->gauge, engine_on_gauge, GAUGE_INTERVAL);
        return engine;
}

void saga_engine_stop(struct saga_engine *engine)
{
        struct saga *saga;

        engine->stopped = true;
        uv_timer_stop(&engine->poll);
        DL_FOREACH (engine->sagas, saga)
                saga_interrupt(saga);
}

bool saga_engine_is_idle(const struct saga_engine *engine)
{
        return engine->held == 0;
}

static void engine_on_closed(uv_handle_t *handle)
{
        struct saga_engine *engine = handle->data;

        if (--engine->handles > 0)
                return;
        free(engine->known);
        free(engine);
}

void saga_engine_free(struct saga_engine *engine)
{
        struct saga *saga, *next;

        if (engine == NULL)
                return;
        DL_FOREACH_SAFE (engine->sagas, saga, next) /* a call that outlived the deadline would return to freed memory */
                saga_let_go(saga);
        engine->handles = 3;
        uv_close((uv_handle_t *)&engine->poll, engine_on_closed);
        uv_close((uv_handle_t *)&engine->renew, engine_on_closed);
        uv_close((uv_handle_t *)&engine->gauge, engine_on_closed);
}
