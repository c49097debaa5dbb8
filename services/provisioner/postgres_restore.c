/* Copies of tenants' databases on our servers: see postgres_restore.h. Each attempt loads into a separate database, so
 * that a late one touches nothing that counts. */
#include "services/provisioner/postgres_restore.h"

#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/postgres_access.h"
#include "services/provisioner/postgres_door.h"

#include <string.h>

#define BESIDE_MOST 3

/* By name and marker: its own, or its owner's if the attempt died before setting one. */
static const char SQL_COPY[] =
        "select d.datname as name from pg_database d where d.datname ~ $1 "
        "and coalesce(shobj_description(d.oid, 'pg_database'), shobj_description(d.datdba, 'pg_authid'), '') ~ $2 "
        "order by d.datname limit 1";

static const char SQL_BESIDE[] =
        "select count(*) as count, string_agg(datname, ', ' order by datname) as names from pg_database "
        "where datname ~ $1 and datname <> $2";

static const char SQL_HAS_LOGINS[] = "select exists (select from pg_roles where rolname = $1 and rolcanlogin) as made";

static const char SQL_END_SESSIONS[] =
        "select count(pg_terminate_backend(pid)) as ended from pg_stat_activity "
        "where datname = any ($1::name[]) and usename = any ($2::name[]) and pid <> pg_backend_pid()";

static const json_t *restore_of(const struct activity *activity)
{
        return json_object_get(activity->facts, "restore");
}

/* The final name of the copy. */
static const char *postgres_copy_name(const struct activity *activity)
{
        return json_text(restore_of(activity), "name");
}

static char *postgres_copy_mark(const struct activity *activity)
{
        return mem_printf("tenantry-restore %s %lld", activity_tenant(activity, "tenant_id"),
                          (long long)json_number(restore_of(activity), "number", 0));
}

static bool postgres_is_mode(const struct activity *activity, const char *mode)
{
        return strcmp(json_text(restore_of(activity), "mode"), mode) == 0;
}

static enum step_result postgres_drop_next(struct saga *saga);

static enum step_result postgres_one_dropped(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL && err->class != ERR_GONE)
                return saga_retry(saga, err);
        return postgres_drop_next(saga);
}

static enum step_result postgres_copy_found(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_rows_count(rows) == 0)
                return activity->dropped(saga);
        sql = mem_printf("drop database if exists \"%s\" with (force)", pg_text(rows, 0, "name"));
        return saga_query_for(saga, postgres_files(activity), POSTGRES_FILES_STATEMENT, sql, NO_PARAMS,
                              postgres_one_dropped);
}

static enum step_result postgres_drop_next(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *ours = mem_printf("^tenantry(-restore)? %s ", activity_tenant(activity, "tenant_id"));

        return saga_query_on(saga, postgres_admin(activity), SQL_COPY,
                             PARAMS(json_text(saga_data(saga), "dropping"), ours), postgres_copy_found);
}

/* A name pattern, stored with the saga only so that it lives long enough. */
static enum step_result postgres_drop_like(struct saga *saga, const char *pattern,
                                           enum step_result (*next)(struct saga *saga))
{
        if (postgres_admin(activity_of(saga)) == NULL)
                return postgres_no_server(saga);
        activity_disconnect(activity_of(saga));
        json_set_text(saga_data(saga), "dropping", pattern);
        activity_of(saga)->dropped = next;
        return postgres_drop_next(saga);
}

enum step_result postgres_drop_all_copies(struct saga *saga, enum step_result (*next)(struct saga *saga))
{
        auto_free char *stem = mem_copy_text(activity_database(activity_of(saga), "name"));
        auto_free char *pattern = NULL;

        *strrchr(stem, '_') = '\0'; /* tn_TENANT of tn_TENANT_gGENERATION */
        pattern = mem_printf("^%s_r[0-9]+(_f[0-9]+|_old)?$", stem);
        return postgres_drop_like(saga, pattern, next);
}

static enum step_result postgres_copies_dropped(struct saga *saga)
{
        (void)saga;
        FAILPOINT(restore_after_drop, NULL);
        return STEP_DONE;
}

static enum step_result postgres_drop_copies(struct saga *saga, bool all)
{
        const char *name = postgres_copy_name(activity_of(saga));
        auto_free char *pattern = mem_printf(all ? "^%s(_f[0-9]+|_old)?$" : "^%s(_f[0-9]+|_old)$", name);

        return postgres_drop_like(saga, pattern, postgres_copies_dropped);
}

static enum step_result postgres_copy_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : activity_of(saga)->then(saga);
}

