/* The promises about event data: every contract, field by field, and what is made of the data. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/contracts/billing.h"
#include "common/contracts/mail_address.h"
#include "common/contracts/operation_id.h"
#include "common/contracts/product_url.h"
#include "common/contracts/signed_link.h"
#include "common/contracts/tenant.h"

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER  "01890a5d-ac96-774b-bcce-b302099a8058"
#define KEY_1  "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2  "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="

/* What describes the field's text: of a list, its elements. */
static const struct contract_field *text_of(const struct contract_field *field)
{
        return field->kind == CONTRACT_LIST ? field->fields : field;
}

/* Sets the field, takes the value: of a list, as its only element. */
static void set_value(json_t *data, const struct contract_field *field, json_t *value)
{
        json_object_set_new(data, field->name, field->kind == CONTRACT_LIST ? json_pack("[o]", value) : value);
}

static const char *good_value(const struct contract_field *field)
{
        static char choice[40];

        switch (text_of(field)->kind) {
        case CONTRACT_TEXT:
                return "Corner Pharmacy";
        case CONTRACT_UUID:
                return TENANT;
        case CONTRACT_EMAIL:
                return "owner@corner.example";
        case CONTRACT_LABEL:
                return "corner-1";
        case CONTRACT_NAME:
                return field->name; /* two lists of a command have no element in common */
        case CONTRACT_CHOICE:
                snprintf(choice, sizeof(choice), "%.*s", (int)strcspn(field->choices, "|"), field->choices);
                return choice;
        default:
                break;
        }
        fail_msg("%s has a kind this test does not know", field->name);
        return NULL;
}

static json_t *good_data(const struct contract *contract)
{
        json_t *data = json_object();

        for (size_t i = 0; i < contract->count; i++)
                set_value(data, &contract->fields[i], json_string(good_value(&contract->fields[i])));
        return data;
}

static void assert_accepted(const struct contract *contract, const json_t *data)
{
        auto_json *checked = NULL;
        struct err err = { 0 };

        if (contract_check(contract, TENANT, data, &checked, &err) < 0)
                fail_msg("%s: %s", contract->type, err.message);
        assert_string_equal(json_text(checked, "tenant_id"), TENANT);
}

static void assert_refused(const struct contract *contract, const json_t *data, const char *field)
{
        json_t *checked = NULL;
        struct err err = { 0 };

        if (contract_check(contract, TENANT, data, &checked, &err) == 0)
                fail_msg("%s took a bad %s", contract->type, field);
        assert_null(checked);
        assert_int_equal(err.class, ERR_INPUT);
        assert_string_equal(err.field, field);
        assert_true(strlen(err.message) > 0);
}

/* Calls check for each field of each contract. */
static void for_each_field(void (*check)(const struct contract *contract, const struct contract_field *field))
{
        for (const struct contract *c = TENANT_CONTRACTS; c->type != NULL; c++)
                for (size_t i = 0; i < c->count; i++)
                        check(c, &c->fields[i]);
}

static void test_every_contract_takes_good_data_and_is_found_by_its_type(void **state)
{
        (void)state;
        for (const struct contract *c = TENANT_CONTRACTS; c->type != NULL; c++) {
                auto_json *data = good_data(c);

                assert_accepted(c, data);
                assert_ptr_equal(contract_find(TENANT_CONTRACTS, c->type), c);
                assert_true(strcmp(c->type + strlen(c->type) - 3, ".v1") == 0);
        }
        assert_null(contract_find(TENANT_CONTRACTS, "tenant.signup.requested.v2"));
        assert_null(contract_find(TENANT_CONTRACTS, ""));
}

static void test_only_a_topic_with_one_type_takes_bare_json(void **state)
{
        (void)state;
        assert_string_equal(contract_only_type(TENANT_CONTRACTS, "tenant.signup.v1"), "tenant.signup.requested.v1");
        assert_null(contract_only_type(TENANT_CONTRACTS, "tenant.command.v1"));
        assert_null(contract_only_type(TENANT_CONTRACTS, "tenant.unknown.v1"));
}

static void check_missing(const struct contract *contract, const struct contract_field *field)
{
        auto_json *data = good_data(contract);

        json_object_del(data, field->name);
        if (field->required && strcmp(field->name, "tenant_id") != 0)
                assert_refused(contract, data, field->name);
        else
                assert_accepted(contract, data); /* the tenant's id is then the message's key */
}

static void test_a_missing_field_is_refused_where_it_is_required(void **state)
{
        (void)state;
        for_each_field(check_missing);
}

static void check_wrong_types(const struct contract *contract, const struct contract_field *field)
{
        json_t *const values[] = { json_null(),  json_true(),   json_integer(1),       json_real(0.5),
                                   json_array(), json_object(), json_pack("[s]", "x"), json_string("") };

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                auto_json *data = good_data(contract);

                set_value(data, field, values[i]);
                assert_refused(contract, data, field->name);
        }
}

