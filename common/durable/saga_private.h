/* Shared by saga_engine.c (who works on which saga), saga.c (the life of one in hand) and saga_step.c (what its steps
 * may use), and by nobody else. */
#pragma once

#include "common/base/metrics.h"
#include "common/durable/saga_rules.h"

#define SAGA_MAGIC             0x73616761
#define SAGA_STATEMENT_TIMEOUT SECONDS(10)
#define SAGA_CALL_TAIL         250               /* a call that was given up has arrived by then, or never will */
#define SAGA_CATALOG_REFUSES   "catalog-refuses" /* cause of a hold */

struct saga_engine {
        struct service *service;
        const struct saga_kind *const *kinds;
        size_t limit, held, background_limit, held_background;
        struct saga *sagas;
        char *known; /* kind/step of all steps we can run, as an SQL array */
        uv_timer_t poll, renew, gauge;
        int handles; /* how many of these are not closed */
        bool claiming, claim_again, stopped;
        int64_t next_claim_at;
        int64_t claim_lease; /* counted from before the claim was requested: never later than the catalog's */
        struct metric *in_hand, *due, *oldest, *lost;
        struct metric_family *failures;
};

enum saga_state {
        SAGA_CLAIMED,  /* ours, but its step has not begun */
        SAGA_IN_STEP,  /* a function of its step is on the stack */
        SAGA_ANSWERED, /* it still is, but the call it started has already ended */
        SAGA_CALLING,  /* the step waits for an outside call */
        SAGA_STORING,  /* the step has a result that the catalog has not stored yet */
        SAGA_GONE,     /* no longer ours; freed when its timer is closed */
};

struct saga {
        unsigned magic;
        enum saga_state state; /* changed only by saga_enter */
        struct saga *prev, *next;
        struct saga_engine *engine;
        const struct saga_kind *kind;
        char *id, *tenant, *fence;
        struct saga_position at;
        int crashes;
        bool cancel_wanted, background;
        json_t *data, *error;
        void *shared; /* what kind->open created for its steps; NULL before, and for kinds that share nothing */
        int64_t lease_until, step_began, call_until;
        bool interrupted; /* its call was aborted: the outcome is not a failure */
        bool lost, attempt_failed, resumed_well, opened;
        const char *held_for;        /* what it waits for if its step is held, otherwise NULL */
        int refusals;                /* how often in a row the catalog refused what we want to store */
        const struct pg_pool *asked; /* the one whose answer rows_then waits for */
        struct err resumed_err;
        saga_then then;
        saga_rows_then rows_then;
        int64_t wait_ms;
        struct saga_decision decision;
        int64_t next_lease;
        uv_timer_t store_again;
};

/* Enters the next state; only the transitions in saga.c's table are allowed. */
void saga_enter(struct saga *saga, enum saga_state next);
/* Makes a claimed row a saga in hand, and begins its step. */
void saga_begin(struct saga_engine *engine, const struct pg_rows *rows, int row, int64_t lease_until);
/* A step returned result: it is stored, unless the step waits for an outside call. */
void saga_settle(struct saga *saga, enum step_result result);
/* The outside call that its step waited for has ended: the step continues. */
void saga_go_on(struct saga *saga);
/* Aborts its outside call, if its kind can. */
void saga_interrupt(struct saga *saga);
/* It is cancelled: if it can turn back, it does so at the end of the call under way. */
void saga_want_cancelled(struct saga *saga);
/* Frees it, together with its outside call. */
void saga_let_go(struct saga *saga);
/* Drops it from memory without storing anything: the row belongs to somebody else, or soon will. */
void saga_drop(struct saga *saga, const char *why);
