/* How a tenant's database is reached, from what the catalog knows of the tenant: a JSON object
 *
 *   {tenant_id, generation, driver,
 *    database: {server, host, port, dbname, owner_login, ...},
 *    secrets: [{field, generation, ring: "app" | "control", sealed}]}
 *
 * as provisioner.saga_context gives it. */
#pragma once

#include "common/base/json.h"
#include "common/base/keyring.h"
#include "common/pg/pg.h"
#include "common/tenant/servers.h"

/* What a process needs for it; all borrowed. */
struct tenant_access {
        const struct keyring *app_keys, *control_keys;
        struct servers *servers;
        const char *sslmode; /* libpq's; NULL = the driver's default */
};

/* Opens a stored secret. Returns 0 and *ret (mem_free_secret); -ERR_PERMANENT (secret_missing) where the catalog has
 * none, or what keyring_open says. */
int tenant_secret_open(const struct tenant_access *access, const json_t *tenant, const char *field, int generation,
                       char **ret, struct err *err);
/* {field, generation, ring, sealed}, as the catalog stores it. ring: "control", which only the control plane may read,
 * or "app". */
json_t *tenant_secret_seal(const struct tenant_access *access, const char *tenant_id, const char *field, int generation,
                           const char *ring, const char *plain);

enum tenant_login {
        TENANT_OWNER, /* of the database: for migrations and what else changes it */
        TENANT_ADMIN, /* with rights over the whole server, where it is one of ours; else the owner is all there is */
};

/* Where to connect. Returns 0 and fills *target, whose texts live in tenant, access and *ret_keep (mem_free_secret); or
 * -ERR_BUSY (server_unknown) for a server that this process is not told of, or what tenant_secret_open says. Prove the
 * marker (identity.h) before anything is done there. */
int tenant_target(const struct tenant_access *access, const json_t *tenant, enum tenant_login login,
                  struct pg_target *target, char **ret_keep, struct err *err);
