/* How to connect to a tenant's database: see tenant_access.h. */
#include "common/tenant/tenant_access.h"

#include "common/base/memory.h"

#include <string.h>

static const struct keyring *access_ring(const struct tenant_access *access, const char *ring)
{
        return strcmp(ring, "app") == 0 ? access->app_keys : access->control_keys;
}

int tenant_secret_open(const struct tenant_access *access, const json_t *tenant, const char *field, int generation,
                       char **ret, struct err *err)
{
        json_t *secret;
        size_t i;

        json_array_foreach (json_object_get(tenant, "secrets"), i, secret) {
                if (strcmp(json_text(secret, "field"), field) == 0 &&
                    json_number(secret, "generation", 0) == generation)
                        return keyring_open(access_ring(access, json_text(secret, "ring")),
                                            json_text(tenant, "tenant_id"), field, generation,
                                            json_text(secret, "sealed"), ret, err);
        }
        return err_set(err, ERR_PERMANENT, "secret_missing", "the catalog has no %s of generation %d", field,
                       generation);
}

json_t *tenant_secret_seal(const struct tenant_access *access, const char *tenant_id, const char *field, int generation,
                           const char *ring, const char *plain)
{
        auto_free char *sealed = keyring_seal(access_ring(access, ring), tenant_id, field, generation, plain);

        return json_pack("{s:s, s:i, s:s, s:s}", "field", field, "generation", generation, "ring", ring, "sealed",
                         sealed);
}

static bool access_is_own_server(const json_t *tenant)
{
        const char *driver = json_text(tenant, "driver");

        return driver != NULL && strcmp(driver, "postgres") == 0;
}

/* Migrations need a session: a pooler in transaction mode keeps none. */
static void access_go_around_pooler(const struct tenant_access *access, const json_t *tenant, struct pg_target *target)
{
        const char *server = json_text(json_object_get(tenant, "database"), "server");
        const char *host = server ? servers_direct_host(access->servers, server) : NULL;

        if (host == NULL || !access_is_own_server(tenant))
                return;
        target->host = host;
        target->port = servers_direct_port(access->servers, server);
}

int tenant_target(const struct tenant_access *access, const json_t *tenant, enum tenant_login login,
                  struct pg_target *target, char **ret_keep, struct err *err)
{
        const json_t *database = json_object_get(tenant, "database");
        int rc;

        if (login == TENANT_ADMIN && access_is_own_server(tenant)) {
                const char *server = json_text(database, "server"), *url = servers_admin_url(access->servers, server);

                *target = (struct pg_target){ .url = url, .dbname = json_text(database, "dbname") };
                return url ? 0 : servers_unknown(server, err);
        }
        rc = tenant_secret_open(access, tenant, "owner_password", (int)json_number(tenant, "generation", 0), ret_keep,
                                err);
        *target = (struct pg_target){
                .host = json_text(database, "host"),
                .port = json_text(database, "port"),
                .dbname = json_text(database, "dbname"),
                .user = json_text(database, "owner_login"),
                .password = *ret_keep,
                .sslmode = access->sslmode,
        };
        access_go_around_pooler(access, tenant, target);
        if (target->sslmode == NULL && !access_is_own_server(tenant))
                target->sslmode = "require"; /* the connection goes over the internet */
        return rc;
}
