/* The link a person is sent to after clicking ours: made by the provider at that moment, since it expires soon. */
#include "services/provisioner/activity.h"

static enum step_result make(struct saga *saga)
{
        return activity_of(saga)->driver->make_link(saga);
}

static const struct saga_step STEPS[] = {
        { "make", make, NULL, MINUTES(5), 10 },
};

const struct saga_kind LINK = { "link",        STEPS,          ARRAY_SIZE(STEPS),  1,
                                activity_open, activity_close, activity_interrupt, NULL };
