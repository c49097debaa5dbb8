/* `tenantry stripe setup`: products, prices and the portal's configuration are made as the plans say; what is there
 * already is kept, or changed. */
#include "cli/stripe.h"

#include "cli/terminal.h"
#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

void stripe_tell(struct stripe_report *report, const char *result, const char *kind, const char *name,
                 const char *detail)
{
        auto_free char *safe = text_safe(detail), *safe_name = text_safe(name);

        json_array_append_new(report->items, json_pack("{s:s, s:s, s:s, s:s?}", "kind", kind, "name", safe_name,
                                                       "result", result, "detail", detail ? safe : NULL));
        report->changes += strcmp(result, "kept") != 0 && strcmp(result, "trouble") != 0;
        report->troubles += strcmp(result, "trouble") == 0;
        if (cli_json)
                return;
        printf("%-8s %-9s %-34s %s\n", result, kind, safe_name, safe);
        fflush(stdout);
}

/* Everything that a part of the set-up needs. */
struct setup {
        struct stripe_session *session;
        struct stripe_report report;
        json_t *prices; /* lookup key: id */
};

/* A POST to PATH/ID with what is wanted, if it differs. difference: taken; NULL: nothing is to be done. */
static int setup_change(struct setup *setup, const char *kind, const char *name, const char *path, const json_t *object,
                        json_t *wanted, char *difference)
{
        auto_json *params = wanted;
        auto_free char *why = difference, *one = stripe_path(path, object);
        struct err err;

        if (why == NULL) {
                stripe_tell(&setup->report, "kept", kind, name, json_text(object, "id"));
                return EXIT_GOOD;
        }
        if (stripe_change(setup->session, one, json_incref(params), NULL, &err) < 0)
                return stripe_complain(&err, name);
        stripe_tell(&setup->report, "changed", kind, name, why);
        return EXIT_GOOD;
}

static int setup_make(struct setup *setup, const char *kind, const char *name, const char *path, json_t *wanted,
                      const char *why, json_t **ret)
{
        auto_free char *what = NULL;
        struct err err;

        if (stripe_create(setup->session, path, wanted, ret, &err) < 0)
                return stripe_complain(&err, name);
        what = mem_printf("%s%s%s", json_text(*ret, "id") ?: "?", why ? ", " : "", why ?: "");
        stripe_tell(&setup->report, "made", kind, name, what);
        return EXIT_GOOD;
}

static int setup_product(struct setup *setup, const struct plan *plan)
{
        auto_free char *id = stripe_product_id(plan), *path = mem_printf(STRIPE_PRODUCTS "/%s", id);
        auto_json *wanted = stripe_wanted_product(plan), *found = NULL, *made = NULL;
        struct err err;
        int rc = stripe_get(setup->session, path, NULL, &found, &err);
        char *difference;

        if (rc < 0 && rc != -ERR_GONE)
                return stripe_complain(&err, id);
        if (rc < 0 || json_flag(found, "deleted"))
                return setup_make(setup, "product", id, STRIPE_PRODUCTS, json_incref(wanted), NULL, &made);
        difference = stripe_difference(wanted, found);
        json_object_del(wanted, "id");
        return setup_change(setup, "product", id, STRIPE_PRODUCTS, found, json_incref(wanted), difference);
}

/* The price that has the key now; NULL if none has. */
static int setup_find_holder(struct setup *setup, const struct plan_price *price, json_t **ret, struct err *err)
{
        auto_json *list = NULL;
        int rc = stripe_list(setup->session, STRIPE_PRICES, json_pack("{s:[s]}", "lookup_keys", price->lookup_key),
                             &list, err);

        *ret = rc == 0 ? json_incref(json_array_get(list, 0)) : NULL;
        return rc;
}

/* One that was made earlier, and lost the key to another: it gets the key back instead of a twin. */
static int setup_find_twin(struct setup *setup, const json_t *wanted, json_t **ret, struct err *err)
{
        auto_json *list = NULL;
        json_t *each;
        size_t i;
        int rc = stripe_list(setup->session, STRIPE_PRICES, json_pack("{s:s}", "product", json_text(wanted, "product")),
                             &list, err);

        *ret = NULL;
        json_array_foreach (list, i, each) {
                auto_free char *difference = stripe_difference(wanted, each);

                if (difference == NULL && stripe_is_ours(each) && *ret == NULL)
                        *ret = json_incref(each);
        }
        return rc;
}

