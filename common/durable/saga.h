/* Sagas: long work as a table of steps that reads top-down, remembered row by row in the catalog. Any process may die
 * at any instruction; another claims the row when the lease has run out and goes on with the step it stands at, so each
 * step finds out first what is already done. */
#pragma once

#include "common/base/json.h"
#include "common/pg/pool.h"
#include "common/service/service.h"

enum step_result {
        STEP_DONE,    /* on to the next step */
        STEP_PENDING, /* an outside call is under way; its completion goes through saga_resume or saga_query */
        STEP_WAIT,    /* not yet, and no failure: again later (saga_wait) */
        STEP_RETRY,   /* failed, may work later (saga_retry) */
        STEP_HOLD,    /* waits until somebody mends what is ours (saga_hold) */
        STEP_FAIL,    /* failed for good (saga_fail) */
        STEP_RESTART, /* from the first step again, with other facts or because what was made is gone; not in an undo */
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
        /* Makes and frees what the steps share while the saga is in memory: from the context the catalog gave. Returns
         * 0 or a negative error (then the saga is put down and tried again). Both NULL where they share nothing. */
        int (*open)(struct saga *saga, const json_t *context, void **ret_state, struct err *err);
        void (*close)(void *state);
        /* Somebody wants the saga gone while it waits for an outside call: ends what can be ended early, so that the
         * call comes back soon, and says whether there was something. NULL = nothing can. */
        bool (*interrupt)(void *state);
        const char
                *background; /* the step that is long and patient, and gives way to what somebody waits for; or NULL */
};

struct saga_engine;

/* kinds end with NULL and are borrowed. limit: sagas in hand at once, half of them long and patient ones at most. */
struct saga_engine *saga_engine_new(struct service *service, const struct saga_kind *const *kinds, size_t limit);
/* Work may be due: look soon. */
void saga_engine_wake(struct saga_engine *engine);
/* Claims nothing new; what is in hand is put down at its next step. */
void saga_engine_stop(struct saga_engine *engine);
bool saga_engine_is_idle(const struct saga_engine *engine);
void saga_engine_free(struct saga_engine *engine);

const char *saga_id(const struct saga *saga);
const char *saga_tenant(const struct saga *saga);
const char *saga_fence(const struct saga *saga); /* as decimal text, for statements */
void *saga_state(const struct saga *saga);
int saga_attempt(const struct saga *saga);
/* The step it stands at, for statements that must not run for another. */
const char *saga_step_name(const struct saga *saga);
/* On its way back. */
bool saga_is_undoing(const struct saga *saga);
/* Business milliseconds since the step was first begun. */
int64_t saga_step_age(const struct saga *saga);
struct service *saga_service(const struct saga *saga);
/* What the saga remembers from step to step; stored when the step ends. Borrowed. */
json_t *saga_data(const struct saga *saga);

/* False once the lease has run out: then no outside call may be started any more (saga_query and saga_script see to it
 * themselves). */
bool saga_is_ours(const struct saga *saga);

/* The longest an outside call started now may take: wanted, or what is left of the lease if that is less. */
int64_t saga_timeout(const struct saga *saga, int64_t wanted_ms);

/* An outside call is under way: then runs when saga_resume is called with its outcome, unless the lease was lost
 * meanwhile. Returns STEP_PENDING. */
typedef enum step_result (*saga_then)(struct saga *saga, const struct err *err);
enum step_result saga_await(struct saga *saga, saga_then then);
/* The outside call has ended. Exactly once per saga_await; also valid before the step function has returned. */
void saga_resume(struct saga *saga, const struct err *err);

/* One statement on the catalog; then gets its rows (borrowed). Returns STEP_PENDING. */
typedef enum step_result (*saga_rows_then)(struct saga *saga, const struct pg_rows *rows, const struct err *err);
enum step_result saga_query(struct saga *saga, const char *sql, size_t count, const char *const *params,
                            saga_rows_then then);

/* The same on another pool, and several statements on a connection of the saga's own. */
enum step_result saga_query_on(struct saga *saga, struct pg_pool *pool, const char *sql, size_t count,
                               const char *const *params, saga_rows_then then);
/* With more time than the usual ten seconds, or less. It may outlast the lease as it is now, for that is renewed; it is
 * given up when that fails. */
enum step_result saga_query_for(struct saga *saga, struct pg_pool *pool, int64_t timeout_ms, const char *sql,
                                size_t count, const char *const *params, saga_rows_then then);
enum step_result saga_script(struct saga *saga, struct pg_conn *conn, int64_t timeout_ms, const char *sql,
                             saga_rows_then then);

/* What the saga works on may have been there before it, and is not its own to remove: a failure undoes nothing and
 * waits for a person, as behind the point of no return. Who wants it all gone (a cancellation) still gets that.
 * saga_release: it was proved to be new. Both are stored when the step ends. */
void saga_keep(struct saga *saga);
void saga_release(struct saga *saga);
bool saga_is_kept(const struct saga *saga);

/* How a step ends when it is not done. saga_retry fails for good by itself where the class of err says so, and holds
 * where it is ERR_OURS: so does every statement on the catalog that is refused. */
enum step_result saga_wait(struct saga *saga, int64_t ms);
enum step_result saga_retry(struct saga *saga, const struct err *err);
/* What hinders the step is ours to mend, and hinders others too: a token that is refused, a right of our login. The
 * saga waits with back-off, without end: nothing is undone, the step's time begins anew. One alert, "held:CAUSE", is
 * open for as long as sagas wait for that. cause: a static text, of a few. */
enum step_result saga_hold(struct saga *saga, const char *cause, const struct err *err);
enum step_result saga_fail(struct saga *saga, const struct err *err);
/* A saga_rows_then for the last statement of a step: done, or saga_retry. */
enum step_result saga_rows_done(struct saga *saga, const struct pg_rows *rows, const struct err *err);
