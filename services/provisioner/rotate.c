/* Rotation of the app login's password: the next login works alongside the old one for a while, so that a backend can
 * switch without an error; then the old one is closed. */
#include "common/base/crypto.h"
#include "common/base/memory.h"
#include "services/provisioner/activity.h"
#include "services/provisioner/logins.h"

#define PASSWORD_LENGTH 32

static enum step_result rotate_set_login(struct saga *saga);
static enum step_result rotate_make_current(struct saga *saga);
static enum step_result rotate_end_old(struct saga *saga);
static enum step_result rotate_forget_old(struct saga *saga);

static const struct saga_step STEPS[] = {
        { "set_login", rotate_set_login, NULL, MINUTES(60), 10 },
        { "current", rotate_make_current, NULL, MINUTES(60), 60 },
};

const struct saga_kind ROTATE = {
        .name = "rotate",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = 1,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};

/* A separate saga, started when the overlap has ended, so that a suspension need not wait meanwhile. */
static const struct saga_step RETIRE_STEPS[] = {
        { "end_old", rotate_end_old, NULL, MINUTES(60), 10 },
        { "forget_old", rotate_forget_old, NULL, MINUTES(60), 90 },
};

const struct saga_kind RETIRE = {
        .name = "retire",
        .steps = RETIRE_STEPS,
        .count = ARRAY_SIZE(RETIRE_STEPS),
        .no_return = 1,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};

static enum step_result rotate_use_stored(struct saga *saga)
{
        return activity_of(saga)->driver->set_next_login(saga);
}

/* The password is stored before it is set, so that a repeated step sets the same one. */
static enum step_result rotate_set_login(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        int rotation = (int)activity_number(activity, "rotation_applied") + 1;
        auto_secret char *password = crypto_random_password(PASSWORD_LENGTH);

        json_object_set_new(saga_data(saga), "rotation", json_integer(rotation));
        return activity_learn_then(
                saga,
                json_pack("{s:[o]}", "secrets", activity_seal(activity, "app_password", rotation, "app", password)),
                rotate_use_stored);
}

static enum step_result rotate_make_current(struct saga *saga)
{
        struct activity *activity = activity_of(saga);
        int64_t rotation = json_number(saga_data(saga), "rotation", 0);
        auto_free char *login = logins_user(activity, rotation);

        return activity_learn(saga, json_pack("{s:I, s:s, s:I}", "rotation_applied", (json_int_t)rotation, "app_login",
                                              login, "old_login_overlap_ms",
                                              (json_int_t)activity->provisioner->config->rotation_overlap_ms));
}

static enum step_result rotate_end_old(struct saga *saga)
{
        return activity_of(saga)->driver->end_old_login(saga);
}

static enum step_result rotate_forget_old(struct saga *saga)
{
        return activity_learn(saga, json_pack("{s:b}", "old_login_ended", 1));
}
