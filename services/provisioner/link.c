/* The link a person is sent to after clicking ours: made by the provider at that moment, since it expires soon. */
#include "services/provisioner/activity.h"

static enum step_result link_make(struct saga *saga)
{
        return activity_of(saga)->driver->make_link(saga);
}

static const struct saga_step STEPS[] = {
        { "make", link_make, NULL, MINUTES(5), 10 },
};

const struct saga_kind LINK = {
        .name = "link",
        .steps = STEPS,
        .count = ARRAY_SIZE(STEPS),
        .no_return = 1,
        .open = activity_open,
        .close = activity_close,
        .interrupt = activity_interrupt,
};
