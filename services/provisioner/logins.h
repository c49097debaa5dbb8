/* The logins of a tenant's product: SQL that both drivers use, each on a connection that may run it. Names are ours
 * ([a-z0-9_], a project ref after a dot), so they are quoted and need no escaping. All results are freed by the caller.
 */
#pragma once

#include "services/provisioner/activity.h"

/* "NAME_app" ("tenantry_app" in a project of its own): the role that holds the rights. */
char *logins_group(const struct activity *activity);
/* "NAME_app_a" or "NAME_app_b", in turns by rotation, so that the old and the new one work side by side; with the
 * project's ref behind a dot where logins are told apart that way. */
char *logins_name(const struct activity *activity, int64_t rotation);

/* What the product logs in as: that role's name, with the ref where the provider's pooler wants it. */
char *logins_user(const struct activity *activity, int64_t rotation);

/* The role of one rotation, with its stored password, open or closed. Returns 0 and *ret, or why the password cannot be
 * read. */
int logins_create_sql(const struct activity *activity, int64_t rotation, bool open, char **ret, struct err *err);
/* Rights of the group in the database, on what is there and on what migrations will make. */
char *logins_rights_sql(const struct activity *activity);
/* Opens the current login, or closes both. */
char *logins_access_sql(const struct activity *activity, bool open);
/* Ends the sessions of two logins in this database, on a connection of their maker's (who makes itself a member of
 * them: only members may end a role's sessions). */
char *logins_end_sessions_sql(const char *a, const char *b);
/* Closes the login before the current one, for good. */
char *logins_retire_sql(const struct activity *activity);
