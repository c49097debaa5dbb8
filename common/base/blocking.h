/* Calls that block (a disk, a mail server), run on libuv's worker threads so that the loop turns on. At most so many of
 * one kind at once: what hangs must leave threads for the others. */
#pragma once

#include "common/base/macros.h"

#include <uv.h>

/* Threads of the pool that all kinds share, with the look-ups of names and the questions to Kafka's brokers. */
#define BLOCKING_THREADS "16"

struct blocking;

typedef void (*blocking_fn)(void *context);

struct blocking *blocking_new(uv_loop_t *loop, size_t limit);
/* Has run called on a worker thread, when it is its turn, and then ended on the loop's. context is lent until ended has
 * returned; what the two touch beside it must outlive them. Each is called exactly once. */
void blocking_call(struct blocking *blocking, blocking_fn run, blocking_fn ended, void *context);
/* One more owner, each of whom frees it: for work whose calls go on after the one who began it has ended. */
struct blocking *blocking_share(struct blocking *blocking);
/* What was called before still comes to its end. NULL is fine. */
void blocking_free(struct blocking *blocking);
