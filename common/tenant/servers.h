/* The PostgreSQL servers that tenants live on, from the configuration (TENANT_SERVERS), and connections to them. */
#pragma once

#include "common/base/json.h"
#include "common/pg/pool.h"
#include "common/service/service.h"

struct servers;

/* list: the value of TENANT_SERVERS (borrowed during the call, already checked), or NULL. */
struct servers *servers_new(struct service *service, const char *list);
/* NULL is fine. */
void servers_free(struct servers *servers);
/* As configured: a JSON list of objects with name, admin_url and more. Borrowed. */
const json_t *servers_list(const struct servers *servers);
/* By number from 0; NULL after the last. Borrowed. */
const char *servers_name(const struct servers *servers, size_t number);
/* Calls visit with each server's name. */
void servers_each(struct servers *servers, void (*visit)(void *context, const char *name), void *context);
/* NULL for a name that is not configured. Borrowed. */
const char *servers_admin_url(const struct servers *servers, const char *name);
/* Where its tenants' databases are reached without a pooler (direct_host, direct_port); NULL: they are reached as their
 * products reach them, and so for a name that is not configured. Borrowed. */
const char *servers_direct_host(const struct servers *servers, const char *name);
const char *servers_direct_port(const struct servers *servers, const char *name);
/* A small pool to the server's own database, created at first use. NULL as above. */
struct pg_pool *servers_admin(struct servers *servers, const char *name);
/* Another, for statements that copy and remove files: they may take minutes, and a suspension must not wait for them.
 */
struct pg_pool *servers_files(struct servers *servers, const char *name);
/* The pool of servers_admin, if it has been created. */
struct pg_pool *servers_admin_in_use(const struct servers *servers, size_t number);
/* changed(context, number) is called when connections of servers_admin come up or are lost. One listener. */
void servers_on_change(struct servers *servers, void (*changed)(void *context, size_t number), void *context);
/* -ERR_BUSY: another process may know it. */
int servers_unknown(const char *name, struct err *err);
