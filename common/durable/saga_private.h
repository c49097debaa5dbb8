/* What saga_engine.c (who works on which saga), saga.c (the life of one in hand) and saga_step.c (what its steps may
 * ask for) share with nobody else. */
#pragma once

#include "common/base/metrics.h"
#include "common/durable/saga_rules.h"

#define SAGA_MAGIC             0x73616761
#define SAGA_STATEMENT_TIMEOUT SECONDS(10)
#define SAGA_CALL_TAIL         250               /* what was given up has arrived by then, or never will */
#define SAGA_CATALOG_REFUSES   "catalog-refuses" /* cause of a hold */

struct saga_engine {
        struct service *service;
        const struct saga_kind *const *kinds;
        size_t limit, held, background_limit, held_background;
        struct saga *sagas;
        char *known; /* kind/step of all we can run, as an SQL array */
        uv_timer_t poll, renew, gauge;
        int handles; /* of these that are not closed */
        bool claiming, claim_again, stopped;
        int64_t next_claim_at;
        int64_t claim_lease; /* counts from before the claim was asked for: never longer than the catalog's */
        struct metric *in_hand, *due, *oldest, *lost;
        struct metric_family *failures;
};

enum saga_state {
        SAGA_CLAIMED,  /* ours, and its step has not begun */
        SAGA_IN_STEP,  /* a function of its step is on the stack */
        SAGA_ANSWERED, /* it still is, and the call it started has ended already */
        SAGA_CALLING,  /* the step waits for a call to the outside */
        SAGA_STORING,  /* the step has a result, which the catalog has not taken yet */
        SAGA_GONE,     /* out of our hands; freed when its timer is closed */
};

struct saga {
        unsigned magic;
        enum saga_state state; /* saga_enter alone changes it */
        struct saga *prev, *next;
        struct saga_engine *engine;
        const struct saga_kind *kind;
        char *id, *tenant, *fence;
        struct saga_position at;
        int crashes;
        bool cancel_wanted, background;
        json_t *data, *error;
        void *shared; /* what kind->open made for its steps; NULL before, and for kinds that share nothing */
        int64_t lease_until, step_began, call_until;
        bool interrupted; /* its call was ended early: what comes of it is no failure */
        bool lost, attempt_failed, resumed_well, opened;
        const char *held_for;        /* what it waits for, where its step holds; else NULL */
        int refusals;                /* by the catalog, of what we want to store, one after the other */
        const struct pg_pool *asked; /* whose answer rows_then waits for */
        struct err resumed_err;
        saga_then then;
        saga_rows_then rows_then;
        int64_t wait_ms;
        struct saga_decision decision;
        int64_t next_lease;
        uv_timer_t store_again;
};

/* The next state; only the ways in saga.c's table are open. */
void saga_enter(struct saga *saga, enum saga_state next);
/* A claimed row becomes a saga in hand, and its step begins. */
void saga_begin(struct saga_engine *engine, const struct pg_rows *rows, int row, int64_t lease_until);
/* A step came to result: it is stored, unless the step waits for an outside call. */
void saga_settle(struct saga *saga, enum step_result result);
/* The outside call that its step waited for has ended: the step goes on. */
void saga_go_on(struct saga *saga);
/* Its outside call ends early, where its kind knows how. */
void saga_interrupt(struct saga *saga);
/* Somebody wants it gone: where it can turn back it does, at the end of the call under way. */
void saga_want_cancelled(struct saga *saga);
/* Out of memory, and with it what was under way outside. */
void saga_let_go(struct saga *saga);
/* Gone from memory, with nothing stored: the row is somebody else's, or soon will be. */
void saga_drop(struct saga *saga, const char *why);
