/* `tenantry stripe`: what its subcommands share: calls to Stripe that are tried again, and what we want to have there.
 */
#pragma once

#include "cli/cli.h"
#include "common/contracts/plan_options.h"
#include "common/contracts/plans.h"
#include "common/net/stripe_api.h"
#include "common/service/options.h"

/* What STRIPE_MARK says in the metadata of what is ours, and what else is there. */
#define STRIPE_MARK_MADE   "1"
#define STRIPE_MARK_TAKEN  "adopted" /* a webhook endpoint that somebody had made by hand */
#define STRIPE_FINGERPRINT "tenantry_secret"
#define STRIPE_REQUEST     "tenantry_request"
#define STRIPE_REPLACES    "tenantry_replaces"

#define STRIPE_PRODUCTS  "/v1/products"
#define STRIPE_PRICES    "/v1/prices"
#define STRIPE_PORTAL    "/v1/billing_portal/configurations"
#define STRIPE_ENDPOINTS "/v1/webhook_endpoints"

struct stripe_options {
        struct stripe_config stripe;
        struct plan_config plans;
};

struct stripe_session {
        struct stripe_options options;
        struct stripe_account account;
        struct plans *plans;
        bool live;
        char *url; /* of the webhook endpoint; NULL = not known here */
        uv_loop_t loop;
        uv_timer_t alive; /* keeps the loop running: the transfers' own timer does not */
        struct transfers *transfers;
        int64_t date_s; /* Stripe's clock, when it answered last */
};

/* Reads configuration and plans; url: from --endpoint, NULL = from PUBLIC_URL. Complains. Returns an exit code; to be
 * closed in either case. */
int stripe_open(struct stripe_session *session, const char *url);
void stripe_close(struct stripe_session *session);

/* Each asks until Stripe has answered, or it makes no sense to ask again. params is taken, and may be NULL; the caller
 * releases *ret, which is set only for success. Return 0, or an error as in stripe_api.h. */
int stripe_get(struct stripe_session *session, const char *path, json_t *params, json_t **ret, struct err *err);
/* All pages of a list, as one array. */
int stripe_list(struct stripe_session *session, const char *path, json_t *params, json_t **ret, struct err *err);
/* A change: the same twice is the same once, so each run has keys of its own. */
int stripe_change(struct stripe_session *session, const char *path, json_t *params, json_t **ret, struct err *err);
/* Something new with metadata. Its key comes from its content, so that a run after a lost answer, within a day, gets
 * what the lost one has made, with all that is shown only once. What was deleted meanwhile, or had failed, is made
 * anew, under the key of the next generation. wanted is taken. */
int stripe_create(struct stripe_session *session, const char *path, json_t *wanted, json_t **ret, struct err *err);
/* The nth generation. ret_replayed: the answer, or the error, is that of an earlier run. */
int stripe_create_as(struct stripe_session *session, const char *path, const json_t *wanted, int n, json_t **ret,
                     bool *ret_replayed, struct err *err);
#define STRIPE_GENERATIONS 10 /* how often the same may be made within a day */
/* The key of the nth generation, which is also in the metadata of what it made (STRIPE_REQUEST); the caller frees. */
char *stripe_key(const char *path, const json_t *wanted, int n);
/* Also good if it is gone already. */
int stripe_delete(struct stripe_session *session, const char *path, struct err *err);
/* "PATH/ID"; the caller frees. */
char *stripe_path(const char *path, const json_t *object);
/* Complains, and returns the exit code for err. what: "the prices cannot be read". */
int stripe_complain(const struct err *err, const char *what);

/* What we want: objects as Stripe would show them, without what is Stripe's own. The caller releases. */
json_t *stripe_wanted_product(const struct plan *plan);
/* What of a price can never be changed; and what can. */
json_t *stripe_wanted_price(const struct plans *plans, const struct plan *plan, const struct plan_price *price);
json_t *stripe_wanted_price_label(const struct plan *plan, const struct plan_price *price);
/* prices: lookup key: id, of all prices of the plans. */
json_t *stripe_wanted_portal(const struct plans *plans, const json_t *prices);
/* The query for the configurations in use, with all that is compared. */
json_t *stripe_portal_query(void);
json_t *stripe_wanted_events(void);
/* "tenantry_starter"; the caller frees. */
char *stripe_product_id(const struct plan *plan);
/* How wanted differs from actual, in words; NULL if all that is wanted is there. Members and items that nobody wants to
 * have are no difference, but a list has as many items as the one that is wanted. The caller frees. */
char *stripe_difference(const json_t *wanted, const json_t *actual);
/* "$99.00 a month", of a price at Stripe; the caller frees. */
char *stripe_price_words(const json_t *price);
bool stripe_is_ours(const json_t *object);

/* Of all webhook endpoints (an array), those at an address, newest first; the caller releases. */
json_t *stripe_endpoints_at(const json_t *all, const char *url);
/* The one that is in use: the newest of ours, or else the newest. Borrowed; NULL if there is none. */
const json_t *stripe_endpoint_in_use(const json_t *at);
/* What the endpoint's metadata keep of its secret, to compare it with; the caller frees. */
char *stripe_fingerprint(const char *secret);

/* What was made, kept and changed, told as it happens. */
struct stripe_report {
        json_t *items;
        int changes, troubles;
};

/* result: "made", "kept", "changed", "removed"; "trouble" is what a person must look at. detail may be NULL. */
void stripe_tell(struct stripe_report *report, const char *result, const char *kind, const char *name,
                 const char *detail);

int stripe_set_up_endpoint(struct stripe_session *session, struct stripe_report *report, const char *secret_file,
                           bool roll);
int stripe_setup(struct stripe_session *session, const char *secret_file, bool roll);
int stripe_check(struct stripe_session *session);
