/* Who may use a database on a server of ours, and how: rights, the first administrator, suspension, rotation. See
 * postgres_access.h. */
#include "services/provisioner/postgres_access.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/servers.h"

#include <string.h>

#define ADMIN_STATEMENT SECONDS(20)

static const char SQL_END_SESSIONS[] =
        "select count(pg_terminate_backend(pid)) as ended from pg_stat_activity where usename = any ($1::name[])";

int postgres_server_unknown(const struct activity *activity, struct err *err)
{
        return err_set(err, ERR_BUSY, "server_unknown", "the server %s is not in TENANT_SERVERS of this provisioner",
                       activity_database(activity, "server"));
}

enum step_result postgres_no_server(struct saga *saga)
{
        struct err err;

        postgres_server_unknown(activity_of(saga), &err);
        return saga_retry(saga, &err);
}

struct pg_pool *postgres_admin(struct activity *activity)
{
        return servers_admin(activity->provisioner->servers, activity_database(activity, "server"));
}

static enum step_result rights_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? activity_retry(saga, err) : STEP_DONE;
}

/* The app may use what migrations make, and may not make or change anything itself. */
enum step_result postgres_prepare(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = logins_rights_sql(activity);

        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, rights_set);
}

static enum step_result sessions_ended(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
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
                return activity_retry(saga, err);
        if (pg_rows_count(rows) != 1 || pg_bool(rows, 0, "open") != (strcmp(goal, "full") == 0)) {
                err_set(&wrong, ERR_BUSY, "access_not_applied", "the app login is not as it was set a moment ago");
                return saga_retry(saga, &wrong);
        }
        if (strcmp(goal, "full") == 0)
                return sessions_ended(saga, NULL, NULL);
        logins = mem_printf("{%1$s_a,%1$s_b}", group);
        return saga_query_on(saga, postgres_admin(activity), SQL_END_SESSIONS, PARAMS(logins), sessions_ended);
}

static enum step_result access_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *login = logins_name(activity, activity_number(activity, "rotation_applied"));

        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        return saga_query_on(saga, postgres_admin(activity),
                             "select rolcanlogin as open from pg_roles where rolname = $1", PARAMS(login),
                             access_read_back);
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

enum step_result postgres_apply_access(struct saga *saga)
{
        return activity_connect(saga, true, false, set_access);
}

static enum step_result admin_created(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
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

enum step_result postgres_create_admin(struct saga *saga)
{
        return activity_connect(saga, false, false, write_admin);
}

static enum step_result next_login_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
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

enum step_result postgres_set_next_login(struct saga *saga)
{
        return activity_connect(saga, true, false, write_next_login);
}

static enum step_result old_login_closed(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *old = logins_name(activity, activity_number(activity, "rotation_applied") - 1);
        auto_free char *logins = mem_printf("{%s}", old);

        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        return saga_query_on(saga, postgres_admin(activity), SQL_END_SESSIONS, PARAMS(logins), saga_rows_done);
}

static enum step_result close_old_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *change = logins_retire_sql(activity), *sql = logins_fenced(saga, change);

        return saga_script(saga, activity->conn, ADMIN_STATEMENT, sql, old_login_closed);
}

/* Runs when rotation_applied is the new one already: the old login is the one before it. */
enum step_result postgres_end_old_login(struct saga *saga)
{
        return activity_connect(saga, true, false, close_old_login);
}

/* The product's own page takes the signed link itself: there is nothing to make. */
enum step_result postgres_make_link(struct saga *saga)
{
        return activity_learn(
                saga, json_pack("{s:I}", "link_made", (json_int_t)activity_number(activity_of(saga), "link_wanted")));
}
