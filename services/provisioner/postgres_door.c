/* Closing a tenant's database: see postgres_door.h.
 *
 * A starting session passes two checks: of the role (may it log in), then of the database (may it connect). Between the
 * second check and its entry in pg_stat_activity it may sleep for as long as its client likes (post_auth_delay). But it
 * holds a lock on the database from before that check until after that entry. So once the right to connect has been
 * revoked, and that is committed, every session that is or will get inside is visible in pg_locks or pg_stat_activity.
 *
 * No tenant can lock the database's row or the membership that gives the right to connect. It can lock its own row in
 * pg_authid: statements that change that row use a short lock_timeout, after the sessions were terminated. */
#include "services/provisioner/postgres_door.h"

#include "common/base/memory.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/postgres_access.h"

#include <string.h>

#define FOREIGN_MARK    "TN403"
#define LOOKS_MOST      100 /* of 100 ms */
#define LOOKS_PATIENT   30  /* then sessions still starting are terminated, whosever they are */
#define CONNECT_TIMEOUT SECONDS(8)
#define ASK_TIMEOUT     SECONDS(8)

/* $1 database, $2 its mark, $3 logins whose sessions are terminated anywhere, $4 roles that may stay inside, $5
 * terminate sessions that are still starting, $6 terminate tenants' sessions that have held a change of roles for two
 * seconds: they block us. */
static const char SQL_LOOK[] =
        "with d as (select oid from pg_database "
        "where datname = $1 and starts_with(shobj_description(oid, 'pg_database') || ' ', $2 || ' ')), "
        "holding as materialized (select l.pid from pg_locks l join d on d.oid = l.objid "
        "where l.locktype = 'object' and l.classid = 'pg_database'::regclass and l.granted "
        "and l.pid <> pg_backend_pid()), "
        "changing as materialized (select pid from pg_locks where locktype = 'relation' and granted "
        "and relation in ('pg_authid'::regclass, 'pg_auth_members'::regclass) and mode = 'RowExclusiveLock'), "
        "seen as materialized (select pid, datid, usename, xact_start, "
        "coalesce(shobj_description(usesysid, 'pg_authid') like 'tenantry %', false) "
        "and usename <> all ($4::name[]) as tenants from pg_stat_activity), "
        "coming as materialized (select pid from holding where pid not in (select pid from seen)), "
        "ending as materialized (select pid from seen "
        "where usename = any ($3::name[]) "
        "or (tenants and (datid = (select oid from d) or pid in (select pid from holding))) "
        "or (tenants and $6::bool and pid in (select pid from changing) "
        "and xact_start < statement_timestamp() - interval '2 s') "
        "union select pid from coming where $5::bool) "
        "select (select count(*) from coming) as coming, count(pg_terminate_backend(pid)) as ended from ending";

static const char SQL_PAUSE[] = "select pg_sleep(0.1)";

#define REVOKE_EACH                                                                                                    \
        "do $door$ declare m record; begin perform set_config('lock_timeout', '2s', true); for m in "                  \
        "select g.rolname as role, r.rolname as member, b.rolname as grantor from pg_auth_members a "                  \
        "join pg_roles g on g.oid = a.roleid join pg_roles r on r.oid = a.member "                                     \
        "left join pg_roles b on b.oid = a.grantor where "
#define REVOKED                                                                                                        \
        " loop execute format('revoke %I from %I', m.role, m.member) || "                                              \
        "case when current_setting('server_version_num')::int >= 160000 and m.grantor is not null "                    \
        "then format(' granted by %I cascade', m.grantor) else '' end; end loop; end $door$"

#define MARKED                                                                                                         \
        "(select objoid from pg_shdescription where classoid = 'pg_authid'::regclass and description like 'tenantry "  \
        "%')"

const char POSTGRES_DOOR_SQL_ALL_MEMBERSHIPS[] = REVOKE_EACH "a.grantor in " MARKED " and a.roleid in " MARKED REVOKED;

static char *door_revoke_sql(const char *which)
{
        return mem_printf("%s%s%s", REVOKE_EACH, which, REVOKED);
}

