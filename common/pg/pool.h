/* A few connections to one database, opened when needed, reopened with backoff when lost. Statements are queued. */
#pragma once

#include "common/pg/pg.h"

struct pg_pool;

/* target's texts are copied. */
struct pg_pool *pg_pool_new(uv_loop_t *loop, const struct pg_target *target, size_t size);
/* Ends all connections. Unanswered statements are dropped without a callback, since their callers may already be
 * gone. */
void pg_pool_free(struct pg_pool *pool);

/* As pg_exec, on the next free connection; sql and params are copied. Waits at most timeout_ms for a connection (then
 * ERR_BUSY "database_away"); the rest of it is the time for the answer. */
void pg_pool_exec(struct pg_pool *pool, int64_t timeout_ms, const char *sql, size_t count, const char *const *params,
                  pg_done_fn done, void *context);
/* The same with a time limit that may be extended while the statement runs: more_time says by how much, now and
 * whenever it is up. See pg_may_take_longer. */
void pg_pool_exec_for(struct pg_pool *pool, pg_more_time_fn more_time, const char *sql, size_t count,
                      const char *const *params, pg_done_fn done, void *context);
/* True while the last contact with the database succeeded. */
bool pg_pool_is_up(const struct pg_pool *pool);
/* For how many milliseconds there has been no connection; 0 while it is up. */
int64_t pg_pool_down_ms(const struct pg_pool *pool);
/* Statements queued or running. */
size_t pg_pool_pending(const struct pg_pool *pool);
/* Called on each change between up and down. One listener. */
void pg_pool_on_change(struct pg_pool *pool, void (*changed)(void *context, bool up), void *context);
/* Why the database is down; empty message while it is up. Borrowed. */
const struct err *pg_pool_error(const struct pg_pool *pool);

/* pg_pool_exec(pool, timeout, SQL, PARAMS(a, b, c), done, context) */
#define PARAMS(...)                                                                                                    \
        sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *), (const char *const[])                     \
        {                                                                                                              \
                __VA_ARGS__                                                                                            \
        }
#define NO_PARAMS 0, NULL
