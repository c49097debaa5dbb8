/* What billing is told: see billing.h. */
#include "common/contracts/billing.h"

#include "common/contracts/stripe_event.h"

static const struct contract_field RECEIVED[] = {
        { .name = "body_base64", .kind = CONTRACT_BYTES, .required = true, .max = STRIPE_BYTES },
};

const struct contract BILLING_CONTRACTS[] = {
        { .type = STRIPE_EVENT,
          .topic = STRIPE_TOPIC,
          .is_raw = true,
          .fields = RECEIVED,
          .count = ARRAY_SIZE(RECEIVED),
          .complete = stripe_event_complete,
          .digest = "digest" },
        { .type = NULL },
};