static void test_a_field_of_a_wrong_type_is_refused(void **state)
{
        (void)state;
        for_each_field(check_wrong_types);
}

static void check_length(const struct contract *contract, const struct contract_field *field)
{
        for (size_t more = 0; more < 2; more++) {
                auto_json *data = good_data(contract);
                auto_buf value = { 0 };

                if (field->kind == CONTRACT_EMAIL) {
                        for (int label = 0; label < 4; label++)
                                for (int i = 0; i < (label == 0 ? 54 : 49); i++)
                                        buf_add_text(&value, i == 0 && label == 1  ? "@"
                                                             : i == 0 && label > 1 ? "."
                                                                                   : "a");
                        while (value.length < field->max + more)
                                buf_add_text(&value, value.length == 201 ? "." : "b");
                } else {
                        while (value.length < text_of(field)->max + more)
                                buf_add_text(&value, "a");
                }
                set_value(data, field, json_string(value.length ? value.data : ""));
                if (more == 0 && field->kind != CONTRACT_UUID && field->kind != CONTRACT_CHOICE)
                        assert_accepted(contract, data);
                else
                        assert_refused(contract, data, field->name);
        }
}

static void test_a_field_as_long_as_allowed_is_taken_and_one_longer_refused(void **state)
{
        (void)state;
        for_each_field(check_length);
}

static void check_control_characters(const struct contract *contract, const struct contract_field *field)
{
        static const struct {
                const char *bytes;
                size_t length;
        } bad[] = { { "\x01", 1 }, { "\n", 1 },       { "\r", 1 },       { "\t", 1 },
                    { "\x1f", 1 }, { "\x7f", 1 },     { "\xc2\x80", 2 }, { "\xc2\x9f", 2 },
                    { "\x1b", 1 }, { "\xc2\x85", 2 }, { "\0", 1 } };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                for (int front = 0; front < 2; front++) {
                        auto_json *data = good_data(contract);
                        auto_buf value = { 0 };

                        if (front)
                                buf_add(&value, bad[i].bytes, bad[i].length);
                        buf_add_text(&value, good_value(field));
                        if (!front)
                                buf_add(&value, bad[i].bytes, bad[i].length);
                        set_value(data, field, json_stringn(value.data, value.length));
                        assert_refused(contract, data, field->name);
                }
}

static void test_control_characters_are_refused_in_every_field(void **state)
{
        (void)state;
        for_each_field(check_control_characters);
}

static void test_an_unknown_field_is_refused_by_its_name(void **state)
{
        static const char *const names[] = { "extra", "Tenant_id", "company ", "slug", "password", "", "na\xc3\xafve" };

        (void)state;
        for (const struct contract *c = TENANT_CONTRACTS; c->type != NULL; c++)
                for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                        auto_json *data = good_data(c);

                        json_set_text(data, names[i], "x");
                        assert_refused(c, data, names[i]);
                }
}

static void test_an_unknown_field_with_a_very_long_name_can_still_be_told_in_json(void **state)
{
        auto_json *data = good_data(&TENANT_CONTRACTS[0]);
        json_t *checked = NULL;
        auto_buf name = { 0 };
        struct err err;

        (void)state;
        for (int i = 0; i < 5000; i++)
                buf_add_text(&name, i == 0 ? "a" : "\xe2\x82\xac");
        json_set_text(data, name.data, "x");
        assert_int_equal(contract_check(&TENANT_CONTRACTS[0], TENANT, data, &checked, &err), -ERR_INPUT);
        {
                auto_json *problem = json_pack("{s:s, s:s}", "field", err.field, "detail", err.message);

                assert_non_null(problem);
        }
}

static void test_data_that_is_no_object_is_refused(void **state)
{
        json_t *const values[] = { json_null(), json_array(), json_string("x"), json_integer(1), NULL };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                auto_json *value = values[i];

                assert_refused(&TENANT_CONTRACTS[0], value, "");
        }
}

static void test_the_key_must_be_the_tenants_id(void **state)
{
        static const char *const bad_keys[] = { NULL, "", "tenant", "01890A5D-AC96-774B-BCCE-B302099A8057" };

        (void)state;
        for (const struct contract *c = TENANT_CONTRACTS; c->type != NULL; c++) {
                auto_json *data = good_data(c);
                json_t *checked = NULL;
                struct err err;

                for (size_t i = 0; i < ARRAY_SIZE(bad_keys); i++) {
                        assert_int_equal(contract_check(c, bad_keys[i], data, &checked, &err), -ERR_INPUT);
                        assert_string_equal(err.field, "key");
                }
                assert_int_equal(contract_check(c, OTHER, data, &checked, &err), -ERR_INPUT);
                assert_string_equal(err.field, "tenant_id");
                assert_null(checked);
        }
}

