/* Lists the tenants' databases on our servers: see postgres_inventory.h. */
#include "services/provisioner/postgres_inventory.h"

#include "common/base/log.h"
#include "common/base/memory.h"
#include "services/provisioner/postgres_door.h"
#include "services/provisioner/provisioner.h"

#define STATEMENT SECONDS(20)

/* One server's part of an inventory. */
struct look {
        struct provisioner *provisioner;
        char *server;
        void (*shown)(void *context, const char *server, json_t *list, const struct err *err);
        void *context;
};

/* Not reported: nobody wants what one tenant's login granted to another's. */
static void inventory_memberships_taken(void *context, const struct pg_rows *rows, const struct err *err)
{
        (void)context;
        (void)rows;
        if (err != NULL)
                log_warn("memberships that tenants granted in their roles could not be revoked", "error", err->message,
                         NULL);
}

static void inventory_databases_listed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct look *look = context;
        json_t *list = err ? NULL : json_array();

        for (int row = 0; err == NULL && row < pg_rows_count(rows); row++) {
                json_t *found = json_pack("{s:s, s:s?, s:s?, s:b}", "name", pg_text(rows, row, "name"), "status",
                                          pg_text(rows, row, "status"), "tenant_id", pg_text(rows, row, "tenant_id"),
                                          "open", pg_bool(rows, row, "open"));

                if (pg_text(rows, row, "generation") !=
                    NULL) /* otherwise it is not a tenant's database, or it is a copy of one */
                        json_object_set_new(found, "generation",
                                            json_integer((json_int_t)pg_int(rows, row, "generation")));
                json_array_append_new(list, found);
        }
        look->shown(look->context, look->server, list, err);
        if (err == NULL && !look->provisioner->service->stopping)
                pg_pool_exec(servers_admin(look->provisioner->access.servers, look->server), STATEMENT,
                             POSTGRES_DOOR_SQL_ALL_MEMBERSHIPS, NO_PARAMS, inventory_memberships_taken, NULL);
        free(look->server);
        free(look);
}

static void inventory_look_at_server(void *context, const char *name)
{
        static const char list[] =
                "select datname as name, substring(mark from '^tenantry ([0-9a-f-]{36}) ') as tenant_id, "
                "substring(mark from '^tenantry [0-9a-f-]{36} ([0-9]+)')::int as generation, "
                "coalesce(l.opened, false) as open, case when l.kept_out then 'the app''s login may not connect' end "
                "as status "
                "from (select oid, datname, shobj_description(oid, 'pg_database') as mark from pg_database) d, "
                "lateral (select bool_or(true) as opened, "
                "bool_or(not has_database_privilege(r.oid, d.oid, 'connect')) as kept_out from pg_roles r "
                "where r.rolcanlogin and r.rolname in (d.datname || '_app_a', d.datname || '_app_b')) l "
                "where mark like 'tenantry %' or datname like 'tn\\_%'";
        struct look *look = NEW(struct look);

        *look = *(const struct look *)context;
        look->server = mem_copy_text(name);
        pg_pool_exec(servers_admin(look->provisioner->access.servers, name), STATEMENT, list, NO_PARAMS,
                     inventory_databases_listed, look);
}

void postgres_take_inventory(struct provisioner *provisioner,
                             void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                             void *context)
{
        struct look look = { .provisioner = provisioner, .shown = shown, .context = context };

        servers_each(provisioner->access.servers, inventory_look_at_server, &look);
}