/* Why a key has come to another price, for whoever wonders. */
static char *setup_explain_move(const json_t *holder)
{
        auto_free char *words = holder ? stripe_price_words(holder) : NULL;

        if (holder == NULL)
                return NULL;
        return mem_printf("in place of %s (%s): who has that one stays on it", json_text(holder, "id") ?: "?", words);
}

/* Amount, currency and interval of a price never change at Stripe: another amount is another price, to which the key
 * moves. Subscriptions stay on the price that they have. */
static int setup_replace_price(struct setup *setup, const struct plan_price *price, const json_t *holder,
                               json_t *wanted, json_t *label, json_t **ret)
{
        auto_free char *why = setup_explain_move(holder);
        struct err err;

        if (setup_find_twin(setup, wanted, ret, &err) < 0)
                return stripe_complain(&err, price->lookup_key);
        json_object_set_new(label, "transfer_lookup_key", json_true());
        if (*ret != NULL)
                return setup_change(setup, "price", price->lookup_key, STRIPE_PRICES, *ret, json_incref(label),
                                    why ? TAKE_PTR(why) : mem_copy_text("gets the key back"));
        json_object_update(wanted, label);
        return setup_make(setup, "price", price->lookup_key, STRIPE_PRICES, json_incref(wanted), why, ret);
}

static int setup_price(struct setup *setup, const struct plan *plan, const struct plan_price *price)
{
        auto_json *wanted = stripe_wanted_price(setup->session->plans, plan, price),
                  *label = stripe_wanted_price_label(plan, price), *holder = NULL, *now = NULL;
        auto_free char *difference = NULL;
        struct err err;
        int status;

        if (setup_find_holder(setup, price, &holder, &err) < 0)
                return stripe_complain(&err, price->lookup_key);
        difference = stripe_difference(wanted, holder);
        if (holder == NULL || difference != NULL) {
                status = setup_replace_price(setup, price, holder, wanted, label, &now);
        } else {
                now = json_incref(holder);
                status = setup_change(setup, "price", price->lookup_key, STRIPE_PRICES, holder, json_incref(label),
                                      stripe_difference(label, holder));
        }
        json_object_set(setup->prices, price->lookup_key, json_object_get(now, "id"));
        return status;
}

static int setup_plan(struct setup *setup, const struct plan *plan)
{
        int status = setup_product(setup, plan);

        for (size_t i = 0; status == EXIT_GOOD && i < plan->price_count; i++)
                status = setup_price(setup, plan, &plan->prices[i]);
        return status;
}

/* Whoever has set the option should know that this one is for nothing. */
#define USED "which billing uses, unless STRIPE_PORTAL_CONFIGURATION names another"

static int setup_portal(struct setup *setup)
{
        auto_json *wanted = stripe_wanted_portal(setup->session->plans, setup->prices), *made = NULL, *list = NULL;
        const json_t *each;
        struct err err;
        size_t i;

        if (stripe_list(setup->session, STRIPE_PORTAL, stripe_portal_query(), &list, &err) < 0)
                return stripe_complain(&err, "the configurations of the portal");
        json_array_foreach (list, i, each)
                if (stripe_is_ours(each))
                        return setup_change(setup, "portal", json_text(each, "id") ?: "?", STRIPE_PORTAL, each,
                                            json_incref(wanted), stripe_difference(wanted, each));
        return setup_make(setup, "portal", "customer portal", STRIPE_PORTAL, json_incref(wanted), USED, &made);
}

static int setup_all(struct setup *setup, const char *secret_file, bool roll)
{
        const struct plans *plans = setup->session->plans;
        int status = EXIT_GOOD;

        for (size_t i = 0; status == EXIT_GOOD && i < plans->count; i++)
                status = setup_plan(setup, &plans->items[i]);
        if (status == EXIT_GOOD)
                status = setup_portal(setup);
        if (status == EXIT_GOOD)
                status = stripe_set_up_endpoint(setup->session, &setup->report, secret_file, roll);
        return status;
}

int stripe_setup(struct stripe_session *session, const char *secret_file, bool roll)
{
        struct setup setup = { .session = session, .report = { .items = json_array() }, .prices = json_object() };
        int status = setup_all(&setup, secret_file, roll);
        auto_json *answer = NULL;

        if (status == EXIT_GOOD && setup.report.troubles > 0)
                status = EXIT_FAILED;
        answer = json_pack("{s:b, s:i, s:o}", "livemode", session->live, "changes", setup.report.changes, "items",
                           setup.report.items);
        if (cli_json)
                cli_print_answer(answer);
        json_decref(setup.prices);
        return status;
}
