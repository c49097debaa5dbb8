/* SQL cut into its statements as PostgreSQL would cut it; what kind each is of, and where in its file it stands. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/migration/migration.h"
#include "common/migration/statement_kind.h"

/* Pieces are divided by | in expected. */
static void assert_splits(const char *sql, const char *expected)
{
        auto_buf pieces = { 0 };
        size_t length;

        buf_add_text(&pieces, "");
        for (const char *p = sql; (length = migration_next_statement(p)) > 0; p += length) {
                if (p != sql)
                        buf_add_text(&pieces, "|");
                buf_add(&pieces, p, length);
        }
        assert_string_equal(pieces.data, expected);
}

static void test_statements_end_with_their_semicolons(void **state)
{
        (void)state;
        assert_splits("", "");
        assert_splits("select 1", "select 1");
        assert_splits("a;b;c", "a;|b;|c");
        assert_splits("a;\n\nb;\n", "a;|\n\nb;|\n");
        assert_splits(";;", ";|;");
}

static void test_semicolons_in_quotes_end_nothing(void **state)
{
        (void)state;
        assert_splits("select ';';b", "select ';';|b");
        assert_splits("select 'it''s;';b", "select 'it''s;';|b");
        assert_splits("select '';b", "select '';|b");
        assert_splits("select '\\';b';", "select '\\';|b';"); /* a backslash is nothing special */
        assert_splits("select \"a;b\";c", "select \"a;b\";|c");
        assert_splits("select \"a\"\";b\";c", "select \"a\"\";b\";|c");
        assert_splits("select \"it's;\";c", "select \"it's;\";|c");
        assert_splits("select 'a\";b';c", "select 'a\";b';|c");
        assert_splits("select 'never;closed", "select 'never;closed");
}

static void test_backslashes_count_in_e_strings_only(void **state)
{
        (void)state;
        assert_splits("select E'\\';b';c", "select E'\\';b';|c");
        assert_splits("select e'\\\\';c", "select e'\\\\';|c");
        assert_splits("select E'it''s\\';';c", "select E'it''s\\';';|c");
        assert_splits("E'\\';';c", "E'\\';';|c");
        assert_splits("a;E'\\';';c", "a;|E'\\';';|c");
        assert_splits("select name'\\';c';", "select name'\\';|c';"); /* a name that ends in e */
        assert_splits("select _e'\\';c';", "select _e'\\';|c';");
        assert_splits("select a$e'\\';c';", "select a$e'\\';|c';");
        assert_splits("select E\"\\\";c\";", "select E\"\\\";|c\";"); /* names have no escapes */
        assert_splits("select E'\\", "select E'\\");
        assert_splits("select U&'\\';c';", "select U&'\\';|c';");
        assert_splits("select E'a'\n '\\';b';c", "select E'a'\n '\\';b';|c"); /* one text on two lines */
        assert_splits("select E'a' '\\';b';", "select E'a' '\\';|b';");
        assert_splits("select 'a'\n'\\';b';", "select 'a'\n'\\';|b';");
}

static void test_dollar_quotes_hold_until_their_own_tag(void **state)
{
        (void)state;
        assert_splits("do $$ a; 'b $$;c", "do $$ a; 'b $$;|c");
        assert_splits("do $f$ a; $$ b; $g$ c; $f$;d", "do $f$ a; $$ b; $g$ c; $f$;|d");
        assert_splits("do $F$ a; $f$ b; $F$;d", "do $F$ a; $f$ b; $F$;|d");
        assert_splits("do $_1$;$_1$;d", "do $_1$;$_1$;|d");
        assert_splits("do $caf\xc3\xa9$;$caf\xc3\xa9$;d", "do $caf\xc3\xa9$;$caf\xc3\xa9$;|d");
        assert_splits("select $1;b$1", "select $1;|b$1");
        assert_splits("select $1$;b", "select $1$;|b");       /* a tag does not begin with a digit */
        assert_splits("select a$b;c$b;", "select a$b;|c$b;"); /* a name with a dollar in it */
        assert_splits("select a$$;c", "select a$$;|c");
        assert_splits("select $ ;b", "select $ ;|b");
        assert_splits("do $$ never; closed", "do $$ never; closed");
        assert_splits("do $a$$a$;b", "do $a$$a$;|b");
        assert_splits("$$;$$;b", "$$;$$;|b");
}

