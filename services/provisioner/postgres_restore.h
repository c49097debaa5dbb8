/* The postgres driver's part that brings backups back: see driver.h. A copy is called tn_TENANT_rNUMBER, and what an
 * attempt has not proved yet has _fFENCE behind that; each bears the comment "tenantry-restore TENANT NUMBER", which no
 * look for a tenant's database takes for one. */
#pragma once

#include "services/provisioner/driver.h"

extern const struct restore_driver POSTGRES_RESTORE;

/* Drops every copy of the tenant on its server, then goes on with next. */
enum step_result postgres_drop_all_copies(struct saga *saga, enum step_result (*next)(struct saga *saga));
