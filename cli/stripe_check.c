/* `tenantry stripe check`: how Stripe differs from the plans and from what billing needs; nothing is changed. */
#include "cli/doctor.h"
#include "cli/stripe.h"

#include "common/base/memory.h"

#include <stdio.h>
#include <string.h>

#define SET_UP "run: tenantry stripe setup"

struct check {
        struct stripe_session *session;
        struct doctor doctor;
        json_t *prices; /* lookup key: id, of the prices that are as they should be */
        int status;     /* EXIT_GOOD, or why nothing more could be looked at */
};

/* Stripe could not be asked: a check that was not made is not good. */
static void check_give_up(struct check *check, const struct err *err, const char *what)
{
        check->status = stripe_complain(err, what);
}

static void check_product(struct check *check, const struct plan *plan)
{
        auto_free char *id = stripe_product_id(plan), *path = mem_printf(STRIPE_PRODUCTS "/%s", id), *difference = NULL;
        auto_json *wanted = stripe_wanted_product(plan), *found = NULL;
        struct err err;
        int rc = stripe_get(check->session, path, NULL, &found, &err);

        if (rc < 0 && rc != -ERR_GONE) {
                check_give_up(check, &err, id);
                return;
        }
        difference = rc == 0 ? stripe_difference(wanted, found) : NULL;
        if (rc < 0 || json_flag(found, "deleted"))
                doctor_bad(&check->doctor, "product", SET_UP, "%s is missing", id);
        else if (difference != NULL)
                doctor_bad(&check->doctor, "product", SET_UP, "%s: %s", id, difference);
        else
                doctor_good(&check->doctor, "product", "%s", id);
}

static void check_judge_price(struct check *check, const struct plan *plan, const struct plan_price *price,
                              const json_t *found)
{
        auto_json *wanted = stripe_wanted_price(check->session->plans, plan, price),
                  *label = stripe_wanted_price_label(plan, price);
        auto_free char *difference = stripe_difference(wanted, found), *words = stripe_price_words(found);

        json_object_set(check->prices, price->lookup_key, json_object_get(found, "id"));
        if (difference == NULL)
                difference = stripe_difference(label, found);
        if (difference != NULL)
                doctor_bad(&check->doctor, "price", SET_UP, "%s is %s: %s", price->lookup_key,
                           json_text(found, "id") ?: "?", difference);
        else
                doctor_good(&check->doctor, "price", "%s is %s, %s", price->lookup_key, json_text(found, "id") ?: "?",
                            words);
}

static void check_price(struct check *check, const struct plan *plan, const struct plan_price *price)
{
        auto_json *list = NULL;
        struct err err;

        if (stripe_list(check->session, STRIPE_PRICES, json_pack("{s:[s]}", "lookup_keys", price->lookup_key), &list,
                        &err) < 0)
                check_give_up(check, &err, price->lookup_key);
        else if (json_array_size(list) == 0)
                doctor_bad(&check->doctor, "price", SET_UP, "no price has the key %s", price->lookup_key);
        else
                check_judge_price(check, plan, price, json_array_get(list, 0));
}

static void check_plans(struct check *check)
{
        const struct plans *plans = check->session->plans;

        for (size_t i = 0; i < plans->count && check->status == EXIT_GOOD; i++) {
                check_product(check, &plans->items[i]);
                for (size_t j = 0; j < plans->items[i].price_count && check->status == EXIT_GOOD; j++)
                        check_price(check, &plans->items[i], &plans->items[i].prices[j]);
        }
}

/* Who is still on a plan that is not in the file any more has rights that nobody knows. */
static void check_forgotten(struct check *check)
{
        auto_json *list = NULL;
        const json_t *each;
        struct err err;
        size_t i;

        if (stripe_list(check->session, STRIPE_PRODUCTS, json_pack("{s:b}", "active", true), &list, &err) < 0) {
                check_give_up(check, &err, "the products");
                return;
        }
        json_array_foreach (list, i, each) {
                const char *plan = json_text(json_object_get(each, "metadata"), "plan");

                if (stripe_is_ours(each) && plan != NULL && plans_find(check->session->plans, plan) == NULL)
                        doctor_bad(&check->doctor, "product",
                                   "put the plan back into the file, or archive the product in Stripe's dashboard once "
                                   "nobody is subscribed to it",
                                   "%s is of the plan %s, which is not in the file", json_text(each, "id") ?: "?",
                                   plan);
        }
}

