/* Work that comes again and again and begins with a statement on the catalog: a timer that asks only while the catalog
 * answers, the service is not stopping, and the last question has been answered. */
#pragma once

#include "common/service/service.h"

struct periodic;

/* act(context) is called first_ms from now and then every interval_ms, unless there is a reason to leave it out. */
struct periodic *periodic_new(struct service *service, int64_t first_ms, int64_t interval_ms,
                              void (*act)(void *context), void *context);
/* One statement on the catalog, as pg_pool_exec: answered(context, ...) gets what came of it, with the context of
 * periodic_new. act is not called before. */
void periodic_ask(struct periodic *periodic, int64_t timeout_ms, const char *sql, size_t count,
                  const char *const *params, pg_done_fn answered);
/* Acts now, where it may: there is more to do. */
void periodic_act(struct periodic *periodic);
/* The catalog's pool calls nobody back once it is freed; until then an answer may still come. NULL is fine. */
void periodic_free(struct periodic *periodic);
