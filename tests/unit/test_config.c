/* Configuration: its types, files and what is printed of it. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/config.h"

struct settings {
        char *name, *secret;
        int64_t port, limit, grace, secret_number;
        bool open;
};

#define AT(field) offsetof(struct settings, field)

static const struct config_option OPTIONS[] = {
        { "UNIT_NAME", CONFIG_TEXT, 0, "somebody", "A name.", AT(name), 0, 0 },
        { "UNIT_SECRET", CONFIG_TEXT, CONFIG_SECRET, NULL, "A secret.", AT(secret), 0, 0 },
        { "UNIT_PORT", CONFIG_INTEGER, 0, "8080", "A port.", AT(port), 1, 65535 },
        { "UNIT_LIMIT", CONFIG_INTEGER, 0, NULL, "Any number.", AT(limit), 0, 0 },
        { "UNIT_GRACE", CONFIG_DURATION, 0, "7d", "A time.", AT(grace), 0, 0 },
        { "UNIT_SECRET_NUMBER", CONFIG_INTEGER, CONFIG_SECRET, "0", "A secret number.", AT(secret_number), 0, 9 },
        { "UNIT_OPEN", CONFIG_BOOL, 0, "off", "A switch.", AT(open), 0, 0 },
};
static const struct config_option REQUIRED_OPTION[] = {
        { "UNIT_REQUIRED", CONFIG_TEXT, CONFIG_REQUIRED, NULL, "Where to go.", AT(name), 0, 0 },
};
static const struct config_table TABLE = { .options = OPTIONS, .count = ARRAY_SIZE(OPTIONS) };
static const struct config_table REQUIRED_TABLE = { .options = REQUIRED_OPTION, .count = 1 };

static int forget_environment(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(OPTIONS); i++) {
                auto_free char *file = mem_printf("%s_FILE", OPTIONS[i].name);

                unsetenv(OPTIONS[i].name);
                unsetenv(file);
        }
        unsetenv("UNIT_REQUIRED");
        unsetenv("TENANTRY_ENV_FILE");
        return 0;
}

static void forget_settings(struct settings *settings)
{
        free(settings->name);
        free(settings->secret);
        memset(settings, 0, sizeof(*settings));
}

static void assert_loads(struct settings *settings)
{
        struct err err = { 0 };

        memset(settings, 0, sizeof(*settings));
        if (config_load(settings, &TABLE, 1, &err) < 0)
                fail_msg("%s", err.message);
}

static void assert_refused(const char *field, const char *part)
{
        struct settings settings = { 0 };
        struct err err = { 0 };

        assert_int_equal(config_load(&settings, &TABLE, 1, &err), -ERR_INPUT);
        assert_string_equal(err.field, field);
        assert_contains(err.message, part);
        assert_null(strchr(err.message, '\n'));
        forget_settings(&settings);
}

static void test_configuration_falls_back_to_declared_values(void **state)
{
        struct settings settings;

        (void)state;
        assert_loads(&settings);
        assert_string_equal(settings.name, "somebody");
        assert_null(settings.secret);
        assert_int_equal(settings.port, 8080);
        assert_int_equal(settings.limit, 0);
        assert_int_equal(settings.grace, 7LL * 24 * 3600 * 1000);
        assert_false(settings.open);
        forget_settings(&settings);
}

static void test_configuration_reads_every_type_from_the_environment(void **state)
{
        struct settings settings;

        (void)state;
        setenv("UNIT_NAME", "Caf\xc3\xa9 = 1 # no comment", 1);
        setenv("UNIT_PORT", "65535", 1);
        setenv("UNIT_LIMIT", "-9223372036854775808", 1);
        setenv("UNIT_GRACE", "1500ms", 1);
        setenv("UNIT_OPEN", "TRUE", 1);
        assert_loads(&settings);
        assert_string_equal(settings.name, "Caf\xc3\xa9 = 1 # no comment");
        assert_int_equal(settings.port, 65535);
        assert_true(settings.limit == INT64_MIN);
        assert_int_equal(settings.grace, 1500);
        assert_true(settings.open);
        forget_settings(&settings);
}

static void test_an_empty_variable_counts_as_not_set(void **state)
{
        struct settings settings;

        (void)state;
        setenv("UNIT_NAME", "", 1);
        setenv("UNIT_PORT", "", 1);
        assert_loads(&settings);
        assert_string_equal(settings.name, "somebody");
        assert_int_equal(settings.port, 8080);
        forget_settings(&settings);
}

static void test_every_unit_of_a_duration_is_understood(void **state)
{
        static const struct {
                const char *text;
                int64_t ms;
        } cases[] = { { "0", 0 },        { "0ms", 0 },        { "500ms", 500 },           { "30s", 30000 },
                      { "15m", 900000 }, { "24h", 86400000 }, { "14d", 14LL * 86400000 }, { "0s", 0 },
                      { "007s", 7000 } };
        static const char *const bad[] = {
                "5", "s", "5 s", "5S", "-5s", "1.5h", "5w", "5ss", "0x5s", "", "99999999999999999999d", "106751991168d"
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct settings settings = { 0 };

                assert_int_equal(config_parse(&OPTIONS[4], cases[i].text, &settings, NULL), 0);
                assert_true(settings.grace == cases[i].ms);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct settings settings = { 0 };
                struct err err;

                assert_int_equal(config_parse(&OPTIONS[4], bad[i], &settings, &err), -ERR_INPUT);
                assert_string_equal(err.field, "UNIT_GRACE");
                assert_int_equal(settings.grace, 0);
        }
}

static void test_switches_know_yes_and_no_and_nothing_else(void **state)
{
        static const char *const yes[] = { "1", "true", "on", "yes", "YES" }, *const no[] = { "0", "false", "Off",
                                                                                              "no" };
        static const char *const bad[] = { "2", "y", "enabled", " 1", "true " };
        struct settings settings = { 0 };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
                settings.open = false;
                assert_int_equal(config_parse(&OPTIONS[6], yes[i], &settings, &err), 0);
                assert_true(settings.open);
        }
        for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
                settings.open = true;
                assert_int_equal(config_parse(&OPTIONS[6], no[i], &settings, &err), 0);
                assert_false(settings.open);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(config_parse(&OPTIONS[6], bad[i], &settings, &err), -ERR_INPUT);
}

static void test_bad_values_stop_the_start_and_are_named(void **state)
{
        static const char *const bad_ports[] = { "0",    "65536",  "-1",
                                                 "80a",  "eighty", "1e3",
                                                 "0x50", "80 81",  "99999999999999999999" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad_ports); i++) {
                setenv("UNIT_PORT", bad_ports[i], 1);
                assert_refused("UNIT_PORT", "UNIT_PORT");
        }
        unsetenv("UNIT_PORT");
        setenv("UNIT_OPEN", "perhaps", 1);
        assert_refused("UNIT_OPEN", "perhaps");
}

static void test_a_required_value_that_is_missing_is_named_with_its_help(void **state)
{
        struct config_table tables[] = { TABLE, REQUIRED_TABLE };
        struct settings settings = { 0 };
        struct err err;

        (void)state;
        assert_int_equal(config_load(&settings, tables, 2, &err), -ERR_INPUT);
        assert_string_equal(err.field, "UNIT_REQUIRED");
        assert_contains(err.message, "Where to go.");
        forget_settings(&settings);
}

struct part {
        int64_t number;
};

static const struct config_option PART_OPTIONS[] = {
        { "UNIT_PART", CONFIG_INTEGER, 0, "7", "A number.", offsetof(struct part, number), 0, 0 },
};

static int refuse_eight(const void *part, struct err *err)
{
        return ((const struct part *)part)->number == 8 ? err_field(err, "UNIT_PART", "not eight") : 0;
}

static const struct config_table PART_TABLE = { .options = PART_OPTIONS, .count = 1, .check = refuse_eight };

static void test_a_shared_table_fills_and_checks_its_part_wherever_that_stands(void **state)
{
        struct whole {
                int64_t before;
                struct part part;
        } whole = { 0 };
        const struct config_table table = config_at(&PART_TABLE, offsetof(struct whole, part));
        struct err err;

        (void)state;
        assert_int_equal(config_load(&whole, &table, 1, &err), 0);
        assert_int_equal(whole.before, 0);
        assert_int_equal(whole.part.number, 7);
        setenv("UNIT_PART", "8", 1);
        assert_int_equal(config_load(&whole, &table, 1, &err), -ERR_INPUT);
        assert_string_equal(err.message, "not eight");
        unsetenv("UNIT_PART");
}

static void test_a_secret_is_read_from_its_file_without_the_last_newline(void **state)
{
        auto_free char *path = scratch_text("s3cret with blanks inside \r\n\n");
        struct settings settings;

        (void)state;
        setenv("UNIT_SECRET_FILE", path, 1);
        assert_loads(&settings);
        assert_string_equal(settings.secret, "s3cret with blanks inside");
        forget_settings(&settings);
        setenv("UNIT_SECRET", "another", 1);
        assert_refused("UNIT_SECRET", "both UNIT_SECRET and UNIT_SECRET_FILE");
        unsetenv("UNIT_SECRET");
        unlink(path);
        assert_refused("UNIT_SECRET", "UNIT_SECRET_FILE");
}

static void test_a_file_that_is_no_value_is_refused(void **state)
{
        auto_free char *nul = scratch_file("s3c\0ret", 7);
        auto_free char *large = NULL;
        auto_buf bytes = { 0 };

        (void)state;
        setenv("UNIT_SECRET_FILE", nul, 1);
        assert_refused("UNIT_SECRET", "UNIT_SECRET_FILE");
        unlink(nul);
        for (int i = 0; i < 1024 * 1024 / 16 + 1; i++)
                buf_add(&bytes, "0123456789abcdef", 16);
        large = scratch_file(bytes.data, bytes.length);
        setenv("UNIT_SECRET_FILE", large, 1);
        assert_refused("UNIT_SECRET", "UNIT_SECRET_FILE");
        unlink(large);
}

static void test_secrets_are_not_echoed_by_any_message(void **state)
{
        auto_free char *path = scratch_text("UNIT_SECRET_NUMBER=hunter2\n");
        struct settings settings = { 0 };
        struct err err;

        (void)state;
        setenv("UNIT_SECRET_NUMBER", "hunter2", 1);
        assert_int_equal(config_load(&settings, &TABLE, 1, &err), -ERR_INPUT);
        assert_string_equal(err.field, "UNIT_SECRET_NUMBER");
        assert_lacks(err.message, "hunter2");
        forget_settings(&settings);
        unsetenv("UNIT_SECRET_NUMBER");
        setenv("TENANTRY_ENV_FILE", path, 1);
        assert_int_equal(config_load(&settings, &TABLE, 1, &err), -ERR_INPUT);
        assert_lacks(err.message, "hunter2");
        forget_settings(&settings);
        unlink(path);
}

static void test_an_env_file_fills_what_the_environment_leaves_open(void **state)
{
        auto_free char *path = scratch_text("# a comment\r\n"
                                            "\n"
                                            "  UNIT_NAME = \n"
                                            "UNIT_PORT=1\n");
        auto_free char *good = scratch_text("# a comment\r\n"
                                            "\r\n"
                                            "  UNIT_NAME=\"two words \"\r\n"
                                            "UNIT_SECRET='a=b#c'\n"
                                            "UNIT_PORT=81   \n"
                                            "UNIT_GRACE=3h\n"
                                            "UNIT_OPEN=on");
        struct settings settings;

        (void)state;
        setenv("TENANTRY_ENV_FILE", path, 1);
        assert_refused("", "line 3 is not NAME=value"); /* a blank before = would name another variable */
        unlink(path);

        setenv("TENANTRY_ENV_FILE", good, 1);
        setenv("UNIT_GRACE", "1s", 1);
        assert_loads(&settings);
        assert_string_equal(settings.name, "two words ");
        assert_string_equal(settings.secret, "a=b#c");
        assert_int_equal(settings.port, 81);
        assert_int_equal(settings.grace, 1000);
        assert_true(settings.open);
        forget_settings(&settings);
        unlink(good);
}

