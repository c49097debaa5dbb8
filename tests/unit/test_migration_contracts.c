/* What may be requested of the fleet's schema: files, runs and commands to runs, to their limits and beyond. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/contracts/migration.h"
#include "common/migration/migration.h"

#define RUN   "01890a5d-ac96-774b-bcce-b302099a8057"
#define OTHER "01890a5d-ac96-774b-bcce-b302099a8058"
#define NAME  "20270105_branches.sql"
#define SQL   "-- migrate:up\ncreate table branches (id int);\n-- migrate:down\ndrop table branches;\n"

static struct err wrong; /* what the last check said */

static const struct contract *kind_of(const char *word)
{
        auto_free char *type = mem_printf("migration.%s.requested.v1", word);
        const struct contract *contract = contract_find(MIGRATION_CONTRACTS, type);

        assert_non_null(contract);
        return contract;
}

/* The completed data, which the caller releases, or NULL; takes data. */
static json_t *checked(const char *word, const char *key, json_t *data)
{
        json_t *ret = NULL;

        assert_non_null(data);
        wrong = (struct err){ 0 };
        if (contract_check(kind_of(word), key, data, &ret, &wrong) < 0)
                assert_int_equal(wrong.class, ERR_INPUT);
        json_decref(data);
        return ret;
}

static bool is_taken(const char *word, const char *key, json_t *data)
{
        auto_json *ret = checked(word, key, data);

        return ret != NULL;
}

/* Of a text of JSON: NULL where it is taken, else the field that is named. */
static const char *wrong_field(const char *word, const char *text)
{
        json_t *data = NULL;

        assert_int_equal(json_parse(text, strlen(text), &data, NULL), 0);
        return is_taken(word, RUN, data) ? NULL : wrong.field;
}

struct wrong_case {
        const char *data, *field; /* NULL = taken */
};

static void assert_cases(const char *word, const struct wrong_case *cases, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                const char *field = wrong_field(word, cases[i].data);

                if (field == NULL && cases[i].field != NULL)
                        fail_msg("%s was taken", cases[i].data);
                else if (field != NULL && cases[i].field == NULL)
                        fail_msg("%s: %s", cases[i].data, wrong.message);
                else if (field != NULL)
                        assert_string_equal(field, cases[i].field);
        }
}

/* A text of that many times the letter; the caller frees. */
static char *repeated(const char *before, const char *letter, size_t times, const char *after)
{
        struct buf text = { 0 };

        buf_add_text(&text, before);
        for (size_t i = 0; i < times; i++)
                buf_add_text(&text, letter);
        buf_add_text(&text, after);
        return buf_take(&text);
}

static void test_every_type_has_the_topic_and_is_not_taken_bare(void **state)
{
        struct err err;
        size_t count = 0;

        (void)state;
        for (const struct contract *c = MIGRATION_CONTRACTS; c->type != NULL; c++, count++) {
                assert_int_equal(contract_check_topic(c, "tenant.migration.v1", NULL), 0);
                assert_int_equal(contract_check_topic(c, "tenant.command.v1", &err), -ERR_INPUT);
                assert_string_equal(err.code, "wrong_topic");
        }
        assert_int_equal(count, 13);
        assert_null(contract_only_type(MIGRATION_CONTRACTS, "tenant.migration.v1"));
}

static void test_a_file_is_completed_with_what_is_known_of_it(void **state)
{
        auto_json *plain = checked("register", NAME, json_pack("{s:s}", "sql", SQL));
        auto_json *alone = checked("register", "7.sql",
                                   json_pack("{s:s, s:s, s:s}", "name", "7.sql", "verify", "select true", "sql",
                                             "-- migrate:up transaction:false\nvacuum;\n-- migrate:down\n"));

        (void)state;
        assert_non_null(plain);
        assert_string_equal(json_text(plain, "name"), NAME); /* from the key */
        assert_string_equal(json_text(plain, "version"), "20270105");
        assert_int_equal(strlen(json_text(plain, "checksum")), 64);
        assert_true(json_flag(plain, "transaction"));
        assert_true(json_flag(plain, "reversible"));
        assert_string_equal(json_text(plain, "sql"), SQL);
        assert_non_null(alone);
        assert_string_equal(json_text(alone, "version"), "7");
        assert_false(json_flag(alone, "transaction"));
        assert_false(json_flag(alone, "reversible"));
        assert_string_equal(json_text(alone, "verify"), "select true");
}

