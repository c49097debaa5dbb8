/* What Stripe is sent, and what is made of its answers. */
#include "check.h"

#include "common/net/stripe_api.h"
#include "common/service/options.h"

static void check_form(const char *json, const char *form)
{
        auto_json *params = NULL;
        auto_free char *encoded = NULL;
        struct err err;

        assert_int_equal(json_parse(json, strlen(json), &params, &err), 0);
        encoded = stripe_api_encode(params);
        assert_string_equal(encoded, form);
}

static void test_parameters_are_written_with_brackets(void **state)
{
        auto_free char *nothing = stripe_api_encode(NULL);

        (void)state;
        assert_string_equal(nothing, "");
        check_form("{}", "");
        check_form("{\"a\":1,\"b\":true,\"c\":false,\"d\":-7}", "a=1&b=true&c=false&d=-7");
        check_form("{\"items\":[{\"price\":\"p1\",\"quantity\":2},{\"price\":\"p2\"}]}",
                   "items[0][price]=p1&items[0][quantity]=2&items[1][price]=p2");
        check_form("{\"recurring\":{\"interval\":\"month\"},\"x\":[[\"y\"]]}", "recurring[interval]=month&x[0][0]=y");
}

static void test_a_value_that_is_to_go_is_an_empty_one(void **state)
{
        (void)state;
        check_form("{\"a\":null,\"b\":\"\",\"c\":[],\"d\":{},\"e\":{\"f\":null}}", "a=&b=&c=&d=&e[f]=");
}

static void test_no_byte_of_a_value_is_taken_for_form(void **state)
{
        (void)state;
        check_form("{\"a\":\"x&y=z[0] +%\\u00e9\\u000a-._~\"}", "a=x%26y%3Dz%5B0%5D%20%2B%25%C3%A9%0A-._~");
        check_form("{\"metadata\":{\"a[b]=&\":\"v\"}}", "metadata[a%5Bb%5D%3D%26]=v");
}

#define ERROR_BODY(type, code)                                                                                         \
        "{\"error\":{\"type\":\"" type "\",\"code\":\"" code "\",\"message\":\"Words.\",\"param\":\"plan\","           \
        "\"doc_url\":\"https://stripe.com/docs/x\"}}"

static void test_the_header_decides_about_another_attempt_and_else_the_status(void **state)
{
        static const struct {
                int status;
                const char *should_retry, *type;
                enum err_class class;
        } cases[] = {
                { 400, NULL, "invalid_request_error", ERR_PERMANENT },
                { 400, "true", "invalid_request_error", ERR_BUSY },
                { 400, NULL, "idempotency_error", ERR_CONFLICT },
                { 401, NULL, "invalid_request_error", ERR_AUTH },
                { 402, NULL, "card_error", ERR_PERMANENT },
                { 403, NULL, "invalid_request_error", ERR_AUTH },
                { 404, NULL, "invalid_request_error", ERR_GONE },
                { 409, NULL, "invalid_request_error", ERR_BUSY },
                { 409, "false", "invalid_request_error", ERR_PERMANENT },
                { 424, NULL, "api_error", ERR_PERMANENT },
                { 429, NULL, "invalid_request_error", ERR_BUSY },
                { 500, NULL, "api_error", ERR_BUSY },
                { 500, "false", "api_error", ERR_PERMANENT },
                { 500, "True", "api_error", ERR_BUSY },
                { 503, NULL, "api_error", ERR_BUSY },
                { 302, NULL, "none", ERR_PERMANENT },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *body = mem_printf("{\"error\":{\"type\":\"%s\",\"message\":\"m\"}}", cases[i].type);
                const struct stripe_answer answer = { .status = cases[i].status,
                                                      .body = body,
                                                      .length = strlen(body),
                                                      .should_retry = cases[i].should_retry };
                auto_json *ret = NULL;
                struct err err;

                assert_int_equal(stripe_api_judge(&answer, &ret, &err), -(int)cases[i].class);
                if (err.class != cases[i].class)
                        fail_msg("%d, %s: %s", cases[i].status, cases[i].should_retry ?: "-",
                                 err_class_name(err.class));
                assert_non_null(ret);
        }
}

static struct err refused(int status, const char *should_retry, const char *retry_after)
{
        const char *body = ERROR_BODY("invalid_request_error", "rate_limit");
        const struct stripe_answer answer = { .status = status,
                                              .body = body,
                                              .length = strlen(body),
                                              .should_retry = should_retry,
                                              .retry_after = retry_after };
        auto_json *ret = NULL;
        struct err err;

        assert_true(stripe_api_judge(&answer, &ret, &err) < 0);
        return err;
}

static void test_a_limit_is_waited_for_and_not_tried_at_once(void **state)
{
        (void)state;
        assert_int_equal(refused(429, NULL, NULL).retry_after, 2000);
        assert_int_equal(refused(429, "false", "1").retry_after, 2000);
        assert_int_equal(refused(429, NULL, "7").retry_after, 7000);
        assert_int_equal(refused(429, "true", NULL).retry_after, 0);
        assert_int_equal(refused(429, "true", "1").retry_after, 1000);
        assert_int_equal(refused(503, NULL, "3").retry_after, 3000);
        assert_int_equal(refused(400, NULL, "3").retry_after, 0);
}

