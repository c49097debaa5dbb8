/* One of all processes does a thing, by a lease in the catalog. Expiry there is by the database's clock; here it counts
 * on the boot clock from before the question, so that a process never believes itself the holder for longer than the
 * catalog does. Each new holder gets a higher fence. */
#pragma once

#include "common/service/service.h"

struct lease;

/* name: of the catalog, "publisher"; borrowed. ms: how long it runs without being renewed, an hour at most.
 * answered(context) is called whenever the catalog has said who holds it, and not on errors: what is held runs on until
 * its end. */
struct lease *lease_new(struct service *service, const char *name, int64_t ms, void (*answered)(void *context),
                        void *context);
/* NULL is fine. Not with a question on its way, unless the catalog's pool goes too. */
void lease_free(struct lease *lease);
/* Takes or renews it, unless that was asked a moment ago: to be called often, a third of its length apart at most. */
void lease_ask(struct lease *lease);
/* For now: look again after anything that may have taken time. */
bool lease_is_held(const struct lease *lease);
/* Of the lease held last; 0 before the first. */
int64_t lease_fence(const struct lease *lease);
/* Gives it back, so that others need not wait for its end. With nothing of its holder's still on its way, and again
 * from answered, which may be called behind it. */
void lease_drop(struct lease *lease);
/* No question is on its way. */
bool lease_is_idle(const struct lease *lease);
