/* The plans that are sold: what each costs, which modules it has, and its limits. One file, PLANS, is the source for
 * everybody: the gateway shows it, `tenantry stripe setup` brings it to Stripe, and a tenant's rights come from it.
 * Format: docs/billing.md. */
#pragma once

#include "common/base/json.h"

#include <stddef.h>

#define PLANS_INTERVALS 2           /* month, year */
#define PLANS_PRODUCT   "tenantry_" /* and the plan's id: the id of its product at Stripe */

struct plan_price {
        const char *interval;   /* "month" or "year" */
        int64_t amount;         /* in the currency's smallest unit: cents */
        const char *lookup_key; /* by which it is found at Stripe */
};

struct plan {
        const char *id, *name;
        bool custom;           /* sold by talking: has no prices */
        const json_t *modules; /* a list of names */
        const json_t *limits;  /* name: the most there may be, or null: as many as they like */
        struct plan_price prices[PLANS_INTERVALS];
        size_t price_count;
};

/* All texts belong to it. */
struct plans {
        const char *currency; /* "usd" */
        struct plan *items;   /* in the order of the file */
        size_t count;
        const struct plan *trial; /* what a new tenant has */
        int64_t trial_days;       /* and for how long; 0 = there is no trial */
        char hash[65];    /* the same for two files that say the same, whatever their blanks and order of members */
        json_t *document; /* the file, with what was left out filled in */
};

/* Returns 0 and *ret (freed with plans_free), or -ERR_INPUT whose field is the place: "plans[1].limits.users". */
int plans_parse(const char *text, size_t length, struct plans **ret, struct err *err);
/* The same from a file; NULL: the plans that are built in. The error names PLANS, the file and the place. Blocks. */
int plans_load(const char *path, struct plans **ret, struct err *err);
void plans_free(struct plans *plans);

/* All borrowed; NULL if there is none. */
const struct plan *plans_find(const struct plans *plans, const char *id);
/* ret_price may be NULL. */
const struct plan *plans_find_by_price(const struct plans *plans, const char *lookup_key,
                                       const struct plan_price **ret_price);
/* NULL for an interval in which the plan is not sold. */
const struct plan_price *plan_find_price(const struct plan *plan, const char *interval);

/* What everybody may see, as GET /api/plans answers it; the caller releases. */
json_t *plans_json(const struct plans *plans);
