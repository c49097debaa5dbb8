/* Whom a webhook comes from. The table is that of the sandbox: sandbox/tests/recorded/stripe/signature_vectors.json. */
#include "check.h"

#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/macros.h"
#include "common/contracts/stripe_signature.h"

#define VECTORS "sandbox/tests/recorded/stripe/signature_vectors.json"

/* The table's verdicts, and our codes. */
static const struct {
        const char *want, *code;
} VERDICTS[] = {
        { "ok", NULL },
        { "not_signed", "not_signed" },
        { "malformed", "signature_malformed" },
        { "no_signature", "signature_missing" },
        { "mismatch", "signature_mismatch" },
        { "too_old", "signature_too_old" },
        { "too_new", "signature_too_new" },
};

static const char *code_of(const char *want)
{
        for (size_t i = 0; i < ARRAY_SIZE(VERDICTS); i++)
                if (strcmp(VERDICTS[i].want, want) == 0)
                        return VERDICTS[i].code ?: "good";
        fail_msg("the verdict %s is not known", want);
        return NULL;
}

static char *joined(const json_t *secrets)
{
        char *text = mem_copy_text("");
        json_t *secret;
        size_t i;

        json_array_foreach (secrets, i, secret) {
                char *longer = mem_printf("%s%s%s", text, i > 0 ? "," : "", json_string_value(secret));

                free(text);
                text = longer;
        }
        return text;
}

static void check_vector(const json_t *vector)
{
        const char *payload = json_text(vector, "payload_b64");
        auto_free unsigned char *body = mem_alloc(strlen(payload) + 1, 1);
        auto_free char *text = joined(json_object_get(vector, "secrets"));
        int length = crypto_base64_decode(payload, body);
        struct stripe_secrets *secrets = NULL;
        struct err err = { 0 };
        const char *told;
        int rc;

        assert_int_equal(stripe_secrets_parse("SECRETS", text, &secrets, &err), 0);
        rc = stripe_signature_check(secrets, json_text(vector, "header"), body, (size_t)length,
                                    json_number(vector, "now", 0), json_number(vector, "tolerance", -1), &err);
        told = rc == 0 ? "good" : err.code;
        if (strcmp(told, code_of(json_text(vector, "want"))) != 0)
                fail_msg("%s: %s", json_text(vector, "name"), told);
        if (rc < 0)
                assert_lacks(err.message, "whsec");
        stripe_secrets_free(secrets);
}

static void test_each_delivery_in_the_table_is_judged_as_it_says(void **state)
{
        auto_json *table = json_load_file(VECTORS, 0, NULL);
        json_t *vector;
        size_t i;

        (void)state;
        assert_true(json_array_size(json_object_get(table, "vectors")) > 20);
        json_array_foreach (json_object_get(table, "vectors"), i, vector)
                check_vector(vector);
}

static void test_a_time_is_written_in_one_way_only(void **state)
{
        static const char *const bad[] = { "t=0,v1=x",
                                           "t=01760000000,v1=x",
                                           "t= 1760000000,v1=x",
                                           "t=-1,v1=x",
                                           "t=1.0,v1=x",
                                           "t=1e9,v1=x",
                                           "t=1760000000 ,v1=x",
                                           "t=1760000000;v1=x",
                                           ",t=1,v1=x",
                                           "t=1,v1=x,",
                                           "v1=x",
                                           "" };
        struct stripe_secrets *secrets;
        struct err err;

        (void)state;
        assert_int_equal(stripe_secrets_parse("SECRETS", "whsec_a", &secrets, &err), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (stripe_signature_check(secrets, bad[i], "", 0, 1760000000, 300, &err) == 0 ||
                    strcmp(err.code, "signature_malformed") != 0)
                        fail_msg("\"%s\": %s", bad[i], err.code);
        stripe_secrets_free(secrets);
}

static void test_secrets_that_cannot_be_right_are_refused_without_being_told(void **state)
{
        static const char *const bad[] = { "",          "whsec_a,",  "whsec_a, whsec_b", " whsec_a",
                                           "whsec_a\n", ",,whsec_a", "a,b,c,d,e,f,g,h,i" };
        struct stripe_secrets *secrets = NULL;
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(stripe_secrets_parse("STRIPE_WEBHOOK_SECRET", bad[i], &secrets, &err), -ERR_INPUT);
                assert_string_equal(err.field, "STRIPE_WEBHOOK_SECRET");
                assert_lacks(err.message, "whsec");
                assert_null(secrets);
        }
        assert_int_equal(stripe_secrets_parse("STRIPE_WEBHOOK_SECRET", NULL, &secrets, &err), 0);
        assert_null(secrets);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_each_delivery_in_the_table_is_judged_as_it_says),
                SENTENCE(test_a_time_is_written_in_one_way_only),
                SENTENCE(test_secrets_that_cannot_be_right_are_refused_without_being_told),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
