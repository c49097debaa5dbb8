/* A tenant's database gets the product's schema: see migrate.h. */
#include "services/provisioner/migrate.h"

#include "common/base/memory.h"
#include "common/migration/registry.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"

#include <string.h>

#define RIGHTS_TIMEOUT SECONDS(10)

static const char SQL_LEARN[] = "select learn_schema($1::uuid, $2::bigint, $3::uuid, $4::jsonb) as facts "
                                "from saga_at($1::uuid, $2::bigint, $5)";

/* As REGISTRY_QUERY, and what the tenant had from runs. */
static const char SQL_FILES[] =
        "select r.state, r.files, r.wanted, catalog.migrations_brought($2::uuid)::text as brought "
        "from catalog.migration_register($1) r";

/* A run may have ended since the files were chosen. */
static enum step_result migrate_learned(struct saga *saga)
{
        return json_flag(activity_of(saga)->facts, "schema_behind") ? saga_wait(saga, 1) : STEP_DONE;
}

static enum step_result migrate_rights_set(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);

        (void)rows;
        if (err != NULL)
                return activity_retry(saga, err);
        return activity_store(saga, SQL_LEARN, TAKE_PTR(activity->schema), migrate_learned);
}

/* The session is as the failed file left it. If the file misses something, that is its own problem. */
static enum step_result migrate_failed(struct saga *saga, const struct err *err)
{
        activity_disconnect(activity_of(saga));
        return saga_retry(saga, err);
}

/* A file may have removed the app login's rights, together with the schema they were granted on. */
static enum step_result migrate_applied(struct saga *saga, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        auto_free char *sql = NULL;

        if (err != NULL)
                return migrate_failed(saga, err);
        sql = logins_rights_sql(activity);
        return saga_script(saga, activity->conn, RIGHTS_TIMEOUT, sql, migrate_rights_set);
}

static void migrate_on_applied(void *context, const struct migration_outcome *outcome, const struct err *err)
{
        struct saga *saga = context;
        struct activity *activity = activity_of(saga);

        activity->migration = NULL; /* it frees itself */
        if (err == NULL)
                activity->schema =
                        json_pack("{s:s?, s:s, s:o}", "schema_version", outcome->version, "database_status", "live",
                                  "schema_versions", migration_versions(activity->migrations, outcome->is_applied));
        saga_resume(saga, err);
}

static enum step_result migrate_apply(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        struct migration_options options = { .fence = saga_fence(saga),
                                             .wanted = activity->wanted,
                                             .runs = activity->runs };

        activity->migration = migration_apply(activity->conn, activity->migrations, &options, migrate_on_applied, saga);
        return saga_await(saga, migrate_applied);
}

/* What a run brought and a server lost that fell back in time is the run's again: its rollback takes it back. */
static void migrate_note_runs(struct activity *activity, const char *brought)
{
        const struct migration_set *set = activity->migrations;

        if (json_parse(brought, strlen(brought), &activity->brought, NULL) < 0)
                return;
        activity->runs = mem_alloc(set->count + 1, sizeof(activity->runs[0]));
        for (size_t i = 0; i < set->count; i++)
                activity->runs[i] = json_text(activity->brought, set->items[i].version);
}

static enum step_result migrate_files_arrived(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        struct activity *activity = activity_of(saga);
        struct err unreadable;

        if (err != NULL)
                return saga_retry(saga, err);
        activity_forget_files(activity);
        if (registry_learn(activity->provisioner->registry, rows, &activity->files, &activity->wanted, &unreadable) < 0)
                return saga_hold(saga, "register", &unreadable);
        activity->migrations = activity->files->set;
        if (activity->files->set->count == 0 || activity->wanted == NULL) { /* no migrator has registered them yet */
                activity->migrations = activity->provisioner->migrations;
                free(TAKE_PTR(activity->wanted));
        }
        migrate_note_runs(activity, pg_text(rows, 0, "brought"));
        return migrate_apply(saga);
}

static enum step_result migrate_ask_for_files(struct saga *saga)
{
        return saga_query(saga, SQL_FILES,
                          PARAMS(registry_state(activity_of(saga)->provisioner->registry), saga_tenant(saga)),
                          migrate_files_arrived);
}

enum step_result migrate_database(struct saga *saga)
{
        return activity_connect(saga, false, false, migrate_ask_for_files);
}