static void test_an_env_file_with_a_bad_line_is_refused_by_its_number(void **state)
{
        static const char *const bad[] = { "UNIT_NAME", "=value", "export UNIT_NAME=x", "UNIT-NAME=x",
                                           "- UNIT_NAME: x" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                auto_free char *text = mem_printf("# first\n%s\n", bad[i]);
                auto_free char *path = scratch_text(text);

                setenv("TENANTRY_ENV_FILE", path, 1);
                assert_refused("", "line 2");
                unlink(path);
        }
        setenv("TENANTRY_ENV_FILE", "/nonexistent/.env", 1);
        assert_refused("", "/nonexistent/.env");
}

static char *printed(void (*print)(FILE *, const struct config_table *, size_t))
{
        char *text = NULL;
        size_t length;
        FILE *out = open_memstream(&text, &length);

        print(out, &TABLE, 1);
        fclose(out);
        return text;
}

static void test_help_env_example_and_reference_list_every_option(void **state)
{
        auto_free char *help = printed(config_print_help), *env = printed(config_print_env);
        auto_free char *markdown = printed(config_print_markdown);

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(OPTIONS); i++) {
                assert_contains(help, OPTIONS[i].name);
                assert_contains(env, OPTIONS[i].name);
                assert_contains(markdown, OPTIONS[i].name);
                assert_contains(markdown, OPTIONS[i].help);
        }
        assert_contains(env, "#UNIT_PORT=8080\n");
        assert_contains(markdown, "| `UNIT_SECRET` | text, secret |");
}