static void check_judge_portal(struct check *check, const json_t *found, size_t count)
{
        auto_json *wanted = stripe_wanted_portal(check->session->plans, check->prices);
        auto_free char *difference = stripe_difference(wanted, found);
        const char *id = json_text(found, "id") ?: "?", *told = cli_setting("STRIPE_PORTAL_CONFIGURATION");

        if (told != NULL && strcmp(told, id) != 0)
                doctor_skip(&check->doctor, "portal", "billing is told to use %s (STRIPE_PORTAL_CONFIGURATION), not %s",
                            told, id);
        if (difference != NULL)
                doctor_bad(&check->doctor, "portal", SET_UP, "%s: %s", id, difference);
        else
                doctor_good(&check->doctor, "portal", "%s", id);
        if (count > 1)
                doctor_bad(&check->doctor, "portal", "deactivate those that you do not use, by Stripe's API",
                           "%zu configurations are marked as ours; %s is used", count, id);
}

static void check_portal(struct check *check)
{
        auto_json *list = NULL;
        const json_t *each, *ours = NULL;
        size_t i, count = 0;
        struct err err;

        if (stripe_list(check->session, STRIPE_PORTAL, stripe_portal_query(), &list, &err) < 0) {
                check_give_up(check, &err, "the configurations of the portal");
                return;
        }
        json_array_foreach (list, i, each) {
                count += stripe_is_ours(each);
                if (ours == NULL && stripe_is_ours(each))
                        ours = each;
        }
        if (ours == NULL)
                doctor_bad(&check->doctor, "portal", SET_UP, "there is no configuration of ours");
        else
                check_judge_portal(check, ours, count);
}

/* Whether one of the secrets, separated by commas, has the fingerprint. */
static bool check_knows_secret(const char *secrets, const char *fingerprint)
{
        auto_secret char *copy = mem_copy_text(secrets);
        char *rest = copy, *word;
        bool known = false;

        while ((word = strsep(&rest, ",")) != NULL) {
                auto_free char *each = stripe_fingerprint(word);

                known |= strcmp(each, fingerprint) == 0;
        }
        return known;
}

static void check_secret(struct check *check, const json_t *endpoint)
{
        const json_t *metadata = json_object_get(endpoint, "metadata");
        const char *fingerprint = json_text(metadata, STRIPE_FINGERPRINT), *mark = json_text(metadata, STRIPE_MARK),
                   *secrets = cli_setting("STRIPE_WEBHOOK_SECRET");

        if (fingerprint == NULL && mark != NULL && strcmp(mark, STRIPE_MARK_MADE) == 0)
                doctor_bad(&check->doctor, "secret", "run: tenantry stripe setup --secret-file FILE",
                           "the endpoint's secret was never written to a file");
        else if (fingerprint == NULL)
                doctor_skip(&check->doctor, "secret", "the endpoint was made by hand: its secret cannot be compared");
        else if (secrets == NULL)
                doctor_skip(&check->doctor, "secret",
                            "STRIPE_WEBHOOK_SECRET is not set here: the gateway's is to be "
                            "compared");
        else if (!check_knows_secret(secrets, fingerprint))
                doctor_bad(&check->doctor, "secret",
                           "take that of the file that the set-up wrote; if it is lost: tenantry stripe setup --roll "
                           "--secret-file FILE",
                           "STRIPE_WEBHOOK_SECRET is not the endpoint's");
        else
                doctor_good(&check->doctor, "secret", "STRIPE_WEBHOOK_SECRET is the endpoint's");
}

static void check_judge_endpoint(struct check *check, const json_t *endpoint, size_t count)
{
        auto_json *wanted = json_pack("{s:s, s:o}", "status", "enabled", "enabled_events", stripe_wanted_events());
        auto_free char *difference = stripe_difference(wanted, endpoint);
        const char *id = json_text(endpoint, "id") ?: "?", *version = json_text(endpoint, "api_version");
        bool other = version == NULL || strcmp(version, STRIPE_VERSION) != 0;

        if (other)
                doctor_bad(&check->doctor, "endpoint", "run: tenantry stripe setup --roll --secret-file FILE",
                           "%s: api_version is %s, not " STRIPE_VERSION, id, version ?: "the account's");
        if (difference != NULL)
                doctor_bad(&check->doctor, "endpoint", SET_UP, "%s: %s", id, difference);
        if (json_flag(endpoint, "livemode") != check->session->live)
                doctor_bad(&check->doctor, "endpoint", "use a key of the same mode",
                           "%s is of the other mode than the "
                           "key",
                           id);
        if (!other && difference == NULL)
                doctor_good(&check->doctor, "endpoint", "%s delivers to %s", id, check->session->url);
        if (count > 1)
                doctor_bad(&check->doctor, "endpoint", "delete those that you do not need, in Stripe's dashboard",
                           "%zu endpoints deliver to %s; %s is used", count, check->session->url, id);
        check_secret(check, endpoint);
}

