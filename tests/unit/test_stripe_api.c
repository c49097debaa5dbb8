/* What Stripe is sent, and what is made of its answers. */
#include "check.h"

#include "common/net/http_server.h"
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

static void test_of_a_failure_that_stripe_repeats_the_header_speaks_of_the_key_only(void **state)
{
        static const struct {
                int status;
                enum err_class class;
        } cases[] = { { 500, ERR_BUSY }, { 503, ERR_BUSY }, { 400, ERR_PERMANENT } };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const char *body = ERROR_BODY("api_error", "none");
                const struct stripe_answer answer = { .status = cases[i].status,
                                                      .body = body,
                                                      .length = strlen(body),
                                                      .should_retry = "false",
                                                      .replayed = true };
                auto_json *ret = NULL;
                struct err err;

                assert_int_equal(stripe_api_judge(&answer, &ret, &err), -(int)cases[i].class);
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

/* A stand-in in this process's loop, and what a caller of it was told. */

struct stand {
        uv_loop_t loop;
        uv_async_t alive;
        struct http_server *server;
        struct transfers *transfers;
        char *url;
        int port;
        bool called;
        int status;
        int64_t date_s;
        char request_id[64];
        bool replayed;
        json_t *body;
        struct err err;
};

/* What came, and what only Stripe says beside the body. */
static void answer_with_what_came(struct http_request *request, void *context)
{
        static const char *const names[] = { "Authorization", "Stripe-Version", "Idempotency-Key", "Content-Type" };
        json_t *told = json_object();
        size_t length;

        (void)context;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                json_set_text(told, names[i], http_header(request, names[i]));
        json_set_text(told, "body", http_body(request, &length));
        json_set_text(told, "limit", http_query(request, "limit"));
        http_answer_header(request, "Request-Id", "req_7");
        http_answer_header(request, "Idempotent-Replayed", "true");
        http_answer_json(request, 200, told);
}

static void answer_with_a_limit(struct http_request *request, void *context)
{
        (void)context;
        http_answer_header(request, "Stripe-Should-Retry", "true");
        http_answer_header(request, "Retry-After", "3");
        http_answer_json(request, 429, json_pack("{s:{s:s}}", "error", "code", "lock_timeout"));
}

static const struct http_parameter QUERY[] = { { .name = "limit" }, { .name = NULL } };

static const struct http_route ROUTES[] = {
        { .method = "POST", .path = "/v1/prices", .handle = answer_with_what_came, .any_body = true },
        { .method = "GET", .path = "/v1/prices", .handle = answer_with_what_came, .query = QUERY },
        { .method = "DELETE", .path = "/v1/prices", .handle = answer_with_a_limit },
        { .method = NULL },
};

static void open_stand(struct stand *stand)
{
        const struct http_limits limits = { .body_bytes = 1000,
                                            .large_bytes = 1000,
                                            .connections = 9,
                                            .per_address = 9,
                                            .read_ms = SECONDS(5),
                                            .answer_ms = SECONDS(5) };
        struct err err = { 0 };

        memset(stand, 0, sizeof(*stand));
        uv_loop_init(&stand->loop);
        uv_async_init(&stand->loop, &stand->alive, NULL);
        stand->transfers = transfers_new(&stand->loop);
        for (stand->port = 21000 + getpid() % 9000;; stand->port++) {
                if (http_server_new(&stand->loop, "127.0.0.1", stand->port, ROUTES, &limits, NULL, &stand->server,
                                    &err) == 0)
                        break;
                if (strstr(err.message, "in use") == NULL)
                        fail_msg("%s", err.message);
        }
        stand->url = mem_printf("http://127.0.0.1:%d", stand->port);
}

static void close_stand(struct stand *stand)
{
        transfers_free(stand->transfers);
        http_server_free(stand->server);
        uv_close((uv_handle_t *)&stand->alive, NULL);
        uv_run(&stand->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&stand->loop), 0);
        json_decref(stand->body);
        free(stand->url);
}

static void keep_answer(void *context, const struct stripe_reply *reply, const struct err *err)
{
        struct stand *stand = context;

        stand->called = true;
        stand->err = err ? *err : (struct err){ 0 };
        json_decref(stand->body);
        stand->body = reply ? json_incref((json_t *)reply->body) : NULL;
        stand->status = reply ? reply->status : 0;
        stand->date_s = reply ? reply->date_s : 0;
        stand->replayed = reply != NULL && reply->replayed;
        snprintf(stand->request_id, sizeof(stand->request_id), "%s", reply ? reply->request_id : "");
}

