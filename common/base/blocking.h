/* Calls that block (a disk, a mail server), run on libuv's worker threads so that the loop keeps running. Each kind is
 * limited, so that calls that hang leave threads for the others. */
#pragma once

#include "common/base/macros.h"

#include <uv.h>

/* Threads in the pool that all kinds share with name lookups and queries to Kafka's brokers. */
#define BLOCKING_THREADS "16"

struct blocking;

typedef void (*blocking_fn)(void *context);

struct blocking *blocking_new(uv_loop_t *loop, size_t limit);
/* Calls run on a worker thread, when its turn comes, and then ended on the loop thread; each exactly once. context is
 * borrowed until ended has returned; anything else the two touch must outlive them. */
void blocking_call(struct blocking *blocking, blocking_fn run, blocking_fn ended, void *context);
/* Adds an owner; each owner frees it. For calls that may outlive the object that started them. */
struct blocking *blocking_share(struct blocking *blocking);
/* Calls already queued are still completed. NULL is fine. */
void blocking_free(struct blocking *blocking);