static void test_a_file_that_cannot_be_read_is_refused_by_its_name(void **state)
{
        static const char *const bad[] = {
                "select 1;",
                "-- migrate:up\nselect 1;\n",
                "-- migrate:down\n-- migrate:up\n",
                "-- migrate:up transaction=false\n-- migrate:down\n",
                "-- migrate:up\nselect 'open;\n-- migrate:down\n",
                "-- migrate:up\ncommit;\n-- migrate:down\n",
                "-- migrate:up\ncopy t from stdin;\n-- migrate:down\n",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                if (is_taken("register", NAME, json_pack("{s:s}", "sql", bad[i])))
                        fail_msg("taken: %s", bad[i]);
                assert_string_equal(wrong.field, NAME);
        }
}

static bool is_name_taken(const char *name)
{
        return is_taken("register", name, json_pack("{s:s}", "sql", SQL));
}

static void test_a_files_name_begins_with_its_version_and_fits_a_directory(void **state)
{
        static const char *const good[] = { "1.sql", "1_a.sql", "1.sql.sql", "001 b.sql",
                                            "12345678901234567890123456789012345678901234567890.sql" };
        static const char *const bad[] = { "a.sql",
                                           ".sql",
                                           "1",
                                           "1.SQL",
                                           "1.sql ",
                                           "-1.sql",
                                           "123456789012345678901234567890123456789012345678901.sql" };
        auto_free char *longest = repeated("1_", "a", 194, ".sql"), *longer = repeated("1_", "a", 195, ".sql");
        auto_free char *widest = repeated("1_", "\xc3\xa9", 124, "a.sql"),
                       *wider = repeated("1_", "\xc3\xa9", 125, ".sql");

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                if (!is_name_taken(good[i]))
                        fail_msg("%s: %s", good[i], wrong.message);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (is_name_taken(bad[i]))
                        fail_msg("%s was taken", bad[i]);
        assert_true(is_name_taken(longest)); /* 200 characters */
        assert_false(is_name_taken(longer));
        assert_true(is_name_taken(widest)); /* 255 bytes */
        assert_false(is_name_taken(wider));
        assert_string_equal(wrong.field, "name");
        assert_contains(wrong.message, "255 bytes");
}

static void test_the_key_of_a_file_is_its_name(void **state)
{
        auto_json *withdrawn = checked("withdraw", "seeds.sql", json_object());
        auto_free char *wide = repeated("", "\xc3\xa9", 128, "");

        (void)state;
        assert_string_equal(json_text(withdrawn, "name"), "seeds.sql");
        assert_false(is_taken("withdraw", "1.sql", json_pack("{s:s}", "name", NAME)));
        assert_string_equal(wrong.field, "name");
        assert_false(is_taken("withdraw", wide, json_object())); /* 256 bytes */
        assert_string_equal(wrong.field, "name");
        assert_false(is_taken("register", NULL, json_pack("{s:s, s:s}", "name", NAME, "sql", SQL)));
        assert_string_equal(wrong.field, "key");
        assert_false(is_taken("register", "1.sql", json_pack("{s:s, s:s}", "name", NAME, "sql", SQL)));
        assert_string_equal(wrong.field, "name");
}

/* Whether a file with a comment of that many letters is taken. */
static bool is_size_taken(const char *letter, size_t times)
{
        auto_free char *sql = repeated("-- migrate:up\n-- ", letter, times, "\n-- migrate:down\n");

        return is_taken("register", NAME, json_pack("{s:s}", "sql", sql));
}

static void test_a_files_limit_is_in_bytes_and_its_verifys_in_characters(void **state)
{
        const size_t around = strlen("-- migrate:up\n-- \n-- migrate:down\n"), most = MIGRATION_EVENT_LIMIT - around;

        (void)state;
        assert_true(is_size_taken("a", most));
        assert_false(is_size_taken("a", most + 1));
        assert_string_equal(wrong.field, "sql");
        assert_true(is_size_taken("\xc3\xa9", most / 2));
        assert_false(is_size_taken("\xc3\xa9", most / 2 + 1));
        assert_contains(wrong.message, "TENANT_MIGRATIONS");
        for (size_t more = 0; more < 2; more++) {
                auto_free char *verify = repeated("", "\xc3\xa9", MIGRATION_VERIFY_LIMIT + more, "");
                bool taken = is_taken("register", NAME, json_pack("{s:s, s:s}", "sql", SQL, "verify", verify));

                assert_true(taken == (more == 0));
        }
}

