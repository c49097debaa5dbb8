/* The PostgreSQL servers that tenants live on: see servers.h. */
#include "common/tenant/servers.h"

#include "common/base/memory.h"

#include <string.h>

#define ADMIN_POOL 4
#define FILES_POOL 2
/* A statement that nobody waits for any more must be cancelled: otherwise it would load the server alongside its own
 * retry. */
#define SETUP "set statement_timeout = '5min'; set client_connection_check_interval = '1s'"
/* Any login may hold a lock on any database: instead of waiting for such a lock, we terminate its holder and try
 * again. */
#define FILES_SETUP SETUP "; set lock_timeout = '10s'"

struct server {
        struct servers *servers;
        const char *name, *admin_url;
        struct pg_pool *admin, *files;
};

struct servers {
        struct service *service;
        char *application_name;
        json_t *list;
        struct server *items;
        size_t count;
        void (*changed)(void *context, size_t number);
        void *context;
};

struct servers *servers_new(struct service *service, const char *list)
{
        struct servers *servers = NEW(struct servers);
        json_t *server;
        size_t i;

        servers->service = service;
        servers->application_name = mem_printf("tenantry-%s", service->definition->name);
        if (list == NULL || json_parse(list, strlen(list), &servers->list, NULL) < 0)
                servers->list = json_array();
        servers->count = json_array_size(servers->list);
        servers->items = mem_alloc(servers->count, sizeof(servers->items[0]));
        json_array_foreach (servers->list, i, server)
                servers->items[i] = (struct server){
                        .servers = servers,
                        .name = json_text(server, "name"),
                        .admin_url = json_text(server, "admin_url"),
                };
        return servers;
}

void servers_free(struct servers *servers)
{
        if (servers == NULL)
                return;
        for (size_t i = 0; i < servers->count; i++) {
                pg_pool_free(servers->items[i].admin);
                pg_pool_free(servers->items[i].files);
        }
        json_decref(servers->list);
        free(servers->items);
        free(servers->application_name);
        free(servers);
}

const json_t *servers_list(const struct servers *servers)
{
        return servers->list;
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

static struct server *servers_find(const struct servers *servers, const char *name)
{
        for (size_t i = 0; name != NULL && i < servers->count; i++)
                if (strcmp(servers->items[i].name, name) == 0)
                        return &servers->items[i];
        return NULL;
}

const char *servers_admin_url(const struct servers *servers, const char *name)
{
        const struct server *server = servers_find(servers, name);

        return server ? server->admin_url : NULL;
}

static const char *servers_text(const struct servers *servers, const char *name, const char *member)
{
        json_t *server;
        size_t i;

        json_array_foreach (servers_list(servers), i, server)
                if (strcmp(json_text(server, "name"), name) == 0)
                        return json_text(server, member);
        return NULL;
}

const char *servers_direct_host(const struct servers *servers, const char *name)
{
        return servers_text(servers, name, "direct_host");
}

const char *servers_direct_port(const struct servers *servers, const char *name)
{
        return servers_text(servers, name, "direct_port");
}

static struct pg_pool *servers_open_pool(const struct server *server, size_t size, const char *setup)
{
        struct pg_target target = {
                .url = server->admin_url,
                .application_name = server->servers->application_name,
                .setup = setup,
                .connect_timeout_ms = SECONDS(8),
        };

        return pg_pool_new(&server->servers->service->loop, &target, size);
}

static void servers_admin_changed(void *context, bool up)
{
        struct server *server = context;
        struct servers *servers = server->servers;

        (void)up;
        if (servers->changed != NULL)
                servers->changed(servers->context, (size_t)(server - servers->items));
}

struct pg_pool *servers_admin(struct servers *servers, const char *name)
{
        struct server *server = servers_find(servers, name);

        if (server != NULL && server->admin == NULL) {
                server->admin = servers_open_pool(server, ADMIN_POOL, SETUP);
                pg_pool_on_change(server->admin, servers_admin_changed, server);
        }
        return server ? server->admin : NULL;
}

struct pg_pool *servers_files(struct servers *servers, const char *name)
{
        struct server *server = servers_find(servers, name);

        if (server != NULL && server->files == NULL)
                server->files = servers_open_pool(server, FILES_POOL, FILES_SETUP);
        return server ? server->files : NULL;
}

struct pg_pool *servers_admin_in_use(const struct servers *servers, size_t number)
{
        return number < servers->count ? servers->items[number].admin : NULL;
}

void servers_on_change(struct servers *servers, void (*changed)(void *context, size_t number), void *context)
{
        servers->changed = changed;
        servers->context = context;
}

int servers_unknown(const char *name, struct err *err)
{
        return err_set(err, ERR_BUSY, "server_unknown", "the server %s is not in TENANT_SERVERS of this process", name);
}
