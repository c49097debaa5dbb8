/* Tenants on PostgreSQL servers you own: a database, an owner login and an app login each. Roles and database carry a
 * comment "tenantry TENANT GENERATION"; nothing without it is ever adopted or dropped. Behind it the database names its
 * reservation: one that is not ours tells of a life before the catalog was restored, and of a customer's data. */
#include "common/base/buf.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/pg/scram.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/servers.h"

#include <string.h>

#define ADMIN_STATEMENT   SECONDS(20)
#define FILES_STATEMENT   SECONDS(25) /* creating and dropping a database copies and removes files */
#define OWNER_CONNECTIONS 10

/* The marker of a database, or of its owner where the database has none yet: roles are marked when they are made. */
static const char SQL_FIND[] = "select coalesce(shobj_description(d.oid, 'pg_database'), shobj_description(d.datdba, "
                               "'pg_authid'), '') as mark "
                               "from pg_database d where d.datname = $1";

/* Names in the SQL made below are ours ([a-z0-9_]); verifiers are base64 with $ and : between: safe between quotes. */
static const char SQL_END_SESSIONS[] =
        "select count(pg_terminate_backend(pid)) as ended from pg_stat_activity where usename = any ($1::name[])";

static enum step_result no_server(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct err err;

        err_set(&err, ERR_BUSY, "server_unknown", "the server %s is not in TENANT_SERVERS of this provisioner",
                activity_database(activity, "server"));
        return saga_retry(saga, &err);
}

static struct pg_pool *admin_of(struct activity *activity)
{
        return servers_admin(activity->provisioner->servers, activity_database(activity, "server"));
}

static char *mark_of(const struct activity *activity)
{
        return mem_printf("tenantry %s %d", activity_tenant(activity, "tenant_id"), activity_generation(activity));
}

/* Whether the comment found is this tenant's and generation's, by whichever reservation. */
static bool is_ours(const char *found, const char *mark)
{
        size_t length = strlen(mark);

        return found != NULL && strncmp(found, mark, length) == 0 && (found[length] == ' ' || found[length] == '\0');
}

static enum step_result granted(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(driver_after_grant, NULL);
        return STEP_DONE;
}

static enum step_result grant_rights(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *mark = mark_of(activity), *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_grant, &err) < 0)
                return saga_retry(saga, &err);
        sql = mem_printf("do $tenantry$ begin "
                         "revoke all on database %1$s from public; "
                         "grant connect, temporary on database %1$s to %1$s_app; "
                         "if (select shobj_description(oid, 'pg_database') is null from pg_database "
                         "where datname = '%1$s') then comment on database %1$s is '%2$s %4$s'; end if; "
                         "alter database %1$s connection limit %3$lld; "
                         "end $tenantry$",
                         name, mark, 2 * (long long)activity->provisioner->config->app_connections + OWNER_CONNECTIONS,
                         activity_database(activity, "reservation"));
        return saga_query_on(saga, admin_of(activity), sql, NO_PARAMS, granted);
}

static enum step_result database_created(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        /* An earlier attempt of ours, finished or in the very act: database_looked_up proved the name. */
        if (err != NULL && strcmp(err->code, "42P04") != 0 && strcmp(err->code, "23505") != 0)
                return saga_retry(saga, err);
        FAILPOINT(driver_after_create, NULL);
        return grant_rights(saga);
}

static enum step_result roles_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *sql = NULL;
        struct err failed;

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        if (activity->reply_status == 1) /* the database is there: only the rest is missing, perhaps */
                return grant_rights(saga);
        if (FAILPOINT(driver_before_create, &failed) < 0)
                return saga_retry(saga, &failed);
        /* Nobody but the owner gets in while public rights are not revoked yet. */
        sql = mem_printf("create database %1$s template template0 owner %1$s_owner connection limit 0", name);
        return saga_query_for(saga, admin_of(activity), FILES_STATEMENT, sql, NO_PARAMS, database_created);
}

