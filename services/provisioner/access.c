/* Suspend and resume: brings the applied access to what is wanted. The driver closes or opens, and reads back. */
#include "services/provisioner/activity.h"

static enum step_result access_apply(struct saga *saga)
{
        return activity_of(saga)->driver->apply_access(saga);
}

static const struct saga_step STEPS[] = {
        { "apply", access_apply, NULL, MINUTES(60), 10 },
};

const struct saga_kind ACCESS = {
        .name = "access",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = 0,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};
