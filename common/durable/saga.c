/* The saga engine: claims rows, runs their steps, stores what saga_rules decides. See saga.h. */
#include "common/durable/saga.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/base/metrics.h"
#include "common/durable/saga_rules.h"

#include <string.h>
#include <utlist.h>

#define SAGA_MAGIC        0x73616761
#define POLL_INTERVAL     200
#define GAUGE_INTERVAL    SECONDS(5)
#define STATEMENT_TIMEOUT SECONDS(10)
#define STORE_RETRY       300
#define LEASE_MARGIN      250 /* an effect must be over this long before the lease is */
#define CRASH_LIMIT       10

static const char SQL_CLAIM[] = "select * from saga_claim($1, $2::text[], $3::uuid[], $4::bigint, $5::int)";

static const char SQL_RENEW[] = "select saga_renew($1, $2::uuid[], $3::bigint) as saga_id";

static const char SQL_ADVANCE[] =
        "select saga_advance($1::uuid, $2::bigint, $3, $4, $5, $6::int, $7::jsonb, $8::jsonb, $9::bigint) as cancel";

static const char SQL_PARK[] = "select saga_park($1::uuid, $2::bigint, $3::jsonb, $4::bigint, $5::boolean, $6::jsonb)";

static const char SQL_END[] = "select saga_end($1::uuid, $2::bigint, $3, $4, $5::jsonb, $6::jsonb)";

static const char SQL_BACKLOG[] = "select due, oldest_seconds from saga_backlog()";

struct saga_engine {
        struct service *service;
        const struct saga_kind *const *kinds;
        size_t limit, held;
        struct saga *sagas;
        char *known; /* kind/step of all we can run, as an SQL array */
        uv_timer_t poll, renew, gauge;
        bool claiming, claim_again, stopped;
        int64_t claim_lease; /* counts from before the claim was asked for: never longer than the catalog's */
        struct metric *in_hand, *due, *oldest, *lost;
};

struct saga {
        unsigned magic;
        struct saga *prev, *next;
        struct saga_engine *engine;
        const struct saga_kind *kind;
        char *id, *tenant, *fence, *cause;
        struct saga_position at;
        int crashes;
        bool cancel_wanted;
        json_t *data, *error;
        void *state;
        int64_t lease_until, step_began;
        bool lost, attempt_failed, in_step, resumed, resumed_well, opened;
        struct err resumed_err;
        saga_then then;
        saga_rows_then rows_then;
        int64_t wait_ms;
        struct saga_decision decision;
        int64_t next_lease;
        uv_timer_t store_again;
};

static void run(struct saga *saga);
static void settle(struct saga *saga, enum step_result result);
static void store(struct saga *saga);
static void claim(struct saga_engine *engine);

const char *saga_id(const struct saga *saga)
{
        return saga->id;
}

const char *saga_tenant(const struct saga *saga)
{
        return saga->tenant;
}

const char *saga_fence(const struct saga *saga)
{
        return saga->fence;
}

const char *saga_cause(const struct saga *saga)
{
        return saga->cause;
}

void *saga_state(const struct saga *saga)
{
        return saga->state;
}

int saga_attempt(const struct saga *saga)
{
        return saga->at.attempt;
}

int64_t saga_step_age(const struct saga *saga)
{
        return saga->at.step_age_ms;
}

struct service *saga_service(const struct saga *saga)
{
        return saga->engine->service;
}

json_t *saga_data(const struct saga *saga)
{
        return saga->data;
}

int64_t saga_timeout(const struct saga *saga, int64_t wanted_ms)
{
        int64_t left = saga->lease_until - LEASE_MARGIN - clock_boot_ms();

        return MAX(1, MIN(wanted_ms, left));
}

static bool still_ours(const struct saga *saga)
{
        return !saga->lost && clock_boot_ms() < saga->lease_until - LEASE_MARGIN;
}

static void free_saga(uv_handle_t *handle)
{
        struct saga *saga = handle->data;

        free(saga->id);
        free(saga->tenant);
        free(saga->fence);
        free(saga->cause);
        json_decref(saga->data);
        json_decref(saga->error);
        saga->magic = 0;
        free(saga);
}

