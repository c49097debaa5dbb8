/* Migration files: dbmate's format read strictly, what they may not hold, and directories in order. */
#include "tests/unit/check.h"

#include "common/base/crypto.h"
#include "common/migration/migration.h"

#include <sys/stat.h>

#define NAME "20260105090000_branches.sql"

static void assert_parses(const char *text, struct migration *migration)
{
        struct err err = { 0 };

        if (migration_parse(NAME, text, strlen(text), migration, &err) < 0)
                fail_msg("%s\n%s", err.message, text);
}

static void assert_refused_as(const char *name, const char *text, size_t length, const char *part)
{
        struct migration migration = { .version = (char *)"untouched" };
        struct err err = { 0 };

        if (migration_parse(name, text, length, &migration, &err) == 0)
                fail_msg("taken: %s", text);
        assert_int_equal(err.class, ERR_INPUT);
        assert_contains(err.message, part);
        assert_string_equal(migration.version, "untouched");
}

static void assert_refused(const char *text, const char *part)
{
        assert_refused_as(NAME, text, strlen(text), part);
}

static void test_a_file_has_its_version_name_and_two_sections(void **state)
{
        struct migration m;

        (void)state;
        assert_parses("-- migrate:up\ncreate table a ();\n\n-- migrate:down\ndrop table a;\n", &m);
        assert_string_equal(m.version, "20260105090000");
        assert_string_equal(m.name, NAME);
        assert_string_equal(m.up.sql, "create table a ();\n\n");
        assert_string_equal(m.down.sql, "drop table a;\n");
        assert_true(m.up.transaction);
        assert_true(m.down.transaction);
        migration_release(&m);
        assert_null(m.up.sql);
        migration_release(&m); /* twice does no harm */
}

