/* Tenants on PostgreSQL servers you own: a database, an owner login and an app login each. Roles and database carry a
 * comment "tenantry TENANT GENERATION"; nothing without it is ever adopted or dropped. On the database, the comment is
 * followed by its reservation: a different one shows that the database is from before the catalog was restored, and has
 * a customer's data. */
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/memory.h"
#include "common/pg/scram.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/postgres_access.h"
#include "services/provisioner/postgres_door.h"
#include "services/provisioner/postgres_inventory.h"
#include "services/provisioner/postgres_restore.h"
#include "services/provisioner/postgres_roles.h"

#include <string.h>

#define AWAY_AFTER SECONDS(30) /* no connection for this long: not just a restart */
#define LOOK_LIMIT MINUTES(10)
#define MOVES_MOST 5

/* The newest database with the tenant's mark. */
static const char SQL_NEWEST[] = "select substring(mark from '^tenantry [0-9a-f-]{36} ([0-9]+)')::int as generation "
                                 "from (select shobj_description(oid, 'pg_database') as mark from pg_database) d "
                                 "where starts_with(mark, 'tenantry ' || $1 || ' ') order by 1 desc limit 1";

/* The marker of a database, or of its owner if the database has none yet: roles are marked when they are created. */
static const char SQL_FIND[] = "select coalesce(shobj_description(d.oid, 'pg_database'), shobj_description(d.datdba, "
                               "'pg_authid'), '') as mark "
                               "from pg_database d where d.datname = $1";

/* Whether the comment is this tenant's and generation's, with any reservation. */
static bool postgres_is_ours(const char *found, const char *mark)
{
        size_t length = strlen(mark);

        return found != NULL && strncmp(found, mark, length) == 0 && (found[length] == ' ' || found[length] == '\0');
}

static enum step_result postgres_rights_granted(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        FAILPOINT(driver_after_grant, NULL);
        return activity_of(saga)->mending ? saga_wait(saga, 0) : STEP_DONE;
}

static enum step_result postgres_grant_rights(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *mark = postgres_mark(activity), *sql = NULL;
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
                         name, mark,
                         2 * (long long)activity->provisioner->config->app_connections + POSTGRES_OWNER_CONNECTIONS,
                         activity_database(activity, "reservation"));
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_rights_granted);
}

/* The server's locale has another encoding: the operator must fix it, and every tenant placed there waits. */
static enum step_result postgres_locale_refused(struct saga *saga, const struct err *err)
{
        struct err named;

        err_set(&named, ERR_OURS, "server_locale",
                "a tenant's database has the encoding UTF8, which the locale of server %.60s forbids (recreate the "
                "server with C.UTF-8, say, or take it out of TENANT_SERVERS): %.150s",
                activity_database(activity_of(saga), "server"), err->message);
        return saga_hold(saga, "server-locale", &named);
}

static enum step_result postgres_database_created(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL && strcmp(err->code, "22023") == 0)
                return postgres_locale_refused(saga, err);
        /* From an earlier attempt of ours, finished or still running: postgres_database_looked_up checked the name. */
        if (err != NULL && strcmp(err->code, "42P04") != 0 && strcmp(err->code, "23505") != 0)
                return activity_retry(saga, err);
        FAILPOINT(driver_after_create, NULL);
        return postgres_grant_rights(saga);
}

static enum step_result postgres_roles_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err failed;

        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        if (activity->reply_status == 1) /* the database exists: perhaps only the rest is missing */
                return postgres_grant_rights(saga);
        if (FAILPOINT(driver_before_create, &failed) < 0)
                return saga_retry(saga, &failed);
        return postgres_create_database(saga, activity_database(activity, "name"), postgres_database_created);
}

int postgres_owner_sql(const struct activity *activity, char **ret, struct err *err)
{
        auto_free char *verifier = NULL, *mark = postgres_mark(activity);
        auto_secret char *password = NULL;
        int rc = activity_secret(activity, "owner_password", activity_generation(activity), &password, err);

        if (rc < 0)
                return rc;
        verifier = scram_verifier(password);
        *ret = mem_printf("do $tenantry$ declare app name; begin "
                          "if not exists (select from pg_roles where rolname = '%1$s_owner') then create role "
                          "%1$s_owner; end if; "
                          "alter role %1$s_owner login connection limit %2$d password '%3$s'; "
                          "comment on role %1$s_owner is '%4$s'; "
                          "for app in select rolname from pg_roles where rolname in ('%1$s_app_a', '%1$s_app_b') loop "
                          /* who dumps must read what the app made: large objects */
                          "execute format('grant %%I to %1$s_owner', app); end loop; "
                          "if not (select rolsuper from pg_roles where rolname = current_user) then "
                          "execute 'grant %1$s_owner to ' || quote_ident(current_user); end if; "
                          "end $tenantry$",
                          activity_database(activity, "name"), POSTGRES_OWNER_CONNECTIONS, verifier, mark);
        return 0;
}