static void test_stripes_own_words_are_told_with_all_that_finds_them_again(void **state)
{
        const char *body = ERROR_BODY("invalid_request_error", "resource_missing");
        const struct stripe_answer answer = {
                .status = 404, .body = body, .length = strlen(body), .request_id = "req_1"
        };
        auto_json *ret = NULL;
        struct err err;

        (void)state;
        assert_int_equal(stripe_api_judge(&answer, &ret, &err), -ERR_GONE);
        assert_string_equal(err.code, "stripe_resource_missing");
        assert_string_equal(err.field, "plan");
        assert_string_equal(err.message,
                            "Stripe: Words. (404, invalid_request_error, code resource_missing, param plan, "
                            "request req_1, see https://stripe.com/docs/x)");
}

static void test_no_key_comes_back_in_a_message(void **state)
{
        const char *body = "{\"error\":{\"message\":\"Invalid API Key provided: sk_test_****7890, rk_live_abc. and "
                           "whsec_x\"}}";
        const struct stripe_answer answer = { .status = 401, .body = body, .length = strlen(body) };
        auto_json *ret = NULL;
        struct err err;

        (void)state;
        assert_int_equal(stripe_api_judge(&answer, &ret, &err), -ERR_AUTH);
        assert_string_equal(err.message,
                            "Stripe: Invalid API Key provided: sk_test_..., rk_live_.... and whsec_... (401)");
        assert_string_equal(err.code, "stripe_error");
}

static void test_an_answer_that_is_not_stripes_says_nothing_about_what_was_done(void **state)
{
        static const char *const bodies[] = { "", "<html>", "[]", "1", "{\"a\":" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
                struct stripe_answer answer = { .status = 200, .body = bodies[i], .length = strlen(bodies[i]) };
                auto_json *ret = NULL;
                struct err err;

                assert_int_equal(stripe_api_judge(&answer, &ret, &err), -ERR_BUSY);
                assert_string_equal(err.code, "stripe_not_json");
                assert_null(ret);
                answer.status = 502;
                assert_int_equal(stripe_api_judge(&answer, &ret, &err), -ERR_BUSY);
                assert_contains(err.message, "(502)");
        }
}

static const char *const VARIABLES[] = { "STRIPE_SECRET_KEY", "STRIPE_API_URL", "SANDBOX" };

static int forget_variables(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(VARIABLES); i++)
                unsetenv(VARIABLES[i]);
        return 0;
}

static int load(const char *key, const char *url, const char *sandbox, struct err *err)
{
        struct stripe_config config = { 0 };
        int rc;

        setenv("STRIPE_SECRET_KEY", key, 1);
        setenv("STRIPE_API_URL", url, 1);
        setenv("SANDBOX", sandbox, 1);
        rc = config_load(&config, &STRIPE_OPTIONS, 1, err);
        mem_free_secret(config.secret_key);
        free(config.api_url);
        return rc;
}

static void test_a_key_of_live_mode_has_no_place_in_a_sandbox(void **state)
{
        struct err err = { 0 };

        (void)state;
        assert_int_equal(load("sk_live_abc", "", "0", &err), 0);
        assert_int_equal(load("rk_test_abc", "http://127.0.0.1:1", "1", &err), 0);
        assert_int_equal(load("sk_live_abc", "", "1", &err), -ERR_INPUT);
        assert_contains(err.message, "SANDBOX=1");
        assert_int_equal(load("rk_live_abc", "", "true", &err), -ERR_INPUT);
        assert_int_equal(load("rk_live_abc", "http://stripe.example", "0", &err), -ERR_INPUT);
        assert_string_equal(err.field, "STRIPE_API_URL");
        assert_int_equal(load("", "https://stripe.example/", "0", &err), -ERR_INPUT);
}

static void test_what_is_no_key_is_refused_without_being_told(void **state)
{
        static const char *const bad[] = { "pk_test_treasure",      "whsec_treasure",   "treasure",
                                           "sk_treasure",           "sk_prod_treasure", "sk_test_trea\tsure",
                                           "sk_test_treasure\u00e9" };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(load(bad[i], "", "0", &err), -ERR_INPUT);
                assert_string_equal(err.field, "STRIPE_SECRET_KEY");
                assert_lacks(err.message, "trea");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_parameters_are_written_with_brackets),
                SENTENCE(test_a_value_that_is_to_go_is_an_empty_one),
                SENTENCE(test_no_byte_of_a_value_is_taken_for_form),
                SENTENCE(test_the_header_decides_about_another_attempt_and_else_the_status),
                SENTENCE(test_a_limit_is_waited_for_and_not_tried_at_once),
                SENTENCE(test_stripes_own_words_are_told_with_all_that_finds_them_again),
                SENTENCE(test_no_key_comes_back_in_a_message),
                SENTENCE(test_an_answer_that_is_not_stripes_says_nothing_about_what_was_done),
                cmocka_unit_test_teardown(test_a_key_of_live_mode_has_no_place_in_a_sandbox, forget_variables),
                cmocka_unit_test_teardown(test_what_is_no_key_is_refused_without_being_told, forget_variables),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
