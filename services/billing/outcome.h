/* What follows from the end of a call to Stripe, for all of billing's parts that make one. */
#pragma once

#include "common/base/err.h"

/* Counts it (tenantry_stripe_calls_total); err NULL: it succeeded. */
void outcome_count(const struct err *err);
/* The counter stands at nothing from the start on, so that its first increase is seen. */
void outcome_begin_count(void);
/* Milliseconds until it is tried again, which this was for the attempts-th time (from 1): as long as Stripe has asked
 * for, else longer each time; a minute where the key is refused, which a person must mend. */
int64_t outcome_delay(int64_t attempts, const struct err *err);