static enum step_result app_login_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *verifier = NULL, *mark = mark_of(activity), *sql = NULL;
        auto_secret char *password = NULL;
        struct err failed;

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        if (activity_secret(activity, "owner_password", activity_generation(activity), &password, &failed) < 0)
                return saga_retry(saga, &failed);
        verifier = scram_verifier(password);
        sql = mem_printf("do $tenantry$ begin "
                         "if not exists (select from pg_roles where rolname = '%1$s_owner') then create role "
                         "%1$s_owner; end if; "
                         "alter role %1$s_owner login connection limit %2$d password '%3$s'; "
                         "comment on role %1$s_owner is '%4$s'; "
                         "grant %1$s_app_a to %1$s_owner; " /* who dumps must read what the app made: large objects */
                         "if not (select rolsuper from pg_roles where rolname = current_user) then "
                         "execute 'grant %1$s_owner to ' || quote_ident(current_user); end if; "
                         "end $tenantry$",
                         name, OWNER_CONNECTIONS, verifier, mark);
        return saga_query_on(saga, admin_of(activity), sql, NO_PARAMS, roles_made);
}

static enum step_result make_roles(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;
        struct err err;

        if (logins_create_sql(activity, 1, false, &sql, &err) < 0)
                return saga_retry(saga, &err);
        return saga_query_on(saga, admin_of(activity), sql, NO_PARAMS, app_login_made);
}

static enum step_result database_looked_up(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = mark_of(activity);
        const char *found, *reservation;
        struct err taken;

        if (err != NULL)
                return saga_retry(saga, err);
        activity->reply_status = pg_rows_count(rows) == 1;
        if (pg_rows_count(rows) == 0)
                return make_roles(saga);
        found = pg_text(rows, 0, "mark");
        if (!is_ours(found, mark)) {
                err_set(&taken, ERR_PERMANENT, "name_taken", "the database name is used by something that is not ours");
                return saga_fail(saga, &taken);
        }
        reservation = activity_database(activity, "reservation");
        if (strcmp(found, mark) == 0 || strstr(found, reservation) != NULL)
                return make_roles(saga);
        saga_keep(saga);
        return activity_learn_then(saga, json_pack("{s:b}", "adopted", 1), make_roles);
}

static enum step_result create(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct pg_pool *admin = admin_of(activity);

        if (admin == NULL)
                return no_server(saga);
        return saga_query_on(saga, admin, SQL_FIND, PARAMS(activity_database(activity, "name")), database_looked_up);
}

static enum step_result at_once(struct saga *saga)
{
        (void)saga;
        return STEP_DONE;
}

static int target(struct activity *activity, bool as_admin, struct pg_target *target, char **ret_keep, struct err *err)
{
        const char *url = servers_admin_url(activity->provisioner->servers, activity_database(activity, "server"));
        int rc;

        if (as_admin) {
                if (url == NULL)
                        return err_set(err, ERR_BUSY, "server_unknown", "the tenant's server is not in TENANT_SERVERS");
                *target = (struct pg_target){ .url = url, .dbname = activity_database(activity, "dbname") };
                return 0;
        }
        rc = activity_secret(activity, "owner_password", activity_generation(activity), ret_keep, err);
        *target = (struct pg_target){
                .host = activity_database(activity, "host"),
                .port = activity_database(activity, "port"),
                .dbname = activity_database(activity, "dbname"),
                .user = activity_database(activity, "owner_login"),
                .password = *ret_keep,
                .sslmode = activity->provisioner->config->tenant_sslmode,
        };
        return rc;
}

static enum step_result prepared(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : STEP_DONE;
}

/* The app may use what migrations make, and may not make or change anything itself. */
static enum step_result prepare(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = logins_rights_sql(activity);

        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, prepared);
}

static enum step_result sessions_ended(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(driver_after_access, NULL);
        return activity_learn(
                saga, json_pack("{s:s}", "access_applied", json_text(saga_data(activity->saga), "access_goal")));
}

static enum step_result access_read_back(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *logins = NULL, *group = logins_group(activity);
        const char *goal = json_text(saga_data(saga), "access_goal");
        struct err wrong;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_bool(rows, 0, "open") != (strcmp(goal, "full") == 0)) {
                err_set(&wrong, ERR_BUSY, "access_not_applied", "the app login is not as it was set a moment ago");
                return saga_retry(saga, &wrong);
        }
        if (strcmp(goal, "full") == 0)
                return sessions_ended(saga, NULL, NULL);
        logins = mem_printf("{%1$s_a,%1$s_b}", group);
        return saga_query_on(saga, admin_of(activity), SQL_END_SESSIONS, PARAMS(logins), sessions_ended);
}

static enum step_result access_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *login = logins_name(activity, activity_number(activity, "rotation_applied"));

        (void)rows;
        if (err != NULL) {
                activity_disconnect(activity);
                return saga_retry(saga, err);
        }
        return saga_query_on(saga, admin_of(activity), "select rolcanlogin as open from pg_roles where rolname = $1",
                             PARAMS(login), access_read_back);
}

