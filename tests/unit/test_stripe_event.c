/* One form for all shapes of Stripe's events. */
#include "check.h"

#include "common/base/crypto.h"
#include "common/base/macros.h"
#include "common/contracts/billing.h"
#include "common/contracts/stripe_envelope.h"
#include "common/contracts/stripe_event.h"

#define TENANT "8a1f0c5e-3b7d-4f0a-9a52-6d2e6f1c0001"
#define EVENT(type, object)                                                                                            \
        "{\"id\": \"evt_1\", \"object\": \"event\", \"type\": \"" type                                                 \
        "\", \"created\": 1760000000, \"livemode\": false, \"pending_webhooks\": 1, \"data\": {\"object\": " object    \
        "}}"

static json_t *parsed(const char *text)
{
        json_t *value;
        struct err err;

        if (json_parse(text, strlen(text), &value, &err) < 0)
                fail_msg("%s: %s", err.message, text);
        return value;
}

static json_t *event_of(const char *text)
{
        auto_json *event = parsed(text);
        struct err err;
        json_t *read;

        if (stripe_event_read(event, &read, &err) < 0)
                fail_msg("%s: %s", err.message, text);
        return read;
}

static json_t *object_of(const char *text)
{
        auto_json *object = parsed(text);
        struct err err;
        json_t *read;

        assert_int_equal(stripe_object_read(object, &read, &err), 0);
        return read;
}

static const json_t *fact(const json_t *object, const char *name)
{
        return json_object_get(json_object_get(object, "facts"), name);
}

static void test_a_subscription_has_one_form_in_both_shapes(void **state)
{
        auto_json *old =
                object_of("{\"id\": \"sub_1\", \"object\": \"subscription\", \"customer\": {\"id\": \"cus_1\"},"
                          "\"status\": \"active\", \"current_period_start\": 10, \"current_period_end\": 20,"
                          "\"cancel_at_period_end\": true, \"metadata\": {\"tenant_id\": \"" TENANT "\"},"
                          "\"items\": {\"data\": [{\"id\": \"si_1\", \"plan\": {\"id\": \"price_1\", \"amount\": 5,"
                          "\"currency\": \"usd\", \"interval\": \"month\", \"product\": \"prod_1\"}}]}}");
        auto_json *new = object_of("{\"id\": \"sub_1\", \"object\": \"subscription\", \"customer\": \"cus_1\","
                                   "\"status\": \"active\", \"cancel_at\": 20, \"metadata\": {\"tenant_id\": \"" TENANT
                                   "\"}, \"items\": {\"data\": [{\"id\": \"si_1\", \"current_period_start\": 10,"
                                   "\"current_period_end\": 20, \"price\": {\"id\": \"price_1\", \"unit_amount\": 5,"
                                   "\"currency\": \"usd\", \"recurring\": {\"interval\": \"month\"},"
                                   "\"product\": \"prod_1\"}}]}}");

        (void)state;
        assert_true(json_equal(json_object_get(old, "facts"), json_object_get(new, "facts")));
        assert_string_equal(json_text(old, "customer"), "cus_1");
        assert_string_equal(json_text(new, "tenant_id"), TENANT);
        assert_int_equal(json_integer_value(fact(new, "cancel_at")), 20);
}

static void test_an_invoice_names_its_subscription_and_tenant_in_each_shape(void **state)
{
        static const char *const shapes[] = {
                "{\"id\": \"in_1\", \"object\": \"invoice\", \"status\": \"open\", \"subscription\": \"sub_1\","
                "\"subscription_details\": {\"metadata\": {\"tenant_id\": \"" TENANT "\"}}}",
                "{\"id\": \"in_1\", \"object\": \"invoice\", \"status\": \"open\", \"subscription\": null, \"parent\": "
                "{\"subscription_details\": {\"subscription\": \"sub_1\", \"metadata\": {\"tenant_id\": \"" TENANT
                "\"}}}}",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
                auto_json *invoice = object_of(shapes[i]);

                assert_string_equal(json_string_value(fact(invoice, "subscription")), "sub_1");
                assert_string_equal(json_text(invoice, "tenant_id"), TENANT);
        }
}

static void test_an_invoices_steps_have_an_order(void **state)
{
        static const char *const order[] = { "draft", "open", "uncollectible", "paid" };

        (void)state;
        for (int i = 0; i < (int)ARRAY_SIZE(order); i++) {
                auto_free char *text =
                        mem_printf("{\"id\": \"in_1\", \"object\": \"invoice\", \"status\": \"%s\"}", order[i]);
                auto_json *invoice = object_of(text);

                assert_int_equal(json_number(invoice, "rank", -1), i);
        }
}

