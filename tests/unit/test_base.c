/* The base room: buffers, errors, ids, clock, configuration, JSON, metrics, failpoints. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/failpoint.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/metrics.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void test_a_buffer_grows_and_stays_terminated(void **state)
{
        auto_buf buf = { 0 };

        (void)state;
        for (int i = 0; i < 1000; i++) {
                buf_printf(&buf, "%d,", i);
                assert_int_equal(buf.data[buf.length], '\0');
        }
        assert_int_equal(buf.length, strlen(buf.data));
        assert_memory_equal(buf.data, "0,1,2,3,", 8);
        assert_string_equal(buf.data + buf.length - 8, "998,999,");
}

static void test_a_buffer_keeps_nul_bytes_and_takes_nothing_from_nothing(void **state)
{
        auto_buf buf = { 0 };

        (void)state;
        buf_add(&buf, NULL, 0);
        assert_int_equal(buf.length, 0);
        buf_add(&buf, "a\0b", 3);
        assert_int_equal(buf.length, 3);
        assert_memory_equal(buf.data, "a\0b", 4);
        buf_reset(&buf);
        assert_int_equal(buf.length, 0);
        assert_string_equal(buf.data, "");
}

static void test_a_taken_buffer_is_never_null_and_leaves_an_empty_one(void **state)
{
        struct buf buf = { 0 };
        auto_free char *empty = buf_take(&buf);
        auto_free char *text = NULL;

        (void)state;
        assert_string_equal(empty, "");
        buf_add_text(&buf, "tenant");
        text = buf_take(&buf);
        assert_string_equal(text, "tenant");
        assert_null(buf.data);
        assert_int_equal(buf.length, 0);
        buf_free(&buf);
}

static void test_an_error_carries_class_code_and_sentence(void **state)
{
        struct err err;

        (void)state;
        memset(&err, 0xff, sizeof(err));
        assert_int_equal(err_set(&err, ERR_BUSY, "quota_full", "no room for %d more", 3), -ERR_BUSY);
        assert_int_equal(err.class, ERR_BUSY);
        assert_string_equal(err.code, "quota_full");
        assert_string_equal(err.field, "");
        assert_string_equal(err.message, "no room for 3 more");
        assert_int_equal(err.retry_after, 0);
        assert_int_equal(err_field(&err, "email", "%s is bad", "email"), -ERR_INPUT);
        assert_string_equal(err.code, "invalid_field");
        assert_string_equal(err.field, "email");
        assert_int_equal(err_set(NULL, ERR_GONE, "gone", "nobody listens"), -ERR_GONE);
        assert_int_equal(err_field(NULL, "email", "nobody listens"), -ERR_INPUT);
}

static void test_only_busy_and_internal_errors_are_worth_another_try(void **state)
{
        (void)state;
        for (enum err_class class = ERR_NONE; class <= ERR_INTERNAL; class ++) {
                struct err err = { .class = class };

                assert_int_equal(err_is_transient(&err), class == ERR_BUSY || class == ERR_INTERNAL);
                assert_true(strlen(err_class_name(class)) > 0);
        }
}

static void test_an_error_cut_inside_a_character_is_still_text_for_json(void **state)
{
        auto_buf name = { 0 };

        (void)state;
        for (int i = 0; i < 300; i++)
                buf_add_text(&name, "\xe2\x82\xac");
        for (size_t lead = 0; lead < 3; lead++) {
                struct err err;
                auto_json *as_json = NULL;

                err_field(&err, name.data, "%.*s%s is not a field", (int)lead, "ab", name.data);
                assert_int_equal(strlen(err.field), sizeof(err.field) - 1);
                assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
                as_json = json_pack("{s:s, s:s}", "field", err.field, "detail", err.message);
                assert_non_null(as_json);
        }
}

static void test_an_error_quotes_foreign_bytes_as_question_marks(void **state)
{
        static const char *const bad[] = { "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80" };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                auto_json *as_json = NULL;

                err_set(&err, ERR_BUSY, "far_side", "it said %s.", bad[i]);
                as_json = json_string(err.message);
                assert_non_null(as_json);
                assert_contains(err.message, "?");
        }
        err_set(&err, ERR_BUSY, "far_side",
                "Apoth\xc3\xa8"
                "ke \xf0\x9f\x92\x8a");
        assert_string_equal(err.message, "Apoth\xc3\xa8"
                                         "ke \xf0\x9f\x92\x8a");
}

static void test_new_ids_are_valid_version_seven_and_differ(void **state)
{
        struct id before = id_new();

        (void)state;
        for (int i = 0; i < 1000; i++) {
                struct id id = id_new();

                assert_true(id_is_valid(id.text));
                assert_int_equal(id.text[14], '7');
                assert_non_null(strchr("89ab", id.text[19]));
                assert_string_not_equal(id.text, before.text);
                assert_true(memcmp(id.text, before.text, 13) >= 0); /* the time goes up */
                before = id;
        }
}

