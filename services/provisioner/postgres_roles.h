/* Drops a tenant's roles on one of our servers, whatever other tenants have granted to them. */
#pragma once

#include "services/provisioner/activity.h"

/* Call after the database is gone: revokes what the roles have in other databases, one database after another, then
 * drops them. They are found by name and mark; it is fine if there are none. Completes the step. */
enum step_result postgres_drop_roles(struct saga *saga);
