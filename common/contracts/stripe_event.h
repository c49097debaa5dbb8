/* What Stripe's events and objects say, in one form for all of Stripe's API versions.
 *
 * Source of the shapes: Stripe's API reference and its changelog (2025-03-31 "basil": a subscription's period went to
 * its items, an invoice's subscription to its parent, a line's price to its pricing; 2025-09-30 "clover": the customer
 * portal cancels by cancel_at). */
#pragma once

#include "common/base/json.h"

#define STRIPE_ID_MOST 255 /* bytes of an id: Stripe's documents promise that */

/* Whether it may name something in logs, paths and keys: printable ASCII without blanks, of most bytes at most. */
bool stripe_is_name(const char *text, size_t length, size_t most);

/* An id of Stripe's, or that of the object which stands in its place where it was expanded, borrowed from
 * value. NULL if it is neither. */
const char *stripe_id_of(const json_t *value);

/* An event as billing's catalog takes it:
 *
 *   id, type, created (unix seconds), livemode, account, api_version
 *   digest     the same for each delivery of the event: SHA-256 without what Stripe counts up between deliveries
 *   is_thin    it carries no object, only whose it is about (object "v2.core.event")
 *   object     what it is about, as stripe_object_read returns it; of a thin event {kind, id, path}; null if it has
 * none
 *
 * Returns 0 and *ret, released by the caller; or -ERR_INPUT naming what is not as Stripe's documents say. */
int stripe_event_read(const json_t *event, json_t **ret, struct err *err);

/* An object as billing's catalog keeps it:
 *
 *   kind         as Stripe names it: "subscription", "checkout.session"
 *   id, customer, tenant_id (from its metadata), created
 *   is_deleted   Stripe says that it is no more
 *   is_terminal  nothing can change it any more
 *   rank         a higher one is later, whatever the clock says (invoices)
 *   facts        what billing goes by, per kind
 *   body         the object itself, without links and secrets, and without what says who somebody is or how he pays
 *   digest       SHA-256 of all but links and secrets
 *
 * Returns 0 and *ret, released by the caller; or -ERR_INPUT. */
int stripe_object_read(const json_t *object, json_t **ret, struct err *err);

/* The completion of the contract of STRIPE_EVENT: {body_base64} becomes what stripe_event_read returns. */
int stripe_event_complete(json_t *data, struct err *err);
