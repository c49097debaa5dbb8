/* What is misspelt in a configuration is found by its name; and of all that librdkafka reports, what tells most stays.
 */
#include "tests/unit/check.h"

#include "common/base/config.h"
#include "common/base/spelling.h"
#include "common/kafka/cause.h"
#include "common/kafka/client.h"
#include "common/kafka/properties.h"

struct settings {
        char *brokers, *drain;
};

#define AT(field) offsetof(struct settings, field)

static const struct config_option OPTIONS[] = {
        { "UNIT_BROKERS", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Where.", AT(brokers), 0, 0 },
        { "DRAIN", CONFIG_TEXT, 0, "10s", "How long.", AT(drain), 0, 0 },
};
static const struct config_table TABLE = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS) };
static const char *const VARIABLES[] = {
        "UNIT_BROKERS", "UNIT_BROKER", "UNTI_BROKERS", "UNIT_BROKERS_FILE", "UNIT_BROKERS_FIL", "unit_brokers",
        "DRAINS",       "TRAINS",      "DRAIN"
};

static int forget_variables(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(VARIABLES); i++)
                unsetenv(VARIABLES[i]);
        return 0;
}

static void test_words_are_near_by_one_letter_and_long_ones_by_two(void **state)
{
        (void)state;
        assert_int_equal(spelling_distance("KAFKA", "KAKFA"), 2);
        assert_int_equal(spelling_distance("", "abc"), 3);
        assert_true(spelling_is_near("TOKEN", "TOKENS"));
        assert_true(spelling_is_near("KAKFA_BROKERS", "KAFKA_BROKERS"));
        assert_false(spelling_is_near("RELEASE", "LEASE"));
        assert_false(spelling_is_near("HTTP_PROXY", "HTTP_PORT"));
        assert_false(spelling_is_near("DRAIN", "DRAIN"));
}

static void test_a_misspelt_variable_is_named_with_the_option_it_was_meant_for(void **state)
{
        static const char *const misspelt[] = { "UNIT_BROKER", "UNTI_BROKERS", "unit_brokers", "UNIT_BROKERS_FIL" };
        struct settings settings = { 0 };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(misspelt); i++) {
                setenv(misspelt[i], "x", 1);
                assert_int_equal(config_load(&settings, &TABLE, 1, &err), -ERR_INPUT);
                assert_string_equal(err.field, misspelt[i]);
                assert_contains(err.message, "did you mean UNIT_BROKERS?");
                unsetenv(misspelt[i]);
        }
        setenv("UNIT_BROKERS", "here", 1);
        assert_int_equal(config_load(&settings, &TABLE, 1, &err), 0);
        assert_int_equal(config_check_names(&TABLE, 1, &err), 0);
        setenv("DRAINS", "1s", 1);
        assert_int_equal(config_check_names(&TABLE, 1, &err), -ERR_INPUT);
        assert_string_equal(err.message, "DRAINS: did you mean DRAIN?");
        free(settings.brokers);
        free(settings.drain);
}

static void test_a_variable_beside_the_option_it_is_like_is_somebody_elses(void **state)
{
        struct err err;

        (void)state;
        setenv("UNIT_BROKERS_FILE", "/somewhere", 1);
        setenv("UNIT_BROKER", "x", 1);
        setenv("DRAIN", "1s", 1);
        setenv("DRAINS", "x", 1);
        setenv("TRAINS", "x", 1);
        assert_int_equal(config_check_names(&TABLE, 1, &err), 0);
}

/* What is said of these properties; "" where they are taken. */
static const char *said_of(const char *properties)
{
        static struct err err;
        struct kafka_settings settings = { "127.0.0.1:1", "unit", properties };
        rd_kafka_conf_t *conf;

        memset(&err, 0, sizeof(err));
        if (kafka_client_conf(&settings, NULL, &conf, &err) == 0)
                rd_kafka_conf_destroy(conf);
        else
                assert_string_equal(err.field, "KAFKA_PROPERTIES");
        return err.message;
}

static void test_kafka_properties_are_refused_by_their_names(void **state)
{
        (void)state;
        assert_string_equal(said_of("sasl.mechanisms=PLAIN;sasl.password=a\\;b=c;"), "");
        assert_contains(said_of("acks=1;sasl.mecanisms=PLAIN"), "entry 2 is not a librdkafka property");
        assert_contains(said_of("acks=1;sasl.mecanisms=PLAIN"), "did you mean sasl.mechanisms?");
        assert_contains(said_of("no.such.thing=1"), "no.such.thing");
        assert_contains(said_of("security.protocol=nothing"), "security.protocol");
        assert_contains(said_of("acks"), "entry 1 is not name=value");
}

