/* What follows from the end of a call to Stripe, for all of billing's parts that make one. */
#pragma once

#include "common/net/stripe_api.h"
#include "common/service/service.h"

#define STRIPE_BUDGET "stripe:calls" /* of all calls, of all processes */

/* Counts it (tenantry_stripe_calls_total), and has everybody wait if Stripe said that it were too many. reply NULL:
 * there was none; err NULL: it succeeded. */
void outcome_note(struct service *service, const struct stripe_reply *reply, const struct err *err);
/* The counter stands at nothing from the start on, so that its first increase is seen. */
void outcome_begin_count(void);
/* Milliseconds until it is tried again, which this was for the attempts-th time (from 1): as long as Stripe has asked
 * for, else longer each time; a minute where the key is refused, which a person must mend. */
int64_t outcome_delay(int64_t attempts, const struct err *err);