/* Out of memory, whatever the row says: its lease will run out, or we claim it again. */
static void let_go(struct saga *saga)
{
        struct saga_engine *engine = saga->engine;

        DL_DELETE(engine->sagas, saga);
        engine->held--;
        metric_set(engine->in_hand, (double)engine->held);
        if (saga->opened)
                saga->kind->close(saga->state);
        uv_close((uv_handle_t *)&saga->store_again, free_saga);
}

static void drop(struct saga *saga, const char *why)
{
        log_warn("a saga is not ours any more", "tenant", saga->tenant, "saga", saga->id, "why", why, NULL);
        metric_add(saga->engine->lost, 1);
        let_go(saga);
}

enum step_result saga_await(struct saga *saga, saga_then then)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        saga->then = then;
        return STEP_PENDING;
}

static void go_on(struct saga *saga)
{
        enum step_result result;

        if (!still_ours(saga)) {
                drop(saga, "the lease ran out during a call");
                return;
        }
        saga->in_step = true;
        result = saga->then(saga, saga->resumed_well ? NULL : &saga->resumed_err);
        saga->in_step = false;
        settle(saga, result);
}

void saga_resume(struct saga *saga, const struct err *err)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        saga->resumed = true;
        saga->resumed_well = err == NULL;
        if (err != NULL)
                saga->resumed_err = *err;
        if (saga->in_step)
                return; /* settle goes on when the step function has returned */
        saga->resumed = false;
        go_on(saga);
}

static void rows_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga *saga = context;
        enum step_result result;

        CHECK_MAGIC(saga, SAGA_MAGIC);
        if (!still_ours(saga) || (err != NULL && strcmp(err->code, "TN409") == 0)) {
                drop(saga, "it was taken over");
                return;
        }
        saga->in_step = true;
        result = saga->rows_then(saga, rows, err);
        saga->in_step = false;
        settle(saga, result);
}

bool saga_is_ours(const struct saga *saga)
{
        return still_ours(saga);
}

/* Frozen inside a step, a worker may come back to the line that sends: then nothing is sent, and settle drops the saga.
 */
static bool is_too_late(struct saga *saga)
{
        if (still_ours(saga))
                return false;
        assert(saga->in_step);
        saga->resumed = true;
        return true;
}

enum step_result saga_query_on(struct saga *saga, struct pg_pool *pool, const char *sql, size_t count,
                               const char *const *params, saga_rows_then then)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        if (is_too_late(saga))
                return STEP_PENDING;
        saga->rows_then = then;
        pg_pool_exec(pool, saga_timeout(saga, STATEMENT_TIMEOUT), sql, count, params, rows_arrived, saga);
        return STEP_PENDING;
}

enum step_result saga_query(struct saga *saga, const char *sql, size_t count, const char *const *params,
                            saga_rows_then then)
{
        return saga_query_on(saga, saga->engine->service->catalog, sql, count, params, then);
}

enum step_result saga_script(struct saga *saga, struct pg_conn *conn, int64_t timeout_ms, const char *sql,
                             saga_rows_then then)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        if (is_too_late(saga))
                return STEP_PENDING;
        saga->rows_then = then;
        pg_script(conn, saga_timeout(saga, timeout_ms), sql, rows_arrived, saga);
        return STEP_PENDING;
}

static void set_error(struct saga *saga, const struct err *err)
{
        json_decref(saga->error);
        saga->error = json_pack("{s:s, s:s, s:s}", "code", err->code, "detail", err->message, "class",
                                err_class_name(err->class));
}

enum step_result saga_wait(struct saga *saga, int64_t ms)
{
        saga->wait_ms = ms;
        return STEP_WAIT;
}

enum step_result saga_retry(struct saga *saga, const struct err *err)
{
        if (!err_is_transient(err))
                return saga_fail(saga, err);
        set_error(saga, err);
        saga->wait_ms = err->retry_after;
        return STEP_RETRY;
}

enum step_result saga_fail(struct saga *saga, const struct err *err)
{
        set_error(saga, err);
        return STEP_FAIL;
}