static void test_a_source_has_line_breaks_and_tabs_and_no_other_control_characters(void **state)
{
        static const char *const good[] = { "a\tb", "a\nb", "a\r\nb", "\n\n a", "a\n" };
        static const char *const bad[] = { "",         " ",     "\n",        "\t \r\n",       "a\x01", "a\x0b",
                                           "a\x1b[0m", "a\x7f", "a\xc2\x85", "a\xe2\x80\xae", "\x0c" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(is_taken("register", NAME, json_pack("{s:s, s:s}", "sql", SQL, "verify", good[i])));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_false(is_taken("register", NAME, json_pack("{s:s, s:s}", "sql", SQL, "verify", bad[i])));
                assert_string_equal(wrong.field, "verify");
        }
        assert_false(is_taken("register", NAME, json_pack("{s:s, s:s%}", "sql", SQL, "verify", "a\0b", (size_t)3)));
        assert_false(is_taken("register", NAME, json_pack("{s:s, s:s}", "sql", SQL, "reason", "a\nb"))); /* a text */
        assert_string_equal(wrong.field, "reason");
}

static void test_durations_have_bounds_and_become_milliseconds(void **state)
{
        static const struct wrong_case cases[] = {
                { "{\"soak\": \"0\"}", NULL },
                { "{\"soak\": \"30d\"}", NULL },
                { "{\"soak\": \"2592000001ms\"}", "soak" },
                { "{\"soak\": \"31d\"}", "soak" },
                { "{\"soak\": \"99999999999999999999d\"}", "soak" },
                { "{\"soak\": \"10\"}", "soak" },
                { "{\"soak\": \"\"}", "soak" },
                { "{\"soak\": 600}", "soak" },
                { "{\"soak\": null}", "soak" },
                { "{\"lock_timeout\": \"10ms\"}", NULL },
                { "{\"lock_timeout\": \"9ms\"}", "lock_timeout" },
                { "{\"lock_timeout\": \"0\"}", "lock_timeout" },
                { "{\"lock_timeout\": \"10m\"}", NULL },
                { "{\"lock_timeout\": \"601s\"}", "lock_timeout" },
                { "{\"statement_timeout\": \"100ms\"}", NULL },
                { "{\"statement_timeout\": \"99ms\"}", "statement_timeout" },
                { "{\"statement_timeout\": \"24h\"}", NULL },
                { "{\"statement_timeout\": \"86401s\"}", "statement_timeout" },
        };
        auto_json *run = checked("run", RUN, json_pack("{s:s, s:s}", "soak", "90m", "lock_timeout", "007s"));

        (void)state;
        assert_cases("run", cases, ARRAY_SIZE(cases));
        assert_int_equal(json_number(run, "soak_ms", 0), 5400000);
        assert_int_equal(json_number(run, "lock_timeout_ms", 0), 7000);
        assert_null(json_object_get(run, "statement_timeout_ms"));
        assert_string_equal(json_text(run, "run_id"), RUN);
}

#define WAVES(list) "{\"strategy\": \"waves\", \"waves\": [" list "]}"

static void test_waves_rise_to_all(void **state)
{
        static const struct wrong_case cases[] = {
                { WAVES("{\"percent\": 100}"), NULL },
                { WAVES("{\"percent\": 0.01}, {\"percent\": 99.99}, {\"percent\": 100}"), NULL },
                { WAVES("{\"labels\": [\"canary\"]}, {\"count\": 5}, {\"plan\": \"pro\"}, {\"percent\": 1e2}"), NULL },
                { WAVES("{\"percent\": 10}, {\"count\": 1000000}, {\"percent\": 100}"), NULL },
                { WAVES("{\"labels\": []}, {\"percent\": 100}"), NULL },
                { WAVES(""), "waves" },
                { "{\"canary\": \"3f2c9a54-0d7e-4c1b-9a61-7b1f0c2d4e58\"}", "canary" },
                { WAVES("{\"percent\": 50}"), "waves" },
                { WAVES("{\"count\": 1}"), "waves" },
                { WAVES("{\"percent\": 100}, {\"count\": 1}"), "waves" },
                { WAVES("{\"percent\": 50}, {\"percent\": 50}, {\"percent\": 100}"), "waves" },
                { WAVES("{\"percent\": 50}, {\"count\": 1}, {\"percent\": 10}, {\"percent\": 100}"), "waves" },
                { WAVES("{\"percent\": 100}, {\"percent\": 100}"), "waves" },
                { WAVES("{\"percent\": 0}, {\"percent\": 100}"), "waves.percent" },
                { WAVES("{\"percent\": 100.1}"), "waves.percent" },
                { WAVES("{\"percent\": \"100\"}"), "waves.percent" },
                { WAVES("{\"count\": 0}, {\"percent\": 100}"), "waves.count" },
                { WAVES("{\"count\": 1.0}, {\"percent\": 100}"), "waves.count" },
                { WAVES("{\"count\": 1000001}, {\"percent\": 100}"), "waves.count" },
                { WAVES("{\"plan\": \"Pro\"}, {\"percent\": 100}"), "waves.plan" },
                { WAVES("{\"labels\": \"eu\"}, {\"percent\": 100}"), "waves.labels" },
                { WAVES("{}, {\"percent\": 100}"), "waves" },
                { WAVES("{\"count\": 1, \"plan\": \"pro\"}, {\"percent\": 100}"), "waves" },
                { WAVES("{\"tenants\": []}, {\"percent\": 100}"), "waves.tenants" },
                { WAVES("100"), "waves" },
                { "{\"strategy\": \"waves\"}", "waves" },
                { "{\"waves\": [{\"percent\": 100}]}", "waves" },
                { "{\"strategy\": \"all\", \"waves\": [{\"percent\": 100}]}", "waves" },
                { "{\"strategy\": \"All\"}", "strategy" },
        };

        (void)state;
        assert_cases("run", cases, ARRAY_SIZE(cases));
}

