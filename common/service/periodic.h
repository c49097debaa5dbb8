/* Periodic work that begins with a statement on the catalog: a timer that fires only while the catalog answers, the
 * service is not stopping, and the previous statement has been answered. */
#pragma once

#include "common/service/service.h"

struct periodic;

/* act(context) is called first_ms from now and then every interval_ms, unless there is a reason to skip it. */
struct periodic *periodic_new(struct service *service, int64_t first_ms, int64_t interval_ms,
                              void (*act)(void *context), void *context);
/* One statement on the catalog, like pg_pool_exec: answered(context, ...) gets the outcome, with the context of
 * periodic_new. act is not called again before that. */
void periodic_ask(struct periodic *periodic, int64_t timeout_ms, const char *sql, size_t count,
                  const char *const *params, pg_done_fn answered);
/* Calls act now, if allowed: there is more to do. */
void periodic_act(struct periodic *periodic);
/* The catalog's pool calls nobody back once it is freed; until then an answer may still come. NULL is fine. */
void periodic_free(struct periodic *periodic);