static void log_result(const struct saga *saga, enum step_result result)
{
        const char *step = saga->kind->steps[saga->at.step].name;

        if (result == STEP_RETRY || result == STEP_FAIL)
                log_warn(result == STEP_FAIL ? "a step failed" : "a step will be tried again", "tenant", saga->tenant,
                         "activity", saga->kind->name, "step", step, "code", json_text(saga->error, "code"), "error",
                         json_text(saga->error, "detail"), NULL);
        else
                log_debug("a step ended", "tenant", saga->tenant, "activity", saga->kind->name, "step", step, "result",
                          result == STEP_DONE ? "done" : "wait", NULL);
}

/* A step function has returned: either its outside call goes on, or there is a result to store. */
static void settle(struct saga *saga, enum step_result result)
{
        if (result == STEP_PENDING && saga->resumed) {
                saga->resumed = false;
                go_on(saga);
                return;
        }
        if (result == STEP_PENDING)
                return;
        log_result(saga, result);
        crypto_random(&saga->at.random, sizeof(saga->at.random));
        saga->decision = saga_decide(saga->kind, &saga->at, result, saga->wait_ms);
        saga->attempt_failed = result == STEP_RETRY;
        saga->wait_ms = 0;
        if (!still_ours(saga)) {
                drop(saga, "the lease ran out");
                return;
        }
        store(saga);
}

static void enter_step(struct saga *saga, bool cancel_wanted)
{
        saga->at.step = saga->decision.to;
        saga->at.undoing = saga->decision.move == SAGA_UNDO;
        saga->at.attempt = 0;
        saga->at.step_age_ms = 0;
        saga->step_began = clock_boot_ms();
        saga->crashes = 0;
        saga->cancel_wanted = cancel_wanted;
        run(saga);
}

static void on_store_again(uv_timer_t *timer)
{
        store(timer->data);
}

static void stored(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga *saga = context;
        struct saga_engine *engine = saga->engine;

        CHECK_MAGIC(saga, SAGA_MAGIC);
        if (err != NULL && strcmp(err->code, "TN409") != 0 && err_is_transient(err) && still_ours(saga)) {
                uv_timer_start(&saga->store_again, on_store_again, STORE_RETRY, 0);
                return;
        }
        if (err != NULL) {
                drop(saga, err->message);
                return;
        }
        FAILPOINT(saga_after_advance, NULL);
        if (saga->decision.move == SAGA_ADVANCE || saga->decision.move == SAGA_UNDO) {
                saga->lease_until = saga->next_lease;
                enter_step(saga, pg_bool(rows, 0, "cancel"));
                return;
        }
        if (saga->decision.move == SAGA_END)
                log_info("an activity ended", "tenant", saga->tenant, "activity", saga->kind->name, "outcome",
                         saga->decision.outcome, "code", json_text(saga->error, "code"), NULL);
        let_go(saga);
        saga_engine_wake(engine);
}

static void store_step(struct saga *saga, const char *data, const char *error, const char *lease)
{
        const struct saga_step *to = &saga->kind->steps[saga->decision.to];
        char progress[16];

        snprintf(progress, sizeof(progress), "%d", to->progress);
        saga->next_lease = clock_boot_ms() + strtoll(lease, NULL, 10);
        pg_pool_exec(saga->engine->service->catalog, saga_timeout(saga, STATEMENT_TIMEOUT), SQL_ADVANCE,
                     PARAMS(saga->id, saga->fence, saga->kind->steps[saga->at.step].name, to->name,
                            saga->decision.move == SAGA_UNDO ? "undoing" : "running", progress, data, error, lease),
                     stored, saga);
}

