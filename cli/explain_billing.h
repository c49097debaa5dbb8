/* Billing's part of `tenantry explain`. */
#pragma once

#include "common/base/json.h"

/* The rule by which a subscription, as snapshots and events tell it, is what it is; NULL for what this version does not
 * know. Borrowed. */
const char *explain_billing_rule(const json_t *told);
/* What the tenant's subscription is, with the member rule; NULL where billing does not know the tenant, or nobody
 * answers. The caller releases. */
json_t *explain_billing_get(const char *tenant_id);
/* Prints it; nothing for NULL. */
void explain_billing_tell(const json_t *now);
