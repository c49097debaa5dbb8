/* `tenantry doctor`: the catalog: connection, kind of connection, version, roles. */
#include "cli/doctor.h"
#include "cli/server.h"

#include "common/base/memory.h"
#include "common/migration/migration.h"
#include "common/service/services.h"

#include <string.h>

#define OLDEST_SERVER  150000
#define CATALOG_FOLDER "migrations/catalog"

/* Only the admin may read the ledger itself; a service's login may call this. */
static const char SQL_VERSION[] = "select catalog.version()";

static const char SQL_PID[] = "select pg_backend_pid()";

#define SERVICE_ROLE(name, works) "'tenantry_" #name "', "

/* Roles that are missing, or may not log in or connect. */
static const char SQL_ROLES[] =
        "select string_agg(wanted.name, ', ' order by wanted.name) "
        "from unnest(array[" SERVICES(
                SERVICE_ROLE) "null]) as wanted (name) "
                              "left join pg_roles r on r.rolname = wanted.name "
                              "where wanted.name is not null and (r.oid is null or not r.rolcanlogin "
                              "or not has_database_privilege(r.oid, current_database(), 'connect'))";

/* While our first session is open and idle, a second one gets the same backend only from a pooler in transaction
 * mode. */
static void doctor_check_mode(struct doctor *doctor, PGconn *first, const char *url)
{
        auto_free char *why = NULL, *first_pid = server_ask(first, SQL_PID), *second_pid = NULL;
        PGconn *second = server_connect(url, DOCTOR_NAME, &why);
        bool pooled, shared;

        if (second == NULL || first_pid == NULL) {
                doctor_bad(doctor, "catalog mode", "raise max_connections or the pool's size",
                           "a second connection fails: %s", why ? why : "the first one is lost");
                PQfinish(second);
                return;
        }
        second_pid = server_ask(second, SQL_PID);
        pooled = atoi(first_pid) != PQbackendPID(first);
        shared = second_pid == NULL || strcmp(first_pid, second_pid) == 0;
        if (shared)
                doctor_bad(doctor, "catalog mode",
                           "use a direct or a session-mode connection (Supabase: port 5432, not 6543)",
                           "a pooler in transaction mode: leases and advisory locks do not hold there");
        else
                doctor_good(doctor, "catalog mode", "%s",
                            pooled ? "through a pooler in session mode" : "direct connection");
        PQfinish(second);
}

/* The newest file, if the current directory is a checkout or an image that has them; the caller frees. */
static char *doctor_newest_file(void)
{
        struct migration_set *set = NULL;
        char *version = NULL;

        if (migration_set_load(CATALOG_FOLDER, &set, NULL) < 0)
                return NULL;
        if (set->count > 0)
                version = mem_copy_text(set->items[set->count - 1].version);
        migration_set_free(set);
        return version;
}

static void doctor_check_version(struct doctor *doctor, PGconn *conn)
{
        auto_free char *applied = server_ask(conn, SQL_VERSION), *newest = doctor_newest_file();

        if (applied == NULL || *applied == '\0')
                doctor_bad(doctor, "catalog schema", "run: tenantry init",
                           "the catalog does not exist, or this login may not see it");
        else if (newest != NULL && strcmp(applied, newest) < 0)
                doctor_bad(doctor, "catalog schema", "run: tenantry init", "version %s, but the files have %s", applied,
                           newest);
        else
                doctor_good(doctor, "catalog schema", "version %s%s", applied, newest ? ", like the files" : "");
}

static void doctor_check_roles(struct doctor *doctor, PGconn *conn)
{
        auto_free char *wrong = server_ask(conn, SQL_ROLES);

        if (wrong == NULL)
                doctor_bad(doctor, "roles", "use a login that may read pg_roles", "cannot be queried");
        else if (*wrong != '\0')
                doctor_bad(doctor, "roles", "run: tenantry init", "missing, or may not log in or connect: %s", wrong);
        else
                doctor_good(doctor, "roles", "one login per service");
}

void doctor_check_catalog(struct doctor *doctor)
{
        const char *admin = cli_setting("CATALOG_ADMIN_URL"),
                   *url = admin ? admin : cli_setting("CATALOG_DATABASE_URL");
        auto_free char *why = NULL;
        PGconn *conn;
        int version;

        if (url == NULL)
                return;
        conn = server_connect(url, DOCTOR_NAME, &why);
        if (conn == NULL) {
                doctor_bad(doctor, "catalog", "start PostgreSQL, or correct the URL", "%s: %s",
                           admin ? "CATALOG_ADMIN_URL" : "CATALOG_DATABASE_URL", why);
                return;
        }
        version = PQserverVersion(conn);
        if (version < OLDEST_SERVER)
                doctor_bad(doctor, "catalog", "use PostgreSQL 15 or later", "PostgreSQL %d is too old",
                           version / 10000);
        else
                doctor_good(doctor, "catalog", "PostgreSQL %d.%d answers", version / 10000, version % 10000);
        doctor_check_mode(doctor, conn, url);
        doctor_check_version(doctor, conn);
        doctor_check_roles(doctor, conn);
        PQfinish(conn);
}