static void test_checking_leaves_the_data_as_it_came(void **state)
{
        auto_json *data = json_pack("{s:s, s:s}", "company", "Corner", "email", "Owner@Corner.Example");
        auto_json *before = json_deep_copy(data), *checked = NULL;

        (void)state;
        assert_int_equal(contract_check(&TENANT_CONTRACTS[0], TENANT, data, &checked, NULL), 0);
        assert_true(json_equal(data, before));
        assert_string_equal(json_text(checked, "email"), "owner@corner.example");
        assert_string_equal(json_text(checked, "slug"), "corner");
}

/* A contract as other services have them: keyed by something else than a tenant, with values of every kind. */
static const char *const RUN_KEY[] = { "run_id", NULL }, *const ACCOUNT_KEY[] = { "mode", "account", NULL };
static const struct contract_field WAVE[] = {
        { .name = "percent", .kind = CONTRACT_INTEGER, .required = true, .least = 1, .most = 100 },
        { .name = "label", .kind = CONTRACT_NAME, .max = 40 },
};
static const struct contract_field LABEL = { .kind = CONTRACT_NAME, .max = 10 },
                                   A_WAVE = { .kind = CONTRACT_OBJECT, .fields = WAVE, .count = ARRAY_SIZE(WAVE) };
static const struct contract_field RUN[] = {
        { .name = "run_id", .kind = CONTRACT_UUID, .required = true },
        { .name = "rate", .kind = CONTRACT_NUMBER, .least = 0, .most = 1 },
        { .name = "dry_run", .kind = CONTRACT_BOOLEAN },
        { .name = "order", .kind = CONTRACT_CHOICE, .choices = "first|last|by_name" },
        { .name = "labels", .kind = CONTRACT_LIST, .max = 2, .fields = &LABEL },
        { .name = "waves", .kind = CONTRACT_LIST, .max = 3, .fields = &A_WAVE },
};
static const struct contract_field EVENT[] = {
        { .name = "mode", .kind = CONTRACT_NAME, .max = 10, .required = true },
        { .name = "account", .kind = CONTRACT_NAME, .max = 20, .required = true },
};
static const struct contract RUN_CONTRACT = {
        .type = "run.v1", .topic = "runs", .key = RUN_KEY, .fields = RUN, .count = ARRAY_SIZE(RUN)
};
static const struct contract EVENT_CONTRACT = {
        .type = "event.v1", .topic = "events", .key = ACCOUNT_KEY, .fields = EVENT, .count = ARRAY_SIZE(EVENT)
};

/* NULL where it is taken, else the field that is named. */
static const char *wrong_field(const struct contract *contract, const char *key, const char *text)
{
        static struct err err;
        auto_json *data = NULL, *checked = NULL;

        assert_int_equal(json_parse(text, strlen(text), &data, NULL), 0);
        return contract_check(contract, key, data, &checked, &err) == 0 ? NULL : err.field;
}

