/* Closing a tenant's database on one of our servers: at the database itself, where no tenant can prevent it, with no
 * session left inside, and proved by trying to log in. */
#pragma once

#include "services/provisioner/activity.h"

/* Revokes the right to connect, then terminates sessions and looks again until none is left, then continues with next.
 * For the whole product (login NULL), or for one login, whose name is copied. Connects to the server's own database,
 * since the tenant may have exhausted the connections of its own. */
enum step_result postgres_door_shut(struct saga *saga, const char *login, enum step_result (*next)(struct saga *saga));
/* The second half of it, for after the logins were closed: a session missed while it was becoming visible is seen
 * now. */
enum step_result postgres_door_clear(struct saga *saga, const char *login, enum step_result (*next)(struct saga *saga));
/* Logs in as the product would, with the stored password of that rotation, and runs a query. Continues with next if the
 * outcome is as expected, otherwise saga_retry. The saga's connection is closed. */
enum step_result postgres_door_try(struct saga *saga, int64_t rotation, bool expect_open,
                                   enum step_result (*next)(struct saga *saga));
/* Revokes memberships in this tenant's roles that tenants' logins granted (up to PostgreSQL 14 a role could grant
 * itself, and such grants survive an upgrade of the server). The caller frees. */
char *postgres_door_memberships_sql(const struct activity *activity);
/* The same for all tenants of a server, periodically. Static. */
extern const char POSTGRES_DOOR_SQL_ALL_MEMBERSHIPS[];