static enum step_result set_access(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *goal = activity_tenant(activity, "access_wanted");
        auto_free char *change = logins_access_sql(activity, strcmp(goal, "full") == 0);
        auto_free char *sql = logins_fenced(saga, change);
        struct err err;

        if (FAILPOINT(driver_before_access, &err) < 0)
                return saga_retry(saga, &err);
        json_set_text(saga_data(saga), "access_goal", goal);
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, access_set);
}

static enum step_result apply_access(struct saga *saga)
{
        if (admin_of(activity_of(saga)) == NULL)
                return no_server(saga);
        return activity_connect(saga, true, false, set_access);
}

static enum step_result admin_created(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(driver_after_admin, NULL);
        return STEP_DONE;
}

/* There is no Auth server beside the database: the product finds its first administrator in tenantry.admin. */
static enum step_result write_admin(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_tenant(activity, "admin_name");
        auto_free char *email = pg_quote_literal(activity->conn, activity_tenant(activity, "email"));
        auto_free char *quoted = name ? pg_quote_literal(activity->conn, name) : mem_copy_text("null");
        auto_free char *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_admin, &err) < 0)
                return saga_retry(saga, &err);
        sql = mem_printf(
                "create table if not exists tenantry.admin (id uuid primary key, email text not null, name text, "
                "created_at timestamptz not null default clock_timestamp());"
                "insert into tenantry.admin (id, email, name) values ('%1$s', %2$s, %3$s) on conflict do nothing;"
                "grant usage on schema tenantry to %4$s_app;"
                "grant select on tenantry.admin, tenantry.identity to %4$s_app;",
                activity_tenant(activity, "admin_id"), email, quoted, activity_database(activity, "name"));
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, admin_created);
}

static enum step_result create_admin(struct saga *saga)
{
        return activity_connect(saga, false, false, write_admin);
}

static enum step_result next_login_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL) {
                activity_disconnect(activity_of(saga));
                return saga_retry(saga, err);
        }
        FAILPOINT(driver_after_rotate, NULL);
        return STEP_DONE;
}

static enum step_result write_next_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        int64_t rotation = activity_number(activity, "rotation_applied") + 1;
        auto_free char *change = NULL, *sql = NULL;
        bool open = strcmp(activity_tenant(activity, "access_applied"), "full") == 0;
        struct err err;

        if (FAILPOINT(driver_before_rotate, &err) < 0 || logins_create_sql(activity, rotation, open, &change, &err) < 0)
                return saga_retry(saga, &err);
        sql = logins_fenced(saga, change);
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, next_login_set);
}

static enum step_result set_next_login(struct saga *saga)
{
        if (admin_of(activity_of(saga)) == NULL)
                return no_server(saga);
        return activity_connect(saga, true, false, write_next_login);
}

static enum step_result old_sessions_ended(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : STEP_DONE;
}

static enum step_result old_login_closed(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *old = logins_name(activity, activity_number(activity, "rotation_applied") - 1);
        auto_free char *logins = mem_printf("{%s}", old);

        (void)rows;
        if (err != NULL) {
                activity_disconnect(activity);
                return saga_retry(saga, err);
        }
        return saga_query_on(saga, admin_of(activity), SQL_END_SESSIONS, PARAMS(logins), old_sessions_ended);
}

static enum step_result close_old_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *change = logins_retire_sql(activity), *sql = logins_fenced(saga, change);

        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, old_login_closed);
}

/* Runs when rotation_applied is the new one already: the old login is the one before it. */
static enum step_result end_old_login(struct saga *saga)
{
        if (admin_of(activity_of(saga)) == NULL)
                return no_server(saga);
        return activity_connect(saga, true, false, close_old_login);
}

static enum step_result roles_dropped(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(driver_after_delete, NULL);
        return STEP_DONE;
}

static enum step_result database_dropped(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *mark = mark_of(activity), *sql = NULL;

        (void)rows;
        if (err != NULL && err->class != ERR_GONE)
                return saga_retry(saga, err);
        sql = mem_printf(
                "do $tenantry$ declare r name; begin for r in select rolname from pg_roles "
                "where rolname in ('%1$s_app_a', '%1$s_app_b', '%1$s_app', '%1$s_owner') "
                "and coalesce(shobj_description(oid, 'pg_authid'), '%2$s') = '%2$s' "
                "order by length(rolname) desc loop "
                "if not (select rolsuper from pg_roles where rolname = current_user) then "
                "execute format('grant %%I to %%I', r, current_user); end if; "
                "execute format('drop owned by %%I', r); " /* what it made in the database everybody may open */
                "execute format('drop role %%I', r); end loop; end $tenantry$",
                name, mark);
        return saga_query_on(saga, admin_of(activity), sql, NO_PARAMS, roles_dropped);
}