static void check_endpoint(struct check *check)
{
        auto_json *all = NULL, *at = NULL;
        struct err err;

        if (check->session->url == NULL) {
                doctor_skip(&check->doctor, "endpoint", "neither --endpoint nor PUBLIC_URL says where it should be");
                return;
        }
        if (stripe_list(check->session, STRIPE_ENDPOINTS, NULL, &all, &err) < 0) {
                check_give_up(check, &err, "the webhook endpoints");
                return;
        }
        at = stripe_endpoints_at(all, check->session->url);
        if (json_array_size(at) == 0)
                doctor_bad(&check->doctor, "endpoint", "run: tenantry stripe setup --secret-file FILE",
                           "none delivers to %s", check->session->url);
        else
                check_judge_endpoint(check, stripe_endpoint_in_use(at), json_array_size(at));
}

static void check_mode(struct check *check)
{
        const struct config_option option = { .name = "STRIPE_LIVEMODE", .type = CONFIG_BOOL };
        const char *text = cli_setting("STRIPE_LIVEMODE"), *mode = check->session->live ? "live" : "test";
        bool live = false;
        struct err err;

        if (text != NULL && config_parse(&option, text, &live, &err) < 0)
                doctor_bad(&check->doctor, "mode", "set it to 0 or 1", "%s", err.message);
        else if (text != NULL && live != check->session->live)
                doctor_bad(&check->doctor, "mode", "set STRIPE_LIVEMODE=1 for live mode, and 0 for test mode",
                           "the key is one of %s mode, and STRIPE_LIVEMODE=%s", mode, text);
        else
                doctor_good(&check->doctor, "mode", "the key is one of %s mode", mode);
}

/* What Stripe did so far, where it can be seen: subscriptions that it left unpaid, or cancelled for want of payment. */
static const char *check_what_was_done(struct check *check, struct err *err, int *ret_rc)
{
        auto_json *unpaid = NULL, *ended = NULL;
        const json_t *each;
        size_t i;

        *ret_rc = stripe_get(check->session, "/v1/subscriptions",
                             json_pack("{s:s, s:i}", "status", "unpaid", "limit", 1), &unpaid, err);
        if (*ret_rc == 0)
                *ret_rc = stripe_get(check->session, "/v1/subscriptions",
                                     json_pack("{s:s, s:i}", "status", "canceled", "limit", 100), &ended, err);
        if (json_array_size(json_object_get(unpaid, "data")) > 0)
                return "at least one subscription was left unpaid";
        json_array_foreach (json_object_get(ended, "data"), i, each)
                if (strcmp(json_text(json_object_get(each, "cancellation_details"), "reason") ?: "",
                           "payment_failed") == 0)
                        return "at least one subscription was cancelled for it";
        return "there was no such case among the newest";
}

/* The setting is not in the API, so this is never bad, and never good. */
static void check_retries(struct check *check)
{
        struct err err;
        int rc;
        const char *seen = check_what_was_done(check, &err, &rc);

        if (rc < 0 && rc != -ERR_AUTH) {
                check_give_up(check, &err, "the subscriptions");
                return;
        }
        doctor_skip(
                &check->doctor, "retries",
                "what Stripe does after the last failed retry of a payment is not in its API; %s. In the dashboard "
                "(Billing, Revenue recovery, Retries) choose \"cancel the subscription\": left past due or unpaid, it "
                "never ends, and neither do its invoices",
                rc < 0 ? "the key may not look at subscriptions" : seen);
}

int stripe_check(struct stripe_session *session)
{
        struct check check = { .session = session, .doctor = { .checks = json_array() }, .prices = json_object() };
        static void (*const parts[])(struct check *) = { check_mode,   check_plans,    check_forgotten,
                                                         check_portal, check_endpoint, check_retries };
        auto_free char *summary = NULL;
        auto_json *whole = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(parts) && check.status == EXIT_GOOD; i++)
                parts[i](&check);
        whole = json_pack("{s:b, s:i, s:o}", "good", check.doctor.bad == 0 && check.status == EXIT_GOOD, "bad_count",
                          check.doctor.bad, "checks", check.doctor.checks);
        json_decref(check.prices);
        summary = mem_printf("%d to mend", check.doctor.bad);
        if (check.status == EXIT_GOOD && check.doctor.bad > 0)
                cli_blame(EXIT_FAILED, summary);
        if (cli_json)
                cli_print_answer(whole);
        else if (check.doctor.bad > 0)
                printf("\n%s\n", summary);
        return check.status == EXIT_GOOD && check.doctor.bad > 0 ? EXIT_FAILED : check.status;
}
