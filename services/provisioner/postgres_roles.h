/* The end of a tenant's roles on a server of ours, whatever other tenants have granted to them. */
#pragma once

#include "services/provisioner/activity.h"

/* For after the database is gone: takes from the roles what they have in other databases, one database after another,
 * then drops them. They are found by name and mark; none is fine. The step is done then. */
enum step_result postgres_drop_roles(struct saga *saga);
