/* Where the plans are. */
#pragma once

#include "common/base/config.h"

struct plan_config {
        char *plans; /* for plans_load; NULL: those that are built in */
};

/* PLANS. Its check reads the file: a service with a broken one does not start. */
extern const struct config_table PLAN_OPTIONS;