static void test_derived_ids_depend_on_every_part_and_its_borders(void **state)
{
        struct id id = id_derive("caller", "route", "key", NULL);

        (void)state;
        assert_true(id_is_valid(id.text));
        assert_int_equal(id.text[14], '8');
        assert_non_null(strchr("89ab", id.text[19]));
        assert_string_equal(id.text, id_derive("caller", "route", "key", NULL).text);
        assert_string_not_equal(id.text, id_derive("caller", "route", "kez", NULL).text);
        assert_string_not_equal(id.text, id_derive("callerroute", "key", NULL).text);
        assert_string_not_equal(id.text, id_derive("calle", "rroute", "key", NULL).text);
        assert_string_not_equal(id.text, id_derive("caller", "route", "key", "", NULL).text);
        assert_string_not_equal(id_derive("a", "b", NULL).text, id_derive("b", "a", NULL).text);
}

static void test_only_lower_case_uuids_are_valid_ids(void **state)
{
        static const char *const bad[] = {
                "",
                "0",
                "01890a5d-ac96-774b-bcce-b302099a805",
                "01890a5d-ac96-774b-bcce-b302099a80570",
                "01890A5D-ac96-774b-bcce-b302099a8057",
                "01890a5dxac96-774b-bcce-b302099a8057",
                "01890a5d-ac96-774b-bcce-b302099a805g",
                "01890a5d-ac96-774b-bcce-b302099a805 ",
                "01890a5d-ac9-6774b-bcce-b302099a8057",
                "{1890a5d-ac96-774b-bcce-b302099a805}",
        };

        (void)state;
        assert_true(id_is_valid("01890a5d-ac96-774b-bcce-b302099a8057"));
        assert_true(id_is_valid("00000000-0000-0000-0000-000000000000"));
        assert_false(id_is_valid(NULL));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(id_is_valid(bad[i]));
}

static void test_the_beginning_of_an_id_spans_all_ids_that_begin_so(void **state)
{
        static const char *const bad[] = { "", "G", "A", "01890a5dd", "01890a5d-ac96-774b-bcce-b302099a80570", "%" };
        struct id first, last;

        (void)state;
        assert_true(id_span("01890a5d-a", &first, &last));
        assert_string_equal(first.text, "01890a5d-a000-0000-0000-000000000000");
        assert_string_equal(last.text, "01890a5d-afff-ffff-ffff-ffffffffffff");
        assert_true(id_span("01890a5d-ac96-774b-bcce-b302099a8057", &first, &last));
        assert_string_equal(first.text, last.text);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(id_span(bad[i], &first, &last));
}

