/* `tenantry stripe`: what we want to have at Stripe, and how that differs from what is there: see stripe.h. */
#include "cli/stripe.h"

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/memory.h"
#include "common/contracts/stripe_event_types.h"

#include <stdio.h>
#include <string.h>

json_t *stripe_wanted_events(void)
{
        json_t *events = json_array();

        for (const char *const *type = STRIPE_EVENT_TYPES; *type != NULL; type++)
                json_array_append_new(events, json_string(*type));
        return events;
}

char *stripe_product_id(const struct plan *plan)
{
        return mem_printf(PLANS_PRODUCT "%s", plan->id);
}

json_t *stripe_wanted_product(const struct plan *plan)
{
        auto_free char *id = stripe_product_id(plan);

        return json_pack("{s:s, s:s, s:b, s:{s:s, s:s}}", "id", id, "name", plan->name, "active", true, "metadata",
                         STRIPE_MARK, STRIPE_MARK_MADE, "plan", plan->id);
}

json_t *stripe_wanted_price(const struct plans *plans, const struct plan *plan, const struct plan_price *price)
{
        auto_free char *product = stripe_product_id(plan);

        return json_pack("{s:s, s:s, s:I, s:{s:s, s:i}}", "product", product, "currency", plans->currency,
                         "unit_amount", (json_int_t)price->amount, "recurring", "interval", price->interval,
                         "interval_count", 1);
}

json_t *stripe_wanted_price_label(const struct plan *plan, const struct plan_price *price)
{
        return json_pack("{s:s, s:b, s:{s:s, s:s}}", "lookup_key", price->lookup_key, "active", true, "metadata",
                         STRIPE_MARK, STRIPE_MARK_MADE, "plan", plan->id);
}

/* The products between which a subscription may change, each with its prices. */
static json_t *wanted_portal_products(const struct plans *plans, const json_t *prices)
{
        json_t *products = json_array();

        for (size_t i = 0; i < plans->count; i++) {
                const struct plan *plan = &plans->items[i];
                auto_free char *id = stripe_product_id(plan);
                json_t *ids = json_array();

                for (size_t j = 0; j < plan->price_count; j++)
                        json_array_append(ids, json_object_get(prices, plan->prices[j].lookup_key));
                if (json_array_size(ids) > 0)
                        json_array_append_new(products, json_pack("{s:s, s:o}", "product", id, "prices", ids));
                else
                        json_decref(ids);
        }
        return products;
}

/* Changes of plan as services/billing/change.c makes them: dearer at once, cheaper when the period ends, and a trial
 * goes on. Without the conditions a cheaper plan would be at once, with money back, whatever is used; and by default a
 * change ends a trial. */
static json_t *wanted_portal_update(json_t *products)
{
        if (json_array_size(products) == 0) {
                json_decref(products);
                return json_pack("{s:b}", "enabled", false);
        }
        return json_pack("{s:b, s:[s], s:s, s:{s:[{s:s}, {s:s}]}, s:s, s:o}", "enabled", true,
                         "default_allowed_updates", "price", "proration_behavior", "always_invoice",
                         "schedule_at_period_end", "conditions", "type", "decreasing_item_amount", "type",
                         "shortening_interval", "trial_update_behavior", "continue_trial", "products", products);
}

json_t *stripe_wanted_portal(const struct plans *plans, const json_t *prices)
{
        json_t *update = wanted_portal_update(wanted_portal_products(plans, prices));

        return json_pack("{s:{s:{s:b}, s:{s:b}, s:{s:b}, s:{s:b, s:s}, s:o}, s:{s:s}}", "features",
                         "payment_method_update", "enabled", true, "invoice_history", "enabled", true,
                         "customer_update", "enabled", false, "subscription_cancel", "enabled", true, "mode",
                         "at_period_end", "subscription_update", update, "metadata", STRIPE_MARK, STRIPE_MARK_MADE);
}

/* Its products are left out of the answer unless they are asked for. */
json_t *stripe_portal_query(void)
{
        return json_pack("{s:b, s:[s]}", "active", true, "expand", "data.features.subscription_update.products");
}