static void test_numbers_truths_lists_and_objects_are_checked_to_the_bottom(void **state)
{
        static const struct {
                const char *data, *wrong;
        } cases[] = {
                { "{}", NULL },
                { "{\"rate\": 0.02, \"dry_run\": false, \"labels\": [], \"waves\": [{\"percent\": 1}]}", NULL },
                { "{\"rate\": 1, \"labels\": [\"a\", \"b\"]}", NULL },
                { "{\"rate\": 1.01}", "rate" },
                { "{\"rate\": -1}", "rate" },
                { "{\"rate\": \"0\"}", "rate" },
                { "{\"dry_run\": 0}", "dry_run" },
                { "{\"order\": \"first\"}", NULL },
                { "{\"order\": \"by_name\"}", NULL },
                { "{\"order\": \"by\"}", "order" },
                { "{\"order\": \"lastly\"}", "order" },
                { "{\"order\": \"first|last\"}", "order" },
                { "{\"order\": \"\"}", "order" },
                { "{\"order\": \"|\"}", "order" },
                { "{\"dry_run\": null}", "dry_run" },
                { "{\"labels\": \"a\"}", "labels" },
                { "{\"labels\": [\"a\", \"b\", \"c\"]}", "labels" },
                { "{\"labels\": [\"A\"]}", "labels" },
                { "{\"labels\": [[]]}", "labels" },
                { "{\"waves\": [1]}", "waves" },
                { "{\"waves\": [{}]}", "waves.percent" },
                { "{\"waves\": [{\"percent\": 1.5}]}", "waves.percent" },
                { "{\"waves\": [{\"percent\": 101}]}", "waves.percent" },
                { "{\"waves\": [{\"percent\": 1, \"colour\": 1}]}", "waves.colour" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const char *wrong = wrong_field(&RUN_CONTRACT, TENANT, cases[i].data);

                if (wrong == NULL || cases[i].wrong == NULL)
                        assert_true(wrong == cases[i].wrong);
                else
                        assert_string_equal(wrong, cases[i].wrong);
        }
}

static void test_a_command_about_labels_names_some_and_each_in_one_list(void **state)
{
        const struct contract *label = contract_find(TENANT_CONTRACTS, "tenant.label.requested.v1");

        (void)state;
        assert_null(wrong_field(label, TENANT, "{\"add\": [\"canary\"]}"));
        assert_null(wrong_field(label, TENANT, "{\"add\": [], \"remove\": [\"eu\", \"eu\"]}"));
        assert_string_equal(wrong_field(label, TENANT, "{}"), "add");
        assert_string_equal(wrong_field(label, TENANT, "{\"add\": [], \"remove\": []}"), "add");
        assert_string_equal(wrong_field(label, TENANT, "{\"remove\": [\"eu\"], \"add\": [\"a\", \"eu\"]}"), "remove");
        assert_string_equal(wrong_field(label, TENANT, "{\"remove\": [\"Eu\"], \"add\": [\"Eu\"]}"), "add");
}

static void test_a_time_is_one_in_utc_of_a_day_that_exists(void **state)
{
        static const char *const good[] = { "2026-01-31T12:00:00Z", "2024-02-29T23:59:59.999Z",
                                            "2000-02-29T00:00:00Z" };
        static const char *const bad[] = { "2026-02-29T12:00:00Z", "1900-02-29T12:00:00Z", "2026-04-31T12:00:00Z",
                                           "2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z", "2026-01-00T12:00:00Z",
                                           "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:60Z",
                                           "0000-01-31T12:00:00Z", "2026-01-31T12:00:00",  "2026-01-31" };
        const struct contract *usage = contract_find(BILLING_CONTRACTS, "billing.usage.reported.v1");

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                auto_json *data = json_pack("{s:s, s:s, s:i}", "tenant_id", TENANT, "at", good[i], "users", 1);

                assert_accepted(usage, data);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                auto_json *data = json_pack("{s:s, s:s, s:i}", "tenant_id", TENANT, "at", bad[i], "users", 1);

                assert_refused(usage, data, "at");
        }
}

static void test_lists_of_labels_have_a_limit(void **state)
{
        static const char *const names[] = { "labels", "add", "remove" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const struct contract *contract = contract_find(TENANT_CONTRACTS, i == 0 ? "tenant.signup.requested.v1"
                                                                                         : "tenant.label.requested.v1");
                auto_json *data = good_data(contract);
                json_t *list = json_array();

                json_object_set_new(data, names[i], list);
                while (json_array_size(list) < 20)
                        json_array_append_new(list, json_sprintf("l%zu", json_array_size(list)));
                assert_accepted(contract, data);
                json_array_append_new(list, json_string("l20"));
                assert_refused(contract, data, names[i]);
                json_object_set_new(data, names[i], json_string("canary"));
                assert_refused(contract, data, names[i]);
        }
}

static void test_a_key_may_be_another_field_or_made_of_several(void **state)
{
        (void)state;
        assert_null(wrong_field(&RUN_CONTRACT, TENANT, "{\"run_id\": \"" TENANT "\"}"));
        assert_string_equal(wrong_field(&RUN_CONTRACT, OTHER, "{\"run_id\": \"" TENANT "\"}"), "run_id");
        assert_string_equal(wrong_field(&RUN_CONTRACT, "run", "{}"), "key");
        assert_null(wrong_field(&EVENT_CONTRACT, "live,acct_1", "{\"mode\": \"live\", \"account\": \"acct_1\"}"));
        assert_string_equal(
                wrong_field(&EVENT_CONTRACT, "test,acct_1", "{\"mode\": \"live\", \"account\": \"acct_1\"}"), "key");
        assert_string_equal(wrong_field(&EVENT_CONTRACT, NULL, "{\"mode\": \"live\", \"account\": \"acct_1\"}"), "key");
}

static const struct contract_field BYTES[] = {
        { .name = "body_base64", .kind = CONTRACT_BYTES, .required = true, .max = 4 },
};
static const struct contract BYTES_CONTRACT = {
        .type = "bytes.v1", .topic = "bytes", .is_raw = true, .fields = BYTES, .count = 1
};