static void test_a_runs_fields_have_bounds(void **state)
{
        static const struct wrong_case cases[] = {
                { "{}", NULL },
                { "{\"target\": \"20270105\", \"strategy\": \"gradual\", \"queue\": true, \"reason\": \"4.2\"}", NULL },
                { "{\"max_failure_rate\": 0, \"max_failures\": 0, \"concurrency\": 1}", NULL },
                { "{\"max_failure_rate\": 1, \"max_failures\": 1000000, \"concurrency\": 200}", NULL },
                { "{\"max_failure_rate\": 1.01}", "max_failure_rate" },
                { "{\"max_failure_rate\": -0.01}", "max_failure_rate" },
                { "{\"max_failures\": -1}", "max_failures" },
                { "{\"max_failures\": 0.5}", "max_failures" },
                { "{\"max_failures\": 1000001}", "max_failures" },
                { "{\"concurrency\": 0}", "concurrency" },
                { "{\"concurrency\": 201}", "concurrency" },
                { "{\"on_halt\": \"rollback\"}", NULL },
                { "{\"on_halt\": \"stop\"}", "on_halt" },
                { "{\"queue\": 1}", "queue" },
                { "{\"out_of_order\": null}", "out_of_order" },
                { "{\"allow\": [\"drop_column\"]}", NULL },
                { "{\"allow\": [\"Drop\"]}", "allow" },
                { "{\"labels\": [\"eu\"]}", NULL },
                { "{\"labels\": [\"EU\"]}", "labels" },
                { "{\"tenants\": [\"" OTHER "\"]}", NULL },
                { "{\"tenants\": [\"acme\"]}", "tenants" },
                { "{\"labels\": [\"eu\"], \"tenants\": [\"" OTHER "\"]}", "tenants" },
                { "{\"labels\": [], \"tenants\": []}", "tenants" },
                { "{\"run_id\": \"" RUN "\"}", NULL },
                { "{\"run_id\": \"" OTHER "\"}", "run_id" },
                { "{\"forecast\": \"none\"}", NULL },
                { "{\"forecast\": \"some\"}", "forecast" },
                { "{\"soak_ms\": 1}", "soak_ms" }, /* what we add ourselves */
                { "{\"versions\": []}", "versions" },
        };

        (void)state;
        assert_cases("run", cases, ARRAY_SIZE(cases));
}

/* Whether a run is taken with a list of that many. */
static bool is_length_taken(const char *field, const char *element, size_t count)
{
        json_t *data = json_object(), *list = json_array();

        for (size_t i = 0; i < count; i++)
                json_array_append_new(list, json_string(element));
        json_object_set_new(data, field, list);
        return is_taken("run", RUN, data);
}

static void test_lists_have_limits(void **state)
{
        static const struct {
                const char *field, *element;
                size_t most;
        } lists[] = { { "labels", "eu", 20 }, { "tenants", OTHER, 1000 }, { "allow", "drop_column", 50 } };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
                assert_true(is_length_taken(lists[i].field, lists[i].element, lists[i].most));
                assert_false(is_length_taken(lists[i].field, lists[i].element, lists[i].most + 1));
                assert_string_equal(wrong.field, lists[i].field);
        }
        for (size_t count = 50; count <= 51; count++) {
                auto_free char *list = repeated("{\"strategy\": \"waves\", \"waves\": [", "{\"count\": 1}, ", count - 1,
                                                "{\"percent\": 100}]}");
                const char *field = wrong_field("run", list);

                assert_true((field == NULL) == (count == 50));
        }
}

