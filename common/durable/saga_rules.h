/* What a saga does next, as pure functions: no clock, no socket, no state. The engine calls them, and the simulation
 * runs them through thousands of schedules. */
#pragma once

#include "common/durable/saga.h"

enum saga_move {
        SAGA_ADVANCE, /* store the step at `to` and run it */
        SAGA_UNDO,    /* store the step at `to` as undoing and run its undo */
        SAGA_PARK,    /* put it down for delay_ms */
        SAGA_END,     /* store the end with `outcome` */
};

struct saga_decision {
        enum saga_move move;
        size_t to;
        int64_t delay_ms;
        const char *outcome; /* done, failed, cancelled, attention */
};

struct saga_position {
        size_t step;
        bool undoing, cancelled; /* cancelled: undoing because it is to be removed */
        bool kept;               /* saga_keep: a failure undoes nothing */
        int attempt;
        int64_t step_age_ms;
        unsigned random; /* for jitter */
};

/* After a step returned result. wait_ms: what saga_wait asked for or the other side's Retry-After (0 = none). */
struct saga_decision saga_decide(const struct saga_kind *kind, const struct saga_position *at, enum step_result result,
                                 int64_t wait_ms);
/* The saga is cancelled: if it can still turn back, it does. */
bool saga_may_cancel(const struct saga_kind *kind, const struct saga_position *at);
/* The step exceeded its limit. */
bool saga_is_overdue(const struct saga_kind *kind, const struct saga_position *at);
