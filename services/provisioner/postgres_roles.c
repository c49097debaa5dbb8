/* Dropping a tenant's roles: see postgres_roles.h. A role cannot be dropped while anything in any database references
 * it, and every tenant may grant rights on its own large objects to anyone: role names are not secret on a server. */
#include "services/provisioner/postgres_roles.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/postgres_access.h"

#include <string.h>

#define CONNECT_TIMEOUT SECONDS(8)
#define STATEMENT       SECONDS(20)
#define DATABASES_MOST  1000 /* in one attempt */

/* An uncommitted grant is not visible in any table, but holds a lock on the role: other tenants have no business with
 * it. */
static const char SQL_END_GRANTING[] =
        "select count(pg_terminate_backend(a.pid)) from pg_stat_activity a "
        "where shobj_description(a.usesysid, 'pg_authid') like 'tenantry %' and a.pid in (select pid from pg_locks "
        "where locktype = 'object' and classid = 'pg_authid'::regclass "
        "and objid in (select oid from pg_roles where rolname = any ($1::name[])))";

static const char SQL_NEXT_DATABASE[] =
        "select d.datname from pg_shdepend s join pg_database d on d.oid = s.dbid "
        "where s.refclassid = 'pg_authid'::regclass and d.datallowconn and d.datname <> current_database() "
        "and s.refobjid in (select oid from pg_roles where rolname = any ($1::name[])) limit 1";

static char *role_names(const struct activity *activity)
{
        return mem_printf("{%1$s_app_a,%1$s_app_b,%1$s_app,%1$s_owner}", activity_database(activity, "name"));
}

/* For each of the roles with our mark, or with none: more. */
static char *roles_each_sql(const struct activity *activity, const char *more)
{
        auto_free char *names = role_names(activity), *mark = postgres_mark(activity);

        return mem_printf("do $roles$ declare r name; begin perform set_config('lock_timeout', '2s', true); "
                          "for r in select rolname from pg_roles where rolname = any ('%1$s'::name[]) "
                          "and coalesce(shobj_description(oid, 'pg_authid'), '%2$s') = '%2$s' "
                          "order by length(rolname) desc loop "
                          "if not (select rolsuper from pg_roles where rolname = current_user) then "
                          "execute format('grant %%I to %%I', r, current_user); end if; "
                          "execute format('drop owned by %%I', r); %3$s end loop; end $roles$",
                          names, mark, more);
}

static enum step_result roles_dropped(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct err used;

        (void)rows;
        if (err != NULL && strcmp(err->code, "2BP01") == 0) {
                err_set(&used, ERR_BUSY, "role_in_use",
                        "something in another database still references the tenant's roles");
                return saga_retry(saga, &used);
        }
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(driver_after_delete, NULL);
        return STEP_DONE;
}

static enum step_result roles_next_database(struct saga *saga);

/* That database is somebody else's, and may be gone by now. */
static enum step_result roles_rights_not_taken(struct saga *saga, const struct err *err)
{
        activity_disconnect(activity_of(saga));
        return saga_retry(saga, err);
}

static enum step_result roles_rights_taken(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return roles_rights_not_taken(saga, err);
        activity_disconnect(activity_of(saga));
        return roles_next_database(saga);
}

static enum step_result roles_take_rights(struct saga *saga, const struct err *err)
{
        /* The grantor is still changing it: the next attempt terminates that session. */
        static const char end_changing[] =
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                "and shobj_description(usesysid, 'pg_authid') like 'tenantry %' "
                "and xact_start < statement_timestamp() - interval '2 s' and pid in (select pid from pg_locks "
                "where relation = 'pg_largeobject_metadata'::regclass and mode = 'RowExclusiveLock'); ";
        struct activity *activity = activity_of(saga);
        auto_free char *take = roles_each_sql(activity, "");
        auto_free char *sql = mem_printf("%s%s", saga_attempt(saga) > 1 ? end_changing : "", take);

        if (err != NULL)
                return roles_rights_not_taken(saga, err);
        return saga_script(saga, activity->conn, STATEMENT, sql, roles_rights_taken);
}

static void roles_connection_opened(void *context, const struct err *err)
{
        saga_resume(context, err);
}

static enum step_result roles_database_named(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *drop = roles_each_sql(activity, "execute format('drop role %I', r);");
        struct pg_target target = {
                .url = servers_admin_url(activity->provisioner->access.servers, activity_database(activity, "server")),
                .application_name = "tenantry-provisioner",
                .connect_timeout_ms = saga_timeout(saga, CONNECT_TIMEOUT),
        };
        struct err many;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_rows_count(rows) == 0)
                return saga_query_on(saga, postgres_admin(activity), drop, NO_PARAMS, roles_dropped);
        if (++activity->door.looks > DATABASES_MOST) {
                err_set(&many, ERR_BUSY, "role_in_use", "the tenant's roles are referenced in very many databases");
                return saga_retry(saga, &many);
        }
        target.dbname = pg_text(rows, 0, "datname");
        activity_disconnect(activity);
        activity->conn = pg_open(&saga_service(saga)->loop, &target, roles_connection_opened, saga);
        return saga_await(saga, roles_take_rights);
}

static enum step_result roles_next_database(struct saga *saga)
{
        auto_free char *names = role_names(activity_of(saga));

        return saga_query_on(saga, postgres_admin(activity_of(saga)), SQL_NEXT_DATABASE, PARAMS(names),
                             roles_database_named);
}

static enum step_result roles_granting_ended(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : roles_next_database(saga);
}

enum step_result postgres_drop_roles(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *names = role_names(activity);

        activity->door.looks = 0;
        return saga_query_on(saga, postgres_admin(activity), SQL_END_GRANTING, PARAMS(names), roles_granting_ended);
}