static void test_commands_name_a_run_and_perhaps_why(void **state)
{
        static const char *const commands[] = { "pause", "resume", "promote", "halt", "rollback", "cancel", "retry" };
        static const struct wrong_case cases[] = {
                { "{}", NULL },
                { "{\"run_id\": \"" RUN "\", \"reason\": \"by hand\"}", NULL },
                { "{\"run_id\": \"" OTHER "\"}", "run_id" },
                { "{\"reason\": \"\"}", "reason" },
                { "{\"target\": \"1\"}", "target" },
        };
        static const struct wrong_case retries[] = {
                { "{\"tenant_id\": \"" OTHER "\", \"code\": \"42P07\"}", NULL },
                { "{\"tenant_id\": \"acme\"}", "tenant_id" },
                { "{\"code\": \" \"}", "code" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
                assert_cases(commands[i], cases, ARRAY_SIZE(cases));
                assert_false(is_taken(commands[i], "run", json_object()));
                assert_string_equal(wrong.field, "key");
        }
        assert_cases("retry", retries, ARRAY_SIZE(retries));
        assert_string_equal(wrong_field("pause", "{\"code\": \"42P07\"}"), "code");
}

static void test_a_signal_has_a_name_and_a_verdict(void **state)
{
        static const struct wrong_case cases[] = {
                { "{\"name\": \"error-rate\", \"verdict\": \"halt\"}", NULL },
                { "{\"name\": \"p99\", \"verdict\": \"good\", \"reason\": \"below 1 s\", \"run_id\": \"" RUN "\"}",
                  NULL },
                { "{\"name\": \"p99\", \"verdict\": \"good\", \"run_id\": \"" OTHER "\"}", "run_id" },
                { "{\"verdict\": \"halt\"}", "name" },
                { "{\"name\": \"error-rate\"}", "verdict" },
                { "{\"name\": \"error rate\", \"verdict\": \"halt\"}", "name" },
                { "{\"name\": \"error-rate\", \"verdict\": \"bad\"}", "verdict" },
                { "{\"name\": \"error-rate\", \"verdict\": \"halt\", \"code\": \"1\"}", "code" },
        };

        (void)state;
        assert_cases("signal", cases, ARRAY_SIZE(cases));
}

static void test_a_check_for_drift_is_of_somebody(void **state)
{
        static const struct wrong_case cases[] = {
                { "{}", NULL },
                { "{\"schema\": true, \"labels\": [\"eu\"], \"reason\": \"after the incident\"}", NULL },
                { "{\"tenants\": [\"" OTHER "\"], \"check_id\": \"" RUN "\"}", NULL },
                { "{\"check_id\": \"" OTHER "\"}", "check_id" },
                { "{\"labels\": []}", "labels" },
                { "{\"tenants\": []}", "tenants" },
                { "{\"labels\": [\"eu\"], \"tenants\": [\"" OTHER "\"]}", "tenants" },
                { "{\"schema\": 1}", "schema" },
                { "{\"run_id\": \"" RUN "\"}", "run_id" },
        };

        (void)state;
        assert_cases("drift", cases, ARRAY_SIZE(cases));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_every_type_has_the_topic_and_is_not_taken_bare),
                SENTENCE(test_a_file_is_completed_with_what_is_known_of_it),
                SENTENCE(test_a_file_that_cannot_be_read_is_refused_by_its_name),
                SENTENCE(test_a_files_name_begins_with_its_version_and_fits_a_directory),
                SENTENCE(test_the_key_of_a_file_is_its_name),
                SENTENCE(test_a_files_limit_is_in_bytes_and_its_verifys_in_characters),
                SENTENCE(test_a_source_has_line_breaks_and_tabs_and_no_other_control_characters),
                SENTENCE(test_durations_have_bounds_and_become_milliseconds),
                SENTENCE(test_waves_rise_to_all),
                SENTENCE(test_a_runs_fields_have_bounds),
                SENTENCE(test_lists_have_limits),
                SENTENCE(test_commands_name_a_run_and_perhaps_why),
                SENTENCE(test_a_signal_has_a_name_and_a_verdict),
                SENTENCE(test_a_check_for_drift_is_of_somebody),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