static struct stripe_request *begin(struct stand *stand, const char *method, json_t *params)
{
        const struct stripe_account account = { .url = stand->url, .secret_key = "sk_test_treasure" };
        const struct stripe_call call = { .method = method,
                                          .path = "/v1/prices",
                                          .params = params,
                                          .idempotency_key = strcmp(method, "POST") == 0 ? "key-1" : NULL,
                                          .timeout_ms = SECONDS(10) };
        struct stripe_request *request = stripe_api_call(stand->transfers, &account, &call, keep_answer, stand);

        json_decref(params);
        stand->called = false;
        return request;
}

static void ask(struct stand *stand, const char *method, json_t *params)
{
        begin(stand, method, params);
        while (!stand->called)
                uv_run(&stand->loop, UV_RUN_ONCE);
}

static void test_a_call_carries_key_version_and_form_and_brings_back_what_stripe_said(void **state)
{
        struct stand stand;

        (void)state;
        open_stand(&stand);
        ask(&stand, "POST", json_pack("{s:{s:s}}", "recurring", "interval", "month"));
        assert_int_equal(stand.err.class, ERR_NONE);
        assert_int_equal(stand.status, 200);
        assert_string_equal(json_text(stand.body, "Authorization"), "Bearer sk_test_treasure");
        assert_string_equal(json_text(stand.body, "Stripe-Version"), STRIPE_VERSION);
        assert_string_equal(json_text(stand.body, "Idempotency-Key"), "key-1");
        assert_string_equal(json_text(stand.body, "Content-Type"), "application/x-www-form-urlencoded");
        assert_string_equal(json_text(stand.body, "body"), "recurring[interval]=month");
        assert_string_equal(stand.request_id, "req_7");
        assert_true(stand.replayed);
        assert_true(stand.date_s > 1700000000);
        ask(&stand, "GET", json_pack("{s:i}", "limit", 3));
        assert_string_equal(json_text(stand.body, "limit"), "3");
        assert_string_equal(json_text(stand.body, "body"), "");
        assert_null(json_text(stand.body, "Idempotency-Key"));
        close_stand(&stand);
}

static void test_a_refused_call_and_one_without_an_answer_are_told_apart(void **state)
{
        struct stand stand;

        (void)state;
        open_stand(&stand);
        ask(&stand, "DELETE", NULL);
        assert_int_equal(stand.err.class, ERR_BUSY);
        assert_string_equal(stand.err.code, "stripe_lock_timeout");
        assert_int_equal(stand.err.retry_after, 3000);
        assert_int_equal(stand.status, 429);
        http_server_free(TAKE_PTR(stand.server));
        ask(&stand, "GET", NULL);
        assert_int_equal(stand.err.class, ERR_BUSY);
        assert_string_equal(stand.err.code, "transport");
        assert_int_equal(stand.status, 0);
        close_stand(&stand);
}

static void test_a_call_that_was_cancelled_brings_nothing_back(void **state)
{
        struct stand stand;

        (void)state;
        open_stand(&stand);
        stripe_api_cancel(begin(&stand, "POST", NULL));
        ask(&stand, "GET", NULL);
        assert_null(json_text(stand.body, "Idempotency-Key"));
        stripe_api_cancel(NULL);
        close_stand(&stand);
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
                SENTENCE(test_of_a_failure_that_stripe_repeats_the_header_speaks_of_the_key_only),
                SENTENCE(test_a_limit_is_waited_for_and_not_tried_at_once),
                SENTENCE(test_stripes_own_words_are_told_with_all_that_finds_them_again),
                SENTENCE(test_no_key_comes_back_in_a_message),
                SENTENCE(test_an_answer_that_is_not_stripes_says_nothing_about_what_was_done),
                SENTENCE(test_a_call_carries_key_version_and_form_and_brings_back_what_stripe_said),
                SENTENCE(test_a_refused_call_and_one_without_an_answer_are_told_apart),
                SENTENCE(test_a_call_that_was_cancelled_brings_nothing_back),
                cmocka_unit_test_teardown(test_a_key_of_live_mode_has_no_place_in_a_sandbox, forget_variables),
                cmocka_unit_test_teardown(test_what_is_no_key_is_refused_without_being_told, forget_variables),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
