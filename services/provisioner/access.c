/* Suspend and resume: brings the applied access to what is wanted. The driver closes or opens, and reads back. */
#include "services/provisioner/activity.h"

static enum step_result apply(struct saga *saga)
{
        return activity_of(saga)->driver->apply_access(saga);
}

static const struct saga_step STEPS[] = {
        { "apply", apply, NULL, MINUTES(60), 10 },
};

const struct saga_kind ACCESS = { "access",      STEPS,          ARRAY_SIZE(STEPS),  0,
                                  activity_open, activity_close, activity_interrupt, NULL };