static void test_semicolons_in_comments_end_nothing(void **state)
{
        (void)state;
        assert_splits("a -- b; 'c\n;d", "a -- b; 'c\n;|d");
        assert_splits("a -- b; 'c\r;d", "a -- b; 'c\r;|d");
        assert_splits("a; -- last", "a;| -- last");
        assert_splits("-- only; this", "-- only; this");
        assert_splits("a - -b;c", "a - -b;|c");
        assert_splits("a /* b; */;c", "a /* b; */;|c");
        assert_splits("a /* b /* c; */ d; */;e", "a /* b /* c; */ d; */;|e");
        assert_splits("a /*/ b; */;c", "a /*/ b; */;|c");
        assert_splits("a /* /*/ b; */ c; */;d", "a /* /*/ b; */ c; */;|d");
        assert_splits("a /**/;c", "a /**/;|c");
        assert_splits("a /* ' */;b '", "a /* ' */;|b '");
        assert_splits("a '/*';b", "a '/*';|b");
        assert_splits("a '--';b", "a '--';|b");
        assert_splits("a /* never; closed", "a /* never; closed");
        assert_splits("a /", "a /");
        assert_splits("a / b * c;d", "a / b * c;|d");
}

static void test_semicolons_in_parentheses_end_nothing(void **state)
{
        (void)state;
        assert_splits("create rule r as on insert to t do (a; b);c", "create rule r as on insert to t do (a; b);|c");
        assert_splits("a ((;) ;);b", "a ((;) ;);|b");
        assert_splits("a ')' (';');b", "a ')' (';');|b");
        assert_splits("a );b(;)", "a );|b(;)");
        assert_splits("a )(;);b", "a )(;);|b");
}

static void test_the_body_of_a_standard_function_is_one_statement(void **state)
{
        static const char plain[] = "create function f() returns int begin atomic select 1; select 2; end;";
        static const char with_case[] =
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 ELSE 2 END; END;";
        static const char nested[] =
                "create procedure p() begin /* so */ atomic\nselect case when a then case b when 1 then 2 end "
                "end;\ninsert into t values ('end;'); end;";
        static const char *const texts[] = { plain, with_case, nested };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                auto_free char *sql = mem_printf("%sb;", texts[i]), *expected = mem_printf("%s|b;", texts[i]);

                assert_splits(sql, expected);
        }
        assert_splits("begin; select 1; end;", "begin;| select 1;| end;"); /* a transaction is no body */
        assert_splits("select case when a then 1 end;b", "select case when a then 1 end;|b");
        assert_splits("select atomic;b", "select atomic;|b");
        assert_splits("select 1 as begin, atomic from t;b", "select 1 as begin, atomic from t;|b");
        assert_splits("select \"begin\" atomic;b", "select \"begin\" atomic;|b");
        assert_splits("select begin_atomic, weekend;b", "select begin_atomic, weekend;|b");
}

static void test_random_pieces_always_add_up_to_the_whole(void **state)
{
        static const char *const words[] = {
                ";",  "'",  "\"", "$$", "$a$",           "$",   "--",    "\n", "/*", "*/", "(", ")",
                "E'", "\\", "a",  " ",  "begin atomic ", "end", "case ", "\r", "1"
        };
        unsigned seed = 1;

        (void)state;
        for (int round = 0; round < 20000; round++) {
                auto_buf sql = { 0 };
                size_t total = 0, length;

                buf_add_text(&sql, "");
                for (int i = 0; i < 12; i++) {
                        seed = seed * 1664525u + 1013904223u;
                        buf_add_text(&sql, words[(seed >> 16) % ARRAY_SIZE(words)]);
                }
                while ((length = migration_next_statement(sql.data + total)) > 0)
                        total += length;
                if (total != sql.length)
                        fail_msg("%zu of %zu bytes of: %s", total, sql.length, sql.data);
        }
}

static void test_statements_of_the_session_are_told_from_those_with_an_effect(void **state)
{
        static const struct {
                const char *text;
                bool of_session, alone, concurrent;
        } cases[] = {
                { "set search_path to a", true, false, false },
                { "\n-- why\nSET LOCAL a.b = 'c'", true, false, false },
                { "reset all", true, false, false },
                { "select set_config('a', 'b', false);", true, false, false },
                { "select pg_catalog . set_config(lower('A'), ('b'), false)", true, false, false },
                { "select set_config('a', 'b', false), f()", false, false, false },
                { "select f(set_config('a', 'b', false))", false, false, false },
                { "begin isolation level serializable", true, false, false },
                { "commit and chain", true, false, false },
                { "rollback to savepoint a", true, false, false },
                { "commit prepared 'a'", false, false, false },
                { "rollback prepared 'a'", false, false, false },
                { "update t set a = 1", false, false, false },
                { "\"set\" a", false, false, false },
                { "vacuum full t", false, true, false },
                { "alter system set a = 1", false, true, false },
                { "create database a", false, true, false },
                { "create index a on t (b)", false, false, false },
                { "create index concurrently a on t (b)", false, true, true },
                { "Create Unique /* all */ Index Concurrently a on t (b)", false, true, true },
                { "drop index concurrently a", false, true, true },
                { "reindex (verbose) table concurrently t", false, true, true },
                { "reindex (concurrently) table t", false, true, true },
                { "alter table t detach partition p concurrently", false, true, true },
                { "alter table t add column concurrently int", false, false, false },
                { "refresh materialized view concurrently v", false, false, false },
                { "create table concurrently ()", false, false, false },
                { "", false, false, false },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t length = strlen(cases[i].text);

                if (statement_is_of_session(cases[i].text, length) != cases[i].of_session ||
                    statement_is_alone(cases[i].text, length) != cases[i].alone ||
                    statement_is_concurrent(cases[i].text, length) != cases[i].concurrent)
                        fail_msg("%s", cases[i].text);
        }
        assert_true(statement_is_begin("/* a */ Start transaction", 25));
        assert_false(statement_is_begin("\"begin\"", 7));
}