static void test_bytes_come_as_bytes_up_to_their_limit_under_any_key(void **state)
{
        struct err err;

        (void)state;
        assert_null(wrong_field(&BYTES_CONTRACT, "live,acct_1,cus_2", "{\"body_base64\": \"AAECAw==\"}"));
        assert_null(wrong_field(&BYTES_CONTRACT, NULL, "{\"body_base64\": \"\"}"));
        assert_string_equal(wrong_field(&BYTES_CONTRACT, "k", "{\"body_base64\": \"AAECAwQ=\"}"), "body_base64");
        assert_string_equal(wrong_field(&BYTES_CONTRACT, "k", "{\"body_base64\": \"?\"}"), "body_base64");
        assert_string_equal(wrong_field(&BYTES_CONTRACT, "k", "{\"body_base64\": 1}"), "body_base64");
        assert_int_equal(contract_check_form(&BYTES_CONTRACT, true, &err), 0);
        assert_int_equal(contract_check_form(&BYTES_CONTRACT, false, &err), -ERR_INPUT);
        assert_int_equal(contract_check_form(&RUN_CONTRACT, true, &err), -ERR_INPUT);
        assert_string_equal(err.field, "content-type");
}

static void test_an_event_is_taken_from_its_own_topic_only(void **state)
{
        const struct contract *deprovision = contract_find(TENANT_CONTRACTS, "tenant.deprovision.requested.v1");
        struct err err = { 0 };

        (void)state;
        assert_int_equal(contract_check_topic(deprovision, "tenant.command.v1", &err), 0);
        assert_int_equal(contract_check_topic(deprovision, "tenant.signup.v1", &err), -ERR_INPUT);
        assert_string_equal(err.code, "wrong_topic");
        assert_string_equal(err.field, "type");
        assert_int_equal(contract_check_topic(deprovision, NULL, NULL), -ERR_INPUT);
}

static bool signup_takes(const char *field, const char *value)
{
        auto_json *data = good_data(&TENANT_CONTRACTS[0]), *checked = NULL;
        struct err err = { 0 };
        int rc;

        json_set_text(data, field, value);
        rc = contract_check(&TENANT_CONTRACTS[0], TENANT, data, &checked, &err);
        if (rc < 0)
                assert_string_equal(err.field, field);
        return rc == 0;
}

static void test_mail_addresses_are_plain_ones(void **state)
{
        static const char *const good[] = { "a@b.co",
                                            "first.last+tag@sub.example.com",
                                            "o'brien@example.ie",
                                            "user@1-2.example",
                                            "USER@EXAMPLE.COM",
                                            "x@xn--caf-dma.example",
                                            "!#$%&'*+/=?^_`{|}~-@example.com",
                                            "a@1.2.3.4",
                                            "a@caf\xc3\xa9.example",
                                            "a@caf\x65\xcc\x81.example" };
        static const char *const bad[] = {
                "",
                "a",
                "@",
                "a@",
                "@b.co",
                "a@b",
                "a@b.",
                "a@.co",
                "a@b..co",
                ".a@b.co",
                "a.@b.co",
                "a..b@c.co",
                "a@b@c.co",
                "a b@c.co",
                "a@b c.co",
                " a@b.co",
                "a@b.co ",
                "a@b_c.co",
                "a@b!.co",
                "a@-b.co",
                "a@b-.co",
                "a@b.co-",
                "a@b.-co",
                "a@[1.2.3.4]",
                "\"a\"@b.co",
                "Ann <a@b.co>",
                "a@b.co,c@d.co",
                "a@b.co;c@d.co",
                "a(x)@b.co",
                "caf\xc3\xa9@b.co",
                "caf\xc3\xa9@caf\xc3\xa9.example",
                "a@caf\xc3\xa9",
                "a@-caf\xc3\xa9.example",
                "a@caf\xc3\xa9-.example",
                "a@caf\xc3\xa9..example",
                "a@caf\xc3\xa9 .example",
                "a@caf\xc3\xa9_x.example",
                "a@caf\xc3\xa9@b.example",
                "a@\xf0\x9f\x98\x80\xe2\x80\xae.example",
                "a\\@b.co",
                "a:b@c.co",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                if (!signup_takes("email", good[i]))
                        fail_msg("\"%s\" is refused", good[i]);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (signup_takes("email", bad[i]))
                        fail_msg("\"%s\" is taken", bad[i]);
}

static void test_an_international_domain_is_kept_in_its_ascii_form(void **state)
{
        static const char *const cases[][2] = {
                { "Ada@b\xc3\xbc\x63her.Example", "ada@xn--bcher-kva.example" },
                { "ada@B\xc3\x9c\x43HER.example", "ada@xn--bcher-kva.example" },
                { "ada@bu\xcc\x88\x63her.example", "ada@xn--bcher-kva.example" },
                { "ada@stra\xc3\x9f\x65.example", "ada@xn--strae-oqa.example" },
                { "ada@\xe4\xbe\x8b\xe3\x81\x88.jp", "ada@xn--r8jz45g.jp" },
                { "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example" },
        };
        char *longest = NULL;
        auto_buf text = { 0 };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *address = NULL;

                assert_int_equal(mail_address_read("email", cases[i][0], &address, &err), 0);
                assert_string_equal(address, cases[i][1]);
        }
        assert_int_equal(mail_address_read("email", "j\xc3\xb6rg@b.example", &longest, &err), -ERR_INPUT);
        assert_string_equal(err.field, "email");
        assert_contains(err.message, "before the @");
        buf_add_text(&text, "ada@\xc3\xbc");
        for (int i = 0; i < 50; i++)
                buf_add_text(&text, ".\xc3\xbc");
        assert_int_equal(mail_address_read("email", text.data, &longest, &err), -ERR_INPUT); /* 254 in ASCII, too */
}

