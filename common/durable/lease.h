/* A lease in the catalog lets only one process at a time do something. In the catalog it expires by the database's
 * clock; here it is measured with the boot clock, starting before the request, so that a process never considers itself
 * the holder for longer than the catalog does. Each new holder gets a higher fence. */
#pragma once

#include "common/service/service.h"

struct lease;

/* name: in the catalog, such as "publisher"; borrowed. ms: how long it lasts without renewal, at most an hour.
 * answered(context) is called whenever the catalog has said who holds it, but not on errors: a lease that is held lasts
 * until it expires. */
struct lease *lease_new(struct service *service, const char *name, int64_t ms, void (*answered)(void *context),
                        void *context);
/* NULL is fine. Not while a request is under way, unless the catalog's pool is freed too. */
void lease_free(struct lease *lease);
/* Takes or renews it, unless that was requested a moment ago: call it often, at intervals of at most a third of its
 * length. */
void lease_ask(struct lease *lease);
/* Valid only at this moment: check again after anything that may have taken time. */
bool lease_is_held(const struct lease *lease);
/* The fence of the last lease held; 0 before the first. */
int64_t lease_fence(const struct lease *lease);
/* Releases it, so that others need not wait until it expires. Call it only when none of the holder's work is still in
 * flight, and again from answered, which may be called after it. */
void lease_drop(struct lease *lease);
/* No request is under way. */
bool lease_is_idle(const struct lease *lease);