static void test_the_index_that_a_statement_builds_is_known_by_name_and_table(void **state)
{
        static const char *const cases[][3] = {
                { "create index concurrently a on t (b);", "a", "t" },
                { "create unique index concurrently if not exists \"A b\" on only s.t using gin (b)", "\"A b\"",
                  "s.t" },
                { "create index concurrently a on\n\"S\" . /* x */ t(b)", "a", "\"S\".t" },
                { "create index concurrently on t (b)", NULL, "t" },
                { "create index a on t (b)", NULL, NULL },
                { "create index concurrently a", NULL, NULL },
                { "create index concurrently", NULL, NULL },
                { "drop index concurrently a", NULL, NULL },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *index = NULL, *table = NULL;

                statement_index(cases[i][0], strlen(cases[i][0]), &index, &table);
                assert_string_equal(index ? index : "none", cases[i][1] ? cases[i][1] : "none");
                assert_string_equal(table ? table : "none", cases[i][2] ? cases[i][2] : "none");
        }
}

static void assert_place(const struct migration *m, const char *word, int statement, int line, int column)
{
        const char *at = strstr(m->up.sql, word);
        struct migration_place place;

        assert_non_null(at);
        place = migration_place(&m->up, (size_t)(at - m->up.sql));
        assert_int_equal(place.statement, statement);
        assert_int_equal(place.line, line);
        assert_int_equal(place.column, column);
}

static void test_a_place_is_told_as_an_editor_shows_it(void **state)
{
        static const char file[] = "-- why\r\n\n-- migrate:up\nfirst;; /* ; */ second\n  '\xc3\xa4;' third; -- ; \n\n "
                                   "fourth\n-- migrate:down\n";
        struct migration m;

        (void)state;
        assert_int_equal(migration_parse("1_places.sql", file, strlen(file), &m, NULL), 0);
        assert_place(&m, "first", 1, 4, 1);
        assert_place(&m, "second", 2, 4, 17);
        assert_place(&m, "third", 2, 5, 8);
        assert_place(&m, "fourth", 3, 7, 2);
        migration_release(&m);
}

static void test_characters_are_found_by_their_number(void **state)
{
        static const char text[] = "a\xc3\xa4\xe2\x82\xac"
                                   "b";

        (void)state;
        assert_int_equal(migration_character_offset(text, 1), 0);
        assert_int_equal(migration_character_offset(text, 2), 1);
        assert_int_equal(migration_character_offset(text, 3), 3);
        assert_int_equal(migration_character_offset(text, 4), 6);
        assert_int_equal(migration_character_offset(text, 5), 7);
        assert_int_equal(migration_character_offset(text, 100), 7);
        assert_int_equal(migration_character_offset("", 1), 0);
}

static void test_a_verify_is_exactly_one_statement(void **state)
{
        (void)state;
        assert_int_equal(migration_verify_length("select true"), 11);
        assert_int_equal(migration_verify_length("select true; -- there"), 11);
        assert_int_equal(migration_verify_length("-- why\nselect ';' = ';';\n"), 23);
        assert_int_equal(migration_verify_length("select true; select false"), 0);
        assert_int_equal(migration_verify_length(" -- nothing\n;"), 0);
        assert_int_equal(migration_verify_length(""), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_statements_end_with_their_semicolons),
                SENTENCE(test_semicolons_in_quotes_end_nothing),
                SENTENCE(test_backslashes_count_in_e_strings_only),
                SENTENCE(test_dollar_quotes_hold_until_their_own_tag),
                SENTENCE(test_semicolons_in_comments_end_nothing),
                SENTENCE(test_semicolons_in_parentheses_end_nothing),
                SENTENCE(test_the_body_of_a_standard_function_is_one_statement),
                SENTENCE(test_random_pieces_always_add_up_to_the_whole),
                SENTENCE(test_statements_of_the_session_are_told_from_those_with_an_effect),
                SENTENCE(test_the_index_that_a_statement_builds_is_known_by_name_and_table),
                SENTENCE(test_a_place_is_told_as_an_editor_shows_it),
                SENTENCE(test_characters_are_found_by_their_number),
                SENTENCE(test_a_verify_is_exactly_one_statement),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