static enum step_result postgres_app_login_made(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        auto_free char *sql = NULL;
        struct err failed;

        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        if (postgres_owner_sql(activity_of(saga), &sql, &failed) < 0)
                return saga_retry(saga, &failed);
        return saga_query_on(saga, postgres_admin(activity_of(saga)), sql, NO_PARAMS, postgres_roles_made);
}

static enum step_result postgres_make_roles(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        bool open = strcmp(activity_tenant(activity, "access_applied"), "full") == 0;
        auto_free char *sql = NULL;
        struct err err;

        if (logins_create_sql(activity, activity_number(activity, "rotation_applied"), open, &sql, &err) < 0)
                return saga_retry(saga, &err);
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, postgres_app_login_made);
}

static enum step_result postgres_begin_anew(struct saga *saga)
{
        (void)saga;
        return STEP_RESTART;
}

static enum step_result postgres_make_new(struct saga *saga)
{
        if (!activity_may_make_again(activity_of(saga)))
                return activity_lost(saga);
        saga_release(saga);
        return postgres_make_roles(saga);
}

/* The tenant already has a database, elsewhere or in a later generation than a restored catalog knows: it continues
 * there. */
static enum step_result postgres_move_to(struct saga *saga, const char *server, int64_t generation)
{
        int64_t moves = json_number(saga_data(saga), "moves", 0);
        struct err lost;

        if (moves == MOVES_MOST) {
                err_set(&lost, ERR_PERMANENT, "moved_too_often",
                        "the tenant's database is found on alternating servers");
                return saga_fail(saga, &lost);
        }
        json_object_set_new(saga_data(saga), "moves", json_integer(moves + 1));
        return activity_learn_then(saga,
                                   json_pack("{s:i, s:s, s:I, s:s}", "of_generation",
                                             activity_generation(activity_of(saga)), "database_status", "deleted",
                                             "generation", (json_int_t)generation, "home_server", server),
                                   postgres_begin_anew);
}

static enum step_result postgres_look_at_next_server(struct saga *saga);

static bool postgres_is_away(const struct pg_pool *pool)
{
        return pg_pool_down_ms(pool) > AWAY_AFTER;
}

/* A server that is down must not hold up every signup, nor one that never answers; one that is only busy is asked
 * again. */
static bool postgres_may_be_skipped(const struct saga *saga, const struct pg_pool *pool)
{
        return postgres_is_away(pool) || saga_step_age(saga) > LOOK_LIMIT;
}

static enum step_result postgres_not_told(struct saga *saga, const char *server, const struct err *err)
{
        struct servers *servers = activity_of(saga)->provisioner->access.servers;
        struct err named;

        if (err_is_transient(err) && !postgres_may_be_skipped(saga, servers_admin(servers, server))) {
                err_set(&named, err->class, err->code,
                        "looking for an earlier database of the tenant on server %.60s: %.300s", server, err->message);
                return saga_retry(saga, &named);
        }
        log_warn("a server could not be searched for an earlier database of the tenant", "tenant", saga_tenant(saga),
                 "server", server, "error", err->message, NULL);
        return postgres_look_at_next_server(saga);
}

static enum step_result postgres_newest_arrived(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *server = servers_name(activity->provisioner->access.servers, activity->looked_at++);

        if (err != NULL)
                return postgres_not_told(saga, server, err);
        if (pg_rows_count(rows) == 1) {
                int64_t found = pg_int(rows, 0, "generation");
                bool is_here = strcmp(server, activity_database(activity, "server")) == 0;

                if (found != activity_generation(activity) || !is_here)
                        return postgres_move_to(saga, server, found);
        }
        return postgres_look_at_next_server(saga);
}

static enum step_result postgres_look_at_next_server(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct servers *servers = activity->provisioner->access.servers;
        const char *server = servers_name(servers, activity->looked_at);
        struct pg_pool *pool;

        if (server == NULL)
                return postgres_make_new(saga);
        pool = servers_admin(servers, server);
        if (postgres_is_away(pool))
                return postgres_newest_arrived(saga, NULL, pg_pool_error(pool));
        return saga_query_on(saga, pool, SQL_NEWEST, PARAMS(saga_tenant(saga)), postgres_newest_arrived);
}

static enum step_result postgres_database_looked_up(struct saga *saga, const struct pg_rows *rows,
                                                    const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = postgres_mark(activity);
        const char *found, *reservation;
        struct err taken;

        if (err != NULL)
                return saga_retry(saga, err);
        activity->reply_status = pg_rows_count(rows) == 1;
        if (pg_rows_count(rows) == 0) {
                activity->looked_at = 0;
                return postgres_look_at_next_server(saga);
        }
        found = pg_text(rows, 0, "mark");
        if (!postgres_is_ours(found, mark)) {
                saga_release(saga); /* nothing of the tenant exists: a retry takes the next generation's name */
                err_set(&taken, ERR_PERMANENT, "name_taken", "the database name is used by something that is not ours");
                return saga_fail(saga, &taken);
        }
        reservation = activity_database(activity, "reservation");
        if (strcmp(found, mark) == 0 || strstr(found, reservation) != NULL) {
                saga_release(saga); /* an earlier attempt's, as far as can be seen from outside */
                return postgres_make_roles(saga);
        }
        saga_keep(saga);
        return activity_learn_then(saga, json_pack("{s:b}", "adopted", 1), postgres_make_roles);
}

