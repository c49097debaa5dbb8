/* The postgres driver's part that restores backups: see driver.h. A copy is called tn_TENANT_rNUMBER, with _fFENCE
 * appended as long as the attempt has not proved it; each has the comment "tenantry-restore TENANT NUMBER", which
 * searches for a tenant's database ignore. */
#pragma once

#include "services/provisioner/driver.h"

extern const struct restore_driver POSTGRES_RESTORE;

/* Drops every copy of the tenant on its server, then continues with next. */
enum step_result postgres_drop_all_copies(struct saga *saga, enum step_result (*next)(struct saga *saga));
