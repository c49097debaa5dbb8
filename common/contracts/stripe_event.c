/* One form for all shapes of Stripe's events: see stripe_event.h. */
#include "common/contracts/stripe_event.h"

#include "common/base/crypto.h"
#include "common/base/id.h"
#include "common/base/memory.h"

#include <string.h>

#define NAME_MOST   120 /* bytes of a type or kind */
#define PRICES_MOST 20  /* items of a subscription: Stripe's own limit */

bool stripe_is_name(const char *text, size_t length, size_t most)
{
        if (length == 0 || length > most)
                return false;
        for (size_t i = 0; i < length; i++)
                if (text[i] <= ' ' || text[i] >= 0x7f)
                        return false;
        return true;
}

static bool event_is_name(const char *text, size_t most)
{
        return text != NULL && stripe_is_name(text, strlen(text), most);
}

const char *stripe_id_of(const json_t *value)
{
        const char *id = json_is_object(value) ? json_text(value, "id") : json_string_value(value);

        return event_is_name(id, STRIPE_ID_MOST) ? id : NULL;
}

static const json_t *event_at(const json_t *value, const char *one, const char *two, const char *three)
{
        value = json_object_get(value, one);
        if (two != NULL)
                value = json_object_get(value, two);
        return three ? json_object_get(value, three) : value;
}

/* Copies members that are as Stripe has them. */
static void event_copy(json_t *facts, const json_t *object, const char *const *names)
{
        for (; *names != NULL; names++) {
                json_t *value = json_object_get(object, *names);

                json_object_set_new(facts, *names, value ? json_incref(value) : json_null());
        }
}

static void event_set_id(json_t *facts, const char *name, const json_t *value)
{
        json_set_text(facts, name, stripe_id_of(value));
}

/* The later of two instants, either of which may be missing. */
static json_int_t event_later(json_int_t a, const json_t *b)
{
        return json_is_integer(b) ? MAX(a, json_integer_value(b)) : a;
}

/* {item, price, lookup_key, plan, product, amount, currency, interval, quantity} of an item. */
static json_t *event_read_item(const json_t *item)
{
        const json_t *price = json_object_get(item, "price") ?: json_object_get(item, "plan");
        const json_t *recurring = json_object_get(price, "recurring");
        json_t *read = json_object();

        event_set_id(read, "item", json_object_get(item, "id"));
        event_set_id(read, "price", price);
        json_set_text(read, "lookup_key", json_text(price, "lookup_key"));
        json_set_text(read, "plan", json_text(json_object_get(price, "metadata"), "plan"));
        event_set_id(read, "product", json_object_get(price, "product"));
        json_object_set_new(read, "amount", json_incref(json_object_get(price, "unit_amount")
                                                                ?: json_object_get(price, "amount") ?: json_null()));
        json_set_text(read, "currency", json_text(price, "currency"));
        json_set_text(read, "interval", json_text(recurring, "interval") ?: json_text(price, "interval"));
        json_object_set_new(read, "quantity", json_integer(json_number(item, "quantity", 1)));
        return read;
}

/* A scheduled cancellation is either of two. */
static json_int_t event_cancel_at(const json_t *object, json_int_t period_end)
{
        json_int_t cancel_at = json_number(object, "cancel_at", 0);

        if (cancel_at == 0 && json_flag(object, "cancel_at_period_end"))
                cancel_at = period_end;
        return cancel_at;
}

static void event_set_time(json_t *facts, const char *name, json_int_t seconds)
{
        json_object_set_new(facts, name, seconds > 0 ? json_integer(seconds) : json_null());
}

static void event_read_subscription(const json_t *object, json_t *facts)
{
        static const char *const SAME[] = { "status",   "trial_start", "trial_end",         "canceled_at",
                                            "ended_at", "start_date",  "collection_method", NULL };
        const json_t *items = event_at(object, "items", "data", NULL), *item;
        json_int_t start = json_number(object, "current_period_start", 0);
        json_int_t end = json_number(object, "current_period_end", 0);
        json_t *prices = json_array();
        size_t i;

        json_array_foreach (items, i, item) {
                start = event_later(start, json_object_get(item, "current_period_start"));
                end = event_later(end, json_object_get(item, "current_period_end"));
                if (i < PRICES_MOST)
                        json_array_append_new(prices, event_read_item(item));
        }
        event_copy(facts, object, SAME);
        event_set_time(facts, "period_start", start);
        event_set_time(facts, "period_end", end);
        event_set_time(facts, "cancel_at", event_cancel_at(object, end));
        event_set_id(facts, "schedule", json_object_get(object, "schedule"));
        event_set_id(facts, "latest_invoice", json_object_get(object, "latest_invoice"));
        event_set_id(facts, "default_payment_method", json_object_get(object, "default_payment_method"));
        json_set_text(facts, "cancel_reason", json_text(json_object_get(object, "cancellation_details"), "reason"));
        event_set_time(facts, "pending_update_until",
                       json_number(json_object_get(object, "pending_update"), "expires_at", 0));
        json_object_set_new(facts, "collection_paused",
                            json_boolean(json_is_object(json_object_get(object, "pause_collection"))));
        json_object_set_new(facts, "prices", prices);
}