/* Memberships between the tenant's own roles, and the admin's, are ours; an operator's own roles may be members too. */
char *postgres_door_memberships_sql(const struct activity *activity)
{
        auto_free char *which =
                mem_printf("g.rolname in ('%1$s_app', '%1$s_app_a', '%1$s_app_b', '%1$s_owner') "
                           "and r.rolname not in ('%1$s_app', '%1$s_app_a', '%1$s_app_b', '%1$s_owner', current_user) "
                           "and (shobj_description(a.member, 'pg_authid') like 'tenantry %%' "
                           "or shobj_description(a.grantor, 'pg_authid') like 'tenantry %%')",
                           activity_database(activity, "name"));

        return door_revoke_sql(which);
}

static char *door_roles_to_keep(const struct activity *activity)
{
        const char *name = activity_database(activity, "name");
        auto_free char *current = logins_name(activity, activity_number(activity, "rotation_applied"));

        if (activity->door.login == NULL)
                return mem_printf("{%s_owner}", name);
        return mem_printf("{%s_owner,%s}", name, current);
}

static char *door_logins_to_end(const struct activity *activity)
{
        const char *name = activity_database(activity, "name");

        if (activity->door.login == NULL)
                return mem_printf("{%1$s_app_a,%1$s_app_b}", name);
        return mem_printf("{%s}", activity->door.login);
}

static enum step_result door_look(struct saga *saga);

static enum step_result door_paused(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return err ? saga_retry(saga, err) : door_look(saga);
}

/* Even if it was refused: a session that the admin may not terminate was just starting, or a right is missing that is
 * granted while we wait. */
static enum step_result door_not_now(struct saga *saga, const struct err *err)
{
        struct err busy;

        err_set(&busy, ERR_BUSY, err->code, "%s", err->message);
        return saga_retry(saga, err_is_transient(err) ? err : &busy);
}

static enum step_result door_looked(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err left;

        if (err != NULL)
                return door_not_now(saga, err);
        if (pg_int(rows, 0, "ended") == 0 && pg_int(rows, 0, "coming") == 0)
                return activity->door.next(saga);
        if (++activity->door.looks > LOOKS_MOST) {
                err_set(&left, ERR_BUSY, "sessions_left",
                        "the tenant's sessions were terminated, but some are still there");
                return saga_retry(saga, &left);
        }
        return saga_query_on(saga, postgres_admin(activity), SQL_PAUSE, NO_PARAMS, door_paused);
}

static enum step_result door_look(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *name = activity_database(activity, "name");
        auto_free char *keep = door_roles_to_keep(activity), *ending = door_logins_to_end(activity),
                       *mark = postgres_mark(activity);
        bool impatient = activity->door.login == NULL || activity->door.looks > LOOKS_PATIENT;

        return saga_query_on(
                saga, postgres_admin(activity), SQL_LOOK,
                PARAMS(name, mark, ending, keep, impatient ? "t" : "f", saga_attempt(saga) > 1 ? "t" : "f"),
                door_looked);
}

enum step_result postgres_door_clear(struct saga *saga, const char *login, enum step_result (*next)(struct saga *saga))
{
        struct activity *activity = activity_of(saga);
        char *copy = login ? mem_copy_text(login) : NULL;

        free(activity->door.login);
        activity->door.login = copy;
        activity->door.looks = 0;
        activity->door.next = next;
        return door_look(saga);
}

static enum step_result door_shut(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *login = activity->door.login ? mem_copy_text(activity->door.login) : NULL;
        struct err foreign;

        (void)rows;
        if (err != NULL && err->class == ERR_GONE && activity->if_gone != NULL)
                return activity->if_gone(saga);
        if (err != NULL && strcmp(err->code, FOREIGN_MARK) == 0 && activity_is_live(activity))
                return saga_fail(saga, postgres_foreign_mark(&foreign));
        if (err != NULL && strcmp(err->code, FOREIGN_MARK) != 0)
                return activity_retry(saga, err);
        return postgres_door_clear(saga, login, activity->door.next);
}

/* A database of that name without the tenant's mark is not touched. If it is supposed to be the tenant's, somebody must
 * look at it; otherwise the next connection finds out whose it is. But one that is still as `create database` of ours
 * leaves it (the marked owner's, without mark, and closed to everybody) is as good as none: its mark comes in the same
 * transaction as the first right to connect. A server that fell back may have one in place of a database in use. */
