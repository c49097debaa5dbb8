/* What may be requested for a tenant: the contracts of signups and commands. */
#pragma once

#include "common/contracts/contract.h"

/* Ends with a NULL type. */
extern const struct contract TENANT_CONTRACTS[];