static void event_read_invoice(const json_t *object, json_t *facts)
{
        static const char *const SAME[] = {
                "status",           "currency",      "amount_due",           "amount_paid",
                "amount_remaining", "attempt_count", "next_payment_attempt", "billing_reason",
                "number",           "period_start",  "period_end",           NULL
        };
        const json_t *times = json_object_get(object, "status_transitions");

        event_copy(facts, object, SAME);
        event_set_id(facts, "subscription",
                     json_object_get(object, "subscription") && !json_is_null(json_object_get(object, "subscription"))
                             ? json_object_get(object, "subscription")
                             : event_at(object, "parent", "subscription_details", "subscription"));
        event_set_time(facts, "created", json_number(object, "created", 0));
        event_set_time(facts, "finalized_at", json_number(times, "finalized_at", 0));
        event_set_time(facts, "paid_at", json_number(times, "paid_at", 0));
}

static void event_read_session(const json_t *object, json_t *facts)
{
        static const char *const SAME[] = { "status", "payment_status", "mode", "expires_at", NULL };

        event_copy(facts, object, SAME);
        event_set_id(facts, "subscription", json_object_get(object, "subscription"));
        event_set_id(facts, "invoice", json_object_get(object, "invoice"));
}

/* {start, end, price} of each phase. */
static void event_read_schedule(const json_t *object, json_t *facts)
{
        static const char *const SAME[] = { "status", "end_behavior", "released_at", "canceled_at", NULL };
        const json_t *phase;
        json_t *phases = json_array();
        size_t i;

        event_copy(facts, object, SAME);
        event_set_id(facts, "subscription", json_object_get(object, "subscription"));
        json_array_foreach (json_object_get(object, "phases"), i, phase) {
                json_t *read = json_object();

                event_set_time(read, "start", json_number(phase, "start_date", 0));
                event_set_time(read, "end", json_number(phase, "end_date", 0));
                event_set_id(read, "price",
                             json_object_get(json_array_get(json_object_get(phase, "items"), 0), "price"));
                json_array_append_new(phases, read);
        }
        json_object_set_new(facts, "phases", phases);
}

static void event_read_customer(const json_t *object, json_t *facts)
{
        event_set_id(facts, "default_payment_method",
                     event_at(object, "invoice_settings", "default_payment_method", NULL));
}

static void event_read_other(const json_t *object, json_t *facts)
{
        static const char *const SAME[] = { "status", "amount", "amount_refunded", "currency", "reason", NULL };

        event_copy(facts, object, SAME);
        event_set_id(facts, "charge", json_object_get(object, "charge"));
        event_set_id(facts, "invoice", json_object_get(object, "invoice"));
}

static const struct event_kind {
        const char *name;
        void (*read)(const json_t *object, json_t *facts);
} KINDS[] = {
        { "subscription", event_read_subscription }, { "invoice", event_read_invoice },
        { "checkout.session", event_read_session },  { "subscription_schedule", event_read_schedule },
        { "customer", event_read_customer },         { NULL, event_read_other },
};

static json_t *event_read_facts(const char *kind, const json_t *object)
{
        const struct event_kind *known = KINDS;
        json_t *facts = json_object();

        while (known->name != NULL && strcmp(known->name, kind) != 0)
                known++;
        known->read(object, facts);
        return facts;
}

/* An invoice goes one way: Stripe's clock has whole seconds, in which several of its steps may fall. */
static int event_rank(const char *kind, const char *status)
{
        static const char *const STEPS[] = { "draft", "open", "uncollectible", "paid" };

        if (strcmp(kind, "invoice") != 0 || status == NULL)
                return 0;
        if (strcmp(status, "void") == 0)
                return 3;
        for (int i = 0; i < (int)ARRAY_SIZE(STEPS); i++)
                if (strcmp(status, STEPS[i]) == 0)
                        return i;
        return 1;
}

static bool event_is_terminal(const char *kind, const char *status)
{
        return strcmp(kind, "subscription") == 0 && status != NULL &&
               (strcmp(status, "canceled") == 0 || strcmp(status, "incomplete_expired") == 0);
}