static char *door_shut_all_sql(const struct activity *activity)
{
        auto_free char *mark = postgres_mark(activity);

        return mem_printf("do $door$ declare r name; begin "
                          "if not exists (select from pg_database where datname = '%1$s' and not (datconnlimit = 0 "
                          "and shobj_description(oid, 'pg_database') is null "
                          "and coalesce(shobj_description(datdba, 'pg_authid') = '%2$s', false))) then "
                          "raise exception 'the database is not there, or nobody has ever been let in' "
                          "using errcode = '3D000'; end if; "
                          "if not exists (select from pg_database where datname = '%1$s' "
                          "and starts_with(shobj_description(oid, 'pg_database') || ' ', '%2$s ')) then "
                          "raise exception 'the database bears another mark' using errcode = '" FOREIGN_MARK
                          "'; end if; "
                          "revoke all on database %1$s from public; "
                          "for r in select rolname from pg_roles "
                          "where rolname in ('%1$s_app', '%1$s_app_a', '%1$s_app_b') loop "
                          "execute format('revoke all on database %1$s from %%I', r); end loop; end $door$",
                          activity_database(activity, "name"), mark);
}

/* A login may connect only through its group. */
static char *door_shut_one_sql(const struct activity *activity, const char *login)
{
        auto_free char *group = logins_group(activity);
        auto_free char *which = mem_printf("g.rolname = '%s' and r.rolname = '%s'", group, login);

        return door_revoke_sql(which);
}

enum step_result postgres_door_shut(struct saga *saga, const char *login, enum step_result (*next)(struct saga *saga))
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = login ? door_shut_one_sql(activity, login) : door_shut_all_sql(activity);

        if (postgres_admin(activity) == NULL)
                return postgres_no_server(saga);
        free(activity->door.login);
        activity->door.login = login ? mem_copy_text(login) : NULL;
        activity->door.next = next;
        return saga_query_on(saga, postgres_admin(activity), sql, NO_PARAMS, door_shut);
}

static enum step_result door_tried(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err wrong;

        activity_disconnect(activity);
        if (activity->door.expect_open && err != NULL) {
                /* Full, or open only to other hosts: either error shows that the login itself is open. */
                if (strstr(err->message, "too many connections") || strstr(err->message, "no pg_hba.conf entry"))
                        return activity->door.next(saga);
                err_set(&wrong, ERR_BUSY, "login_refused", "the app login was opened, but is refused: %s",
                        err->message);
                return saga_retry(saga, &wrong);
        }
        if (!activity->door.expect_open && err == NULL) {
                err_set(&wrong, ERR_BUSY, "login_works", "the app login was closed, but still works");
                return saga_retry(saga, &wrong);
        }
        return activity->door.next(saga);
}

static enum step_result door_asked(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        (void)rows;
        return door_tried(saga, err);
}

/* A pooler may accept a connection that the server would not: only a query result counts. */
static enum step_result door_connected(struct saga *saga, const struct err *err)
{
        if (err != NULL)
                return door_tried(saga, err);
        return saga_script(saga, activity_of(saga)->conn, ASK_TIMEOUT, "select 1", door_asked);
}

static void door_connection_opened(void *context, const struct err *err)
{
        saga_resume(context, err);
}

enum step_result postgres_door_try(struct saga *saga, int64_t rotation, bool expect_open,
                                   enum step_result (*next)(struct saga *saga))
{
        struct activity *activity = activity_of(saga);
        auto_free char *user = logins_user(activity, rotation);
        auto_secret char *password = NULL;
        struct pg_target target = {
                .host = activity_database(activity, "host"),
                .port = activity_database(activity, "port"),
                .dbname = activity_database(activity, "dbname"),
                .user = user,
                .sslmode = activity->provisioner->config->tenants.sslmode,
                .application_name = "tenantry-provisioner",
                .connect_timeout_ms = saga_timeout(saga, CONNECT_TIMEOUT),
        };
        struct err err;

        if (activity_secret(activity, "app_password", (int)rotation, &password, &err) < 0)
                return expect_open ? saga_retry(saga, &err)
                                   : next(saga); /* nobody has the password any more, or we are waiting for a key */
        target.password = password;
        activity_disconnect(activity);
        activity->door.expect_open = expect_open;
        activity->door.next = next;
        activity->conn = pg_open(&saga_service(saga)->loop, &target, door_connection_opened, saga);
        return saga_await(saga, door_connected);
}
