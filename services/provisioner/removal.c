/* Backup, archive (dumped, listed and checksummed before anything is dropped) and deprovisioning. */
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/dump.h"

#include <string.h>

static const char SQL_FORGET[] = "select forget($1::uuid, $2::bigint, $3::uuid) from saga_at($1::uuid, $2::bigint, $4)";

static enum step_result removal_close_access(struct saga *saga);
static enum step_result removal_close_if_there(struct saga *saga);
static enum step_result removal_dump_database(struct saga *saga);
static enum step_result removal_dump_archive(struct saga *saga);
static enum step_result removal_record_backup(struct saga *saga);
static enum step_result removal_drop_database(struct saga *saga);
static enum step_result removal_record_drop(struct saga *saga);
static enum step_result removal_forget(struct saga *saga);

static const struct saga_step BACKUP_STEPS[] = {
        { "dump", removal_dump_database, NULL, MINUTES(24 * 60), 10 },
        { "record", removal_record_backup, NULL, MINUTES(60), 90 },
};

static const struct saga_step ARCHIVE_STEPS[] = {
        { "close", removal_close_access, NULL, MINUTES(60), 5 },
        { "dump", removal_dump_archive, NULL, MINUTES(24 * 60), 10 },
        { "drop", removal_drop_database, NULL, MINUTES(24 * 60), 80 },
        { "dropped", removal_record_drop, NULL, MINUTES(60), 95 },
};

static const struct saga_step DEPROVISION_STEPS[] = {
        { "close", removal_close_if_there, NULL, MINUTES(60), 5 },
        { "drop", removal_drop_database, NULL, MINUTES(24 * 60), 20 },
        { "dropped", removal_record_drop, NULL, MINUTES(60), 80 },
        { "forget", removal_forget, NULL, MINUTES(60), 90 },
};

const struct saga_kind BACKUP = {
        .name = "backup",
        .steps = BACKUP_STEPS,
        .count = ARRAY_SIZE(BACKUP_STEPS),
        .no_return = 1,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
        .background = "dump",
};

const struct saga_kind ARCHIVE = {
        .name = "archive",
        .steps = ARCHIVE_STEPS,
        .count = ARRAY_SIZE(ARCHIVE_STEPS),
        .no_return = 0,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
        .background = "dump",
};

const struct saga_kind DEPROVISION = {
        .name = "deprovision",
        .steps = DEPROVISION_STEPS,
        .count = ARRAY_SIZE(DEPROVISION_STEPS),
        .no_return = 0,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};

/* Nobody may write while the last copy is made. */
static enum step_result removal_close_access(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (!activity_is_live(activity))
                return STEP_DONE;
        json_object_set_new(activity->facts, "access_wanted", json_string("none"));
        return activity->driver->apply_access(saga);
}

/* What is about to be deleted need not exist: if somebody deleted it manually, the tenant must still be
 * deprovisionable. Nobody can log in to a paused one. */
static enum step_result removal_close_if_there(struct saga *saga)
{
        activity_of(saga)->if_gone = activity_done;
        activity_of(saga)->if_paused = activity_done;
        return removal_close_access(saga);
}

static enum step_result removal_dump_database(struct saga *saga)
{
        /* A request that arrives while the dump is running needs another dump. */
        json_object_set_new(saga_data(saga), "backup",
                            json_integer((json_int_t)activity_number(activity_of(saga), "backup_wanted")));
        return dump_take(saga, "backup");
}

static enum step_result removal_dump_archive(struct saga *saga)
{
        return dump_take(saga, "archive");
}

static enum step_result removal_record_backup(struct saga *saga)
{
        return activity_learn(saga,
                              json_pack("{s:I, s:s}", "backup_done",
                                        (json_int_t)json_number(saga_data(saga), "backup", 0), "backup_at", "now"));
}

static enum step_result removal_record_drop(struct saga *saga)
{
        if (activity_database(activity_of(saga), "status") == NULL)
                return STEP_DONE;
        return activity_learn(saga, json_pack("{s:s}", "database_status", "deleted"));
}

static enum step_result removal_drop_database(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        const char *status = activity_database(activity, "status");

        if (status == NULL || strcmp(status, "deleted") == 0)
                return STEP_DONE;
        return activity->driver->drop(saga);
}

static enum step_result removal_forget(struct saga *saga)
{
        return saga_query(saga, SQL_FORGET,
                          PARAMS(saga_id(saga), saga_fence(saga), saga_tenant(saga), saga_step_name(saga)),
                          saga_rows_done);
}
