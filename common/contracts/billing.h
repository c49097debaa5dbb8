/* What billing is told. */
#pragma once

#include "common/contracts/contract.h"

/* Stripe's events as their bytes came, signature checked; ce_id is Stripe's. Only the gateway may write here: whoever
 * else could would be believed. The key is MODE/ACCOUNT/CUSTOMER: "test/-/cus_123". */
#define STRIPE_TOPIC "billing.stripe.v1"
#define STRIPE_EVENT "billing.stripe.received.v1"
#define STRIPE_BYTES (1024 * 1024) /* of one event, at most */

/* What people and the product ask of billing, for one tenant; the key is its id. */
#define BILLING_COMMAND_TOPIC "billing.command.v1"

/* Ends with a NULL type. */
extern const struct contract BILLING_CONTRACTS[];