static void test_forms_that_dbmate_takes_are_taken(void **state)
{
        static const struct {
                const char *text, *up, *down;
        } cases[] = {
                { "--migrate:up\na;\n--migrate:down\nb;", "a;\n", "b;" },
                { "--\t migrate:up  \na;\n-- migrate:down\t\n", "a;\n", "" },
                { "-- migrate:up\n-- migrate:down", "", "" },
                { "\n  \n-- why\n--\n  -- more\n-- migrate:up\na;\n-- migrate:down\n", "a;\n", "" },
                { "-- migrate:up\r\na;\r\n-- migrate:down\r\nb;\r\n", "a;\r\n", "b;\r\n" },
                { "\r\n-- why\r\n-- migrate:up\r\na;\n-- migrate:down\r\n", "a;\n", "" },
                { "-- migrate:up\n-- a comment about migrate:down\n-- migrate:downwards\n-- migrate:down\n",
                  "-- a comment about migrate:down\n-- migrate:downwards\n", "" },
                { "-- migrate:up\n  -- migrate:up\n-- migrate:down\n", "  -- migrate:up\n", "" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct migration m;

                assert_parses(cases[i].text, &m);
                assert_string_equal(m.up.sql, cases[i].up);
                assert_string_equal(m.down.sql, cases[i].down);
                assert_true(m.up.transaction && m.down.transaction);
                migration_release(&m);
        }
}

static void test_a_section_may_go_without_a_transaction(void **state)
{
        static const struct {
                const char *text;
                bool up, down;
        } cases[] = {
                { "-- migrate:up transaction:false\n-- migrate:down\n", false, true },
                { "-- migrate:up\n-- migrate:down transaction:false", true, false },
                { "-- migrate:up transaction:true\n-- migrate:down   transaction:false  \n", true, false },
                { "--migrate:up\ttransaction:false\r\n--migrate:down transaction:false\r\n", false, false },
                { "-- migrate:up \r transaction:false\n-- migrate:down\f\vtransaction:false\n", false, false },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct migration m;

                assert_parses(cases[i].text, &m);
                assert_int_equal(m.up.transaction, cases[i].up);
                assert_int_equal(m.down.transaction, cases[i].down);
                migration_release(&m);
        }
}

static void test_options_that_dbmate_ignores_in_silence_are_refused(void **state)
{
        static const char *const options[] = { "transaction=false",  "transaction:maybe",    "transaction: false",
                                               "transaction",        "transaction:",         "TRANSACTION:false",
                                               "transaction:falsee", "transaction:FALSE",    "xtransaction:false",
                                               "readonly:true",      "-- transaction:false", "transaction:false;" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                auto_free char *up = mem_printf("-- why\n-- migrate:up %s\n-- migrate:down\n", options[i]);
                auto_free char *down = mem_printf("-- migrate:up\na;\n-- migrate:down %s\r\n", options[i]);

                assert_refused(up, "line 2: unknown option");
                assert_refused(down, "line 3: unknown option");
        }
        assert_refused("-- migrate:up transaction:false transaction:false\n-- migrate:down\n",
                       "line 1: a second option");
        assert_refused("-- migrate:up transaction:false readonly:true\n-- migrate:down\n", "\"readonly:true\"");
}

static void test_files_that_mean_something_else_are_refused(void **state)
{
        static const char *const cases[][2] = {
                { "", "no migrate:up" },
                { "-- only words\n", "no migrate:up" },
                { "-- migrate:up\na;\n", "no migrate:down" },
                { "-- migrate:up\na;\n -- migrate:down\n", "no migrate:down" },
                { "-- migrate:up\na;\n-- migrate: down\n", "no migrate:down" },
                { "-- migrate:up\na;\n-- MIGRATE:DOWN\n", "no migrate:down" },
                { "-- migrate:up\na;\n# migrate:down\n", "no migrate:down" },
                { "-- migrate:down\n-- migrate:up\n", "line 1: migrate:down before migrate:up" },
                { "-- migrate:up\n-- migrate:up\n-- migrate:down\n", "line 2: the migrate:up before this one has no" },
                { "-- migrate:up\n-- migrate:down\n-- migrate:down\n", "line 3: a second migrate:down" },
                { "-- migrate:up\n-- migrate:down\n-- migrate:up\n", "no migrate:down for its last migrate:up" },
                { "-- migrate:up\n-- migrate:down\n-- migrate:up\ncommit;\n-- migrate:down\n", "line 4: \"commit\"" },
                { "-- migrate:up\n-- migrate:down\n-- migrate:up x:y\n-- migrate:down\n", "line 3: unknown option" },
                { "create table a ();\n-- migrate:up\n-- migrate:down\n", "line 1: only comments" },
                { "\n\n/* no */\n-- migrate:up\n-- migrate:down\n", "line 3: only comments" },
                { "\xef\xbb\xbf-- migrate:up\n-- migrate:down\n", "byte order mark" },
                /* A directive is one even inside a literal, which then never ends. */
                { "-- migrate:up\nselect '\n-- migrate:down\n';\n", "line 2: this quote is never closed" },
                { "-- migrate:up\na;\n\nb $x$ c\n-- migrate:down\n", "line 4: this quote is never closed: $x$ c" },
                { "-- migrate:up\na;\n/* b /* c */\n-- migrate:down\n", "line 3: this comment is never closed" },
                { "-- migrate:up\na;\n-- migrate:down\nb \"c\n", "line 4: this quote is never closed" },
                { "-- migrate:up\na;\n\n  commit;\n-- migrate:down\n", "line 4: \"commit\": a migration is one" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_refused(cases[i][0], cases[i][1]);
}

static void test_statements_that_would_leave_the_ledger_behind_are_refused(void **state)
{
        static const char *const ends[] = { "commit",
                                            "COMMIT AND CHAIN",
                                            "begin",
                                            "Begin isolation level serializable",
                                            "start transaction",
                                            "end",
                                            "abort",
                                            "rollback",
                                            "rollback work",
                                            "/* no /* really */ */ rollback -- all of it",
                                            "prepare transaction 'x'",
                                            "copy t from stdin",
                                            "copy t (a, b) to STDOUT with (format csv)",
                                            "select 1; commit" };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
                auto_free char *up =
                        mem_printf("-- migrate:up\ncreate table t (a int);\n%s;\n-- migrate:down\n", ends[i]);
                auto_free char *down = mem_printf("-- migrate:up\na;\n-- migrate:down\n%s\n", ends[i]);

                assert_refused(up, strstr(ends[i], "std") || strstr(ends[i], "STD") ? "copy from stdin"
                                                                                    : "one transaction");
                assert_refused(down, NAME);
        }
        assert_refused("-- migrate:up transaction:false\ncopy t from stdin;\n-- migrate:down\n", "copy from stdin");
}

static void test_statements_that_only_look_like_that_are_taken(void **state)
{
        static const char *const fine[] = { "savepoint a; rollback to savepoint a; release a",
                                            "rollback work to a",
                                            "prepare find as select 1",
                                            "copy t from '/tmp/stdin.csv'",
                                            "select 'commit;', \"commit\"",
                                            "do $$ begin commit; end $$",
                                            "create function f() returns int begin atomic select 1; end",
                                            "insert into t values ('copy x from stdin')",
                                            "-- commit;\nselect 1",
                                            "commit_log" };
        struct migration m;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
                auto_free char *text = mem_printf("-- migrate:up\n%s;\n-- migrate:down\n", fine[i]);

                assert_parses(text, &m);
                migration_release(&m);
        }
        assert_parses("-- migrate:up transaction:false\nbegin; a; commit;\n-- migrate:down\n", &m);
        migration_release(&m);
}

static void test_what_would_be_lost_with_a_session_is_refused_without_a_transaction(void **state)
{
        static const char *const cases[][2] = {
                { "create temp table a (b int)", "a temporary object" },
                { "create local temporary table a (b int) on commit preserve rows", "a temporary object" },
                { "CREATE OR REPLACE TEMP VIEW a AS SELECT 1", "a temporary object" },
                { "create /* so */ temporary sequence a", "a temporary object" },
                { "create function pg_temp.f() returns int language sql as 'select 1'", "a temporary object" },
                { "select 1 into temp a", "a temporary object" },
                { "with b as (select 1) select * into local temp a from b", "a temporary object" },
                { "prepare find as select 1", "prepare, listen and load" },
                { "listen news", "prepare, listen and load" },
                { "load 'auto_explain'", "prepare, listen and load" },
                { "declare c cursor with hold for select 1", "a cursor" },
                { "discard all", "discard" },
                { "set session authorization other", "use set role" },
                { "set local session_authorization = other", "use set role" },
                { "select pg_advisory_lock(1)", "session-level advisory lock" },
                { "do something(pg_try_advisory_lock_shared(1))", "session-level advisory lock" },
                { "select set_config('a.b', 'c', false), f()", "a separate statement" },
                { "insert into t select set_config('a.b', 'c', false)", "a separate statement" },
                { "create index concurrently on t (a)", "needs a name" },
                { "create unique index concurrently if not exists on only t (a)", "needs a name" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *alone =
                        mem_printf("-- migrate:up transaction:false\na;\n%s;\n-- migrate:down\n", cases[i][0]);
                auto_free char *whole = mem_printf("-- migrate:up\na;\n%s;\n-- migrate:down\n", cases[i][0]);
                struct migration m;

                assert_refused(alone, cases[i][1]);
                assert_refused(alone, "line 3");
                assert_parses(whole, &m); /* a transaction is in one session from its beginning to its end */
                migration_release(&m);
        }
}

static void test_what_another_session_can_make_again_is_taken_without_a_transaction(void **state)
{
        static const char *const fine[] = {
                "create temp table a (b int) on commit drop",
                "create table temp (temporary text)",
                "insert into temp select 1",
                "set search_path = a, pg_temp",
                "set role other",
                "select set_config('a.b', 'c', false)",
                "select pg_catalog.set_config('a.b', (select max(x) from t), false)",
                "select pg_advisory_xact_lock(1)",
                "prepare transaction 'a'",
                "create index concurrently a on t (b)",
                "create index on t (a)",
                "select 'create temp table a ()'",
                "create function f() returns int language sql as 'select pg_advisory_lock(1)'"
        };
        struct migration m;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
                auto_free char *text = mem_printf("-- migrate:up transaction:false\n%s;\n-- migrate:down\n", fine[i]);

                assert_parses(text, &m);
                migration_release(&m);
        }
}

static void test_bytes_that_no_script_has_are_refused(void **state)
{
        static const char nul[] = "-- migrate:up\nselect 1\0;\n-- migrate:down\n";
        const size_t large = 4 * 1024 * 1024;
        auto_free char *text = mem_alloc(large + 2, 1);

        (void)state;
        assert_refused_as(NAME, nul, sizeof(nul) - 1, "NUL");
        memset(text, '\n', large + 1);
        assert_refused_as(NAME, text, large + 1, "larger than");
}

static void test_what_is_not_utf8_is_refused_by_its_place(void **state)
{
        static const char *const cases[][2] = {
                { "-- migrate:up\n\xe4;\n-- migrate:down\n", "line 2: byte 15 (E4)" },
                { "-- migrate:up\n\xc3\xa4\xc3;\n-- migrate:down\n", "line 2: byte 17 (C3)" },
                { "-- caf\xe9\n-- migrate:up\n-- migrate:down\n", "line 1: byte 7 (E9)" },
                { "-- migrate:up\n-- migrate:down\n\n\xe2\x82", "line 4: byte 32 (E2)" }, /* cut off */
                { "-- migrate:up\n\xed\xa0\x80;\n-- migrate:down\n", "line 2: byte 15" }, /* a surrogate */
                { "-- migrate:up\n\xc0\xaf;\n-- migrate:down\n", "line 2: byte 15" },     /* overlong */
        };
        struct migration m;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_refused(cases[i][0], cases[i][1]);
        assert_parses("-- migrate:up\n\xc3\xa4 \xe2\x82\xac \xf0\x9f\x92\x8a;\n-- migrate:down\n", &m);
        migration_release(&m);
}

static void test_names_begin_with_a_version_and_end_in_sql(void **state)
{
        static const char *const good[][2] = {
                { "1.sql", "1" }, { "001_a.sql", "001" }, { "2026a.sql", "2026" }, { "20260105 x.up.sql", "20260105" }
        };
        static const char *const bad[] = {
                "",  "a.sql", "_1.sql", "1.SQL",  "1.sql.bak",
                "1", "1sql",  ".sql",   "-1.sql", "123456789012345678901234567890123456789012345678901.sql"
        };
        static const char text[] = "-- migrate:up\n-- migrate:down\n";

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                struct migration m;

                assert_int_equal(migration_parse(good[i][0], text, sizeof(text) - 1, &m, NULL), 0);
                assert_string_equal(m.version, good[i][1]);
                migration_release(&m);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_refused_as(bad[i], text, sizeof(text) - 1, "begins with its version");
}

static void test_the_checksum_is_that_of_the_files_bytes(void **state)
{
        static const char text[] = "-- migrate:up\r\na;\n-- migrate:down\n",
                          other[] = "-- migrate:up\na;\n-- migrate:down\n";
        struct crypto_digest digest;
        auto_free char *hex = NULL;
        struct migration m, n;

        (void)state;
        crypto_sha256(text, sizeof(text) - 1, &digest);
        hex = crypto_hex(digest.bytes, sizeof(digest.bytes));
        assert_parses(text, &m);
        assert_parses(other, &n);
        assert_string_equal(m.checksum, hex);
        assert_string_not_equal(n.checksum, hex);
        migration_release(&m);
        migration_release(&n);
}

static char *scratch_directory(void)
{
        char *path = mem_printf("%s/tenantry-unit-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");

        assert_non_null(mkdtemp(path));
        return path;
}

static void put(const char *directory, const char *name, const char *text)
{
        auto_free char *path = mem_printf("%s/%s", directory, name);
        FILE *out = fopen(path, "we");

        assert_non_null(out);
        fputs(text, out);
        fclose(out);
}

static void take_away(const char *directory, const char *name)
{
        auto_free char *path = mem_printf("%s/%s", directory, name);

        assert_int_equal(unlink(path), 0);
}

static void test_several_ups_run_in_their_order_and_downs_from_the_last_to_the_first(void **state)
{
        struct migration m;

        (void)state;
        assert_parses("-- migrate:up\na;\n-- migrate:down\nundo a\n-- migrate:up\nb\n-- migrate:down\nundo b;\n", &m);
        assert_string_equal(m.up.sql, "a;\n\n;\nb\n");
        assert_string_equal(m.down.sql, "undo b;\n\n;\nundo a\n");
        assert_true(m.up.transaction && m.down.transaction);
        assert_int_equal(migration_place(&m.up, (size_t)(strchr(m.up.sql, 'b') - m.up.sql)).line, 6);
        assert_int_equal(migration_place(&m.down, (size_t)(strstr(m.down.sql, "undo a") - m.down.sql)).line, 4);
        assert_int_equal(migration_place(&m.down, (size_t)(strstr(m.down.sql, "undo b") - m.down.sql)).line, 8);
        migration_release(&m);
}

static void test_ups_with_and_without_a_transaction_stand_in_one_file(void **state)
{
        struct migration m;

        (void)state;
        assert_parses("-- migrate:up\na;\n-- migrate:down\n-- migrate:up transaction:false\nb;\n-- migrate:down\n", &m);
        assert_string_equal(m.up.sql, "begin;\na;\n\n;\ncommit;\n;\nb;\n");
        assert_false(m.up.transaction);
        assert_true(m.down.transaction);
        assert_int_equal(migration_place(&m.up, (size_t)(strchr(m.up.sql, 'a') - m.up.sql)).line, 2);
        assert_int_equal(migration_place(&m.up, (size_t)(strchr(m.up.sql, 'a') - m.up.sql)).statement, 1);
        assert_int_equal(migration_place(&m.up, (size_t)(strstr(m.up.sql, "b;") - m.up.sql)).line, 5);
        migration_release(&m);
}

static void test_a_directory_is_read_in_the_order_of_names_byte_for_byte(void **state)
{
        static const char *const names[] = { "20_b.sql",       "100_c.sql",  "003_z.sql",
                                             "20260101_x.sql", "20_a1.sqlx", "readme.md" };
        static const char *const order[] = { "003_z.sql", "100_c.sql", "20260101_x.sql", "20_b.sql" };
        auto_free char *directory = scratch_directory();
        struct migration_set *set = NULL;
        struct err err = { 0 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                put(directory, names[i], "-- migrate:up\n-- migrate:down\n");
        if (migration_set_load(directory, &set, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(set->count, ARRAY_SIZE(order));
        for (size_t i = 0; i < ARRAY_SIZE(order); i++)
                assert_string_equal(set->items[i].name, order[i]);
        migration_set_free(set);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                take_away(directory, names[i]);
        rmdir(directory);
}

static void test_one_file_is_loaded_with_what_verifies_it(void **state)
{
        auto_free char *directory = scratch_directory(), *path = mem_printf("%s/1_a.sql", directory);
        struct migration_set *set = NULL;
        struct err err = { 0 };

        (void)state;
        put(directory, "1_a.sql", "-- migrate:up\n-- migrate:down\n");
        put(directory, "1_a.verify", "select true");
        put(directory, "2_b.sql", "-- migrate:up\n-- migrate:down\n");
        if (migration_set_load(path, &set, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(set->count, 1);
        assert_string_equal(set->items[0].name, "1_a.sql");
        assert_string_equal(set->items[0].verify, "select true");
        migration_set_free(set);
        take_away(directory, "1_a.sql");
        take_away(directory, "1_a.verify");
        take_away(directory, "2_b.sql");
        rmdir(directory);
}

static void test_a_directory_with_one_bad_file_is_refused_by_its_name(void **state)
{
        auto_free char *directory = scratch_directory(), *missing = mem_printf("%s/missing", directory);
        struct migration_set *set = NULL;
        struct err err;

        (void)state;
        put(directory, "1_good.sql", "-- migrate:up\n-- migrate:down\n");
        put(directory, "2_bad.sql", "drop table customers;\n");
        assert_int_equal(migration_set_load(directory, &set, &err), -ERR_INPUT);
        assert_contains(err.message, "2_bad.sql line 1");
        put(directory, "2_bad.sql", "-- migrate:up\n-- migrate:down\n");
        put(directory, "2_twin.sql", "-- migrate:up\n-- migrate:down\n");
        assert_int_equal(migration_set_load(directory, &set, &err), -ERR_INPUT);
        assert_contains(err.message, "2_bad.sql and 2_twin.sql have the same version");
        take_away(directory, "2_twin.sql");
        put(directory, "seed.sql", "select 1;");
        assert_int_equal(migration_set_load(directory, &set, &err), -ERR_INPUT);
        assert_contains(err.message, "seed.sql");
        assert_int_equal(migration_set_load(missing, &set, &err), -ERR_INPUT);
        assert_contains(err.message, missing);
        assert_null(set);
        take_away(directory, "seed.sql");
        take_away(directory, "2_bad.sql");
        take_away(directory, "1_good.sql");
        rmdir(directory);
}

static void test_an_empty_directory_is_an_empty_set(void **state)
{
        auto_free char *directory = scratch_directory();
        struct migration_set *set = NULL;

        (void)state;
        assert_int_equal(migration_set_load(directory, &set, NULL), 0);
        assert_int_equal(set->count, 0);
        migration_set_free(set);
        migration_set_free(NULL);
        rmdir(directory);
}

static void test_our_own_migrations_parse_and_split_without_loss(void **state)
{
        static const char *const directories[] = { "migrations/catalog", "migrations/tenant" };

        (void)state;
        for (size_t d = 0; d < ARRAY_SIZE(directories); d++) {
                struct migration_set *set = NULL;
                struct err err;

                if (migration_set_load(directories[d], &set, &err) < 0)
                        fail_msg("%s", err.message);
                assert_true(set->count > 0);
                for (size_t i = 0; i < set->count; i++) {
                        const char *sql = set->items[i].up.sql;
                        size_t length, total = 0, statements = 0;

                        for (; (length = migration_next_statement(sql + total)) > 0; statements++)
                                total += length;
                        assert_int_equal(total, strlen(sql));
                        assert_true(statements > 1);
                }
                migration_set_free(set);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_file_has_its_version_name_and_two_sections),
                SENTENCE(test_forms_that_dbmate_takes_are_taken),
                SENTENCE(test_a_section_may_go_without_a_transaction),
                SENTENCE(test_options_that_dbmate_ignores_in_silence_are_refused),
                SENTENCE(test_files_that_mean_something_else_are_refused),
                SENTENCE(test_statements_that_would_leave_the_ledger_behind_are_refused),
                SENTENCE(test_statements_that_only_look_like_that_are_taken),
                SENTENCE(test_what_would_be_lost_with_a_session_is_refused_without_a_transaction),
                SENTENCE(test_what_another_session_can_make_again_is_taken_without_a_transaction),
                SENTENCE(test_bytes_that_no_script_has_are_refused),
                SENTENCE(test_what_is_not_utf8_is_refused_by_its_place),
                SENTENCE(test_names_begin_with_a_version_and_end_in_sql),
                SENTENCE(test_the_checksum_is_that_of_the_files_bytes),
                SENTENCE(test_several_ups_run_in_their_order_and_downs_from_the_last_to_the_first),
                SENTENCE(test_ups_with_and_without_a_transaction_stand_in_one_file),
                SENTENCE(test_a_directory_is_read_in_the_order_of_names_byte_for_byte),
                SENTENCE(test_one_file_is_loaded_with_what_verifies_it),
                SENTENCE(test_a_directory_with_one_bad_file_is_refused_by_its_name),
                SENTENCE(test_an_empty_directory_is_an_empty_set),
                SENTENCE(test_our_own_migrations_parse_and_split_without_loss),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