/* The tenant that it names, in any of the places where it may. */
static const char *event_tenant(const json_t *object)
{
        const char *const found[] = {
                json_text(json_object_get(object, "metadata"), "tenant_id"),
                json_text(event_at(object, "parent", "subscription_details", "metadata"), "tenant_id"),
                json_text(event_at(object, "subscription_details", "metadata", NULL), "tenant_id"),
                json_text(object, "client_reference_id"),
        };

        for (size_t i = 0; i < ARRAY_SIZE(found); i++)
                if (found[i] != NULL && id_is_valid(found[i]))
                        return found[i];
        return NULL;
}

/* Links and secrets let whoever reads them act: they are taken from Stripe when they are needed. */
static bool event_is_secret(const char *name, const json_t *value)
{
        const char *text = json_string_value(value);

        return text != NULL && (strstr(name, "secret") != NULL || strncmp(text, "http://", 7) == 0 ||
                                strncmp(text, "https://", 8) == 0);
}

static json_t *event_without_secrets(const json_t *value)
{
        const json_t *member;
        const char *name;
        json_t *copy;
        size_t i;

        if (json_is_array(value)) {
                copy = json_array();
                json_array_foreach (value, i, member)
                        json_array_append_new(copy, event_is_secret("", member) ? json_null()
                                                                                : event_without_secrets(member));
                return copy;
        }
        if (!json_is_object(value))
                return json_incref((json_t *)(uintptr_t)value);
        copy = json_object();
        json_object_foreach ((json_t *)(uintptr_t)value, name, member)
                json_object_set_new(copy, name,
                                    event_is_secret(name, member) ? json_null() : event_without_secrets(member));
        return copy;
}

static bool event_is_listed(const char *const *names, const char *name)
{
        for (; *names != NULL; names++)
                if (strcmp(*names, name) == 0)
                        return true;
        return false;
}

/* What says who somebody is, where he lives, or with what he pays: nothing here goes by it, so it is not kept. A member
 * of one of these names, wherever it stands, and each whose name has one of these words in it. */
static bool event_is_personal(const char *name)
{
        static const char *const NAMES[] = {
                "bank_account",
                "billing_details",
                "card",
                "collected_information",
                "custom_fields",
                "customer_details",
                "customer_tax_ids",
                "description",
                "destination_details",
                "evidence",
                "fingerprint",
                "iban",
                "last4",
                "name",
                "owner",
                "payment_method_details",
                "sepa_debit",
                "source",
                "sources",
                "tax_ids",
                "us_bank_account",
                NULL,
        };
        static const char *const WORDS[] = { "address", "email", "phone", "shipping", "_name", NULL };

        for (const char *const *word = WORDS; *word != NULL; word++)
                if (strstr(name, *word) != NULL)
                        return true;
        return event_is_listed(NAMES, name);
}

/* Takes persons out of what event_without_secrets has made. */
static void event_forget_persons(json_t *value)
{
        /* A card or account says what it is in a member that is named after its kind, of which Stripe has ever more. */
        static const char *const OF_METHOD[] = { "id",       "object",   "created", "customer",
                                                 "livemode", "metadata", "type",    NULL };
        const char *kind = json_text(value, "object"), *name;
        bool is_method = kind != NULL && strcmp(kind, "payment_method") == 0;
        json_t *member;
        void *next;
        size_t i;

        json_array_foreach (value, i, member)
                event_forget_persons(member);
        json_object_foreach_safe(value, next, name, member)
        {
                if (event_is_personal(name) || (is_method && !event_is_listed(OF_METHOD, name)))
                        json_object_del(value, name);
                else
                        event_forget_persons(member);
        }
}