static void test_links_and_secrets_are_not_kept_and_everything_else_is(void **state)
{
        auto_json *read = object_of("{\"id\": \"cs_1\", \"object\": \"checkout.session\", \"url\": \"https://pay/x\","
                                    "\"client_secret\": \"cs_secret\", \"new\": {\"field\": [1, \"http://x\", null]}}");
        const json_t *body = json_object_get(read, "body");
        auto_free char *text = json_print(body);

        (void)state;
        assert_null(strstr(text, "http"));
        assert_null(strstr(text, "cs_secret"));
        assert_string_equal(text,
                            "{\"id\":\"cs_1\",\"object\":\"checkout.session\",\"url\":null,\"client_secret\":null,"
                            "\"new\":{\"field\":[1,null,null]}}");
}

/* As Stripe's reference shows them, with a secret word wherever a person's data may stand. */
static void test_of_who_somebody_is_and_how_he_pays_nothing_is_kept(void **state)
{
        static const char *const objects[] = {
                "{\"id\": \"cus_1\", \"object\": \"customer\", \"created\": 5, \"name\": \"ADA\", \"email\": \"ADA\","
                "\"phone\": \"ADA\", \"description\": \"ADA\", \"address\": {\"line1\": \"ADA\"}, \"individual_name\":"
                "\"ADA\", \"shipping\": {\"name\": \"ADA\"}, \"sources\": {\"data\": [{\"last4\": \"ADA\"}]},"
                "\"tax\": {\"ip_address\": \"ADA\"}, \"tax_ids\": [\"ADA\"], \"metadata\": {\"email\": \"ADA\"}}",
                "{\"id\": \"pm_1\", \"object\": \"payment_method\", \"created\": 5, \"type\": \"newly_invented\","
                "\"newly_invented\": {\"payer\": \"ADA\"}, \"billing_details\": {\"email\": \"ADA\"}}",
                "{\"id\": \"in_1\", \"object\": \"invoice\", \"created\": 5, \"customer_name\": \"ADA\","
                "\"customer_email\": \"ADA\", \"customer_address\": {\"city\": \"ADA\"}, \"customer_phone\": \"ADA\","
                "\"customer_shipping\": {\"name\": \"ADA\"}, \"customer_tax_ids\": [{\"value\": \"ADA\"}],"
                "\"custom_fields\": [{\"value\": \"ADA\"}], \"lines\": {\"data\": [{\"description\": \"ADA\"}]}}",
                "{\"id\": \"cs_1\", \"object\": \"checkout.session\", \"created\": 5, \"customer_email\": \"ADA\","
                "\"customer_details\": {\"name\": \"ADA\"}, \"collected_information\": {\"shipping_details\": "
                "\"ADA\"}}",
                "{\"id\": \"ch_1\", \"object\": \"charge\", \"created\": 5, \"receipt_email\": \"ADA\","
                "\"billing_details\": {\"phone\": \"ADA\"}, \"payment_method_details\": {\"card\": {\"last4\": "
                "\"ADA\"}},"
                "\"source\": {\"owner\": {\"email\": \"ADA\"}}}",
                "{\"id\": \"dp_1\", \"object\": \"dispute\", \"created\": 5, \"evidence\": {\"customer_name\": "
                "\"ADA\"}}",
                "{\"id\": \"pi_1\", \"object\": \"payment_intent\", \"created\": 5, \"last_payment_error\": {"
                "\"payment_method\": {\"id\": \"pm_1\", \"object\": \"payment_method\", \"link\": {\"to\": \"ADA\"}}}}",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
                auto_json *read = object_of(objects[i]);
                auto_free char *text = json_print(read);

                if (strstr(text, "ADA") != NULL)
                        fail_msg("%s", text);
                assert_int_equal(json_number(json_object_get(read, "body"), "created", 0), 5);
        }
}

static void test_another_address_is_another_state_though_neither_is_kept(void **state)
{
        auto_json *here = object_of("{\"id\": \"cus_1\", \"object\": \"customer\", \"email\": \"a@example.com\"}");
        auto_json *there = object_of("{\"id\": \"cus_1\", \"object\": \"customer\", \"email\": \"b@example.com\"}");

        (void)state;
        assert_true(json_equal(json_object_get(here, "body"), json_object_get(there, "body")));
        assert_string_not_equal(json_text(here, "digest"), json_text(there, "digest"));
        /* As the release before has stored it: what is stored is not news when the programs are new. */
        assert_string_equal(json_text(here, "digest"),
                            "f8b1ec7174d02c2ef894704bd912ba4a32c00df0554dc27cc8161543c964c2e4");
}

