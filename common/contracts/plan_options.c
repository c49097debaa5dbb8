/* Where the plans are: see plan_options.h. */
#include "common/contracts/plan_options.h"

#include "common/contracts/plans.h"

static const struct config_option PLANS[] = {
        { "PLANS", CONFIG_TEXT, 0, NULL,
          "JSON file of the plans that are sold: prices, modules, limits (docs/billing.md). All that have this option "
          "have the same file. Not set: the plans that are built in.",
          offsetof(struct plan_config, plans), 0, 0 },
};

static int plan_options_check(const void *part, struct err *err)
{
        struct plans *plans = NULL;
        int rc = plans_load(((const struct plan_config *)part)->plans, &plans, err);

        plans_free(plans);
        return rc;
}

const struct config_table PLAN_OPTIONS = { .options = PLANS, .count = ARRAY_SIZE(PLANS), .check = plan_options_check };