static void test_kafka_properties_override_defaults_by_whichever_name(void **state)
{
        static const struct kafka_default defaults[] = { { "fetch.message.max.bytes", "262144" }, { NULL, NULL } };
        static const struct {
                const char *properties, *found;
        } cases[] = {
                { NULL, "262144" },
                { "fetch.message.max.bytes=4096", "4096" },
                { "max.partition.fetch.bytes=8192", "8192" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct kafka_settings settings = { "127.0.0.1:1", "unit", cases[i].properties };
                rd_kafka_conf_t *conf;
                char found[16];
                size_t size = sizeof(found);

                assert_int_equal(kafka_client_conf(&settings, defaults, &conf, NULL), 0);
                assert_int_equal(rd_kafka_conf_get(conf, "fetch.message.max.bytes", found, &size), RD_KAFKA_CONF_OK);
                assert_string_equal(found, cases[i].found);
                rd_kafka_conf_destroy(conf);
        }
}

static void test_what_may_be_a_part_of_a_password_is_not_repeated(void **state)
{
        static const char *const secret[] = { "sasl.password=open;sesame=1", "ssl.key.password=open;sesame",
                                              "acks=sesame", "sasl.oauthbearer.client.secret=a;sesame=b" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(secret); i++) {
                assert_true(*said_of(secret[i]) != '\0');
                assert_lacks(said_of(secret[i]), "sesame");
        }
}

static void test_certificates_are_looked_at_without_asking_a_broker(void **state)
{
        struct kafka_settings settings = { "127.0.0.1:1", "unit", "security.protocol=ssl;ssl.ca.location=/nowhere" };
        struct err err;

        (void)state;
        assert_int_equal(kafka_client_check(&settings, &err), -ERR_INPUT);
        assert_contains(err.message, "ssl.ca.location");
        settings.properties = "security.protocol=ssl";
        assert_int_equal(kafka_client_check(&settings, &err), 0);
}

static void test_advice_is_given_for_scram_with_an_old_library_and_for_nothing_else(void **state)
{
        struct kafka_settings settings = { "127.0.0.1:1", "unit",
                                           "security.protocol=SASL_SSL;sasl.mechanism=SCRAM-SHA-512" };
        auto_free char *advice = kafka_client_advice(&settings), *none = NULL;

        (void)state;
        assert_int_equal(advice != NULL, rd_kafka_version() < 0x020601ff);
        settings.properties = "security.protocol=SASL_SSL;sasl.mechanism=PLAIN";
        none = kafka_client_advice(&settings);
        assert_null(none);
}

static void test_a_refused_login_tells_more_than_a_refused_connection(void **state)
{
        struct kafka_cause cause = { 0 };

        (void)state;
        kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__TRANSPORT, "Connection refused");
        assert_string_equal(cause.err.code, "kafka_away");
        kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__AUTHENTICATION, "Authentication failed");
        kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__TRANSPORT, "Connection refused");
        kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, "2/2 brokers are down");
        assert_string_equal(cause.err.code, "kafka_login");
        assert_int_equal(cause.err.class, ERR_OURS);
        assert_contains(cause.err.message, "Authentication failed");
        cause.noted_ms -= MINUTES(2); /* mended, while the broker went away */
        kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__TRANSPORT, "Connection refused");
        assert_string_equal(cause.err.code, "kafka_away");
        kafka_cause_forget(&cause);
        kafka_cause_note(&cause, RD_KAFKA_RESP_ERR__PARTITION_EOF, "end");
        assert_int_equal(cause.err.class, ERR_NONE);
}

#define NAMES_SENTENCE(test) cmocka_unit_test_setup_teardown(test, forget_variables, forget_variables)

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_words_are_near_by_one_letter_and_long_ones_by_two),
                NAMES_SENTENCE(test_a_misspelt_variable_is_named_with_the_option_it_was_meant_for),
                NAMES_SENTENCE(test_a_variable_beside_the_option_it_is_like_is_somebody_elses),
                SENTENCE(test_kafka_properties_are_refused_by_their_names),
                SENTENCE(test_kafka_properties_override_defaults_by_whichever_name),
                SENTENCE(test_what_may_be_a_part_of_a_password_is_not_repeated),
                SENTENCE(test_certificates_are_looked_at_without_asking_a_broker),
                SENTENCE(test_advice_is_given_for_scram_with_an_old_library_and_for_nothing_else),
                SENTENCE(test_a_refused_login_tells_more_than_a_refused_connection),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
