/* Has open invoices paid with cards that their customers have chosen since (billing.payment), each card once: Stripe
 * would try again after days. */
#pragma once

#include "services/billing/billing.h"

struct payer *payer_new(struct billing *billing);
/* There may be something to pay. */
void payer_wake(struct payer *payer);
/* Begins no more; gives up what it has in hand, which others try again under the same idempotency key. */
void payer_stop(struct payer *payer);
bool payer_is_idle(const struct payer *payer);
/* NULL is fine. */
void payer_free(struct payer *payer);
