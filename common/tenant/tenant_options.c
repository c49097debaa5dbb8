/* Options of the services that connect to tenants' databases: see tenant_options.h. */
#include "common/tenant/tenant_options.h"

#include "common/base/json.h"
#include "common/pg/pg.h"

#include <string.h>

#define AT(field) offsetof(struct tenant_config, field)

static const struct config_option OPTIONS[] = {
        { "TENANT_SERVERS", CONFIG_TEXT, CONFIG_SECRET, NULL,
          "Servers of the postgres driver, a JSON list of {name, admin_url, tenant_host, tenant_port, capacity, "
          "region?, direct_host?, direct_port?}. Where tenant_host is a pooler in transaction mode, migrations need "
          "the "
          "direct address.",
          AT(servers), 0, 0 },
        { "TENANT_SSLMODE", CONFIG_TEXT, 0, NULL,
          "libpq's sslmode for connections to tenants' databases. Not set: prefer on your own servers, require on "
          "Supabase; "
          "verify-full (with PGSSLROOTCERT) is best.",
          AT(sslmode), 0, 0 },
};

static bool tenant_server_is_named_before(const json_t *servers, size_t which)
{
        const char *name = json_text(json_array_get(servers, which), "name");

        for (size_t i = 0; i < which; i++)
                if (strcmp(json_text(json_array_get(servers, i), "name"), name) == 0)
                        return true;
        return false;
}

static int tenant_check_servers(const struct tenant_config *config, struct err *err)
{
        static const char *const needed[] = { "name", "admin_url", "tenant_host", "tenant_port" };
        auto_json *servers = NULL;
        json_t *server;
        size_t i;

        if (config->servers == NULL)
                return 0;
        if (json_parse(config->servers, strlen(config->servers), &servers, NULL) < 0 || json_array_size(servers) == 0)
                return err_field(err, "TENANT_SERVERS", "TENANT_SERVERS is not a JSON list with at least one server");
        json_array_foreach (servers, i, server) {
                for (size_t k = 0; k < ARRAY_SIZE(needed); k++)
                        if (json_text(server, needed[k]) == NULL)
                                return err_field(err, "TENANT_SERVERS", "TENANT_SERVERS: server %zu has no text \"%s\"",
                                                 i + 1, needed[k]);
                if (!pg_is_url(json_text(server, "admin_url")))
                        return err_field(err, "TENANT_SERVERS",
                                         "TENANT_SERVERS: admin_url of server %zu is not a PostgreSQL URL", i + 1);
                if ((json_text(server, "direct_host") == NULL) != (json_text(server, "direct_port") == NULL))
                        return err_field(err, "TENANT_SERVERS",
                                         "TENANT_SERVERS: server %zu has only one of direct_host and direct_port",
                                         i + 1);
                if (tenant_server_is_named_before(servers, i))
                        return err_field(err, "TENANT_SERVERS", "TENANT_SERVERS: there are two servers \"%.60s\"",
                                         json_text(server, "name"));
                if (json_number(server, "capacity", -1) < 0)
                        return err_field(err, "TENANT_SERVERS",
                                         "TENANT_SERVERS: server %zu has no capacity (0 = it takes no new tenants)",
                                         i + 1);
        }
        return 0;
}

static int tenant_check(const void *part, struct err *err)
{
        const struct tenant_config *config = part;
        int rc = config_check_choice("TENANT_SSLMODE", config->sslmode,
                                     "disable|allow|prefer|require|verify-ca|verify-full", err);

        return rc < 0 ? rc : tenant_check_servers(config, err);
}

const struct config_table TENANT_OPTIONS = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS), .check = tenant_check };