static void store(struct saga *saga)
{
        struct pg_pool *catalog = saga->engine->service->catalog;
        int64_t timeout = saga_timeout(saga, STATEMENT_TIMEOUT);
        bool failed = saga->attempt_failed;
        auto_free char *error = saga->error ? json_print(saga->error) : NULL;
        auto_free char *data = NULL;
        char number[24];
        struct err err;

        if (!still_ours(saga)) {
                drop(saga, "the lease ran out");
                return;
        }
        if (FAILPOINT(saga_before_advance, &err) < 0) {
                uv_timer_start(&saga->store_again, on_store_again, STORE_RETRY, 0);
                return;
        }
        if (saga->at.cancelled)
                json_object_set_new(saga->data, "cancelled", json_true());
        if (saga->decision.move == SAGA_END && saga->at.undoing) /* a retry goes on backwards */
                json_object_set_new(saga->data, "undoing", json_true());
        data = json_print(saga->data);
        switch (saga->decision.move) {
        case SAGA_ADVANCE:
                free(TAKE_PTR(error)); /* what went wrong before this step is over */
                __attribute__((fallthrough));
        case SAGA_UNDO:
                snprintf(number, sizeof(number), "%lld", (long long)saga->engine->service->config->lease_ms);
                store_step(saga, data, error, number);
                return;
        case SAGA_PARK:
                snprintf(number, sizeof(number), "%lld", (long long)saga->decision.delay_ms);
                pg_pool_exec(
                        catalog, timeout, SQL_PARK,
                        PARAMS(saga->id, saga->fence, data, number, failed ? "true" : "false", failed ? error : NULL),
                        stored, saga);
                return;
        case SAGA_END:
                pg_pool_exec(catalog, timeout, SQL_END,
                             PARAMS(saga->id, saga->fence, saga->kind->steps[saga->at.step].name,
                                    saga->decision.outcome, data,
                                    strcmp(saga->decision.outcome, "done") == 0 ? NULL : error),
                             stored, saga);
                return;
        }
}

static void put_down(struct saga *saga)
{
        saga->decision = (struct saga_decision){ .move = SAGA_PARK, .delay_ms = 0 };
        saga->attempt_failed = false;
        store(saga);
}

static enum step_result fail_with(struct saga *saga, const char *code, const char *detail)
{
        struct err err;
        const char *last = json_text(saga->error, "detail");

        err_set(&err, ERR_PERMANENT, code, "%s%s%.250s", detail, last ? "; last: " : "", last ? last : "");
        return saga_fail(saga, &err);
}

/* Runs the step the saga stands at, unless there is a reason to turn back. */
static void run(struct saga *saga)
{
        const struct saga_step *step = &saga->kind->steps[saga->at.step];
        enum step_result result;
        struct err err;

        if (!still_ours(
                    saga)) { /* frozen between the question and its answer: a step begins with a lease, or not at all */
                drop(saga, "the lease ran out before the step");
                return;
        }
        if (saga->engine->stopped) {
                put_down(saga);
                return;
        }
        saga->at.step_age_ms += clock_boot_ms() - saga->step_began;
        saga->step_began = clock_boot_ms();
        if (saga->cancel_wanted && saga_may_cancel(saga->kind, &saga->at)) {
                saga->at.cancelled = true;
                result = fail_with(saga, "cancelled", "it was cancelled by a later command");
        } else if (saga->crashes >= CRASH_LIMIT) {
                result = fail_with(saga, "keeps_crashing", "its workers died ten times at this step");
        } else if (saga_is_overdue(saga->kind, &saga->at)) {
                result = fail_with(saga, "step_timeout", "the step did not come to an end in its time");
        } else if (FAILPOINT(saga_before_step, &err) < 0) {
                result = saga_retry(saga, &err);
        } else {
                saga->in_step = true;
                if (saga->at.undoing)
                        result = step->undo ? step->undo(saga) : STEP_DONE;
                else
                        result = step->execute(saga);
                saga->in_step = false;
        }
        settle(saga, result);
}

static const struct saga_kind *find_kind(struct saga_engine *engine, const char *name)
{
        for (const struct saga_kind *const *kind = engine->kinds; *kind != NULL; kind++)
                if (strcmp((*kind)->name, name) == 0)
                        return *kind;
        return NULL;
}

static size_t find_step(const struct saga_kind *kind, const char *name)
{
        size_t step = 0;

        while (step < kind->count && strcmp(kind->steps[step].name, name) != 0)
                step++;
        assert(step < kind->count); /* saga_claim gives only what we said we know */
        return step;
}