static enum step_result postgres_find_database(struct saga *saga, saga_rows_then then)
{
        struct activity *activity = activity_of(saga);

        if (postgres_admin(activity) == NULL)
                return postgres_no_server(saga);
        return saga_query_on(saga, postgres_admin(activity), SQL_FIND, PARAMS(activity_database(activity, "name")),
                             then);
}

static enum step_result postgres_create(struct saga *saga)
{
        return postgres_find_database(saga, postgres_database_looked_up);
}

static enum step_result postgres_found_again(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = postgres_mark(activity);

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_rows_count(rows) == 0 || !postgres_is_ours(pg_text(rows, 0, "mark"), mark))
                return activity_lost(saga);
        activity->reply_status = 1;
        return postgres_make_roles(saga);
}

static enum step_result postgres_look_again(struct saga *saga)
{
        return postgres_find_database(saga, postgres_found_again);
}

/* A server that fell back in time lacks what the catalog knows, or has it with an older password; so may one that was
 * repaired manually. A provisioning whose database nobody has used goes through all its steps again, and each creates
 * what it does not find. Anything else gets its logins back. Without our schema, the database is from before it was
 * handed over: everything written since is lost. */
static enum step_result postgres_mend(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        if (activity_may_make_again(activity))
                return STEP_RESTART;
        if (err->class == ERR_GONE || strcmp(err->code, "3F000") == 0 || strcmp(err->code, "42P01") == 0)
                return activity_lost(saga);
        activity->mending = true;
        return postgres_look_again(saga);
}

static enum step_result postgres_done_at_once(struct saga *saga)
{
        (void)saga;
        return STEP_DONE;
}

static enum step_result postgres_database_dropped(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        if (err != NULL && err->class != ERR_GONE)
                return saga_retry(saga, err);
        return postgres_drop_roles(saga);
}

static enum step_result postgres_drop_cleared(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql =
                mem_printf("drop database if exists %s with (force)", activity_database(activity, "name"));

        return saga_query_for(saga, postgres_files(activity), POSTGRES_FILES_STATEMENT, sql, NO_PARAMS,
                              postgres_database_dropped);
}

/* By name and marker: a database of that name without our marker is somebody else's. If ours was never finished, that
 * only means that there is nothing of ours to drop. */
static enum step_result postgres_marker_arrived(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *mark = postgres_mark(activity);
        const char *found;
        struct err foreign;

        if (err != NULL)
                return saga_retry(saga, err);
        if (pg_rows_count(rows) == 0)
                return postgres_database_dropped(saga, NULL, NULL);
        found = pg_text(rows, 0, "mark");
        if (!postgres_is_ours(found, mark) && !activity_is_live(activity))
                return postgres_database_dropped(saga, NULL, NULL);
        if (!postgres_is_ours(found, mark))
                return saga_fail(saga, postgres_foreign_mark(&foreign));
        if (FAILPOINT(driver_before_delete, &foreign) < 0)
                return saga_retry(saga, &foreign);
        /* A session that is starting, or changing settings of this database, holds a lock on it. */
        return postgres_door_clear(saga, NULL, postgres_drop_cleared);
}

static enum step_result postgres_look_at_marker(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return saga_query_on(saga, postgres_admin(activity), SQL_FIND, PARAMS(activity_database(activity, "name")),
                             postgres_marker_arrived);
}

/* Including the copies restored beside it: the logins own those too. */
static enum step_result postgres_drop(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (activity_database(activity, "name") == NULL)
                return STEP_DONE; /* nothing was ever reserved */
        if (postgres_admin(activity) == NULL)
                return postgres_no_server(saga);
        activity_disconnect(activity);
        return postgres_drop_all_copies(saga, postgres_look_at_marker);
}

const struct driver POSTGRES_DRIVER = {
        .name = "postgres",
        .restore = &POSTGRES_RESTORE,
        .dumps_as_admin = true,
        .prepare_dump = postgres_prepare_dump,
        .create = postgres_create,
        .mend = postgres_mend,
        .look_again = postgres_look_again,
        .await_ready = postgres_done_at_once,
        .read_connection = postgres_done_at_once,
        .prepare = postgres_prepare,
        .create_admin = postgres_create_admin,
        .apply_access = postgres_apply_access,
        .set_next_login = postgres_set_next_login,
        .end_old_login = postgres_end_old_login,
        .drop = postgres_drop,
        .make_link = postgres_make_link,
        .take_inventory = postgres_take_inventory,
};