static void event_set_digest(json_t *target, const json_t *value)
{
        auto_free char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        auto_free char *hex = NULL;
        struct crypto_digest digest;

        crypto_sha256(text, strlen(text), &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        json_set_text(target, "digest", hex);
}

int stripe_object_read(const json_t *object, json_t **ret, struct err *err)
{
        const char *kind = json_text(object, "object"), *id = json_text(object, "id");
        const char *status = json_text(object, "status");
        json_t *read, *body;

        if (!event_is_name(kind, NAME_MOST) || !event_is_name(id, STRIPE_ID_MOST))
                return err_set(err, ERR_INPUT, "not_an_object",
                               "an object of Stripe's has a name in object, and an id");
        read = *ret = json_object();
        json_set_text(read, "kind", kind);
        json_set_text(read, "id", id);
        event_set_id(read, "customer",
                     strcmp(kind, "customer") == 0 ? json_object_get(object, "id")
                                                   : json_object_get(object, "customer"));
        json_set_text(read, "tenant_id", event_tenant(object));
        event_set_time(read, "created", json_number(object, "created", 0));
        json_object_set_new(read, "is_deleted", json_boolean(json_flag(object, "deleted")));
        json_object_set_new(read, "is_terminal", json_boolean(event_is_terminal(kind, status)));
        json_object_set_new(read, "rank", json_integer(event_rank(kind, status)));
        json_object_set_new(read, "facts", event_read_facts(kind, object));
        body = event_without_secrets(object);
        json_object_set_new(read, "body", body);
        event_set_digest(read, body); /* also of what is not kept: another address makes another state */
        event_forget_persons(body);
        return 0;
}

/* What a thin event is about: {kind, id, path}. Its path is asked as it is, so it must be one of Stripe's. */
static json_t *event_read_related(const json_t *event)
{
        const json_t *related = json_object_get(event, "related_object");
        const char *kind = json_text(related, "type"), *path = json_text(related, "url");
        json_t *read;

        if (!event_is_name(kind, NAME_MOST) || stripe_id_of(related) == NULL ||
            !event_is_name(path, 2 * STRIPE_ID_MOST) ||
            (strncmp(path, "/v1/", 4) != 0 && strncmp(path, "/v2/", 4) != 0) || strstr(path, "..") != NULL)
                return json_null();
        read = json_object();
        json_set_text(read, "kind", kind);
        event_set_id(read, "id", related);
        json_set_text(read, "path", path);
        return read;
}

/* Stripe counts pending_webhooks down as deliveries succeed: two deliveries of one event differ in it. */
static void event_set_event_digest(json_t *read, const json_t *event)
{
        json_t *object = json_object_get(read, "object");
        auto_json *rest = json_copy((json_t *)(uintptr_t)event);
        auto_json *data = json_copy(json_object_get(event, "data"));

        json_object_del(rest, "pending_webhooks");
        if (json_object_get(object, "digest") != NULL && data != NULL) { /* which is hashed already */
                json_object_set(data, "object", json_object_get(object, "digest"));
                json_object_set(rest, "data", data);
        }
        event_set_digest(read, rest);
}

/* created of a thin event is text (RFC 3339); the object is fetched, so nothing depends on the second. */
static json_int_t event_created(const json_t *event)
{
        return json_number(event, "created", 0);
}

static bool event_ends_with(const char *text, const char *end)
{
        size_t length = strlen(text), end_length = strlen(end);

        return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

int stripe_event_read(const json_t *event, json_t **ret, struct err *err)
{
        const char *id = json_text(event, "id"), *type = json_text(event, "type");
        const char *version = json_text(event, "api_version");
        const json_t *about = event_at(event, "data", "object", NULL);
        bool is_thin = json_text(event, "object") != NULL && strcmp(json_text(event, "object"), "v2.core.event") == 0;
        auto_json *object = NULL;
        json_t *read;

        if (!event_is_name(id, STRIPE_ID_MOST) || !event_is_name(type, NAME_MOST) ||
            !json_is_boolean(json_object_get(event, "livemode")) || (!is_thin && event_created(event) <= 0))
                return err_set(err, ERR_INPUT, "not_an_event", "an event has id, type, created and livemode");
        if (is_thin)
                object = event_read_related(event);
        else if (json_is_object(about) && json_object_get(about, "id") == NULL)
                object = json_null(); /* invoice.upcoming is about an invoice that does not exist yet */
        else if (stripe_object_read(about, &object, err) < 0)
                return -ERR_INPUT;
        if (json_is_object(object) && event_ends_with(type, ".deleted") && !is_thin)
                json_object_set_new(object, "is_deleted", json_true());
        read = *ret = json_object();
        json_set_text(read, "id", id);
        json_set_text(read, "type", type);
        event_set_time(read, "created", event_created(event));
        json_object_set(read, "livemode", json_object_get(event, "livemode"));
        event_set_id(read, "account", json_object_get(event, "account"));
        json_set_text(read, "api_version", event_is_name(version, NAME_MOST) ? version : NULL);
        json_object_set_new(read, "is_thin", json_boolean(is_thin));
        json_object_set(read, "object", object);
        event_set_event_digest(read, event);
        return 0;
}

int stripe_event_complete(json_t *data, struct err *err)
{
        const char *text = json_text(data, "body_base64");
        auto_free unsigned char *bytes = mem_alloc(strlen(text) + 1, 1);
        auto_json *event = NULL, *read = NULL;
        int length = crypto_base64_decode(text, bytes);

        if (length < 0 || json_parse((const char *)bytes, (size_t)length, &event, err) < 0 ||
            stripe_event_read(event, &read, err) < 0)
                return -ERR_INPUT;
        json_object_clear(data);
        json_object_update(data, read);
        return 0;
}
