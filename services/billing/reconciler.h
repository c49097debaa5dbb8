/* Compares what Stripe has with what was told here: its list of events, for those that were not delivered, and all of
 * its subscriptions, for what is different. Where a comparison stands is in the catalog (billing.reconcile), which
 * gives each page to one process at a time; what is found is applied there, as what is delivered is. */
#pragma once

#include "services/billing/billing.h"

struct reconciler *reconciler_new(struct billing *billing);
/* Asks no more; gives up the pages it has in hand, which others ask for again later. */
void reconciler_stop(struct reconciler *reconciler);
bool reconciler_is_idle(const struct reconciler *reconciler);
/* NULL is fine. */
void reconciler_free(struct reconciler *reconciler);