static void test_the_printed_env_example_is_itself_a_good_env_file(void **state)
{
        auto_free char *env = printed(config_print_env);
        auto_free char *path = scratch_text(env);
        struct settings settings;

        (void)state;
        setenv("TENANTRY_ENV_FILE", path, 1);
        assert_loads(&settings);
        assert_int_equal(settings.port, 8080);
        forget_settings(&settings);
        unlink(path);
}

#define CONFIG_SENTENCE(test) cmocka_unit_test_setup_teardown(test, forget_environment, forget_environment)

int main(void)
{
        const struct CMUnitTest tests[] = {
                CONFIG_SENTENCE(test_configuration_falls_back_to_declared_values),
                CONFIG_SENTENCE(test_configuration_reads_every_type_from_the_environment),
                CONFIG_SENTENCE(test_an_empty_variable_counts_as_not_set),
                CONFIG_SENTENCE(test_every_unit_of_a_duration_is_understood),
                CONFIG_SENTENCE(test_switches_know_yes_and_no_and_nothing_else),
                CONFIG_SENTENCE(test_bad_values_stop_the_start_and_are_named),
                CONFIG_SENTENCE(test_a_required_value_that_is_missing_is_named_with_its_help),
                CONFIG_SENTENCE(test_a_shared_table_fills_and_checks_its_part_wherever_that_stands),
                CONFIG_SENTENCE(test_a_secret_is_read_from_its_file_without_the_last_newline),
                CONFIG_SENTENCE(test_a_file_that_is_no_value_is_refused),
                CONFIG_SENTENCE(test_secrets_are_not_echoed_by_any_message),
                CONFIG_SENTENCE(test_an_env_file_fills_what_the_environment_leaves_open),
                CONFIG_SENTENCE(test_an_env_file_with_a_bad_line_is_refused_by_its_number),
                CONFIG_SENTENCE(test_help_env_example_and_reference_list_every_option),
                CONFIG_SENTENCE(test_the_printed_env_example_is_itself_a_good_env_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
