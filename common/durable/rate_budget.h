/* How often something may be asked of others, by all processes together: budgets in the catalog, each a queue of places
 * in time. Whoever takes a place that is still to come is put down until then and remembers it; the oldest asker goes
 * first, and nobody polls.
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
 * A saga stores its place as it was given, without blocked and let_in; catalog.use_turn adds them as they are by then.
 */
#pragma once

#include "common/durable/saga.h"

struct rate_budget {
        const char *name;     /* in the catalog: what the limit is of, "supabase:create_project" */
        int64_t per_minute;   /* the most that may be done within any minute */
        int64_t most_at_once; /* of these without a pause */
};

/* Asks for the saga's turn, or shows the place that it has. then gets the answer (or the error), for rate_budget_wait.
 */
enum step_result rate_budget_ask(struct saga *saga, const struct rate_budget *budget, saga_rows_then then);
/* 0 when the turn has come; else milliseconds: the saga waits for so long (saga_wait), runs the step again from its
 * start and asks again, with its place kept. */
int64_t rate_budget_wait(struct saga *saga, const char *name, const struct pg_rows *rows);
/* The other side refused although the turn had come: the saga has waited, and goes before all who still do. */
void rate_budget_keep_turn(struct saga *saga, const char *name);
/* Nobody goes for so many milliseconds: the limit is everybody's, not only who was refused. Places keep their order. */
void rate_budget_block(struct service *service, const char *name, int64_t ms);
