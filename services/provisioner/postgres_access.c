/* Access to a database on one of our servers: rights, the first administrator, suspension, rotation. See
 * postgres_access.h. */
#include "services/provisioner/postgres_access.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "common/tenant/fence.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/postgres_door.h"

#include <string.h>

#define ADMIN_STATEMENT SECONDS(20)

/* Of the relevant logins: can all of them log in, can any? */
static const char SQL_READ_BACK[] =
        "select bool_and(rolcanlogin and has_database_privilege(rolname, $1::name, 'connect')) as open, "
        "bool_or(rolcanlogin or has_database_privilege(rolname, $1::name, 'connect')) as ajar "
        "from pg_roles where rolname = any ($2::name[])";

char *postgres_mark(const struct activity *activity)
{
        return mem_printf("tenantry %s %d", activity_tenant(activity, "tenant_id"), activity_generation(activity));
}

const struct err *postgres_foreign_mark(struct err *err)
{
        err_set(err, ERR_PERMANENT, "not_ours", "the database carries another marker: nothing was done to it");
        return err;
}

enum step_result postgres_no_server(struct saga *saga)
{
        struct err err;

        servers_unknown(activity_database(activity_of(saga), "server"), &err);
        return saga_retry(saga, &err);
}

struct pg_pool *postgres_admin(struct activity *activity)
{
        return servers_admin(activity->provisioner->access.servers, activity_database(activity, "server"));
}

struct pg_pool *postgres_files(struct activity *activity)
{
        return servers_files(activity->provisioner->access.servers, activity_database(activity, "server"));
}

enum step_result postgres_create_database(struct saga *saga, const char *name, saga_rows_then then)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = mem_printf("create database \"%s\" template template0 encoding 'UTF8' owner \"%s_owner\" "
                                         "connection limit 0",
                                         name, activity_database(activity, "name"));

        return saga_query_for(saga, postgres_files(activity), POSTGRES_FILES_STATEMENT, sql, NO_PARAMS, then);
}

static enum step_result postgres_rights_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? activity_retry(saga, err) : STEP_DONE;
}

/* The app may use what migrations create, but not create or change anything itself. */
enum step_result postgres_prepare(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = logins_rights_sql(activity);

        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, postgres_rights_set);
}

/* A tenant can lock its own row in pg_authid, by changing its password in a transaction left open. The next attempt
 * terminates the session that blocks us. */
static enum step_result postgres_login_not_changed(struct saga *saga, const struct err *err)
{
        struct err locked;

        if (strcmp(err->code, "55P03") != 0)
                return activity_retry(saga, err);
        err_set(&locked, ERR_BUSY, "login_locked",
                "a session has an uncommitted change to the tenant's login: it will be terminated");
        return activity_retry(saga, &locked);
}

static bool postgres_is_opening(struct saga *saga)
{
        return strcmp(json_text(saga_data(saga), "access_goal"), "full") == 0;
}

static enum step_result access_proved(struct saga *saga)
{
        FAILPOINT(driver_after_access, NULL);
        return activity_learn(saga, json_pack("{s:s}", "access_applied", json_text(saga_data(saga), "access_goal")));
}

static enum step_result access_read_back(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        bool opening = postgres_is_opening(saga);
        struct err wrong;

        if (err != NULL)
                return activity_retry(saga, err);
        if (pg_rows_count(rows) != 1 || (opening ? !pg_bool(rows, 0, "open") : pg_bool(rows, 0, "ajar"))) {
                err_set(&wrong, ERR_BUSY, "access_not_applied", "the app login is not as it was set just now");
                return saga_retry(saga, &wrong);
        }
        return postgres_door_try(saga, activity_number(activity, "rotation_applied"), opening, access_proved);
}

static enum step_result postgres_read_back_access(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *current = logins_name(activity, activity_number(activity, "rotation_applied"));
        auto_free char *logins =
                postgres_is_opening(saga) ? mem_printf("{%s}", current) : mem_printf("{%1$s_app_a,%1$s_app_b}", name);

        return saga_query_on(saga, postgres_admin(activity), SQL_READ_BACK, PARAMS(name, logins), access_read_back);
}

static enum step_result access_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return postgres_login_not_changed(saga, err);
        return postgres_is_opening(saga) ? postgres_read_back_access(saga)
                                         : postgres_door_clear(saga, NULL, postgres_read_back_access);
}

/* Also sets the stored password: what the product is given must work, whatever the tenant did to its login. */
static int postgres_opening_sql(struct activity *activity, char **ret, struct err *err)
{
        auto_free char *login = NULL;
        int rc = logins_create_sql(activity, activity_number(activity, "rotation_applied"), true, &login, err);

        if (rc == 0)
                *ret = mem_printf("%1$s grant connect, temporary on database %2$s to %2$s_app;", login,
                                  activity_database(activity, "name"));
        return rc;
}

static enum step_result postgres_set_access(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *members = postgres_door_memberships_sql(activity), *change = NULL, *both = NULL, *sql = NULL;
        struct err err;

        if (!postgres_is_opening(saga))
                change = logins_access_sql(activity, false);
        else if (postgres_opening_sql(activity, &change, &err) < 0)
                return saga_retry(saga, &err);
        both = mem_printf("%s; %s", members, change);
        sql = fence_guarded_sql(saga_fence(saga), both);
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, access_set);
}

static enum step_result postgres_connect_for_access(struct saga *saga)
{
        return activity_connect(saga, true, false, postgres_set_access);
}

/* Closed first at the database, then at the logins; and reported only after a login attempt following all of it. */
enum step_result postgres_apply_access(struct saga *saga)
{
        struct err err;

