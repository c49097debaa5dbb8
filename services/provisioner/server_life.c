/* Detects that a server failed over or was restored: see server_life.h. */
#include "services/provisioner/server_life.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/service/periodic.h"
#include "common/tenant/servers.h"

#include <string.h>

#define LOOK_INTERVAL 200
#define LIFE_INTERVAL SECONDS(10)

static const char SQL_SYNC[] = "select sync_servers($1::jsonb)";

/* Another timeline means that a standby was promoted, or a backup restored. */
static const char SQL_LIFE[] = "select (select system_identifier from pg_control_system()) || '/' || "
                               "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) as life";

static const char SQL_SEEN[] = "select server_seen($1, $2) as verify";

struct watched {
        struct server_life *life;
        const char *name;
        bool asking;
        int64_t next_look_at; /* at once if its connections were lost: it may be another server now */
};

struct server_life {
        struct service *service;
        struct servers *servers;
        struct watched *items;
        size_t count;
        struct periodic *periodic;
        bool known;
};

static void life_synced(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct server_life *life = context;

        (void)rows;
        life->known = err == NULL;
}

static void life_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct watched *server = context;

        server->asking = false;
        if (err != NULL)
                server->next_look_at = 0;
        else if (pg_int(rows, 0, "verify") > 0)
                log_warn("a tenant server failed over or was restored; its tenants will be verified", "server",
                         server->name, "tenants", pg_text(rows, 0, "verify"), NULL);
}

static void life_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct watched *server = context;
        struct service *service = server->life->service;

        server->asking = false;
        if (err != NULL || service->stopping || pg_rows_count(rows) != 1)
                return;
        server->asking = true;
        pg_pool_exec(service->catalog, SECONDS(5), SQL_SEEN, PARAMS(server->name, pg_text(rows, 0, "life")),
                     life_recorded, server);
}

static void life_connection_changed(void *context, size_t number)
{
        struct server_life *life = context;

        life->items[number].next_look_at = 0;
}

/* Repeatedly: a catalog that itself fell back in time may have forgotten it. */
static void life_look_at(struct watched *server, struct pg_pool *admin)
{
        if (server->asking || admin == NULL || !pg_pool_is_up(admin) || clock_boot_ms() < server->next_look_at)
                return;
        server->asking = true;
        server->next_look_at = clock_boot_ms() + LIFE_INTERVAL;
        pg_pool_exec(admin, SECONDS(5), SQL_LIFE, NO_PARAMS, life_told, server);
}

/* Without the URLs: the catalog places tenants, but does not connect to servers. */
static void life_sync(struct server_life *life)
{
        auto_json *public = json_deep_copy(servers_list(life->servers));
        auto_free char *text = NULL;
        json_t *server;
        size_t i;

        json_array_foreach (public, i, server)
                json_object_del(server, "admin_url");
        text = json_print(public);
        periodic_ask(life->periodic, SECONDS(5), SQL_SYNC, PARAMS(text), life_synced);
}

static void life_look(void *context)
{
        struct server_life *life = context;

        if (!life->known)
                life_sync(life);
        for (size_t i = 0; life->known && i < life->count; i++)
                life_look_at(&life->items[i], servers_admin_in_use(life->servers, i));
}

struct server_life *server_life_new(struct provisioner *provisioner)
{
        struct server_life *life = NEW(struct server_life);

        life->service = provisioner->service;
        life->servers = provisioner->access.servers;
        life->count = json_array_size(servers_list(life->servers));
        life->items = mem_alloc(life->count, sizeof(life->items[0]));
        for (size_t i = 0; i < life->count; i++)
                life->items[i] = (struct watched){ .life = life, .name = servers_name(life->servers, i) };
        servers_on_change(life->servers, life_connection_changed, life);
        life->periodic = periodic_new(life->service, 0, LOOK_INTERVAL, life_look, life);
        return life;
}

void server_life_free(struct server_life *life)
{
        if (life == NULL)
                return;
        servers_on_change(life->servers, NULL, NULL);
        periodic_free(life->periodic);
        free(life->items);
        free(life);
}

bool server_life_is_known(const struct server_life *life)
{
        return life->known;
}
