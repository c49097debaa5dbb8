/* The file of plans: what is built in is what we sell, and what is wrong in a file is named with its place. */
#include "check.h"

#include "common/base/json.h"
#include "common/contracts/plans.h"

/* Two plans, in which each test changes one thing. */
#define PLANS                                                                                                          \
        "{\"currency\":\"usd\",\"trial\":{\"plan\":\"a\",\"days\":14},\"plans\":["                                     \
        "{\"id\":\"a\",\"name\":\"A\",\"modules\":[\"x\"],\"limits\":{\"users\":5},\"prices\":{\"month\":{\"amount\":" \
        "100}}},"                                                                                                      \
        "{\"id\":\"b\",\"name\":\"B\",\"custom\":true,\"modules\":[\"x\",\"y\"],\"limits\":{\"users\":null}}]}"

static struct plans *parsed(const char *text)
{
        struct plans *plans = NULL;
        struct err err;

        if (plans_parse(text, strlen(text), &plans, &err) < 0)
                fail_msg("%s", err.message);
        return plans;
}

/* The text with the first `from` replaced; the caller frees. */
static char *changed(const char *from, const char *to)
{
        const char *at = strstr(PLANS, from);

        assert_non_null(at);
        return mem_printf("%.*s%s%s", (int)(at - PLANS), PLANS, to, at + strlen(from));
}

static void check_plan(const struct plan *plan, const char *id, int64_t month, int64_t year, size_t modules)
{
        auto_free char *key = mem_printf("tenantry_%s_month", id);

        assert_string_equal(plan->id, id);
        assert_int_equal(json_array_size(plan->modules), modules);
        assert_int_equal(plan_find_price(plan, "month")->amount, month);
        assert_int_equal(plan_find_price(plan, "year")->amount, year);
        assert_string_equal(plan_find_price(plan, "month")->lookup_key, key);
}

static void test_the_plans_that_are_built_in_are_those_of_the_price_list(void **state)
{
        struct plans *plans = NULL;
        struct err err;

        (void)state;
        assert_int_equal(plans_load(NULL, &plans, &err), 0);
        assert_string_equal(plans->currency, "usd");
        assert_string_equal(plans->trial->id, "starter");
        assert_int_equal(plans->trial_days, 14);
        assert_int_equal(plans->count, 3);
        check_plan(&plans->items[0], "starter", 9900, 99000, 3);
        check_plan(&plans->items[1], "professional", 29900, 299000, 5);
        assert_int_equal(json_number(plans->items[0].limits, "branches", -1), 1);
        assert_int_equal(json_number(plans->items[0].limits, "users", -1), 5);
        assert_int_equal(json_number(plans->items[0].limits, "items", -1), 10000);
        assert_int_equal(json_number(plans->items[1].limits, "items", -1), 50000);
        assert_true(plans->items[2].custom);
        assert_null(plan_find_price(&plans->items[2], "month"));
        assert_true(json_is_null(json_object_get(plans->items[2].limits, "users")));
        plans_free(plans);
}

static void test_a_plan_is_found_by_its_id_and_by_the_key_of_its_price(void **state)
{
        struct plans *plans = NULL;
        const struct plan_price *price = NULL;
        struct err err;

        (void)state;
        assert_int_equal(plans_load(NULL, &plans, &err), 0);
        assert_string_equal(plans_find(plans, "professional")->name, "Professional");
        assert_string_equal(plans_find_by_price(plans, "tenantry_professional_year", &price)->id, "professional");
        assert_int_equal(price->amount, 299000);
        assert_null(plans_find(plans, "tenantry_professional_year"));
        assert_null(plans_find_by_price(plans, "professional", NULL));
        plans_free(plans);
}

static void test_what_everybody_sees_has_no_keys_of_ours(void **state)
{
        struct plans *plans = NULL;
        struct err err;
        auto_json *shown = NULL;
        auto_free char *text = NULL;
        const json_t *list;

        (void)state;
        assert_int_equal(plans_load(NULL, &plans, &err), 0);
        shown = plans_json(plans);
        text = json_print(shown);
        list = json_object_get(shown, "plans");
        assert_lacks(text, "lookup_key");
        assert_int_equal(json_array_size(list), 3);
        assert_contains(text, "\"prices\":{\"month\":{\"amount\":9900},\"year\":{\"amount\":99000}}");
        assert_true(json_is_null(json_object_get(json_array_get(list, 2), "prices")));
        plans_free(plans);
}

static void test_two_files_that_say_the_same_have_the_same_hash(void **state)
{
        auto_free char *keyed = changed("\"amount\":100", " \"lookup_key\": \"tenantry_a_month\", \"amount\":\n100");
        auto_free char *dearer = changed("\"amount\":100", "\"amount\":101");
        struct plans *one = parsed(PLANS), *same = parsed(keyed), *other = parsed(dearer);

        (void)state;
        assert_string_equal(one->hash, same->hash);
        assert_string_not_equal(one->hash, other->hash);
        plans_free(one);
        plans_free(same);
        plans_free(other);
}

