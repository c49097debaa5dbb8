/* The PostgreSQL servers that tenants live on: see servers.h. */
#include "services/provisioner/servers.h"

#include "common/base/log.h"
#include "common/base/memory.h"

#include <string.h>

#define SYNC_INTERVAL SECONDS(1)
#define ADMIN_POOL    4
#define FILES_POOL    2
/* What nobody waits for any more must end: it would crowd the server, beside its own repetition. */
#define SETUP "set statement_timeout = '5min'; set client_connection_check_interval = '1s'"
/* Every login may hold a lock on any database: nothing waits for one, it is taken from its holder and tried again. */
#define FILES_SETUP SETUP "; set lock_timeout = '10s'"

static const char SQL_SYNC[] = "select sync_servers($1::jsonb)";

struct server {
        const char *name, *admin_url;
        struct pg_pool *admin, *files;
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
        if (err == NULL) {
                servers->known = true;
                uv_timer_stop(&servers->sync);
        }
}

/* Without the URLs: the catalog places tenants, it does not connect. */
static void on_sync(uv_timer_t *timer)
{
        struct servers *servers = timer->data;
        auto_json *public = json_deep_copy(servers->list);
        auto_free char *text = NULL;
        json_t *server;
        size_t i;

        json_array_foreach (public, i, server)
                json_object_del(server, "admin_url");
        text = json_print(public);
        pg_pool_exec(servers->provisioner->service->catalog, SECONDS(5), SQL_SYNC, PARAMS(text), synced, servers);
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
                servers->items[i].name = json_text(server, "name");
                servers->items[i].admin_url = json_text(server, "admin_url");
        }
        uv_timer_init(&provisioner->service->loop, &servers->sync);
        servers->sync.data = servers;
        uv_timer_start(&servers->sync, on_sync, 0, SYNC_INTERVAL);
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

        if (server != NULL && server->admin == NULL)
                server->admin = open_pool(servers, server, ADMIN_POOL, SETUP);
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
