/* What the gateway must know of an event of Stripe's to pass it on unread. */
#pragma once

#include "common/contracts/stripe_event.h"

struct stripe_envelope {
        char id[STRIPE_ID_MOST + 1];
        bool livemode;
        char account[STRIPE_ID_MOST + 1];  /* the connected account; "-" for one's own */
        char customer[STRIPE_ID_MOST + 1]; /* whom it is about; what belongs to none: the object itself, or "-" */
};

/* Returns 0; or -ERR_INPUT: "not_json", or "not_an_event" without id or livemode. */
int stripe_envelope_read(const char *body, size_t length, struct stripe_envelope *ret, struct err *err);