static void test_a_subscriptions_own_card_is_a_fact(void **state)
{
        auto_json *named =
                object_of("{\"id\": \"sub_1\", \"object\": \"subscription\", \"default_payment_method\": \"pm_1\"}");
        auto_json *shown = object_of("{\"id\": \"sub_1\", \"object\": \"subscription\", \"default_payment_method\":"
                                     "{\"id\": \"pm_1\", \"object\": \"payment_method\"}}");
        auto_json *none = object_of("{\"id\": \"sub_1\", \"object\": \"subscription\"}");

        (void)state;
        assert_string_equal(json_string_value(fact(named, "default_payment_method")), "pm_1");
        assert_string_equal(json_string_value(fact(shown, "default_payment_method")), "pm_1");
        assert_true(json_is_null(fact(none, "default_payment_method")));
}

static void test_deliveries_of_one_event_have_one_digest(void **state)
{
        static const char first[] = EVENT("customer.updated", "{\"id\": \"cus_1\", \"object\": \"customer\"}");
        auto_free char *later = mem_copy_text(first), *other = mem_copy_text(first);
        auto_json *a = event_of(first), *b = NULL, *c = NULL;

        (void)state;
        strstr(later, "pending_webhooks\": 1")[19] = '0';
        strstr(other, "cus_1")[4] = '2';
        b = event_of(later);
        c = event_of(other);
        assert_string_equal(json_text(a, "digest"), json_text(b, "digest"));
        assert_string_not_equal(json_text(a, "digest"), json_text(c, "digest"));
}

static void test_an_event_of_deletion_and_what_stripe_calls_deleted_are_the_end(void **state)
{
        auto_json *told =
                event_of(EVENT("customer.subscription.deleted",
                               "{\"id\": \"sub_1\", \"object\": \"subscription\", \"status\": \"canceled\"}"));
        auto_json *asked = object_of("{\"id\": \"cus_1\", \"object\": \"customer\", \"deleted\": true}");

        (void)state;
        assert_true(json_flag(json_object_get(told, "object"), "is_deleted"));
        assert_true(json_flag(json_object_get(told, "object"), "is_terminal"));
        assert_true(json_flag(asked, "is_deleted"));
}

static void test_an_event_about_nothing_that_exists_has_no_object(void **state)
{
        auto_json *read = event_of(EVENT("invoice.upcoming", "{\"object\": \"invoice\", \"amount_due\": 5}"));

        (void)state;
        assert_true(json_is_null(json_object_get(read, "object")));
}

static void test_a_thin_event_says_what_to_ask_for_where_that_is_a_path_of_stripes(void **state)
{
        static const struct {
                const char *path;
                bool good;
        } paths[] = { { "/v1/customers/cus_1", true },
                      { "/v2/core/accounts/a", true },
                      { "/v1/../x", false },
                      { "https://elsewhere/v1/x", false },
                      { "/v1/a b", false } };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
                auto_free char *text =
                        mem_printf("{\"id\": \"evt_1\", \"object\": \"v2.core.event\", \"type\": \"v1.x\","
                                   "\"livemode\": false, \"created\": \"2026-11-30T12:00:00Z\","
                                   "\"related_object\": {\"id\": \"cus_1\", \"type\": \"customer\","
                                   "\"url\": \"%s\"}}",
                                   paths[i].path);
                auto_json *read = event_of(text);
                const json_t *object = json_object_get(read, "object");

                assert_true(json_flag(read, "is_thin"));
                if (paths[i].good)
                        assert_string_equal(json_text(object, "path"), paths[i].path);
                else
                        assert_true(json_is_null(object));
        }
}

static void test_what_is_no_event_is_refused_with_the_reason(void **state)
{
        static const char *const wrong[] = {
                "{}",
                "[]",
                EVENT("x", "[]"),
                EVENT("x", "{\"id\": \"a\"}"),
                EVENT("x", "{\"id\": \"a\\u0007\", \"object\": \"customer\"}"),
                "{\"id\": \"evt\", \"type\": \"x\", \"livemode\": false, \"created\": \"now\"}",
                "{\"id\": \"evt\", \"type\": \"x\", \"created\": 1, \"data\": {\"object\": {}}}",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                auto_json *event = parsed(wrong[i]);
                struct err err;
                json_t *read;

                assert_int_equal(stripe_event_read(event, &read, &err), -ERR_INPUT);
                assert_true(err.message[0] != '\0');
        }
}

