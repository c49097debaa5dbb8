/* `tenantry doctor`: where tenants live, on servers or at Supabase; and pg_dump, which must not be older than they
 * are. */
#include "cli/doctor.h"
#include "cli/server.h"

#include "cli/api.h"
#include "common/base/memory.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#define SUPABASE_MAJOR 17 /* the version of new projects */
#define SUPABASE_API   "https://api.supabase.com"

static const char SQL_RIGHTS[] =
        "select (rolsuper or (rolcreatedb and rolcreaterole))::text from pg_roles where rolname = current_user";

/* The address that tenants get; it may be a pooler. No login is needed to see whether anything listens there. */
static void doctor_check_tenant_address(struct doctor *doctor, const char *name, const json_t *server)
{
        const char *host = json_text(server, "tenant_host"), *port = json_text(server, "tenant_port");
        const char *const names[] = { "host", "port", "connect_timeout", NULL };
        const char *const values[] = { host, port, "5", NULL };
        PGPing ping;

        if (host == NULL || port == NULL) {
                doctor_bad(doctor, "server", "give both as strings", "%s has no tenant_host or no tenant_port", name);
                return;
        }
        ping = PQpingParams(names, values, 0);
        if (ping == PQPING_OK || ping == PQPING_REJECT)
                doctor_good(doctor, "server", "%s: tenants reach %s:%s", name, host, port);
        else
                doctor_bad(doctor, "server", "correct tenant_host and tenant_port in TENANT_SERVERS",
                           "%s: nothing answers at %s:%s", name, host, port);
}

static void doctor_check_server(struct doctor *doctor, const json_t *server)
{
        const char *name = json_text(server, "name"), *url = json_text(server, "admin_url");
        auto_free char *why = NULL, *rights = NULL;
        PGconn *conn;

        if (name == NULL || url == NULL) {
                doctor_bad(doctor, "server", "correct TENANT_SERVERS", "a server has no name or no admin_url");
                return;
        }
        conn = server_connect(url, DOCTOR_NAME, &why);
        if (conn == NULL) {
                doctor_bad(doctor, "server", "start it, or correct admin_url in TENANT_SERVERS", "%s: %s", name, why);
                return;
        }
        rights = server_ask(conn, SQL_RIGHTS);
        if (rights == NULL || strcmp(rights, "true") != 0)
                doctor_bad(doctor, "server", "alter role ... createdb createrole",
                           "%s: its login may not create databases and roles", name);
        else
                doctor_good(doctor, "server", "%s: PostgreSQL %d, may create databases and roles", name,
                            PQserverVersion(conn) / 10000);
        doctor->newest_server = MAX(doctor->newest_server, PQserverVersion(conn) / 10000);
        PQfinish(conn);
        doctor_check_tenant_address(doctor, name, server);
}

static void doctor_check_servers(struct doctor *doctor)
{
        const char *text = cli_setting("TENANT_SERVERS");
        auto_json *servers = NULL;
        json_t *server;
        size_t i;

        if (text == NULL) {
                doctor_skip(doctor, "server",
                            "TENANT_SERVERS is not set here: run this with the provisioner's environment");
                return;
        }
        if (json_parse(text, strlen(text), &servers, NULL) < 0 || json_array_size(servers) == 0) {
                doctor_bad(doctor, "server", "see: tenantry-provisioner --help",
                           "TENANT_SERVERS is not a JSON list with at least one server");
                return;
        }
        json_array_foreach (servers, i, server)
                doctor_check_server(doctor, server);
}

static bool doctor_has_organization(const json_t *list, const char *slug)
{
        const json_t *each;
        size_t i;

        json_array_foreach (list, i, each)
                if (strcmp(json_text(each, "slug") ?: "", slug) == 0 || strcmp(json_text(each, "id") ?: "", slug) == 0)
                        return true;
        return false;
}

static void doctor_check_supabase(struct doctor *doctor)
{
        const char *token = cli_setting("SUPABASE_ACCESS_TOKEN"), *base = cli_setting("SUPABASE_API_URL");
        const char *organization = cli_setting("SUPABASE_ORGANIZATION");
        auto_free char *url = mem_printf("%s/v1/organizations", base ? base : SUPABASE_API), *away = NULL;
        auto_json *body = NULL;
        long status;

        if (token == NULL) {
                doctor_skip(doctor, "supabase", "SUPABASE_ACCESS_TOKEN is not set here");
                return;
        }
        status = api_probe(url, token, &body, &away);
        if (status == 0)
                doctor_bad(doctor, "supabase", "correct SUPABASE_API_URL or the network", "%s", away);
        else if (status == 401 || status == 403)
                doctor_bad(doctor, "supabase", "make a new token in the Supabase dashboard, Account, Access Tokens",
                           "the access token is refused (%ld)", status);
        else if (status != 200)
                doctor_bad(doctor, "supabase", "try again; see status.supabase.com", "the Management API answers %ld",
                           status);
        else if (organization != NULL && !doctor_has_organization(body, organization))
                doctor_bad(doctor, "supabase", "correct SUPABASE_ORGANIZATION",
                           "the token does not see organization %s", organization);
        else
                doctor_good(doctor, "supabase", "the access token works");
        if (base == NULL || strcmp(base, SUPABASE_API) == 0) /* the sandbox runs this machine's version */
                doctor->newest_server = MAX(doctor->newest_server, SUPABASE_MAJOR);
}

/* The major version of pg_dump on the PATH; 0 if there is none. */
static int doctor_pg_dump_major(void)
{
        FILE *out = popen("pg_dump --version 2>/dev/null", "re");
        int major = 0;

        if (out == NULL)
                return 0;
        if (fscanf(out, "pg_dump (PostgreSQL) %d", &major) != 1)
                major = 0;
        pclose(out);
        return major;
}

static void doctor_check_pg_dump(struct doctor *doctor)
{
        int major = doctor_pg_dump_major();

        if (major == 0)
                doctor_bad(doctor, "pg_dump", "install postgresql-client", "there is none on the PATH");
        else if (major < doctor->newest_server)
                doctor_bad(doctor, "pg_dump", "install the client of the newest server's version",
                           "version %d is older than a server's %d: backups would fail", major, doctor->newest_server);
        else
                doctor_good(doctor, "pg_dump", "version %d%s", major,
                            doctor->newest_server ? ", not older than the servers" : "");
}

void doctor_check_provider(struct doctor *doctor)
{
        const char *driver = cli_setting("TENANT_DRIVER");
        bool postgres = driver != NULL && strcmp(driver, "postgres") == 0;
        bool supabase = driver != NULL && strcmp(driver, "supabase") == 0;

        if (driver != NULL && !postgres && !supabase)
                doctor_bad(doctor, "driver", "set it to postgres or supabase", "TENANT_DRIVER=%s is unknown", driver);
        if (!supabase)
                doctor_check_servers(doctor);
        if (supabase || (!postgres && cli_setting("SUPABASE_ACCESS_TOKEN") != NULL))
                doctor_check_supabase(doctor);
        doctor_check_pg_dump(doctor);
}
