/* The PostgreSQL servers that tenants live on: from the configuration, known to the catalog by name. */
#pragma once

#include "common/pg/pool.h"
#include "services/provisioner/provisioner.h"

struct servers;

/* Parses TENANT_SERVERS and tells the catalog, again and again until it listened. */
struct servers *servers_new(struct provisioner *provisioner);
void servers_free(struct servers *servers);
/* True once the catalog knows them. */
bool servers_are_known(const struct servers *servers);
/* NULL for a name that is not configured. Borrowed. */
const char *servers_admin_url(const struct servers *servers, const char *name);
/* A small pool to the server's own database, made at first use. NULL as above. */
struct pg_pool *servers_admin(struct servers *servers, const char *name);
/* Another, for statements that copy and remove files: they may take minutes, and a suspension must not wait for them.
 */
struct pg_pool *servers_files(struct servers *servers, const char *name);
/* By number from 0; NULL behind the last. Borrowed. */
const char *servers_name(const struct servers *servers, size_t number);
/* Calls visit with each server's name. */
void servers_each(struct servers *servers, void (*visit)(void *context, const char *name), void *context);
