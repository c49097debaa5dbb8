/* The door of a tenant's database on a server of ours: shut at the database, where no tenant can hold it open, with
 * nobody left inside, and proved by trying to log in. */
#pragma once

#include "services/provisioner/activity.h"

/* Takes the right to connect away, then ends sessions and looks again until none is left, then goes on with next. Of
 * the whole product (login NULL), or of one login, whose name is copied. Asks on the server's own database: the tenant
 * may have filled its own. */
enum step_result postgres_door_shut(struct saga *saga, const char *login, enum step_result (*next)(struct saga *saga));
/* The second half of it, for after the logins were closed: a session that was missed while it became visible is seen
 * now. */
enum step_result postgres_door_clear(struct saga *saga, const char *login, enum step_result (*next)(struct saga *saga));
/* Logs in as the product would, by the stored password of that rotation, and asks for something. Goes on with next
 * where that ends as expected, else saga_retry. The saga's connection is closed. */
enum step_result postgres_door_try(struct saga *saga, int64_t rotation, bool expect_open,
                                   enum step_result (*next)(struct saga *saga));
/* Takes away what tenants' logins granted of this tenant's roles (up to PostgreSQL 14 a role could grant itself, and
 * what was granted outlives an upgrade of the server). The caller frees. */
char *postgres_door_memberships_sql(const struct activity *activity);
/* The same of all tenants of a server, now and then. Static. */
extern const char POSTGRES_DOOR_SQL_ALL_MEMBERSHIPS[];
