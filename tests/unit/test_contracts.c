/* The promises about event data: every contract, field by field, and what is made of the data. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/contracts/billing.h"
#include "common/contracts/tenant.h"

#define TENANT "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER  "01890a5d-ac96-774b-bcce-b302099a8058"

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
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