/* By name and marker: a database of that name without our marker is somebody else's. Where ours was never finished that
 * only means that there is nothing of ours to drop. */
static enum step_result marker_arrived(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = mark_of(activity), *sql = NULL;
        const char *found;
        struct err foreign;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_rows_count(rows) == 0)
                return database_dropped(saga, NULL, NULL);
        found = pg_text(rows, 0, "mark");
        if (!is_ours(found, mark) && strcmp(activity_database(activity, "status"), "live") != 0)
                return database_dropped(saga, NULL, NULL);
        if (!is_ours(found, mark)) {
                err_set(&foreign, ERR_PERMANENT, "not_ours", "the database carries another marker: it was not dropped");
                return saga_fail(saga, &foreign);
        }
        if (FAILPOINT(driver_before_delete, &foreign) < 0)
                return saga_retry(saga, &foreign);
        sql = mem_printf("drop database if exists %s with (force)", activity_database(activity, "name"));
        return saga_query_for(saga, admin_of(activity), FILES_STATEMENT, sql, NO_PARAMS, database_dropped);
}

static enum step_result drop(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (activity_database(activity, "name") == NULL)
                return STEP_DONE; /* nothing was ever reserved */
        if (admin_of(activity) == NULL)
                return no_server(saga);
        activity_disconnect(activity);
        return saga_query_on(saga, admin_of(activity), SQL_FIND, PARAMS(activity_database(activity, "name")),
                             marker_arrived);
}

/* The product's own page takes the signed link itself: there is nothing to make. */
static enum step_result make_link(struct saga *saga)
{
        return activity_learn(
                saga, json_pack("{s:I}", "link_made", (json_int_t)activity_number(activity_of(saga), "link_wanted")));
}

/* One server's part of an inventory. */
struct look {
        struct provisioner *provisioner;
        char *server;
        void (*shown)(void *context, const char *server, json_t *list, const struct err *err);
        void *context;
};

static void databases_listed(void *context, const struct pg_rows *rows, const struct err *err)
{
        struct look *look = context;
        json_t *list = err ? NULL : json_array();

        for (int row = 0; err == NULL && row < pg_rows_count(rows); row++)
                json_array_append_new(list, json_pack("{s:s, s:s?, s:I}", "name", pg_text(rows, row, "name"),
                                                      "tenant_id", pg_text(rows, row, "tenant_id"), "generation",
                                                      (json_int_t)pg_int(rows, row, "generation")));
        look->shown(look->context, look->server, list, err);
        free(look->server);
        free(look);
}

static void look_at_server(void *context, const char *name)
{
        static const char list[] =
                "select datname as name, substring(mark from '^tenantry ([0-9a-f-]{36}) ') as tenant_id, "
                "substring(mark from '^tenantry [0-9a-f-]{36} ([0-9]+)')::int as generation "
                "from (select datname, shobj_description(oid, 'pg_database') as mark from pg_database) d "
                "where mark like 'tenantry %' or datname like 'tn\\_%'";
        struct look *look = NEW(struct look);

        *look = *(const struct look *)context;
        look->server = mem_copy_text(name);
        pg_pool_exec(servers_admin(look->provisioner->servers, name), ADMIN_STATEMENT, list, NO_PARAMS,
                     databases_listed, look);
}

static void take_inventory(struct provisioner *provisioner,
                           void (*shown)(void *context, const char *server, json_t *list, const struct err *err),
                           void *context)
{
        struct look look = { .provisioner = provisioner, .shown = shown, .context = context };

        servers_each(provisioner->servers, look_at_server, &look);
}

const struct driver POSTGRES_DRIVER = {
        .name = "postgres",
        .create = create,
        .await_ready = at_once,
        .read_connection = at_once,
        .prepare = prepare,
        .create_admin = create_admin,
        .apply_access = apply_access,
        .set_next_login = set_next_login,
        .end_old_login = end_old_login,
        .drop = drop,
        .make_link = make_link,
        .take_inventory = take_inventory,
        .target = target,
};
