/* The types of Stripe's events that billing acts on. The webhook endpoint is given these, for Stripe takes no wildcard
 * there; Stripe's own list of events has all types. */
#pragma once

#include <stdbool.h>

extern const char *const STRIPE_EVENT_TYPES[]; /* ends with NULL */

/* Whether the endpoint is given events of this type. */
bool stripe_event_is_wanted(const char *type);