static void test_the_two_sides_of_a_mail_address_have_limits_of_their_own(void **state)
{
        char local[80], domain[100];

        (void)state;
        for (size_t length = 64; length <= 65; length++) {
                memset(local, 'a', length);
                strcpy(local + length, "@b.co");
                assert_int_equal(signup_takes("email", local), length == 64);
        }
        for (size_t length = 63; length <= 64; length++) {
                strcpy(domain, "a@");
                memset(domain + 2, 'b', length);
                strcpy(domain + 2 + length, ".co");
                assert_int_equal(signup_takes("email", domain), length == 63);
        }
}

static void test_subdomains_are_dns_labels(void **state)
{
        static const char *const good[] = { "abc", "a-b",    "a--b",
                                            "123", "a1b2c3", "abcdefghijabcdefghijabcdefghijabcdefghij" };
        static const char *const bad[] = { "ab",  "-abc", "abc-", "ABC",
                                           "a.b", "a_b",  "a b",  "caf\xc3\xa9",
                                           "---", "a/b",  "abc.", "abcdefghijabcdefghijabcdefghijabcdefghijk" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(signup_takes("subdomain", good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(signup_takes("subdomain", bad[i]));
}

static void test_names_of_plans_and_regions_are_simple_words(void **state)
{
        static const char *const good[] = { "a", "eu-central-1", "pro_2026", "v1.5" };
        static const char *const bad[] = { "Pro", "eu central", "a/b", "a;b", "a'b", "\xc3\xa9" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(signup_takes("plan", good[i]) && signup_takes("region", good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(signup_takes("plan", bad[i]) || signup_takes("region", bad[i]));
}

static void test_lengths_of_texts_are_counted_in_characters_not_bytes(void **state)
{
        auto_buf text = { 0 };

        (void)state;
        for (int i = 0; i < 200; i++)
                buf_add_text(&text, "\xf0\x9f\x92\x8a");
        assert_true(signup_takes("company", text.data));
        buf_add_text(&text, "x");
        assert_false(signup_takes("company", text.data));
        assert_false(signup_takes("company", "    "));
        assert_true(signup_takes("company", "\xc2\xa0"
                                            "A")); /* U+00A0 is no control character */
        assert_true(signup_takes("company", "O'Neill & \"Sons\" <Ltd>; drop table x --"));
}

static void test_slugs_are_made_of_what_a_name_has(void **state)
{
        static const char *const cases[][2] = {
                { "Corner Pharmacy", "corner-pharmacy" },
                { "  --Corner--  Pharmacy!! ", "corner-pharmacy" },
                { "O'Neill & Sons", "o-neill-sons" },
                { "Caf\xc3\xa9 Noir", "cafe-noir" },
                { "B\xc3\xa4"
                  "ckerei M\xc3\xbcller",
                  "baeckerei-mueller" },
                { "\xc5\x81\xc3\xb3"
                  "d\xc5\xba Stra\xc3\x9f"
                  "e",
                  "lodz-strasse" },
                { "\xd8\xb5\xd9\x8a\xd8\xaf\xd9\x84\xd9\x8a\xd8\xa9", "tenant" },
                { "AB", "tenant" },
                { "A-B", "a-b" },
                { "123", "123" },
                { "abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghijklmnopqrstuvwxyz012345" },
                { "abcdefghijklmnopqrstuvwxyz01234 56789", "abcdefghijklmnopqrstuvwxyz01234" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_json *data = good_data(&TENANT_CONTRACTS[0]), *checked = NULL;

                json_set_text(data, "company", cases[i][0]);
                assert_int_equal(contract_check(&TENANT_CONTRACTS[0], TENANT, data, &checked, NULL), 0);
                assert_string_equal(json_text(checked, "slug"), cases[i][1]);
                assert_true(signup_takes("subdomain", json_text(checked, "slug"))); /* a slug is a good subdomain */
        }
}

static void test_operation_ids_repeat_for_the_same_request_only(void **state)
{
        struct id id = operation_id_make("app", "POST /api/signups", "key-1");

        (void)state;
        assert_string_equal(id.text, operation_id_make("app", "POST /api/signups", "key-1").text);
        assert_string_not_equal(id.text, operation_id_make("app", "POST /api/signups", "key-2").text);
        assert_string_not_equal(id.text, operation_id_make("app", "POST /api/signup", "key-1").text);
        assert_string_not_equal(id.text, operation_id_make("other", "POST /api/signups", "key-1").text);
        assert_string_not_equal(id.text, operation_id_make("appPOST /api", "/signups", "key-1").text);
        assert_string_not_equal(operation_id_make("app", "r", NULL).text, operation_id_make("app", "r", NULL).text);
        assert_string_not_equal(operation_id_make("app", "r", "").text, operation_id_make("app", "r", NULL).text);
}

static void test_an_operation_id_proves_that_it_is_ours(void **state)
{
        static const char hex[] = "0123456789abcdef";

        (void)state;
        for (int i = 0; i < 200; i++) {
                struct id id = operation_id_make("app", "r", NULL), stranger = id_new();

                assert_true(id_is_valid(id.text));
                assert_int_equal(id.text[14], '8');
                assert_true(operation_id_is_ours(id.text));
                assert_false(operation_id_is_ours(stranger.text));
                for (size_t at = 0; at < ID_LENGTH; at++) {
                        struct id changed = id;

                        changed.text[at] = id.text[at] == '-' ? 'a' : hex[(strchr(hex, id.text[at]) - hex + 1) % 16];
                        assert_false(operation_id_is_ours(changed.text));
                }
        }
        assert_false(operation_id_is_ours(""));
        assert_false(operation_id_is_ours(NULL));
}

static struct keyring *ring_of(const char *text)
{
        struct keyring *ring = NULL;

        assert_int_equal(keyring_parse("APP_KEYS", text, &ring, NULL), 0);
        return ring;
}

static void test_a_signed_link_holds_until_it_expires_and_names_its_subject(void **state)
{
        const int64_t now = 1769860800000, expires = now / 1000 + SIGNED_LINK_WEEK;
        struct keyring *ring = ring_of(KEY_1), *turned = ring_of(KEY_2 "," KEY_1), *other = ring_of(KEY_2);
        struct err err;

        (void)state;
        for (enum link_purpose purpose = LINK_INVITATION; purpose <= LINK_BILLING; purpose++) {
                auto_free char *text = signed_link_make(ring, purpose, TENANT, 3, expires);
                struct signed_link link = { 0 };

                assert_int_equal(strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_."),
                                 strlen(text));
                assert_int_equal(signed_link_check(ring, purpose, text, now, &link, &err), 0);
                assert_string_equal(link.subject.text, TENANT);
                assert_int_equal(link.number, 3);
                assert_int_equal(link.expires, expires);
                assert_int_equal(signed_link_check(turned, purpose, text, now, &link, &err), 0);
                assert_int_equal(signed_link_check(ring, purpose, text, expires * 1000, &link, &err), 0);
                assert_int_equal(signed_link_check(ring, purpose, text, expires * 1000 + 1, &link, &err), -ERR_GONE);
                assert_string_equal(err.code, "link_expired");
                assert_int_equal(signed_link_check(other, purpose, text, now, &link, &err), -ERR_INPUT);
                assert_string_equal(err.code, "link_invalid");
        }
        keyring_free(ring);
        keyring_free(turned);
        keyring_free(other);
}

static void test_a_signed_link_with_any_change_is_none_of_ours(void **state)
{
        static const char *const bad[] = { "",
                                           ".",
                                           "...",
                                           TENANT,
                                           TENANT ".3.1770465600.",
                                           TENANT ".3.1770465600.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *text = signed_link_make(ring, LINK_INVITATION, TENANT, 3, 1770465600),
                       *longer = mem_printf("%s.", text);
        auto_buf huge = { 0 };
        struct signed_link link = { .number = 77 };

        (void)state;
        for (size_t at = 0; text[at]; at++) {
                text[at] ^= 1;
                assert_int_equal(signed_link_check(ring, LINK_INVITATION, text, 1769860800000, &link, NULL),
                                 -ERR_INPUT);
                text[at] ^= 1;
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(signed_link_check(ring, LINK_INVITATION, bad[i], 0, &link, NULL), -ERR_INPUT);
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, longer, 0, &link, NULL), -ERR_INPUT);
        for (int i = 0; i < 10000; i++)
                buf_add_text(&huge, "a.");
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, huge.data, 0, &link, NULL), -ERR_INPUT);
        assert_int_equal(link.number, 77); /* set only on success */
        keyring_free(ring);
}

static void test_a_signature_of_something_else_makes_no_link(void **state)
{
        static const char *const unlike[] = { "", "x.3.9999999999", TENANT ".3", TENANT ".three.9999999999",
                                              "01890A5D-AC96-774B-BCCE-B302099A8057.3.9999999999" };
        struct keyring *ring = ring_of(KEY_1);
        struct signed_link link;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(unlike); i++) {
                auto_free char *signature = keyring_sign(ring, "tenantry invitation link", unlike[i]);
                auto_free char *text = mem_printf("%s.%s", unlike[i], signature);

                assert_int_equal(signed_link_check(ring, LINK_INVITATION, text, 0, &link, NULL), -ERR_INPUT);
        }
        keyring_free(ring);
}

static void test_a_link_for_one_purpose_is_not_valid_for_another(void **state)
{
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *invitation = signed_link_make(ring, LINK_INVITATION, TENANT, 0, 9999999999);
        auto_free char *billing = signed_link_make(ring, LINK_BILLING, TENANT, 0, 9999999999);
        struct signed_link link;
        struct err err;

        (void)state;
        assert_int_equal(signed_link_check(ring, LINK_BILLING, billing, 0, &link, &err), 0);
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, billing, 0, &link, &err), -ERR_INPUT);
        assert_string_equal(err.message, "this is not an invitation link");
        assert_int_equal(signed_link_check(ring, LINK_BILLING, invitation, 0, &link, &err), -ERR_INPUT);
        assert_string_equal(err.code, "link_invalid");
        keyring_free(ring);
}

/* This one was made when there was no other purpose. A gateway of any release takes the links of a provisioner of any
 * other, and those that are in people's mail boxes. */
static void test_invitations_are_signed_as_they_always_were(void **state)
{
        static const char first[] = TENANT ".3.1770465600.iSJnn-At25SovM26Q6de6KoI9ONkhjyQN3G42CaGtaY";
        struct keyring *ring = ring_of(KEY_1);
        auto_free char *now = signed_link_make(ring, LINK_INVITATION, TENANT, 3, 1770465600);
        struct signed_link link;

        (void)state;
        assert_string_equal(now, first);
        assert_int_equal(signed_link_check(ring, LINK_INVITATION, first, 1769860800000, &link, NULL), 0);
        keyring_free(ring);
}

static void test_the_products_address_has_the_slug_where_it_says_so(void **state)
{
        auto_free char *own = product_url_of("https://{slug}.shop.test/start", "acme");
        auto_free char *common = product_url_of("https://shop.test/start", "acme");

        (void)state;
        assert_string_equal(own, "https://acme.shop.test/start");
        assert_string_equal(common, "https://shop.test/start");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_every_contract_takes_good_data_and_is_found_by_its_type),
                SENTENCE(test_only_a_topic_with_one_type_takes_bare_json),
                SENTENCE(test_a_missing_field_is_refused_where_it_is_required),
                SENTENCE(test_a_field_of_a_wrong_type_is_refused),
                SENTENCE(test_a_field_as_long_as_allowed_is_taken_and_one_longer_refused),
                SENTENCE(test_control_characters_are_refused_in_every_field),
                SENTENCE(test_an_unknown_field_is_refused_by_its_name),
                SENTENCE(test_an_unknown_field_with_a_very_long_name_can_still_be_told_in_json),
                SENTENCE(test_data_that_is_no_object_is_refused),
                SENTENCE(test_the_key_must_be_the_tenants_id),
                SENTENCE(test_numbers_truths_lists_and_objects_are_checked_to_the_bottom),
                SENTENCE(test_a_command_about_labels_names_some_and_each_in_one_list),
                SENTENCE(test_a_time_is_one_in_utc_of_a_day_that_exists),
                SENTENCE(test_lists_of_labels_have_a_limit),
                SENTENCE(test_a_key_may_be_another_field_or_made_of_several),
                SENTENCE(test_bytes_come_as_bytes_up_to_their_limit_under_any_key),
                SENTENCE(test_an_event_is_taken_from_its_own_topic_only),
                SENTENCE(test_checking_leaves_the_data_as_it_came),
                SENTENCE(test_mail_addresses_are_plain_ones),
                SENTENCE(test_an_international_domain_is_kept_in_its_ascii_form),
                SENTENCE(test_the_two_sides_of_a_mail_address_have_limits_of_their_own),
                SENTENCE(test_subdomains_are_dns_labels),
                SENTENCE(test_names_of_plans_and_regions_are_simple_words),
                SENTENCE(test_lengths_of_texts_are_counted_in_characters_not_bytes),
                SENTENCE(test_slugs_are_made_of_what_a_name_has),
                SENTENCE(test_operation_ids_repeat_for_the_same_request_only),
                SENTENCE(test_an_operation_id_proves_that_it_is_ours),
                SENTENCE(test_a_signed_link_holds_until_it_expires_and_names_its_subject),
                SENTENCE(test_a_signed_link_with_any_change_is_none_of_ours),
                SENTENCE(test_a_signature_of_something_else_makes_no_link),
                SENTENCE(test_a_link_for_one_purpose_is_not_valid_for_another),
                SENTENCE(test_invitations_are_signed_as_they_always_were),
                SENTENCE(test_the_products_address_has_the_slug_where_it_says_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