static void test_the_contract_turns_bytes_into_the_event(void **state)
{
        static const char body[] = EVENT("customer.updated", "{\"id\": \"cus_1\", \"object\": \"customer\"}");
        const struct contract *contract = contract_find(BILLING_CONTRACTS, STRIPE_EVENT);
        auto_free char *text = crypto_base64(body, strlen(body)), *broken = crypto_base64(body, strlen(body) - 1);
        auto_json *data = json_pack("{s:s}", "body_base64", text), *bad = json_pack("{s:s}", "body_base64", broken);
        auto_json *read = NULL;
        struct err err;

        (void)state;
        assert_int_equal(contract_check(contract, "test/-/cus_1", data, &read, &err), 0);
        assert_string_equal(json_text(read, "id"), "evt_1");
        assert_string_equal(json_text(json_object_get(read, "object"), "kind"), "customer");
        assert_null(json_object_get(read, "body_base64"));
        assert_non_null(json_text(read, contract->digest));
        json_decref(TAKE_PTR(read));
        assert_int_equal(contract_check(contract, "test/-/cus_1", bad, &read, &err), -ERR_INPUT);
}

static void test_the_envelope_says_whose_an_event_is(void **state)
{
        static const struct {
                const char *text, *account, *customer;
        } cases[] = {
                { EVENT("customer.updated", "{\"object\": \"customer\", \"id\": \"cus_1\"}"), "-", "cus_1" },
                { EVENT("customer.updated", "{\"object\": \"customer\", \"id\": \"cus_1\", \"customer\": \"cus_2\"}"),
                  "-", "cus_1" },
                { EVENT("invoice.paid", "{\"object\": \"invoice\", \"id\": \"in_1\", \"customer\": \"cus_1\"}"), "-",
                  "cus_1" },
                { EVENT("invoice.paid", "{\"id\": \"in_1\", \"customer\": {\"name\": \"x\", \"id\": \"cus_1\"}}"), "-",
                  "cus_1" },
                { EVENT("price.created", "{\"object\": \"price\", \"id\": \"price_1\"}"), "-", "price_1" },
                { EVENT("price.created", "{\"object\": \"price\", \"id\": \"with blanks\"}"), "-", "-" },
                { EVENT("price.created", "[]"), "-", "-" },
                { "{\"id\": \"evt_1\", \"livemode\": false, \"account\": \"acct_1\", \"related_object\": {\"id\": "
                  "\"sub_1\"}}",
                  "acct_1", "sub_1" },
                { "{\"id\": \"evt_1\", \"livemode\": false, \"account\": {\"id\": \"acct_1\"}, \"n\": 1e1}", "acct_1",
                  "-" },
        };
        struct stripe_envelope envelope;
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(stripe_envelope_read(cases[i].text, strlen(cases[i].text), &envelope, &err), 0);
                assert_string_equal(envelope.id, "evt_1");
                assert_false(envelope.livemode);
                assert_string_equal(envelope.account, cases[i].account);
                assert_string_equal(envelope.customer, cases[i].customer);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_subscription_has_one_form_in_both_shapes),
                SENTENCE(test_an_invoice_names_its_subscription_and_tenant_in_each_shape),
                SENTENCE(test_an_invoices_steps_have_an_order),
                SENTENCE(test_links_and_secrets_are_not_kept_and_everything_else_is),
                SENTENCE(test_of_who_somebody_is_and_how_he_pays_nothing_is_kept),
                SENTENCE(test_another_address_is_another_state_though_neither_is_kept),
                SENTENCE(test_a_subscriptions_own_card_is_a_fact),
                SENTENCE(test_deliveries_of_one_event_have_one_digest),
                SENTENCE(test_an_event_of_deletion_and_what_stripe_calls_deleted_are_the_end),
                SENTENCE(test_an_event_about_nothing_that_exists_has_no_object),
                SENTENCE(test_a_thin_event_says_what_to_ask_for_where_that_is_a_path_of_stripes),
                SENTENCE(test_what_is_no_event_is_refused_with_the_reason),
                SENTENCE(test_the_contract_turns_bytes_into_the_event),
                SENTENCE(test_the_envelope_says_whose_an_event_is),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