static struct saga *new_saga(struct saga_engine *engine, const struct pg_rows *rows, int row)
{
        struct saga *saga = NEW(struct saga);
        const char *data = pg_text(rows, row, "data"), *error = pg_text(rows, row, "error");

        saga->magic = SAGA_MAGIC;
        saga->engine = engine;
        saga->kind = find_kind(engine, pg_text(rows, row, "kind"));
        assert(saga->kind != NULL);
        saga->id = mem_copy_text(pg_text(rows, row, "saga_id"));
        saga->tenant = mem_copy_text(pg_text(rows, row, "tenant_id"));
        saga->fence = mem_copy_text(pg_text(rows, row, "fence"));
        saga->cause = mem_copy_text(pg_text(rows, row, "caused_by"));
        saga->crashes = (int)pg_int(rows, row, "crashes");
        saga->cancel_wanted = pg_bool(rows, row, "cancel_wanted");
        if (json_parse(data, strlen(data), &saga->data, NULL) < 0)
                saga->data = json_object();
        if (error != NULL && json_parse(error, strlen(error), &saga->error, NULL) < 0)
                saga->error = NULL;
        saga->at = (struct saga_position){
                .step = find_step(saga->kind, pg_text(rows, row, "step")),
                .undoing = strcmp(pg_text(rows, row, "status"), "undoing") == 0,
                .cancelled = json_flag(saga->data, "cancelled"),
                .attempt = (int)pg_int(rows, row, "attempt"),
                .step_age_ms = pg_int(rows, row, "step_age_ms"),
        };
        saga->step_began = clock_boot_ms();
        uv_timer_init(&engine->service->loop, &saga->store_again);
        saga->store_again.data = saga;
        DL_APPEND(engine->sagas, saga);
        engine->held++;
        metric_set(engine->in_hand, (double)engine->held);
        return saga;
}

static void open_and_run(struct saga *saga, const char *context_text)
{
        auto_json *context = NULL;
        struct err err;

        if (json_parse(context_text, strlen(context_text), &context, &err) == 0 &&
            saga->kind->open(saga, context, &saga->state, &err) == 0) {
                saga->opened = true;
                run(saga);
                return;
        }
        settle(saga, saga_retry(saga, &err));
}

static void claimed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga_engine *engine = context;

        engine->claiming = false;
        if (err != NULL) {
                log_debug("no claim", "error", err->message, NULL);
                return;
        }
        for (int row = 0; row < pg_rows_count(rows); row++) {
                struct saga *saga = new_saga(engine, rows, row);

                saga->lease_until = engine->claim_lease;
                FAILPOINT(saga_after_claim, NULL);
                open_and_run(saga, pg_text(rows, row, "context"));
        }
        if (engine->claim_again || (pg_rows_count(rows) > 0 && engine->held < engine->limit)) {
                engine->claim_again = false;
                claim(engine);
        }
}

static char *list_held(const struct saga_engine *engine)
{
        struct buf list = { 0 };
        const struct saga *saga;

        buf_add_text(&list, "{");
        DL_FOREACH (engine->sagas, saga)
                buf_printf(&list, "%s%s", saga == engine->sagas ? "" : ",", saga->id);
        buf_add_text(&list, "}");
        return buf_take(&list);
}

static void claim(struct saga_engine *engine)
{
        char lease[24], limit[24];
        auto_free char *held = NULL;

        if (engine->claiming || engine->stopped || engine->held >= engine->limit ||
            !pg_pool_is_up(engine->service->catalog)) {
                engine->claim_again = engine->claiming;
                return;
        }
        engine->claiming = true;
        engine->claim_lease = clock_boot_ms() + engine->service->config->lease_ms;
        snprintf(lease, sizeof(lease), "%lld", (long long)engine->service->config->lease_ms);
        snprintf(limit, sizeof(limit), "%zu", engine->limit - engine->held);
        held = list_held(engine);
        pg_pool_exec(engine->service->catalog, STATEMENT_TIMEOUT, SQL_CLAIM,
                     PARAMS(engine->service->instance, engine->known, held, lease, limit), claimed, engine);
}