static void test_what_is_wrong_is_named_with_its_place(void **state)
{
        static const struct {
                const char *from, *to, *place, *says;
        } cases[] = {
                { "\"usd\"", "\"USD\"", "currency", "small letters" },
                { "\"currency\"", "\"curency\"", "curency", "misspelt" },
                { "\"days\":14", "\"days\":-1", "trial.days", "whole number" },
                { "\"days\":14", "\"days\":731", "trial.days", "730" },
                { "\"plan\":\"a\"", "\"plan\":\"c\"", "trial.plan", "one of the plans" },
                { "\"trial\":{\"plan\":\"a\",\"days\":14},", "", "trial", "missing" },
                { "\"id\":\"a\"", "\"id\":\"A\"", "plans[0].id", "small letters" },
                { "\"id\":\"b\"", "\"id\":\"a\"", "plans[1].id", "earlier plan" },
                { "\"name\":\"B\"", "\"name\":\"\"", "plans[1].name", "1 to 100" },
                { "\"name\":\"B\"", "\"name\":\"B\\u0007\"", "plans[1].name", "1 to 100" },
                { "\"name\":\"B\"", "\"title\":\"B\"", "plans[1].title", "misspelt" },
                { "[\"x\",\"y\"]", "[\"x\",\"x\"]", "plans[1].modules[1]", "twice" },
                { "[\"x\",\"y\"]", "[\"x\",7]", "plans[1].modules[1]", "small letters" },
                { "[\"x\",\"y\"]", "\"x\"", "plans[1].modules", "list" },
                { "\"users\":5", "\"users\":5.5", "plans[0].limits.users", "whole number" },
                { "\"users\":5", "\"users\":-5", "plans[0].limits.users", "whole number" },
                { "\"users\":null", "\"user\":null", "plans[1].limits.user", "first plan" },
                { "\"users\":null", "", "plans[1].limits.users", "missing" },
                { "\"amount\":100", "\"amount\":1.5", "plans[0].prices.month.amount", "cents" },
                { "\"amount\":100", "\"amount\":\"100\"", "plans[0].prices.month.amount", "cents" },
                { "\"amount\":100", "\"amount\":100000000", "plans[0].prices.month.amount", "99999999" },
                { "\"amount\":100", "\"amount\":1,\"lookup_key\":\"a b\"", "plans[0].prices.month.lookup_key", "200" },
                { "\"month\"", "\"week\"", "plans[0].prices.week", "misspelt" },
                { "\"month\":{\"amount\":100}", "", "plans[0].prices", "month" },
                { "\"custom\":true", "\"custom\":1", "plans[1].custom", "true or false" },
                { "\"custom\":true,", "", "plans[1].prices", "missing" },
                { "\"custom\":true", "\"custom\":true,\"prices\":{}", "plans[1].prices", "no prices" },
                { "{\"month\":{\"amount\":100}}",
                  "{\"month\":{\"amount\":1},\"year\":{\"amount\":1,\"lookup_key\":\"tenantry_a_month\"}}",
                  "plans[0].prices.year.lookup_key", "earlier price" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *text = changed(cases[i].from, cases[i].to);
                struct plans *plans = NULL;
                struct err err = { 0 };

                if (plans_parse(text, strlen(text), &plans, &err) != -ERR_INPUT)
                        fail_msg("taken: %s", text);
                assert_string_equal(err.field, cases[i].place);
                assert_contains(err.message, cases[i].place);
                assert_contains(err.message, cases[i].says);
                assert_null(plans);
        }
}

static void test_a_file_that_is_no_json_or_missing_or_too_large_is_named(void **state)
{
        static const struct {
                size_t blanks;
                const char *text, *says;
        } files[] = { { 0, "{\n\"currency\":}", "line 2" },
                      { 0, "[]", "the file: it must be an object" },
                      { 300000, "", "256 KiB" } };
        struct plans *plans = NULL;
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                auto_free char *text = mem_printf("%*s%s", (int)files[i].blanks, "", files[i].text);
                char *path = scratch_text(text);

                assert_int_equal(plans_load(path, &plans, &err), -ERR_INPUT);
                assert_string_equal(err.field, "PLANS");
                assert_contains(err.message, path);
                assert_contains(err.message, files[i].says);
                remove_scratch(path);
        }
        assert_int_equal(plans_load("/nowhere/plans.json", &plans, &err), -ERR_INPUT);
        assert_contains(err.message, "/nowhere/plans.json");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_the_plans_that_are_built_in_are_those_of_the_price_list),
                SENTENCE(test_a_plan_is_found_by_its_id_and_by_the_key_of_its_price),
                SENTENCE(test_what_everybody_sees_has_no_keys_of_ours),
                SENTENCE(test_two_files_that_say_the_same_have_the_same_hash),
                SENTENCE(test_what_is_wrong_is_named_with_its_place),
                SENTENCE(test_a_file_that_is_no_json_or_missing_or_too_large_is_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
