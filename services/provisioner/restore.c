/* Restore: a backup becomes a database again, beside the tenant's or in its place, or only as a proof. It is loaded and
 * proved while the tenant keeps working; only then is anything closed, and the old database is kept until the new one
 * is open. This also brings back an archived tenant. */
#include "common/base/failpoint.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/restore_load.h"

#include <string.h>

#define PROVE_TIMEOUT     SECONDS(20)
#define NO_CAPACITY_DELAY SECONDS(30)

static const char SQL_RESERVE[] = "select reserve($1::uuid, $2::bigint, $3::uuid, $4, $5, $6, '[]') as facts";

static const char SQL_SETTLE[] = "select settle_restore($1::uuid, $2::bigint, $3::uuid, $4::jsonb) as facts "
                                 "from saga_at($1::uuid, $2::bigint, $5)";

static enum step_result restore_reserve_place(struct saga *saga);
static enum step_result restore_release_place(struct saga *saga);
static enum step_result restore_load_copy(struct saga *saga);
static enum step_result restore_drop_copy(struct saga *saga);
static enum step_result restore_prove_copy(struct saga *saga);
static enum step_result restore_close_live(struct saga *saga);
static enum step_result restore_open_live(struct saga *saga);
static enum step_result restore_swap(struct saga *saga);
static enum step_result restore_swap_back(struct saga *saga);
static enum step_result restore_settle(struct saga *saga);
static enum step_result restore_open_access(struct saga *saga);
static enum step_result restore_clear_away(struct saga *saga);

/* clang-format off */
static const struct saga_step STEPS[] = {
        /* step      do                     undo                   limit              % */
        { "reserve", restore_reserve_place, restore_release_place, MINUTES(24 * 60),  2 },
        { "load",    restore_load_copy,     restore_drop_copy,     MINUTES(24 * 60),  5 },
        { "prove",   restore_prove_copy,    NULL,                  MINUTES(60),      70 },
        { "close",   restore_close_live,    restore_open_live,     MINUTES(60),      80 },
        { "swap",    restore_swap,          restore_swap_back,     MINUTES(60),      85 },
        /* the point of no return: the copy is the tenant's database now */
        { "settle",  restore_settle,        NULL,                  MINUTES(60),      90 },
        { "open",    restore_open_access,   NULL,                  MINUTES(60),      92 },
        { "clear",   restore_clear_away,    NULL,                  MINUTES(24 * 60), 95 },
        { "release", restore_release_place, NULL,                  MINUTES(60),      99 },
};
/* clang-format on */

#define NO_RETURN 5

const struct saga_kind RESTORE = {
        .name = "restore",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = NO_RETURN,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
        .background = "load",
};

static bool restore_is_mode(const struct activity *activity, const char *mode)
{
        const char *wanted = json_text(json_object_get(activity->facts, "restore"), "mode");

        return wanted != NULL && strcmp(wanted, mode) == 0;
}

static enum step_result restore_place_reserved(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        const char *text;
        json_t *facts = NULL;
        struct err bad;

        if (err != NULL)
                return saga_retry(saga, err);
        text = pg_text(rows, 0, "facts");
        if (text == NULL) {
                err_set(&bad, ERR_BUSY, "no_capacity",
                        "no server has room for the tenant: add one or raise a capacity");
                bad.retry_after = NO_CAPACITY_DELAY;
                return saga_retry(saga, &bad);
        }
        if (json_parse(text, strlen(text), &facts, &bad) < 0)
                return saga_retry(saga, &bad);
        if (json_text(facts, "unknown_region") != NULL) {
                err_set(&bad, ERR_PERMANENT, "unknown_region", "no server is in the region %.60s",
                        json_text(facts, "unknown_region"));
                json_decref(facts);
                return saga_fail(saga, &bad);
        }
        json_decref(activity->facts);
        activity->facts = facts;
        return STEP_DONE;
}

/* An archived tenant needs a server again, with the names and passwords that it had. */
static enum step_result restore_reserve_place(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct err cannot;

        if (activity->driver->restore == NULL) {
                err_set(&cannot, ERR_PERMANENT, "driver_cannot", "backups of this driver must be restored manually");
                return saga_fail(saga, &cannot);
        }
        if (activity_is_live(activity))
                return STEP_DONE;
        if (restore_is_mode(activity, "beside")) {
                err_set(&cannot, ERR_PERMANENT, "tenant_archived", "there is no database to restore beside");
                return saga_fail(saga, &cannot);
        }
        return saga_query(saga, SQL_RESERVE,
                          PARAMS(saga_id(saga), saga_fence(saga), saga_tenant(saga),
                                 activity_database(activity, "name"), activity_database(activity, "app_login"),
                                 activity_database(activity, "owner_login")),
                          restore_place_reserved);
}

static enum step_result restore_release_place(struct saga *saga)
{
        const char *status = activity_database(activity_of(saga), "status");

