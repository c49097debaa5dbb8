/* Asks Stripe for objects where its events do not say enough: two different states of one second, and events that carry
 * nothing. What is to be asked stands in the catalog (billing.wanted_object), each object once, however many events
 * want it. */
#pragma once

#include "services/billing/billing.h"

struct fetcher *fetcher_new(struct billing *billing);
/* There may be something to ask. */
void fetcher_wake(struct fetcher *fetcher);
/* Asks no more; gives up what it has in hand, which others ask again later. */
void fetcher_stop(struct fetcher *fetcher);
bool fetcher_is_idle(const struct fetcher *fetcher);
/* NULL is fine. */
void fetcher_free(struct fetcher *fetcher);