static enum step_result postgres_copy_created(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *copy = json_text(saga_data(saga), "copy");
        auto_free char *mark = postgres_copy_mark(activity), *sql = NULL;

        (void)rows;
        if (err != NULL && strcmp(err->code, "42P04") != 0) /* otherwise it is this attempt's own, from a moment ago */
                return saga_retry(saga, err);
        sql = mem_printf("do $tenantry$ begin revoke all on database \"%1$s\" from public; "
                         "comment on database \"%1$s\" is '%2$s'; alter database \"%1$s\" connection limit %3$d; "
                         "end $tenantry$",
                         copy, mark, POSTGRES_OWNER_CONNECTIONS);
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_copy_made);
}

static enum step_result postgres_create_copy(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *copy = mem_printf("%s_f%s", postgres_copy_name(activity), saga_fence(saga));

        json_set_text(saga_data(saga), "copy", copy);
        return postgres_create_database(saga, copy, postgres_copy_created);
}

static enum step_result postgres_owner_restored(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : postgres_create_copy(saga);
}

static enum step_result postgres_app_login_restored(struct saga *saga, const struct pg_rows *rows,
                                                    const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;
        struct err failed;

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        if (postgres_owner_sql(activity, &sql, &failed) < 0)
                return saga_retry(saga, &failed);
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_owner_restored);
}

static enum step_result postgres_names_restored(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;
        struct err failed;

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        if (logins_create_sql(activity, activity_number(activity, "rotation_applied"), false, &sql, &failed) < 0)
                return saga_retry(saga, &failed);
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_app_login_restored);
}

/* All roles that the backup names: objects made by the app may belong to the login of any rotation. The owner's login
 * is created last, and shows that the others exist. */
static enum step_result postgres_logins_looked_up(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = postgres_mark(activity), *sql = NULL;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_bool(rows, 0, "made"))
                return postgres_create_copy(saga);
        sql = mem_printf("do $tenantry$ declare r name; begin "
                         "foreach r in array array['%1$s_app', '%1$s_app_a', '%1$s_app_b', '%1$s_owner']::name[] loop "
                         "if not exists (select from pg_roles where rolname = r) then "
                         "execute format('create role %%I nologin', r); end if; "
                         "execute format('comment on role %%I is %%L', r, '%2$s'); end loop; "
                         "grant \"%1$s_app\" to \"%1$s_app_a\", \"%1$s_app_b\"; "
                         "grant \"%1$s_app_a\", \"%1$s_app_b\" to \"%1$s_owner\"; "
                         "end $tenantry$",
                         activity_database(activity, "name"), mark);
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_names_restored);
}

static enum step_result postgres_look_up_logins(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *owner = mem_printf("%s_owner", activity_database(activity, "name"));

        return saga_query_on(saga, postgres_admin(activity), SQL_HAS_LOGINS, PARAMS(owner), postgres_logins_looked_up);
}

static enum step_result postgres_beside_counted(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct err full;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_int(rows, 0, "count") < BESIDE_MOST)
                return postgres_look_up_logins(saga);
        err_set(&full, ERR_PERMANENT, "too_many_copies",
                "there are %d copies beside the tenant's database, drop one first: %.300s", BESIDE_MOST,
                pg_text(rows, 0, "names"));
        return saga_fail(saga, &full);
}

static enum step_result postgres_earlier_dropped(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *stem = mem_copy_text(postgres_copy_name(activity)), *pattern = NULL;

        if (!postgres_is_mode(activity, "beside"))
                return postgres_look_up_logins(saga);
        *strrchr(stem, '_') = '\0';
        pattern = mem_printf("^%s_r[0-9]+$", stem);
        return saga_query_on(saga, postgres_admin(activity), SQL_BESIDE, PARAMS(pattern, postgres_copy_name(activity)),
                             postgres_beside_counted);
}

static enum step_result postgres_make_copy(struct saga *saga, enum step_result (*next)(struct saga *saga))
{
        const char *name = postgres_copy_name(activity_of(saga));
        auto_free char *pattern = mem_printf("^%s(_f[0-9]+)?$", name);

        activity_of(saga)->then = next;
        return postgres_drop_like(saga, pattern, postgres_earlier_dropped);
}

/* If repeated after the rename, there is nothing left to rename. The app's login may use a copy beside the tenant's
 * database. */
