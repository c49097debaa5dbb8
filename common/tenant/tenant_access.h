/* How to connect to a tenant's database, given what the catalog knows about the tenant: a JSON object
 *
 *   {tenant_id, generation, driver,
 *    database: {server, host, port, dbname, owner_login, ...},
 *    secrets: [{field, generation, ring: "app" | "control", sealed}]}
 *
 * as returned by provisioner.saga_context. */
#pragma once

#include "common/base/json.h"
#include "common/base/keyring.h"
#include "common/pg/pg.h"
#include "common/tenant/servers.h"

/* What a process needs to connect; all borrowed. */
struct tenant_access {
        const struct keyring *app_keys, *control_keys;
        struct servers *servers;
        const char *sslmode; /* libpq's; NULL = the driver's default */
};

/* Opens a stored secret. Returns 0 and *ret (mem_free_secret); -ERR_PERMANENT (secret_missing) if the catalog has none,
 * or the error of keyring_open. */
int tenant_secret_open(const struct tenant_access *access, const json_t *tenant, const char *field, int generation,
                       char **ret, struct err *err);
/* {field, generation, ring, sealed}, as the catalog stores it. ring: "control", which only the control plane may read,
 * or "app". */
json_t *tenant_secret_seal(const struct tenant_access *access, const char *tenant_id, const char *field, int generation,
                           const char *ring, const char *plain);

enum tenant_login {
        TENANT_OWNER, /* of the database: for migrations and other changes to it */
        TENANT_ADMIN, /* with rights on the whole server if it is one of ours; otherwise the owner */
};

/* Where to connect. Returns 0 and fills *target, whose texts live in tenant, access and *ret_keep (mem_free_secret); or
 * -ERR_BUSY (server_unknown) for a server that this process does not have, or the error of tenant_secret_open. Check
 * the marker (identity.h) before doing anything there. */
int tenant_target(const struct tenant_access *access, const json_t *tenant, enum tenant_login login,
                  struct pg_target *target, char **ret_keep, struct err *err);
