/* Sagas: long-running work as a table of steps that reads top-down, stored as rows in the catalog. Any process may die
 * at any instruction; another claims the row when the lease has expired and continues with its current step, so each
 * step first finds out what is already done. */
#pragma once

#include "common/base/json.h"
#include "common/pg/pool.h"
#include "common/service/service.h"

enum step_result {
        STEP_DONE,    /* continue with the next step */
        STEP_PENDING, /* an outside call is under way; its completion goes through saga_resume or saga_query */
        STEP_WAIT,    /* not yet, but not a failure: try later (saga_wait) */
        STEP_RETRY,   /* failed, but may work later (saga_retry) */
        STEP_HOLD,    /* waits until the operator fixes the cause (saga_hold) */
        STEP_FAIL,    /* failed for good (saga_fail) */
        STEP_RESTART, /* back to the first step, with other facts or because what was made is gone; not in an undo */
};

struct saga;

struct saga_step {
        const char *name;
        enum step_result (*execute)(struct saga *saga);
        enum step_result (*undo)(struct saga *saga); /* NULL = nothing to undo */
        int64_t limit_ms;                            /* business time from the step's first attempt to giving up */
        int progress;                                /* per cent when the step begins */
};

struct saga_kind {
        const char *name;
        const struct saga_step *steps;
        size_t count;
        size_t no_return; /* from this step on a failure waits for a person and undoes nothing */
        /* Create and free what the steps share while the saga is in memory, from the context given by the catalog. open
         * returns 0 or a negative error (then the saga is put down and tried again). Both are NULL if the steps share
         * nothing. */
        int (*open)(struct saga *saga, const json_t *context, void **ret_state, struct err *err);
        void (*close)(void *state);
        /* The saga should end while it waits for an outside call: aborts the call if possible, so that it returns soon,
         * and says whether there was one. NULL = no call can be aborted. */
        bool (*interrupt)(void *state);
        const char *background; /* the long-running step that gives way to more urgent work; or NULL */
};

struct saga_engine;

/* kinds end with NULL and are borrowed. limit: sagas in hand at once, at most half of them background ones. */
struct saga_engine *saga_engine_new(struct service *service, const struct saga_kind *const *kinds, size_t limit);
/* Work may be due: check soon. */
void saga_engine_wake(struct saga_engine *engine);
/* Claims nothing new; sagas in hand are put down at their next step. */
void saga_engine_stop(struct saga_engine *engine);
bool saga_engine_is_idle(const struct saga_engine *engine);
void saga_engine_free(struct saga_engine *engine);

const char *saga_id(const struct saga *saga);
const char *saga_tenant(const struct saga *saga);
const char *saga_fence(const struct saga *saga); /* as decimal text, for statements */
void *saga_state(const struct saga *saga);
int saga_attempt(const struct saga *saga);
/* Its current step, for statements that must not run for another one. */
const char *saga_step_name(const struct saga *saga);
/* Whether it is being undone. */
bool saga_is_undoing(const struct saga *saga);
/* Business milliseconds since the step's first attempt. */
int64_t saga_step_age(const struct saga *saga);
struct service *saga_service(const struct saga *saga);
/* What the saga remembers from step to step; stored when the step ends. Borrowed. */
json_t *saga_data(const struct saga *saga);

/* False once the lease has expired: then no outside call may be started (saga_query and saga_script check this
 * themselves). */
bool saga_is_ours(const struct saga *saga);

/* How long an outside call started now may take: wanted, or the remaining lease if that is less. */
int64_t saga_timeout(const struct saga *saga, int64_t wanted_ms);

/* An outside call is under way: `then` runs when saga_resume is called with its outcome, unless the lease was lost
 * meanwhile. Returns STEP_PENDING. */
typedef enum step_result (*saga_then)(struct saga *saga, const struct err *err);
enum step_result saga_await(struct saga *saga, saga_then then);
/* The outside call has ended. Exactly once per saga_await; also valid before the step function has returned. */
void saga_resume(struct saga *saga, const struct err *err);

/* One statement on the catalog; `then` gets its rows (borrowed). Returns STEP_PENDING. */
typedef enum step_result (*saga_rows_then)(struct saga *saga, const struct pg_rows *rows, const struct err *err);
enum step_result saga_query(struct saga *saga, const char *sql, size_t count, const char *const *params,
                            saga_rows_then then);

/* The same on another pool, and several statements on the saga's own connection. */
enum step_result saga_query_on(struct saga *saga, struct pg_pool *pool, const char *sql, size_t count,
                               const char *const *params, saga_rows_then then);
/* With a time limit other than the usual ten seconds. It may outlast the current lease, since that is renewed; if
 * renewal fails, the statement is given up. */
enum step_result saga_query_for(struct saga *saga, struct pg_pool *pool, int64_t timeout_ms, const char *sql,
                                size_t count, const char *const *params, saga_rows_then then);
enum step_result saga_script(struct saga *saga, struct pg_conn *conn, int64_t timeout_ms, const char *sql,
                             saga_rows_then then);

/* What the saga works on may have existed before, and must not be removed by it: a failure undoes nothing and waits for
 * a person, as after the point of no return. A cancellation still removes everything. saga_release: it was proved to be
 * new. Both are stored when the step ends. */
void saga_keep(struct saga *saga);
void saga_release(struct saga *saga);
bool saga_is_kept(const struct saga *saga);

/* How a step ends when it is not done. saga_retry fails for good if the class of err says so, and holds if it is
 * ERR_OURS, which every refused catalog statement is. */
enum step_result saga_wait(struct saga *saga, int64_t ms);
enum step_result saga_retry(struct saga *saga, const struct err *err);
/* The step is blocked by something the operator must fix, which blocks others too: a refused token, a missing right of
 * our login. The saga waits with backoff, for as long as it takes: nothing is undone, and the step's time limit starts
 * again. One alert, "held:CAUSE", is open as long as sagas wait for that cause. cause: a static text from a small
 * set. */
enum step_result saga_hold(struct saga *saga, const char *cause, const struct err *err);
enum step_result saga_fail(struct saga *saga, const struct err *err);
/* A saga_rows_then for the last statement of a step: STEP_DONE, or saga_retry. */
enum step_result saga_rows_done(struct saga *saga, const struct pg_rows *rows, const struct err *err);
