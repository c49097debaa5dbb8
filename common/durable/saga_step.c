/* What the steps of a saga may use: facts about the saga, time limits, calls, statements, results. */
#include "common/base/clock.h"
#include "common/durable/saga_private.h"

#include <string.h>

#define LEASE_MARGIN 250 /* an effect must end this long before the lease does */

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

void *saga_state(const struct saga *saga)
{
        return saga->shared;
}

int saga_attempt(const struct saga *saga)
{
        return saga->at.attempt;
}

const char *saga_step_name(const struct saga *saga)
{
        return saga->kind->steps[saga->at.step].name;
}

bool saga_is_undoing(const struct saga *saga)
{
        return saga->at.undoing;
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

static int64_t saga_lease_left(const struct saga *saga)
{
        return saga->lease_until - LEASE_MARGIN - clock_boot_ms();
}

int64_t saga_timeout(const struct saga *saga, int64_t wanted_ms)
{
        return MAX(1, MIN(wanted_ms, saga_lease_left(saga)));
}

bool saga_is_ours(const struct saga *saga)
{
        return !saga->lost && saga_lease_left(saga) > 0;
}

enum step_result saga_await(struct saga *saga, saga_then then)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        saga->then = then;
        return STEP_PENDING;
}

void saga_go_on(struct saga *saga)
{
        enum step_result result;

        if (!saga_is_ours(saga)) {
                saga_drop(saga, "the lease expired during a call");
                return;
        }
        saga_enter(saga, SAGA_IN_STEP);
        result = saga->then(saga, saga->resumed_well ? NULL : &saga->resumed_err);
        saga_settle(saga, result);
}

void saga_resume(struct saga *saga, const struct err *err)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        saga->resumed_well = err == NULL;
        if (err != NULL)
                saga->resumed_err = *err;
        if (saga->state == SAGA_IN_STEP)
                saga_enter(saga, SAGA_ANSWERED); /* saga_settle continues when the step function has returned */
        else
                saga_go_on(saga);
}

static void saga_rows_arrived(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct saga *saga = context;
        enum step_result result;
        struct err refused;

        CHECK_MAGIC(saga, SAGA_MAGIC);
        if (!saga_is_ours(saga) || (err != NULL && strcmp(err->code, "TN409") == 0)) {
                saga_drop(saga, "it was taken over");
                return;
        }
        if (err != NULL && saga->asked == saga->engine->service->catalog && !err_is_transient(err)) {
                refused = *err; /* a refusal by our own catalog is never the saga's failure */
                refused.class = ERR_OURS;
                err = &refused;
        }
        saga_enter(saga, SAGA_IN_STEP);
        result = saga->rows_then(saga, rows, err);
        saga_settle(saga, result);
}

/* A worker frozen inside a step may resume right before sending: then nothing is sent, and saga_settle drops the
 * saga. */
static bool saga_may_ask(struct saga *saga, const struct pg_pool *asked, saga_rows_then then)
{
        CHECK_MAGIC(saga, SAGA_MAGIC);
        saga->rows_then = then;
        saga->asked = asked;
        if (saga_is_ours(saga))
                return true;
        saga_enter(saga, SAGA_ANSWERED);
        return false;
}

enum step_result saga_query_on(struct saga *saga, struct pg_pool *pool, const char *sql, size_t count,
                               const char *const *params, saga_rows_then then)
{
        if (!saga_may_ask(saga, pool, then))
                return STEP_PENDING;
        pg_pool_exec(pool, saga_timeout(saga, SAGA_STATEMENT_TIMEOUT), sql, count, params, saga_rows_arrived, saga);
        return STEP_PENDING;
}

static int64_t saga_call_time_left(void *context)
{
        const struct saga *saga = context;

        CHECK_MAGIC(saga, SAGA_MAGIC);
        return saga->lost ? 0 : MIN(saga->call_until - clock_boot_ms(), saga_lease_left(saga));
}

enum step_result saga_query_for(struct saga *saga, struct pg_pool *pool, int64_t timeout_ms, const char *sql,
                                size_t count, const char *const *params, saga_rows_then then)
{
        if (!saga_may_ask(saga, pool, then))
                return STEP_PENDING;
        saga->call_until = clock_boot_ms() + timeout_ms;
        pg_pool_exec_for(pool, saga_call_time_left, sql, count, params, saga_rows_arrived, saga);
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
        if (!saga_may_ask(saga, NULL, then))
                return STEP_PENDING;
        pg_script(conn, saga_timeout(saga, timeout_ms), sql, saga_rows_arrived, saga);
        return STEP_PENDING;
}

void saga_keep(struct saga *saga)
{
        saga->at.kept = true;
        json_object_set_new(saga->data, "kept", json_true());
}

void saga_release(struct saga *saga)
{
        saga->at.kept = false;
        json_object_del(saga->data, "kept");
}

bool saga_is_kept(const struct saga *saga)
{
        return saga->at.kept;
}

static void saga_set_error(struct saga *saga, const struct err *err)
{
        json_decref(saga->error);
        saga->error = json_of_error(err);
}

enum step_result saga_wait(struct saga *saga, int64_t ms)
{
        saga->wait_ms = ms;
        return STEP_WAIT;
}

enum step_result saga_retry(struct saga *saga, const struct err *err)
{
        if (err->class == ERR_OURS)
                return saga_hold(saga, SAGA_CATALOG_REFUSES, err);
        if (!err_is_transient(err))
                return saga_fail(saga, err);
        saga_set_error(saga, err);
        saga->wait_ms = err->retry_after;
        return STEP_RETRY;
}

enum step_result saga_hold(struct saga *saga, const char *cause, const struct err *err)
{
        saga_set_error(saga, err);
        saga->held_for = cause;
        saga->wait_ms = err->retry_after;
        return STEP_HOLD;
}

enum step_result saga_fail(struct saga *saga, const struct err *err)
{
        saga_set_error(saga, err);
        return STEP_FAIL;
}

enum step_result saga_rows_done(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : STEP_DONE;
}