static void test_times_are_printed_in_utc_with_milliseconds(void **state)
{
        static const struct {
                int64_t ms;
                const char *text;
        } cases[] = {
                { 0, "1970-01-01T00:00:00.000Z" },
                { 1, "1970-01-01T00:00:00.001Z" },
                { -1, "1969-12-31T23:59:59.999Z" },
                { 951782400000, "2000-02-29T00:00:00.000Z" },
                { 1769860800123, "2026-01-31T12:00:00.123Z" },
                { 4102444799999, "2099-12-31T23:59:59.999Z" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char out[25];

                clock_format(cases[i].ms, out);
                assert_string_equal(out, cases[i].text);
        }
}

static void test_the_clocks_go_forward(void **state)
{
        int64_t boot = clock_boot_ms(), ns = clock_ns();

        (void)state;
        assert_true(clock_wall_ms() > 1700000000000);
        assert_true(clock_boot_ms() >= boot);
        assert_true(clock_ns() >= ns);
}

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

static int parse_json(const char *text, struct err *err)
{
        json_t *value = NULL;
        int rc = json_parse(text, strlen(text), &value, err);

        if (rc < 0)
                assert_null(value);
        json_decref(value);
        return rc;
}

static void test_json_is_parsed_strictly(void **state)
{
        static const char *const good[] = { "{}", "[]", "\"x\"", "1", "null", " {\"a\":[1,2.5,true,null]} \n" };
        static const char *const bad[] = { "",
                                           "{",
                                           "{}x",
                                           "{\"a\":1,\"a\":2}",
                                           "{'a':1}",
                                           "[1,]",
                                           "nul",
                                           "\"\xff\"",
                                           "\"\xc0\x80\"",
                                           "\"a\\u0000b\"",
                                           "{\"a\\u0000\":1}",
                                           "01",
                                           "1e999",
                                           "\"\\ud800\"",
                                           "99999999999999999999",
                                           "// x\n{}",
                                           "\"a\nb\"" };
        struct err err;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_int_equal(parse_json(good[i], &err), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(parse_json(bad[i], &err), -ERR_INPUT);
                assert_string_equal(err.code, "not_json");
                assert_contains(err.message, "line ");
                assert_contains(err.message, "column ");
        }
}

static void test_json_with_a_raw_nul_or_too_deep_is_refused(void **state)
{
        auto_buf deep = { 0 };
        json_t *value = NULL;
        struct err err;

        (void)state;
        assert_int_equal(json_parse("{}\0", 3, &value, &err), -ERR_INPUT);
        for (int i = 0; i < 100000; i++)
                buf_add_text(&deep, "[");
        assert_int_equal(json_parse(deep.data, deep.length, &value, &err), -ERR_INPUT);
        assert_null(value);
}

static void test_json_readers_give_what_is_there_and_nothing_else(void **state)
{
        auto_json *object = json_pack("{s:s, s:i, s:b, s:n}", "text", "x", "number", 7, "flag", 1, "null");
        auto_free char *text = NULL, *nothing = json_print(NULL);

        (void)state;
        assert_string_equal(json_text(object, "text"), "x");
        assert_null(json_text(object, "number"));
        assert_null(json_text(object, "null"));
        assert_null(json_text(NULL, "text"));
        assert_int_equal(json_number(object, "number", -1), 7);
        assert_int_equal(json_number(object, "text", -1), -1);
        assert_int_equal(json_number(object, "missing", -1), -1);
        assert_true(json_flag(object, "flag"));
        assert_false(json_flag(object, "number"));
        json_set_text(object, "text", NULL);
        json_set_text(object, "more", "m");
        assert_true(json_is_null(json_object_get(object, "text")));
        text = json_print(object);
        assert_contains(text, "\"more\":\"m\"");
        assert_string_equal(nothing, "null");
}

/* Counts how often part is in text. */
static int times(const char *text, const char *part)
{
        int count = 0;

        for (; (text = strstr(text, part)) != NULL; text += strlen(part))
                count++;
        return count;
}

static void test_metrics_of_one_name_stand_together_under_one_heading(void **state)
{
        struct metric *accepted = metric_counter("unit_requests_total", "result=\"accepted\"", "Requests.");
        struct metric *depth = metric_gauge("unit_depth", NULL, "Depth.");
        struct metric *refused = metric_counter("unit_requests_total", "result=\"refused\"", "Requests.");
        auto_buf out = { 0 };

        (void)state;
        assert_ptr_equal(metric_counter("unit_requests_total", "result=\"accepted\"", "Requests."), accepted);
        assert_ptr_equal(metric_gauge("unit_depth", NULL, "Depth."), depth);
        metric_add(accepted, 1);
        metric_add(accepted, 1e9);
        metric_add(refused, 3);
        metric_set(depth, -2.5);
        metrics_print(&out);
        assert_contains(out.data, "# HELP unit_requests_total Requests.\n# TYPE unit_requests_total counter\n"
                                  "unit_requests_total{result=\"accepted\"} 1000000001\n"
                                  "unit_requests_total{result=\"refused\"} 3\n");
        assert_contains(out.data, "# HELP unit_depth Depth.\n# TYPE unit_depth gauge\nunit_depth -2.5\n");
        assert_int_equal(times(out.data, "# TYPE unit_requests_total "), 1);
}

static void test_histogram_buckets_are_cumulative_and_end_in_infinity(void **state)
{
        struct metric *plain = metric_histogram("unit_seconds", NULL, "Time.");
        struct metric *labelled = metric_histogram("unit_route_seconds", "route=\"signups\"", "Time by route.");
        auto_buf out = { 0 };

        (void)state;
        metric_observe(plain, 0.001); /* le means less or equal */
        metric_observe(plain, 0.3);
        metric_observe(plain, 61);
        metric_observe(labelled, 2);
        metrics_print(&out);
        assert_contains(out.data, "# TYPE unit_seconds histogram\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"0.001\"} 1\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"0.25\"} 1\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"0.5\"} 2\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"60\"} 2\n");
        assert_contains(out.data, "unit_seconds_bucket{le=\"+Inf\"} 3\n");
        assert_contains(out.data, "61.301\n");
        assert_contains(out.data, "unit_route_seconds_bucket{route=\"signups\",le=\"2.5\"} 1\n");
        assert_contains(out.data, "unit_route_seconds_sum{route=\"signups\"} 2\n");
        assert_contains(out.data, "unit_route_seconds_count{route=\"signups\"} 1\n");
}

static void test_values_that_come_later_are_escaped_and_limited(void **state)
{
        struct metric_family *family = metric_counter_family("unit_failures_total", "step,code", "Failures.");
        auto_buf out = { 0 };
        char code[16];

        (void)state;
        assert_ptr_equal(metric_counter_family("unit_failures_total", "step,code", "Failures."), family);
        metric_add(METRIC_OF(family, "say \"a\\b\"", "x\ny"), 1);
        metric_add(METRIC_OF(family, "say \"a\\b\"", "x\ny"), 1);
        for (int i = 0; i < METRIC_FAMILY_LIMIT + 9; i++) {
                snprintf(code, sizeof(code), "c%d", i);
                metric_add(METRIC_OF(family, "apply", code), 1);
        }
        metrics_print(&out);
        assert_contains(out.data, "# TYPE unit_failures_total counter\n"
                                  "unit_failures_total{step=\"say \\\"a\\\\b\\\"\",code=\"x\\ny\"} 2\n");
        assert_contains(out.data, "unit_failures_total{step=\"other\",code=\"other\"} 10\n");
        assert_int_equal(times(out.data, "\nunit_failures_total{"), METRIC_FAMILY_LIMIT + 1);
        metric_family_set(family, 0);
        buf_reset(&out);
        metrics_print(&out);
        assert_contains(out.data, "unit_failures_total{step=\"other\",code=\"other\"} 0\n");
}

static void test_failpoints_are_refused_by_their_bad_part(void **state)
{
        static const struct {
                const char *spec, *part;
        } cases[] = {
                { "nowhere=crash", "nowhere" },
                { "saga_before_step", "saga_before_step" },
                { "saga_before_step=", "unknown action" },
                { "saga_before_step=explode", "explode" },
                { "saga_before_step=sleep", "sleep" },
                { "saga_before_step=sleep:", "sleep:" },
                { "saga_before_step=sleep:5x", "sleep:5x" },
                { "saga_before_step=sleep:-5", "sleep:-5" },
                { "saga_before_step=error@", "pass" },
                { "saga_before_step=error@0", "pass" },
                { "saga_before_step=error@-1", "pass" },
                { "saga_before_step=error@two", "pass" },
                { "saga_before_step=error@2;=crash", "\"\"" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct err err = { 0 };

                assert_int_equal(failpoint_arm(cases[i].spec, &err), -ERR_INPUT);
                assert_string_equal(err.field, "FAILPOINTS");
                assert_contains(err.message, cases[i].part);
        }
}

static void test_a_failpoint_that_was_refused_is_not_armed(void **state)
{
        (void)state;
        assert_int_equal(failpoint_arm("mail_before_send=error@x", NULL), -ERR_INPUT);
        for (int i = 0; i < 3; i++)
                assert_int_equal(FAILPOINT(mail_before_send, NULL), 0);
}

static void test_a_failpoint_fails_once_at_its_pass(void **state)
{
        struct err err = { 0 };

        (void)state;
        assert_int_equal(failpoint_arm(NULL, &err), 0);
        assert_int_equal(failpoint_arm("", &err), 0);
        assert_int_equal(failpoint_arm(";driver_before_create=error@3;;driver_after_create=error;", &err), 0);
        for (int pass = 1; pass <= 6; pass++) {
                assert_int_equal(FAILPOINT(driver_before_create, &err), pass == 3 ? -ERR_BUSY : 0);
                assert_int_equal(FAILPOINT(driver_after_create, &err), pass == 1 ? -ERR_BUSY : 0);
                assert_int_equal(FAILPOINT(driver_before_delete, &err), 0);
        }
        assert_true(err_is_transient(&err));
        assert_contains(err.message, "driver_before_create");
}

static void test_a_failpoint_sleeps_as_long_as_it_says(void **state)
{
        int64_t began = clock_boot_ms();

        (void)state;
        assert_int_equal(failpoint_arm("driver_before_grant=sleep:40", NULL), 0);
        assert_int_equal(FAILPOINT(driver_before_grant, NULL), 0);
        assert_in_range(clock_boot_ms() - began, 39, 5000);
}

static void test_a_failpoint_kills_the_process_as_kill_nine_would(void **state)
{
        int status;
        pid_t child;

        (void)state;
        assert_int_equal(failpoint_arm("driver_before_rotate=crash@2", NULL), 0);
        child = fork();
        if (child == 0) {
                FAILPOINT(driver_before_rotate, NULL);
                FAILPOINT(driver_before_rotate, NULL);
                _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_every_failpoint_has_a_name_of_its_own(void **state)
{
        (void)state;
        for (int i = 0; i < FAILPOINT_COUNT; i++) {
                assert_true(strlen(failpoint_name((enum failpoint)i)) > 0);
                for (int k = 0; k < i; k++)
                        assert_string_not_equal(failpoint_name((enum failpoint)i), failpoint_name((enum failpoint)k));
        }
}

#define CONFIG_SENTENCE(test) cmocka_unit_test_setup_teardown(test, forget_environment, forget_environment)

/* Standard error for a test: what is logged comes out of reader. */
struct log_reader {
        int reader, former;
};

/* What stands there by now. */
static char *read_log(struct log_reader *log)
{
        struct buf all = { 0 };
        char some[4096];
        ssize_t got;

        fcntl(log->reader, F_SETFL, O_NONBLOCK);
        while ((got = read(log->reader, some, sizeof(some))) > 0)
                buf_add(&all, some, (size_t)got);
        return buf_take(&all);
}

static void open_log(struct log_reader *log, bool by_socket)
{
        int ends[2];

        assert_int_equal(by_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
        log->reader = ends[0];
        log->former = dup(STDERR_FILENO);
        assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
        close(ends[1]);
        log_init("test", "info");
        log_info("what was lost before is told now", NULL);
        free(read_log(log));
}

static void close_log(struct log_reader *log)
{
        dup2(log->former, STDERR_FILENO);
        close(log->former);
        close(log->reader);
}

/* Returns how many of its lines were lost. */
static uint64_t log_until_full(void)
{
        uint64_t before = log_lines_lost();

        for (int i = 0; i < 100000 && log_lines_lost() == before; i++)
                log_info("a line of those that fill it", NULL);
        return log_lines_lost() - before;
}

static void test_a_log_that_nobody_reads_costs_a_moment_and_then_nothing(void **state)
{
        for (int by_socket = 0; by_socket < 2; by_socket++) {
                struct log_reader log;
                int64_t began;

                (void)state;
                open_log(&log, by_socket);
                assert_int_equal(log_until_full(), 1);
                began = clock_boot_ms();
                for (int i = 0; i < 1000; i++)
                        log_info("nobody has time for this", NULL);
                assert_in_range(clock_boot_ms() - began, 0, 5000); /* less than a tenth of a second each, that is */
                close_log(&log);
        }
}

static void test_lines_that_were_lost_are_told_where_they_are_missing(void **state)
{
        for (int by_socket = 0; by_socket < 2; by_socket++) {
                struct log_reader log;
                auto_free char *before = NULL, *after = NULL;

                (void)state;
                open_log(&log, by_socket);
                log_until_full();
                log_info("lost as well", NULL);
                before = read_log(&log);
                assert_lacks(before, "missing");
                log_info("heard again", NULL);
                log_info("and no more", NULL);
                after = read_log(&log);
                assert_true(before[strlen(before) - 1] == '\n' || after[0] == '\n');
                assert_contains(after,
                                "\"message\":\"nobody took the log: lines are missing here\",\"lines\":\"2\"}\n");
                assert_contains(strstr(after, "missing"), "heard again");
                assert_lacks(strstr(after, "heard again"), "missing");
                close_log(&log);
        }
}

static void *log_a_long_line(void *text)
{
        log_info("long", "text", text, NULL);
        return NULL;
}

static void test_a_line_longer_than_a_pipe_arrives_whole_where_somebody_reads(void **state)
{
        auto_free char *text = mem_alloc(300001, 1);
        auto_buf got = { 0 };
        struct log_reader log;
        uint64_t lost = log_lines_lost();
        pthread_t writer;
        char some[4096];

        (void)state;
        memset(text, 'x', 300000);
        open_log(&log, false);
        fcntl(log.reader, F_SETFL, 0);
        pthread_create(&writer, NULL, log_a_long_line, text);
        while (got.length == 0 || got.data[got.length - 1] != '\n')
                buf_add(&got, some, (size_t)read(log.reader, some, sizeof(some)));
        pthread_join(writer, NULL);
        close_log(&log);
        assert_contains(got.data, text);
        assert_int_equal(log_lines_lost(), lost);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_buffer_grows_and_stays_terminated),
                SENTENCE(test_a_buffer_keeps_nul_bytes_and_takes_nothing_from_nothing),
                SENTENCE(test_a_taken_buffer_is_never_null_and_leaves_an_empty_one),
                SENTENCE(test_an_error_carries_class_code_and_sentence),
                SENTENCE(test_only_busy_and_internal_errors_are_worth_another_try),
                SENTENCE(test_an_error_cut_inside_a_character_is_still_text_for_json),
                SENTENCE(test_an_error_quotes_foreign_bytes_as_question_marks),
                SENTENCE(test_new_ids_are_valid_version_seven_and_differ),
                SENTENCE(test_derived_ids_depend_on_every_part_and_its_borders),
                SENTENCE(test_only_lower_case_uuids_are_valid_ids),
                SENTENCE(test_the_beginning_of_an_id_spans_all_ids_that_begin_so),
                SENTENCE(test_times_are_printed_in_utc_with_milliseconds),
                SENTENCE(test_the_clocks_go_forward),
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
                SENTENCE(test_json_is_parsed_strictly),
                SENTENCE(test_json_with_a_raw_nul_or_too_deep_is_refused),
                SENTENCE(test_json_readers_give_what_is_there_and_nothing_else),
                SENTENCE(test_metrics_of_one_name_stand_together_under_one_heading),
                SENTENCE(test_values_that_come_later_are_escaped_and_limited),
                SENTENCE(test_histogram_buckets_are_cumulative_and_end_in_infinity),
                SENTENCE(test_failpoints_are_refused_by_their_bad_part),
                SENTENCE(test_a_failpoint_that_was_refused_is_not_armed),
                SENTENCE(test_a_failpoint_fails_once_at_its_pass),
                SENTENCE(test_a_failpoint_sleeps_as_long_as_it_says),
                SENTENCE(test_a_failpoint_kills_the_process_as_kill_nine_would),
                SENTENCE(test_every_failpoint_has_a_name_of_its_own),
                SENTENCE(test_a_log_that_nobody_reads_costs_a_moment_and_then_nothing),
                SENTENCE(test_lines_that_were_lost_are_told_where_they_are_missing),
                SENTENCE(test_a_line_longer_than_a_pipe_arrives_whole_where_somebody_reads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
