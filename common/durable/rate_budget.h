/* Limits how often all processes together may call something: budgets in the catalog, each a queue of places in time. A
 * saga that gets a future place is put down until then and remembers it; the oldest goes first, and nobody polls.
 *
 *      now                              front: the next place that nobody has
 *       |     A     |     B     |     C     |                each place an interval behind the one before
 *
 *      now      blocked_until (the other side said 429)      "blocked" has grown by as much: all wait longer,
 *       |#############|     A     |     B     |     C     |  and keep their order
 *
 *      now                                                   X missed its turn (its process died, or it was refused):
 *       | X   |     A     |     B     |     C     |          it goes now, and "let_in" has grown by an interval for
 *                                                            all whose places are older than that
 *
 * A saga stores its place as it was given, without blocked and let_in; catalog.use_turn adds them as they are by
 * then. */
#pragma once

#include "common/durable/saga.h"

struct rate_budget {
        const char *name;     /* in the catalog: what is limited, "supabase:create_project" */
        int64_t per_minute;   /* the maximum within any minute */
        int64_t most_at_once; /* how many of these without a pause */
};

/* Requests the saga's turn, or presents the place that it has. `then` gets the answer (or the error), for
 * rate_budget_wait. */
enum step_result rate_budget_ask(struct saga *saga, const struct rate_budget *budget, saga_rows_then then);
/* 0 when the turn has come; otherwise milliseconds: the saga waits for that long (saga_wait), runs the step again from
 * its start and asks again, keeping its place. */
int64_t rate_budget_wait(struct saga *saga, const char *name, const struct pg_rows *rows);
/* The other side refused although the turn had come: the saga has waited, and goes before all that are still
 * waiting. */
void rate_budget_keep_turn(struct saga *saga, const char *name);
/* Nobody goes for this many milliseconds: the limit applies to everybody, not only to the one that was refused. Places
 * keep their order. */
void rate_budget_block(struct service *service, const char *name, int64_t ms);
