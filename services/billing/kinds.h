/* The kinds of sagas, each in the file of its name, and the steps that several of them have. */
#pragma once

#include "services/billing/stripe_calls.h"

extern const struct saga_kind CHECKOUT, PORTAL, CHANGE_PLAN, CANCEL, RESUME, PREVIEW, END_SUBSCRIPTION, END_DUPLICATE;

#define BILLING_KIND(kind_name, kind_steps)                                                                            \
        {                                                                                                              \
                .name = kind_name, .steps = kind_steps, .count = ARRAY_SIZE(kind_steps),                               \
                .no_return = ARRAY_SIZE(kind_steps), .open = work_open, .close = work_close,                           \
        }

/* customer.c: the tenant's customer at Stripe, in data.customer; it is made if there is none, or only a deleted one. */
enum step_result customer_ensure(struct saga *saga);
/* The same, and refused if there is none. */
enum step_result customer_find(struct saga *saga);

/* look.c: all live subscriptions of the tenant as its customers have them at Stripe, in data.live: the one that counts
 * first, each {id, customer, status, start, item, price, lookup_key, plan, amount, interval, period_start, period_end,
 * trial_end, cancel_at, at_period_end, schedule, latest_invoice}. */
enum step_result look_at_subscriptions(struct saga *saga);
/* The same, and refused if there is none. */
enum step_result look_for_subscription(struct saga *saga);
/* Borrowed; NULL: there is none. */
const json_t *look_live(struct saga *saga);
/* Whether a page of Stripe's names no other tenant. */
bool look_is_ours(struct saga *saga, const json_t *session);
/* data.price = {id, amount, interval}: what data.lookup_key means at Stripe. */
enum step_result look_up_price(struct saga *saga);
/* Takes the subscription out of its schedule, if it has one, which would not let anything be changed. */
enum step_result look_release_schedule(struct saga *saga);