void saga_engine_wake(struct saga_engine *engine)
{
        claim(engine);
}

static void on_poll(uv_timer_t *timer)
{
        claim(timer->data);
}

/* One renewal at a time: what it asked for and when. */
struct renewal {
        struct saga_engine *engine;
        int64_t lease_until;
        char *held;
};

static void renewed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct renewal *renewal = context;
        struct saga *saga;

        if (err == NULL)
                DL_FOREACH (renewal->engine->sagas, saga) {
                        bool found = false;

                        if (strstr(renewal->held, saga->id) == NULL)
                                continue; /* claimed after we asked */
                        for (int row = 0; row < pg_rows_count(rows); row++)
                                found |= strcmp(pg_text(rows, row, "saga_id"), saga->id) == 0;
                        if (found)
                                saga->lease_until = MAX(saga->lease_until, renewal->lease_until);
                        else
                                saga->lost = true;
                }
        free(renewal->held);
        free(renewal);
}

static void on_renew(uv_timer_t *timer)
{
        struct saga_engine *engine = timer->data;
        struct renewal *renewal;
        char lease[24];

        if (engine->held == 0 || !pg_pool_is_up(engine->service->catalog))
                return;
        renewal = NEW(struct renewal);
        renewal->engine = engine;
        renewal->held = list_held(engine);
        renewal->lease_until = clock_boot_ms() + engine->service->config->lease_ms;
        snprintf(lease, sizeof(lease), "%lld", (long long)engine->service->config->lease_ms);
        pg_pool_exec(engine->service->catalog, STATEMENT_TIMEOUT, SQL_RENEW,
                     PARAMS(engine->service->instance, renewal->held, lease), renewed, renewal);
}

static void backlog_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga_engine *engine = context;

        if (err != NULL)
                return;
        metric_set(engine->due, (double)pg_int(rows, 0, "due"));
        metric_set(engine->oldest, strtod(pg_text(rows, 0, "oldest_seconds"), NULL));
}

static void on_gauge(uv_timer_t *timer)
{
        struct saga_engine *engine = timer->data;

        if (!engine->stopped && pg_pool_is_up(engine->service->catalog))
                pg_pool_exec(engine->service->catalog, STATEMENT_TIMEOUT, SQL_BACKLOG, NO_PARAMS, backlog_arrived,
                             engine);
}

static char *list_known(const struct saga_kind *const *kinds)
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

static void start_timer(struct saga_engine *engine, uv_timer_t *timer, uv_timer_cb tick, int64_t interval)
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
        engine->known = list_known(kinds);
        engine->in_hand = metric_gauge("tenantry_sagas_in_hand", NULL, "Sagas this process works on.");
        engine->due = metric_gauge("tenantry_sagas_due", NULL, "Sagas that wait for a worker: scale on this.");
        engine->oldest = metric_gauge("tenantry_sagas_oldest_seconds", NULL, "How long the oldest of them waits.");
        engine->lost = metric_counter("tenantry_sagas_lost_total", NULL, "Sagas dropped because the lease was lost.");
        start_timer(engine, &engine->poll, on_poll, POLL_INTERVAL);
        start_timer(engine, &engine->renew, on_renew, MAX(200, service->config->lease_ms / 3));
        start_timer(engine, &engine->gauge, on_gauge, GAUGE_INTERVAL);
        return engine;
}

void saga_engine_stop(struct saga_engine *engine)
{
        engine->stopped = true;
        uv_timer_stop(&engine->poll);
}

bool saga_engine_is_idle(const struct saga_engine *engine)
{
        return engine->held == 0;
}

static void free_engine(uv_handle_t *handle)
{
        struct saga_engine *engine = handle->data;

        free(engine->known);
        free(engine);
}

void saga_engine_free(struct saga_engine *engine)
{
        if (engine == NULL)
                return;
        uv_close((uv_handle_t *)&engine->poll, NULL);
        uv_close((uv_handle_t *)&engine->renew, NULL);
        uv_close((uv_handle_t *)&engine->gauge, free_engine);
}
