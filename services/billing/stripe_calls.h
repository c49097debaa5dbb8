/* How the steps of a saga ask Stripe. What changes something there is stored with its idempotency key before it is
 * sent, and sent again as it was stored, however often a process dies; what only looks is asked as it is. Each call
 * waits for its turn under the budget that all calls share. */
#pragma once

#include "common/durable/saga.h"
#include "services/billing/billing.h"

#define WORK_MAGIC 0xb1111e55u

/* Shared by the steps of one saga. */
struct work {
        unsigned magic;
        struct saga *saga;
        struct billing *billing;
        json_t *facts;               /* of the tenant: see billing.saga_context */
        struct stripe_asking *asked; /* under way, or NULL */
        json_t *reply;               /* what Stripe has answered last */
        int64_t date_s;              /* and when, by its clock */
        bool is_repeated;            /* it is what Stripe had answered to the same key before: how things were then */
        json_t *left;                /* customers that are still to be looked at */
        enum step_result (*next)(struct saga *saga);
};

struct work *work_of(struct saga *saga);
int work_open(struct saga *saga, const json_t *context, void **ret_state, struct err *err);
void work_close(void *state);

/* What Stripe has answered (borrowed), or why it will not do it. Whatever may pass is tried again without asking. */
typedef enum step_result (*stripe_then)(struct saga *saga, const json_t *reply, const struct err *err);

/* Looks. Takes path and params (NULL = none). */
enum step_result stripe_look(struct saga *saga, char *path, json_t *params, stripe_then then);
/* Changes something, once under this name in the life of the saga. Takes path and params. If it may have been done
 * under a key that Stripe has forgotten, the saga begins anew: its first steps look what there is. */
enum step_result stripe_change(struct saga *saga, const char *name, const char *method, char *path, json_t *params,
                               stripe_then then);

/* Whether the change was made before: by an attempt whose answer was lost, or for the same command before the catalog
 * was restored. What Stripe has just answered (or err, that it was asked for otherwise) is not how things are now. */
bool stripe_was_made_before(struct saga *saga, const struct err *err);

/* Stores objects that Stripe has just answered (a list, taken), then goes on. */
enum step_result stripe_keep(struct saga *saga, json_t *objects, enum step_result (*next)(struct saga *saga));
/* The same for one object, borrowed, as the end of a step. */
enum step_result stripe_keep_one(struct saga *saga, const json_t *object);
/* Seals an address for who waits for this saga's operation, then goes on. */
enum step_result stripe_keep_link(struct saga *saga, const char *url, enum step_result (*next)(struct saga *saga));

/* What the operation's result says; takes it. Nothing secret: it is stored and shown. */
void work_result(struct saga *saga, json_t *result);
/* Not a failure: a rule speaks against it. field may be NULL; more is taken and may be NULL. */
enum step_result work_refuse(struct saga *saga, const char *code, const char *field, json_t *more, const char *detail);
/* Stripe would not, since something has changed there meanwhile: begins anew, three times at most. */
enum step_result work_again(struct saga *saga, const struct err *err);
enum step_result work_done(struct saga *saga);
