/* Which of Stripe's events billing acts on: see stripe_event_types.h. */
#include "common/contracts/stripe_event_types.h"

#include <string.h>

const char *const STRIPE_EVENT_TYPES[] = {
        "checkout.session.completed",
        "checkout.session.expired",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.resumed",
        "customer.subscription.pending_update_applied",
        "customer.subscription.pending_update_expired",
        "subscription_schedule.aborted",
        "subscription_schedule.canceled",
        "subscription_schedule.completed",
        "subscription_schedule.created",
        "subscription_schedule.expiring",
        "subscription_schedule.released",
        "subscription_schedule.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice.payment_failed",
        "invoice.payment_action_required",
        "invoice.voided",
        "customer.updated",
        "customer.deleted",
        "payment_method.attached",
        "charge.refunded",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn",
        NULL,
};

bool stripe_event_is_wanted(const char *type)
{
        for (const char *const *wanted = STRIPE_EVENT_TYPES; type != NULL && *wanted != NULL; wanted++)
                if (strcmp(*wanted, type) == 0)
                        return true;
        return false;
}