static enum step_result postgres_name_copy(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        long long connections = 2 * (long long)activity->provisioner->config->app_connections;
        auto_free char *group = logins_group(activity), *sql = NULL, *opened = NULL;

        if (postgres_admin(activity) == NULL)
                return postgres_no_server(saga);
        opened = postgres_is_mode(activity, "beside")
                         ? mem_printf("grant connect, temporary on database \"%s\" to \"%s\"; ",
                                      postgres_copy_name(activity), group)
                         : mem_copy_text("");
        sql = mem_printf("do $tenantry$ begin "
                         "if not exists (select from pg_database where datname = '%1$s') then "
                         "alter database \"%2$s\" rename to \"%1$s\"; end if; "
                         "%3$s"
                         "alter database \"%1$s\" connection limit %4$lld; "
                         "end $tenantry$",
                         postgres_copy_name(activity), json_text(saga_data(saga), "copy"), opened,
                         connections + POSTGRES_OWNER_CONNECTIONS);
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, saga_rows_done);
}

/* Closed only at the database, without telling the catalog, which would have it reopened: whatever happens, the undo
 * opens it as wanted. */
static enum step_result postgres_close_database(struct saga *saga)
{
        activity_of(saga)->if_gone = activity_done;
        return postgres_door_shut(saga, NULL, activity_done);
}

static enum step_result postgres_end_sessions(struct saga *saga, saga_rows_then then)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *databases =
                mem_printf("{%s,%s,%s_old}", name, postgres_copy_name(activity), postgres_copy_name(activity));
        auto_free char *logins = mem_printf("{%1$s_owner,%1$s_app_a,%1$s_app_b}", name);

        if (postgres_admin(activity) == NULL)
                return postgres_no_server(saga);
        activity_disconnect(activity);
        return saga_query_on(saga, postgres_admin(activity), SQL_END_SESSIONS, PARAMS(databases, logins), then);
}

static enum step_result postgres_swapped(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(restore_after_swap, NULL);
        return STEP_DONE;
}

/* If the copy no longer exists, it has already been swapped in. It stays closed: access is applied later. */
static enum step_result postgres_swap_now(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = postgres_mark(activity), *copy = postgres_copy_mark(activity), *sql = NULL;
        struct err failed;

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        if (FAILPOINT(restore_before_swap, &failed) < 0)
                return saga_retry(saga, &failed);
        sql = mem_printf("do $tenantry$ declare v_mark text; begin "
                         "if exists (select from pg_database where datname = '%1$s') then "
                         "select coalesce(shobj_description(oid, 'pg_database'), '') into v_mark from pg_database "
                         "where datname = '%2$s'; "
                         "if v_mark is not null then "
                         "if not (v_mark = '%3$s' or starts_with(v_mark, '%3$s ')) then "
                         "raise exception 'the database in its place carries another marker'; end if; "
                         "alter database \"%2$s\" rename to \"%1$s_old\"; "
                         "comment on database \"%1$s_old\" is '%4$s'; end if; "
                         "alter database \"%1$s\" rename to \"%2$s\"; "
                         "comment on database \"%2$s\" is '%3$s %5$s'; "
                         "end if; "
                         "end $tenantry$",
                         postgres_copy_name(activity), activity_database(activity, "name"), mark, copy,
                         activity_database(activity, "reservation"));
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_swapped);
}

static enum step_result postgres_swap(struct saga *saga)
{
        return postgres_end_sessions(saga, postgres_swap_now);
}

/* The previous database is back in place, and the copy waits to be dropped. An archived tenant had none. */
static enum step_result postgres_swap_back_now(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        bool was_archived = !activity_is_live(activity);
        auto_free char *mark = postgres_mark(activity), *copy = postgres_copy_mark(activity), *sql = NULL;

        (void)rows;
        if (err != NULL)
                return saga_retry(saga, err);
        sql = mem_printf("do $tenantry$ declare v_old boolean; begin "
                         "v_old := exists (select from pg_database where datname = '%1$s_old' "
                         "and shobj_description(oid, 'pg_database') = '%4$s'); "
                         "if not exists (select from pg_database where datname = '%1$s') and (v_old or %6$s) "
                         "and exists (select from pg_database where datname = '%2$s') then "
                         "alter database \"%2$s\" rename to \"%1$s\"; comment on database \"%1$s\" is '%4$s'; end if; "
                         "if v_old then alter database \"%1$s_old\" rename to \"%2$s\"; "
                         "comment on database \"%2$s\" is '%3$s %5$s'; end if; "
                         "end $tenantry$",
                         postgres_copy_name(activity), activity_database(activity, "name"), mark, copy,
                         activity_database(activity, "reservation"), was_archived ? "true" : "false");
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, saga_rows_done);
}

static enum step_result postgres_swap_back(struct saga *saga)
{
        return postgres_end_sessions(saga, postgres_swap_back_now);
}

const struct restore_driver POSTGRES_RESTORE = {
        .make_copy = postgres_make_copy,
        .name_copy = postgres_name_copy,
        .close = postgres_close_database,
        .swap = postgres_swap,
        .swap_back = postgres_swap_back,
        .drop_copies = postgres_drop_copies,
};
