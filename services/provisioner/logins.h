/* The logins of a tenant's product: SQL used by both drivers, each on a connection that may run it. Names are generated
 * by us ([a-z0-9_], a project ref after a dot), so they are quoted and need no escaping. The caller frees all
 * results. */
#pragma once

#include "services/provisioner/activity.h"

/* "NAME_app" ("tenantry_app" in a separate project): the role that has the rights. */
char *logins_group(const struct activity *activity);
/* "NAME_app_a" or "NAME_app_b", alternating with each rotation, so that the old and the new one work side by side; with
 * the project's ref after a dot where logins are distinguished that way. */
char *logins_name(const struct activity *activity, int64_t rotation);

/* The name the product logs in with: that role's name, with the ref if the provider's pooler needs it. */
char *logins_user(const struct activity *activity, int64_t rotation);

/* The role of one rotation, with its stored password, open or closed. Returns 0 and *ret, or why the password cannot be
 * read. */
int logins_create_sql(const struct activity *activity, int64_t rotation, bool open, char **ret, struct err *err);
/* Rights of the group in the database, on existing objects and on those that migrations will create. */
char *logins_rights_sql(const struct activity *activity);
/* Opens the current login, or closes both. */
char *logins_access_sql(const struct activity *activity, bool open);
/* Terminates the sessions of two logins in this database, on a connection of the role that created them (which makes
 * itself a member of them: only members may terminate a role's sessions). */
char *logins_end_sessions_sql(const char *a, const char *b);
/* Closes the login before the current one, for good. */
char *logins_retire_sql(const struct activity *activity);