        if (status == NULL || strcmp(status, "reserved") != 0)
                return STEP_DONE;
        return activity_learn(saga, json_pack("{s:s}", "database_status", "deleted"));
}

static enum step_result restore_loaded(struct saga *saga, const struct err *err)
{
        if (err != NULL)
                return saga_retry(saga, err);
        FAILPOINT(restore_after_load, NULL);
        return STEP_DONE;
}

/* Like the connection to the tenant's database, but to the copy. */
static void restore_point_at(struct activity *activity, const char *dbname)
{
        activity_disconnect(activity);
        json_set_text(json_object_get(activity->facts, "database"), "dbname", dbname);
        activity->elsewhere = strcmp(dbname, activity_database(activity, "name")) != 0;
}

static enum step_result restore_load_into_copy(struct saga *saga)
{
        struct err err;

        if (FAILPOINT(restore_before_load, &err) < 0)
                return saga_retry(saga, &err);
        return restore_load(saga, json_text(saga_data(saga), "copy"), restore_loaded);
}

/* A repeated attempt begins with an empty copy. */
static enum step_result restore_load_copy(struct saga *saga)
{
        return activity_of(saga)->driver->restore->make_copy(saga, restore_load_into_copy);
}

/* Anything an archived tenant has on a server is from this restore. */
static enum step_result restore_drop_copy(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *status = activity_database(activity, "status");

        if (activity->driver->restore == NULL || status == NULL || strcmp(status, "deleted") == 0)
                return STEP_DONE;
        return activity_is_live(activity) ? activity->driver->restore->drop_copies(saga, true)
                                          : activity->driver->drop(saga);
}

static enum step_result restore_proved(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        if (err != NULL)
                return activity_retry(saga, err);
        json_object_set_new(saga_data(saga), "tables", json_integer((json_int_t)pg_int(rows, 0, "tables")));
        json_set_text(saga_data(saga), "schema_version", pg_text(rows, 0, "schema_version"));
        restore_point_at(activity, activity_database(activity, "name"));
        return activity->driver->restore->name_copy(saga);
}

/* The fence also comes from the backup: it must not admit a late worker of an activity since then. */
static enum step_result restore_look_inside(struct saga *saga)
{
        auto_free char *sql = mem_printf(
                "update tenantry.fence set fence = greatest(fence, %s);"
                "select (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace "
                "where c.relkind in ('r', 'p') and n.nspname not in ('information_schema', 'tenantry') "
                "and n.nspname !~ '^pg_') as tables, "
                "(select s.version from public.schema_migrations s left join tenantry.migration m using (version) "
                "order by coalesce(m.name, s.version) collate \"C\" desc limit 1) as schema_version",
                saga_fence(saga));

        return saga_script(saga, activity_of(saga)->conn, PROVE_TIMEOUT, sql, restore_proved);
}

static enum step_result restore_prove_named(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        activity->if_gone = NULL;
        restore_point_at(activity, json_text(json_object_get(activity->facts, "restore"), "name"));
        return activity_connect(saga, false, false, restore_look_inside);
}

/* Its marker is this tenant's and generation's, and the owner's password opens it. */
static enum step_result restore_prove_copy(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        activity->if_gone = restore_prove_named; /* a worker that died had already renamed it */
        restore_point_at(activity, json_text(saga_data(saga), "copy"));
        return activity_connect(saga, false, false, restore_look_inside);
}

static enum step_result restore_close_live(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (!restore_is_mode(activity, "in_place") || !activity_is_live(activity))
                return STEP_DONE;
        return activity->driver->restore->close(saga);
}

static enum step_result restore_open_live(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (!restore_is_mode(activity, "in_place") || !activity_is_live(activity))
                return STEP_DONE;
        activity->if_gone = activity_done;
        return activity->driver->apply_access(saga);
}

static enum step_result restore_swap(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return restore_is_mode(activity, "in_place") ? activity->driver->restore->swap(saga) : STEP_DONE;
}

static enum step_result restore_swap_back(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return restore_is_mode(activity, "in_place") ? activity->driver->restore->swap_back(saga) : STEP_DONE;
}

static enum step_result restore_settle(struct saga *saga)
{
        if (!restore_is_mode(activity_of(saga), "in_place"))
                return STEP_DONE;
        return activity_store(saga, SQL_SETTLE,
                              json_pack("{s:s?}", "schema_version", json_text(saga_data(saga), "schema_version")),
                              activity_done);
}

static enum step_result restore_open_access(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        return restore_is_mode(activity, "in_place") ? activity->driver->apply_access(saga) : STEP_DONE;
}

/* A check leaves nothing behind; if the tenant is archived, no login either. */
static enum step_result restore_clear_away(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (activity_is_live(activity))
                return activity->driver->restore->drop_copies(saga, !restore_is_mode(activity, "beside"));
        return activity->driver->drop(saga);
}