        if (FAILPOINT(driver_before_access, &err) < 0)
                return saga_retry(saga, &err);
        json_set_text(saga_data(saga), "access_goal", activity_tenant(activity_of(saga), "access_wanted"));
        return postgres_is_opening(saga) ? postgres_connect_for_access(saga)
                                         : postgres_door_shut(saga, NULL, postgres_connect_for_access);
}

static enum step_result postgres_admin_created(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        FAILPOINT(driver_after_admin, NULL);
        return STEP_DONE;
}

/* There is no separate Auth server: the product finds its first administrator in tenantry.admin. */
static enum step_result postgres_write_admin(struct saga *saga)
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
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, postgres_admin_created);
}

enum step_result postgres_create_admin(struct saga *saga)
{
        return activity_connect(saga, false, false, postgres_write_admin);
}

static enum step_result postgres_next_login_proved(struct saga *saga)
{
        (void)saga;
        FAILPOINT(driver_after_rotate, NULL);
        return STEP_DONE;
}

static bool postgres_is_open(const struct activity *activity)
{
        return strcmp(activity_tenant(activity, "access_applied"), "full") == 0;
}

static enum step_result postgres_next_login_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        (void)rows;
        if (err != NULL)
                return postgres_login_not_changed(saga, err);
        return postgres_door_try(saga, activity_number(activity, "rotation_applied") + 1, postgres_is_open(activity),
                                 postgres_next_login_proved);
}

static enum step_result postgres_write_next_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        int64_t rotation = activity_number(activity, "rotation_applied") + 1;
        auto_free char *members = postgres_door_memberships_sql(activity), *change = NULL, *both = NULL, *sql = NULL;
        struct err err;

        if (FAILPOINT(driver_before_rotate, &err) < 0 ||
            logins_create_sql(activity, rotation, postgres_is_open(activity), &change, &err) < 0)
                return saga_retry(saga, &err);
        both = mem_printf("%s; %s", members, change);
        sql = fence_guarded_sql(saga_fence(saga), both);
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, postgres_next_login_set);
}

static enum step_result postgres_connect_for_next_login(struct saga *saga)
{
        return activity_connect(saga, true, false, postgres_write_next_login);
}

/* The login of two rotations ago has been closed; nobody uses it any more. */
enum step_result postgres_set_next_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *login = logins_name(activity, activity_number(activity, "rotation_applied") + 1);

        return postgres_door_shut(saga, login, postgres_connect_for_next_login);
}

static char *postgres_old_login(const struct activity *activity)
{
        return logins_name(activity, activity_number(activity, "rotation_applied") - 1);
}

static enum step_result postgres_old_login_gone(struct saga *saga)
{
        return postgres_door_try(saga, activity_number(activity_of(saga), "rotation_applied") - 1, false,
                                 activity_done);
}

static enum step_result postgres_old_login_closed(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        auto_free char *old = postgres_old_login(activity_of(saga));

        (void)rows;
        if (err != NULL)
                return postgres_login_not_changed(saga, err);
        return postgres_door_clear(saga, old, postgres_old_login_gone);
}

static enum step_result postgres_close_old_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *members = postgres_door_memberships_sql(activity), *change = logins_retire_sql(activity);
        auto_free char *both = mem_printf("%s; %s", members, change), *sql = fence_guarded_sql(saga_fence(saga), both);

        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, postgres_old_login_closed);
}

static enum step_result postgres_connect_for_old_login(struct saga *saga)
{
        return activity_connect(saga, true, false, postgres_close_old_login);
}

/* Runs when rotation_applied is already the new one: the old login is the one before it. */
enum step_result postgres_end_old_login(struct saga *saga)
{
        auto_free char *old = postgres_old_login(activity_of(saga));

        return postgres_door_shut(saga, old, postgres_connect_for_old_login);
}

static enum step_result postgres_dump_prepared(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? activity_retry(saga, err) : activity_of(saga)->door.next(saga);
}

/* A superuser can read everything. Any other admin makes itself a member of every role that owns something there, as
 * far as the server allows, and restores the rights of owners that revoked their own right on a large object, which
 * nobody could read any more. pg_dump itself reports what is still missing. */
enum step_result postgres_prepare_dump(struct saga *saga, enum step_result (*next)(struct saga *saga))
{
        static const char sql[] =
                "do $x$ declare r record; begin "
                "if (select rolsuper from pg_roles where rolname = current_user) then return; end if; "
                "perform set_config('lock_timeout', '2s', true); "
                "for r in select rolname from pg_roles where not pg_has_role(oid, 'usage') and not rolsuper and oid in "
                "(select relowner from pg_class where oid >= 16384 union select nspowner from pg_namespace "
                "where oid >= 16384 union select lomowner from pg_largeobject_metadata) loop "
                "begin execute format('grant %I to %I', r.rolname, current_user); "
                "exception when insufficient_privilege or invalid_grant_operation then null; end; end loop; "
                "for r in select l.oid, o.rolname from pg_largeobject_metadata l join pg_roles o on o.oid = l.lomowner "
                "where l.lomacl is not null and pg_has_role(o.oid, 'usage') and not exists (select "
                "from aclexplode(l.lomacl) a where a.grantee = l.lomowner and a.privilege_type = 'SELECT') loop "
                "execute format('grant select on large object %s to %I', r.oid, r.rolname); end loop; end $x$";
        struct activity *activity = activity_of(saga);

        activity->door.next = next;
        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, postgres_dump_prepared);
}

/* The product's own page accepts the signed link itself: there is nothing to create. */
enum step_result postgres_make_link(struct saga *saga)
{
        return activity_learn(
                saga, json_pack("{s:I}", "link_made", (json_int_t)activity_number(activity_of(saga), "link_wanted")));
}
