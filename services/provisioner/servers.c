/* The PostgreSQL servers that tenants live on: see servers.h. */
#include "services/provisioner/servers.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/memory.h"

#include <string.h>

#define SYNC_INTERVAL SECONDS(1)
#define LIFE_INTERVAL SECONDS(10)
#define ADMIN_POOL    4
#define FILES_POOL    2
/* What nobody waits for any more must end: it would crowd the server, beside its own repetition. */
#define SETUP "set statement_timeout = '5min'; set client_connection_check_interval = '1s'"
/* Every login may hold a lock on any database: nothing waits for one, it is taken from its holder and tried again. */
#define FILES_SETUP SETUP "; set lock_timeout = '10s'"

static const char SQL_SYNC[] = "select sync_servers($1::jsonb)";

/* Another timeline is another life: a standby was promoted, or a backup restored. */
static const char SQL_LIFE[] = "select (select system_identifier from pg_control_system()) || '/' || "
                               "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) as life";

static const char SQL_SEEN[] = "select server_seen($1, $2) as verify";

struct server {
        struct servers *servers;
        const char *name, *admin_url;
        struct pg_pool *admin, *files;
        bool asking;          /* in which life it is */
        int64_t next_look_at; /* at once where its connections were lost: it may be another now */
};

struct servers {
        struct provisioner *provisioner;
        json_t *list;
        struct server *items;
        size_t count;
        uv_timer_t sync;
        bool known;
};

static void synced(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct servers *servers = context;

        (void)rows;
        if (err == NULL)
                servers->known = true;
}

static void life_recorded(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct server *server = context;

        server->asking = false;
        if (err != NULL)
                server->next_look_at = 0;
        else if (pg_int(rows, 0, "verify") > 0)
                log_warn("a tenant server went on in another life; what its tenants should have is looked for",
                         "server", server->name, "tenants", pg_text(rows, 0, "verify"), NULL);
}

static void life_told(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct server *server = context;
        struct service *service = server->servers->provisioner->service;

        server->asking = false;
        if (err != NULL || service->stopping || pg_rows_count(rows) != 1)
                return;
        server->asking = true;
        pg_pool_exec(service->catalog, SECONDS(5), SQL_SEEN, PARAMS(server->name, pg_text(rows, 0, "life")),
                     life_recorded, server);
}

static void admin_changed(void *context, bool up)
{
        struct server *server = context;

        (void)up;
        server->next_look_at = 0;
}

/* Again and again: a catalog that fell back itself may have forgotten what it was told. */
static void look_at_life(struct server *server)
{
        if (server->asking || server->admin == NULL || !pg_pool_is_up(server->admin) ||
            clock_boot_ms() < server->next_look_at)
                return;
        server->asking = true;
        server->next_look_at = clock_boot_ms() + LIFE_INTERVAL;
        pg_pool_exec(server->admin, SECONDS(5), SQL_LIFE, NO_PARAMS, life_told, server);
}

/* Without the URLs: the catalog places tenants, it does not connect. */
static void tell_catalog(struct servers *servers)
{
        auto_json *public = json_deep_copy(servers->list);
        auto_free char *text = NULL;
        json_t *server;
        size_t i;

        json_array_foreach (public, i, server)
                json_object_del(server, "admin_url");
        text = json_print(public);
        pg_pool_exec(servers->provisioner->service->catalog, SECONDS(5), SQL_SYNC, PARAMS(text), synced, servers);
}

static void on_second(uv_timer_t *timer)
{
        struct servers *servers = timer->data;

        if (servers->provisioner->service->stopping)
                return;
        if (!servers->known)
                tell_catalog(servers);
        for (size_t i = 0; servers->known && i < servers->count; i++)
                look_at_life(&servers->items[i]);
}

struct servers *servers_new(struct provisioner *provisioner)
{
        struct servers *servers = NEW(struct servers);
        const char *text = provisioner->config->servers ? provisioner->config->servers : "[]";
        json_t *server;
        size_t i;

        servers->provisioner = provisioner;
        if (json_parse(text, strlen(text), &servers->list, NULL) < 0)
                servers->list = json_array();
        servers->count = json_array_size(servers->list);
        servers->items = mem_alloc(servers->count, sizeof(servers->items[0]));
        json_array_foreach (servers->list, i, server) {
                servers->items[i].servers = servers;
                servers->items[i].name = json_text(server, "name");
                servers->items[i].admin_url = json_text(server, "admin_url");
        }
        uv_timer_init(&provisioner->service->loop, &servers->sync);
        servers->sync.data = servers;
        uv_timer_start(&servers->sync, on_second, 0, SYNC_INTERVAL);
        return servers;
}

static void free_servers(uv_handle_t *handle)
{
        struct servers *servers = handle->data;

        json_decref(servers->list);
        free(servers->items);
        free(servers);
}

void servers_free(struct servers *servers)
{
        if (servers == NULL)
                return;
        for (size_t i = 0; i < servers->count; i++) {
                pg_pool_free(servers->items[i].admin);
                pg_pool_free(servers->items[i].files);
        }
        uv_close((uv_handle_t *)&servers->sync, free_servers);
}

bool servers_are_known(const struct servers *servers)
{
        return servers->known;
}

static struct server *find(const struct servers *servers, const char *name)
{
        for (size_t i = 0; name != NULL && i < servers->count; i++)
                if (strcmp(servers->items[i].name, name) == 0)
                        return &servers->items[i];
        return NULL;
}

const char *servers_admin_url(const struct servers *servers, const char *name)
{
        const struct server *server = find(servers, name);

        return server ? server->admin_url : NULL;
}

static struct pg_pool *open_pool(const struct servers *servers, const struct server *server, size_t size,
                                 const char *setup)
{
        struct pg_target target = {
                .url = server->admin_url,
                .application_name = "tenantry-provisioner",
                .setup = setup,
                .connect_timeout_ms = SECONDS(8),
        };

        return pg_pool_new(&servers->provisioner->service->loop, &target, size);
}

struct pg_pool *servers_admin(struct servers *servers, const char *name)
{
        struct server *server = find(servers, name);

        if (server != NULL && server->admin == NULL) {
                server->admin = open_pool(servers, server, ADMIN_POOL, SETUP);
                pg_pool_on_change(server->admin, admin_changed, server);
        }
        return server ? server->admin : NULL;
}

struct pg_pool *servers_files(struct servers *servers, const char *name)
{
        struct server *server = find(servers, name);

        if (server != NULL && server->files == NULL)
                server->files = open_pool(servers, server, FILES_POOL, FILES_SETUP);
        return server ? server->files : NULL;
}

const char *servers_name(const struct servers *servers, size_t number)
{
        return number < servers->count ? servers->items[number].name : NULL;
}

void servers_each(struct servers *servers, void (*visit)(void *context, const char *name), void *context)
{
        for (size_t i = 0; i < servers->count; i++)
                visit(context, servers->items[i].name);
}
