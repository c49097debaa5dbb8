/* After a tenant server failed over (perhaps to a standby without the last seconds) or was restored: sets up again what
 * the catalog knows about a tenant, and reports what is lost. Everything here was done before, so each step finds out
 * what is left of it. */
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"
#include "services/provisioner/migrate.h"
#include "services/provisioner/provision.h"

#include <string.h>

static enum step_result verify_look(struct saga *saga);
static enum step_result verify_prove(struct saga *saga);
static enum step_result verify_migrate(struct saga *saga);
static enum step_result verify_write_admin(struct saga *saga);
static enum step_result verify_apply_access(struct saga *saga);
static enum step_result verify_end_old_login(struct saga *saga);
static enum step_result verify_record(struct saga *saga);

static const struct saga_step STEPS[] = {
        { "look", verify_look, NULL, MINUTES(24 * 60), 5 },
        { "prove", verify_prove, NULL, MINUTES(60), 20 },
        { "migrate", verify_migrate, NULL, MINUTES(60), 40 },
        { "write_admin", verify_write_admin, NULL, MINUTES(60), 60 },
        { "apply_access", verify_apply_access, NULL, MINUTES(60), 70 },
        { "end_old_login", verify_end_old_login, NULL, MINUTES(60), 80 },
        { "record", verify_record, NULL, MINUTES(60), 90 },
};

const struct saga_kind VERIFY = {
        .name = "verify",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = ARRAY_SIZE(STEPS),
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};

/* What was there before it was dropped is dropped again. */
static enum step_result verify_look(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        /* A server that falls back again meanwhile needs another verification. */
        json_object_set_new(saga_data(saga), "verify",
                            json_integer((json_int_t)activity_number(activity, "verify_wanted")));
        if (!activity_is_live(activity))
                return activity->driver->drop(saga);
        return activity->driver->look_again ? activity->driver->look_again(saga) : STEP_DONE;
}

static enum step_result verify_proved(struct saga *saga, const struct pg_rows *rows, const struct err *err)
{
        if (err != NULL)
                return activity_retry(saga, err);
        return pg_bool(rows, 0, "used") ? STEP_DONE : activity_lost(saga);
}

static enum step_result verify_ask_for_use(struct saga *saga)
{
        return provision_ask_for_use(saga, verify_proved);
}

static enum step_result verify_prove(struct saga *saga)
{
        return activity_is_live(activity_of(saga)) ? activity_connect(saga, false, false, verify_ask_for_use)
                                                   : STEP_DONE;
}

static enum step_result verify_migrate(struct saga *saga)
{
        return activity_is_live(activity_of(saga)) ? migrate_database(saga) : STEP_DONE;
}

static enum step_result verify_write_admin(struct saga *saga)
{
        return activity_is_live(activity_of(saga)) ? activity_of(saga)->driver->create_admin(saga) : STEP_DONE;
}

static enum step_result verify_apply_access(struct saga *saga)
{
        return activity_is_live(activity_of(saga)) ? activity_of(saga)->driver->apply_access(saga) : STEP_DONE;
}

static enum step_result verify_end_old_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);

        if (!activity_is_live(activity) || activity_number(activity, "rotation_applied") < 2 ||
            activity_tenant(activity, "old_login_ends_at") != NULL)
                return STEP_DONE;
        return activity->driver->end_old_login(saga);
}

static enum step_result verify_record(struct saga *saga)
{
        return activity_learn(saga,
                              json_pack("{s:I}", "verify_done", (json_int_t)json_number(saga_data(saga), "verify", 0)));
}
