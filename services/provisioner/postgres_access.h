/* The postgres driver's part that acts on logins and inside databases: see driver.h for what each does. */
#pragma once

#include "common/pg/pool.h"
#include "services/provisioner/driver.h"

#define POSTGRES_FILES_STATEMENT   MINUTES(2) /* creating and dropping a database copies and removes files */
#define POSTGRES_OWNER_CONNECTIONS 10

/* To the server's own database; NULL if the tenant's server is not configured. Borrowed. */
struct pg_pool *postgres_admin(struct activity *activity);
/* The same, for statements that take long. */
struct pg_pool *postgres_files(struct activity *activity);
/* An empty database for the tenant's owner, in UTF8. Nobody but the owner can connect before its public rights are
 * revoked and its connection limit is raised. */
enum step_result postgres_create_database(struct saga *saga, const char *name, saga_rows_then then);
/* If it is not configured: returns -ERR_BUSY and says so in *err; or waits until it is. */
enum step_result postgres_no_server(struct saga *saga);
/* Fills err: the database of the tenant's name is somebody else's, by its comment. Returns err. */
const struct err *postgres_foreign_mark(struct err *err);

/* "tenantry TENANT GENERATION": how the comments on its database and roles begin. The caller frees. */
char *postgres_mark(const struct activity *activity);
/* Creates the owner's login, with its stored password. Returns 0 and *ret, or why that cannot be read; the caller
 * frees. */
int postgres_owner_sql(const struct activity *activity, char **ret, struct err *err);

enum step_result postgres_prepare(struct saga *saga);
enum step_result postgres_create_admin(struct saga *saga);
enum step_result postgres_apply_access(struct saga *saga);
enum step_result postgres_set_next_login(struct saga *saga);
enum step_result postgres_end_old_login(struct saga *saga);
enum step_result postgres_prepare_dump(struct saga *saga, enum step_result (*next)(struct saga *saga));
enum step_result postgres_make_link(struct saga *saga);