static char *wanted_text(const json_t *value)
{
        return json_is_string(value) ? mem_copy_text(json_string_value(value))
                                     : (value ? json_print(value) : mem_copy_text("missing"));
}

static char *wanted_inside(const char *name, char *difference)
{
        char *whole = difference ? mem_printf("%s%s%s", name, strchr(". ", *difference) ? "" : ".", difference) : NULL;

        free(difference);
        return whole;
}

static bool wanted_has(const json_t *list, const json_t *item)
{
        const json_t *each;
        size_t i;

        json_array_foreach (list, i, each) {
                auto_free char *difference = stripe_difference(item, each);

                if (difference == NULL)
                        return true;
        }
        return false;
}

/* " lacks a, b" of the texts in one list that are not in the other; adds nothing if there are none. */
static void wanted_add_missing(struct buf *words, const char *verb, const json_t *of, const json_t *in)
{
        const json_t *each;
        size_t i, count = 0;

        json_array_foreach (of, i, each) {
                auto_free char *text = NULL;

                if (wanted_has(in, each))
                        continue;
                text = wanted_text(each);
                buf_printf(words, "%s%s", count++ == 0 ? verb : ", ", text);
        }
}

/* In any order; none is there twice. */
static char *wanted_list_difference(const json_t *wanted, const json_t *actual)
{
        struct buf words = { 0 };

        wanted_add_missing(&words, " lacks ", wanted, actual);
        if (json_array_size(actual) != json_array_size(wanted))
                wanted_add_missing(&words, words.length > 0 ? "; has besides " : " has besides ", actual, wanted);
        if (words.length > 0)
                return buf_take(&words);
        return json_is_array(actual) || json_array_size(wanted) == 0 ? NULL : mem_copy_text(" is missing");
}

char *stripe_difference(const json_t *wanted, const json_t *actual)
{
        auto_free char *is = NULL, *should = NULL;
        const char *name;
        json_t *member;

        if (json_is_array(wanted))
                return wanted_list_difference(wanted, actual);
        json_object_foreach ((json_t *)wanted, name, member) {
                char *difference = stripe_difference(member, json_object_get(actual, name));

                if (difference != NULL)
                        return wanted_inside(name, difference);
        }
        if (json_is_object(wanted) ? json_is_object(actual) : json_equal(wanted, actual))
                return NULL;
        is = wanted_text(actual);
        should = wanted_text(wanted);
        return mem_printf(" is %s, not %s", is, should);
}

char *stripe_price_words(const json_t *price)
{
        const json_t *recurring = json_object_get(price, "recurring");
        const char *currency = json_text(price, "currency") ?: "?", *interval = json_text(recurring, "interval");
        long long amount = json_number(price, "unit_amount", 0), count = json_number(recurring, "interval_count", 1);
        auto_free char *times = interval == NULL ? mem_copy_text("once")
                                : count == 1     ? mem_printf("a %s", interval)
                                                 : mem_printf("every %lld %ss", count, interval);

        if (strcmp(currency, "usd") == 0)
                return mem_printf("$%lld.%02lld %s", amount / 100, amount % 100, times);
        return mem_printf("%lld %s %s, in the smallest unit", amount, currency, times); /* not each has cents */
}

bool stripe_is_ours(const json_t *object)
{
        return json_text(json_object_get(object, "metadata"), STRIPE_MARK) != NULL;
}

json_t *stripe_endpoints_at(const json_t *all, const char *url)
{
        json_t *at = json_array(), *each;
        size_t i;

        json_array_foreach (all, i, each)
                if (strcmp(json_text(each, "url") ?: "", url) == 0)
                        json_array_append(at, each);
        return at;
}

const json_t *stripe_endpoint_in_use(const json_t *at)
{
        const json_t *each;
        size_t i;

        json_array_foreach (at, i, each)
                if (stripe_is_ours(each))
                        return each;
        return json_array_get(at, 0);
}

char *stripe_fingerprint(const char *secret)
{
        auto_free char *hex = NULL;
        struct crypto_digest digest;

        crypto_sha256(secret, strlen(secret), &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        return mem_printf("%.16s", hex);
}
