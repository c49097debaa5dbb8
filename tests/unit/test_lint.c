/* What the linter says of a migration, rule by rule, and what it lets pass. */
#include "tests/unit/check.h"

#include "common/base/buf.h"
#include "common/migration/lint.h"

#define NAME "20260105090000_branches.sql"

static void assert_parses(const char *text, struct migration *migration)
{
        struct err err = { 0 };

        if (migration_parse(NAME, text, strlen(text), migration, &err) < 0)
                fail_msg("%s\n%s", err.message, text);
}

/* Places are counted once more, in the way that failures of a statement are placed. */
static void assert_places(const struct migration *m, const struct migration_findings *findings)
{
        for (size_t i = 0; i < findings->count; i++) {
                const struct migration_finding *each = &findings->items[i];
                struct migration_place place = migration_place(each->in_down ? &m->down : &m->up, each->offset);

                if (each->place.statement == 0)
                        continue;
                assert_int_equal(each->place.line, place.line);
                assert_int_equal(each->place.column, place.column);
                assert_int_equal(each->place.statement, place.statement);
        }
}

/* The rules, in the order of lines, "!" behind those that would stop a run. */
static void assert_finds(const char *text, const char *expected)
{
        struct migration_findings findings;
        struct migration migration;
        auto_buf rules = { 0 };

        assert_parses(text, &migration);
        migration_lint(&migration, &findings);
        assert_places(&migration, &findings);
        buf_add_text(&rules, "");
        for (size_t i = 0; i < findings.count; i++)
                buf_printf(&rules, "%s%s%s", i ? " " : "", findings.items[i].rule,
                           findings.items[i].breaking && !findings.items[i].allowed ? "!" : "");
        if (strcmp(rules.data, expected) != 0)
                fail_msg("\"%s\" instead of \"%s\" in:\n%s", rules.data, expected, text);
        migration_findings_release(&findings);
        migration_release(&migration);
}

struct lint_case {
        const char *sql, *rules;
};

static void assert_ups(const struct lint_case *cases, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                auto_free char *text = mem_printf("-- migrate:up\n%s;\n-- migrate:down\nselect 1;\n", cases[i].sql);

                assert_finds(text, cases[i].rules);
        }
}

static void assert_downs(const struct lint_case *cases, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                auto_free char *text = mem_printf("-- migrate:up\ncreate table made (a int);\n"
                                                  "-- migrate:down\n%s;\n",
                                                  cases[i].sql);

                assert_finds(text, cases[i].rules);
        }
}

static void assert_ups_alone(const struct lint_case *cases, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                auto_free char *text =
                        mem_printf("-- migrate:up transaction:false\n%s;\n-- migrate:down\nselect 1;\n", cases[i].sql);

                assert_finds(text, cases[i].rules);
        }
}

static void test_what_old_programs_use_is_not_dropped(void **state)
{
        static const struct lint_case cases[] = {
                { "drop table t", "drop-table!" },
                { "DROP TABLE IF EXISTS app.\"T\" CASCADE", "drop-table!" },
                { "drop table a, b", "drop-table! drop-table!" },
                { "alter table base.app.\"T\" drop column c", "drop-column!" },
                { "drop foreign table t", "drop-table!" },
                { "alter table t drop column c", "drop-column!" },
                { "alter table only t drop c cascade", "drop-column!" },
                { "alter table if exists t drop column if exists c, drop d", "drop-column! drop-column!" },
                { "drop view v", "drop-object!" },
                { "drop materialized view v", "drop-object!" },
                { "drop function f(int, text), g", "drop-object! drop-object!" },
                { "drop procedure p", "drop-object!" },
                { "drop type mood", "drop-object!" },
                { "drop domain d", "drop-object!" },
                { "drop sequence s", "drop-object!" },
                { "drop schema s cascade", "drop-object!" },
                { "drop extension pg_trgm", "drop-object!" },
                { "drop operator + (int, int)", "drop-object!" },
                { "drop cast (text as int)", "drop-object!" },
                { "drop trigger x on t", "drop-object!" },
                { "drop policy p on t; create policy q on t", "drop-object!" },
                { "alter type t drop attribute a", "drop-column!" },
                { "alter table t alter c drop default", "drop-default!" },
                { "alter table t alter column c drop identity if exists", "drop-default!" },
                /* Nothing is missed. */
                { "alter table t drop constraint c", "" },
                { "alter table t alter c drop not null", "" },
                { "alter table t alter c drop expression", "" },
                { "drop trigger if exists x on t; drop trigger y on t;\n"
                  "create trigger y after insert on t execute function f();"
                  "create trigger x after insert on t execute function f()",
                  "" },
                { "drop policy p on t; create policy p on t for select to x using (true)", "" },
                { "drop rule r on t; create rule r as on insert to t do nothing", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_nothing_gets_another_name_under_old_programs(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t rename to u", "rename!" },
                { "alter table t rename c to d", "rename!" },
                { "alter table if exists only t rename column c to d", "rename!" },
                { "alter table t rename constraint c to d", "rename!" },
                { "alter table t set schema s", "rename!" },
                { "alter view v rename to w", "rename!" },
                { "alter materialized view v rename column a to b", "rename!" },
                { "alter function f(int) rename to g", "rename!" },
                { "alter function f(int, text) set schema s", "rename!" },
                { "alter index i rename to j", "rename!" },
                { "alter sequence if exists s rename to r", "rename!" },
                { "alter schema s rename to r", "rename!" },
                { "alter type mood rename value 'sad' to 'blue'", "rename!" },
                { "alter type t rename attribute a to b", "rename!" },
                { "alter trigger x on t rename to y", "rename!" },
                { "alter table t set (fillfactor = 70)", "" },
                { "alter type mood add value 'fine'", "" },
                { "alter function f(int) owner to x", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_columns_are_not_tightened(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t alter column c type bigint", "type-change!" },
                { "alter table t alter c set data type text using c::text", "type-change!" },
                { "alter table t alter \"C\" type text, alter d type int", "type-change! type-change!" },
                { "alter type t alter attribute a type text", "type-change!" },
                { "alter table t alter column c set not null", "not-null!" },
                { "alter table t add column c int not null", "not-null!" },
                { "alter table t add c int constraint given not null", "not-null!" },
                { "alter table t add column c int default null not null", "not-null!" },
                { "alter table t add column c int; alter table t alter c set not null", "not-null!" },
                { "alter table t add column c int not null default 1; alter table t alter c drop default",
                  "drop-default!" },
                { "alter table t alter c drop default, alter c set not null", "drop-default! not-null!" },
                { "alter domain d set not null", "not-null!" },
                /* With a value for those who write none, or where nulls were refused before. */
                { "alter table t add column c int not null default 1", "" },
                { "alter table t add column c int default 1 not null", "" },
                { "alter table t add column c int default (-1)::int not null", "" },
                { "alter table t add column c int", "" },
                { "alter table t add column c int null default 1", "" },
                { "alter table t add column c int default 1; alter table t alter c set not null", "" },
                { "alter table t add column c int; alter table t alter c set default 1, alter c set not null", "" },
                { "alter table t add column c int default 1; alter table t alter c drop default", "" },
                { "alter table t add c int; alter table t alter c type bigint; alter table t rename c to d; "
                  "alter table t drop column d",
                  "" },
                { "alter table t alter c set default 7", "" },
                { "alter table t alter c set statistics 1000", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_a_validated_check_lets_not_null_pass(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t add constraint k check (c is not null) not valid;\nalter table t validate constraint "
                  "k;\nalter table t alter c set not null",
                  "tightened-constraint!" },
                { "alter table t add constraint k check ((c) is not null) not valid;\nalter table t validate "
                  "constraint "
                  "k;\nalter table t alter c set not null",
                  "tightened-constraint! not-null!" }, /* not understood: on the safe side */
                { "alter table t add constraint k check ((c is not null)) not valid;\nalter table t validate "
                  "constraint k;\nalter table t alter \"c\" set not null",
                  "tightened-constraint!" },
                { "alter table t add constraint k check (c is not null) not valid;\nalter table t alter c set not "
                  "null",
                  "tightened-constraint! not-null!" },
                { "alter table t add constraint k check ((c is not null) = d) not valid;\nalter table t validate "
                  "constraint k;\nalter table t alter c set not null",
                  "tightened-constraint! not-null!" },
                { "alter table t add constraint k check (c is not null or d) not valid;\nalter table t validate "
                  "constraint k;\nalter table t alter c set not null",
                  "tightened-constraint! not-null!" },
                { "alter table t add constraint k check (c is not null) not valid;\nalter table t validate constraint "
                  "k;\nalter table t alter d set not null",
                  "tightened-constraint! not-null!" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                auto_free char *text =
                        mem_printf("-- tenantry:allow not-idempotent it is applied once\n-- migrate:up "
                                   "transaction:false\nalter table t drop constraint if exists k;\n%s;\n-- "
                                   "migrate:down\nselect 1;\n",
                                   cases[i].sql);

                assert_finds(text, cases[i].rules);
        }
}

static void test_constraints_come_without_a_look_at_all_rows(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t add check (c > 0)", "constraint-scan tightened-constraint!" },
                { "alter table t add constraint k check (not valid)", "constraint-scan tightened-constraint!" },
                { "alter table t add constraint k check (c > 0) not valid", "tightened-constraint!" },
                { "alter table t add constraint k check (c > 0) not enforced", "" },
                { "alter table t add foreign key (c) references u (a) on delete set null",
                  "constraint-scan tightened-constraint!" },
                { "alter table t add constraint k foreign key (c) references u not valid", "tightened-constraint!" },
                { "alter table t add constraint k not null c", "constraint-scan tightened-constraint!" },
                { "alter table t add constraint k not null c not valid", "tightened-constraint!" },
                { "alter domain d add constraint k check (value > 0)", "constraint-scan tightened-constraint!" },
                { "alter domain d add check (value > 0) not valid", "tightened-constraint!" },
                { "alter table t validate constraint k", "" },
                { "alter table t add constraint k check (c > 0) not valid;\nalter table t validate constraint k",
                  "tightened-constraint! constraint-scan" }, /* the lock is still held */
                { "alter table t add column c int check (c > 0)", "constraint-scan" },
                { "alter table t add column c int references u", "" },
                { "alter table t add column c int default 1 references u (a) on delete set default",
                  "constraint-scan" },
                { "alter table t add column c int references u on update set default", "" },
                /* Old programs write nothing into a new column. */
                { "alter table t add c int;\nalter table t add constraint k check (c > 0) not valid", "" },
                { "alter table t add c int;\nalter table t add constraint k check (c is not null) not valid",
                  "tightened-constraint!" },
                { "alter table t add c int, add foreign key (b, c) references u (b, c) not valid", "" },
                { "alter table t add a int;\nalter table t add foreign key (b) references t (a) not valid",
                  "tightened-constraint!" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_a_constraint_is_validated_in_another_transaction(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t drop constraint if exists k;\n"
                  "alter table t add constraint k check (c > 0) not valid;\nalter table t validate constraint k",
                  "tightened-constraint!" },
                { "alter table t drop constraint if exists k;\nbegin;\n"
                  "alter table t add constraint k check (c > 0) not valid;\nalter table t validate constraint k;"
                  "commit",
                  "tightened-constraint! constraint-scan" },
                { "alter table t drop constraint if exists k;\nbegin;\nsavepoint a; rollback to a;\n"
                  "alter table t add constraint k check (c > 0) not valid;\ncommit;\nbegin;\n"
                  "alter table t validate constraint k;\ncommit",
                  "tightened-constraint!" },
        };

        (void)state;
        assert_ups_alone(cases, ARRAY_SIZE(cases));
}

static void test_indexes_are_built_concurrently(void **state)
{
        static const struct lint_case cases[] = {
                { "create index on t (a)", "index-not-concurrently" },
                { "create index if not exists i on only t using gin (a)", "index-not-concurrently" },
                { "create unique index i on t (a)", "index-not-concurrently tightened-constraint!" },
                { "create index concurrently i on t (a)", "" },
                { "create unique index concurrently i on t (a)", "tightened-constraint!" },
                { "alter table t add a int;\ncreate unique index i on t (a)", "index-not-concurrently" },
                { "drop index i, app.j", "index-not-concurrently index-not-concurrently" },
                { "drop index concurrently if exists i", "" },
                { "reindex table t", "index-not-concurrently" },
                { "reindex (verbose) index i", "index-not-concurrently" },
                { "reindex index concurrently i", "" },
                { "reindex (concurrently) table t", "" },
                { "alter table t add unique (a)", "index-not-concurrently tightened-constraint!" },
                { "alter table t add constraint k unique nulls not distinct (a) using index tablespace fast",
                  "index-not-concurrently tightened-constraint!" },
                { "alter table t add primary key (a)", "index-not-concurrently tightened-constraint!" },
                { "alter table t add exclude using gist (a with &&)", "index-not-concurrently tightened-constraint!" },
                { "alter table t add constraint k unique using index i", "" },
                { "alter table t add constraint k primary key using index i deferrable", "" },
                { "alter table t add column c int unique", "index-not-concurrently" },
                { "alter table t add column c int primary key default 1", "index-not-concurrently" },
                { "alter table t add column c int primary key", "index-not-concurrently not-null!" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_a_new_column_has_the_same_value_in_all_rows(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t add c uuid default gen_random_uuid()", "volatile-default" },
                { "alter table t add c float default (1 + random())::numeric(3, 2)", "volatile-default" },
                { "alter table t add c timestamptz default pg_catalog.clock_timestamp()", "volatile-default" },
                { "alter table t add c int default nextval('s')", "volatile-default" },
                { "alter table t add c int not null default app.next_number()", "volatile-default" },
                { "alter table t add c int default \"Now\"()", "volatile-default" },
                { "alter table t add c bigserial", "volatile-default" },
                { "alter table t add c int generated always as identity", "volatile-default" },
                { "alter table t add c int generated by default as identity (start 7) not null", "volatile-default" },
                { "alter table t add c int not null generated always as (a * 2) stored", "volatile-default" },
                { "alter table t alter c set expression as (a * 3)", "volatile-default" },
                { "alter table t add c int generated always as (a * 2) virtual not null", "" },
                { "alter table t add c timestamptz not null default now()", "" },
                { "alter table t add c timestamptz default current_timestamp(3)", "" },
                { "alter table t add c timestamptz default transaction_timestamp() + interval '1 day'", "" },
                { "alter table t add c text default lower(concat('A', (1)))", "" },
                { "alter table t add c numeric(3, 2) default 0::numeric(3, 2)", "" },
                { "alter table t add c geometry(point) default 'x'::geometry(point)", "" },
                { "alter table t add c text default 'random()'", "" },
                { "alter table t add c uuid; alter table t alter c set default gen_random_uuid()", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_rights_are_not_taken_from_old_programs(void **state)
{
        static const struct lint_case cases[] = {
                { "revoke select on t from app", "tightened-rights!" },
                { "revoke all on all tables in schema public from app", "tightened-rights!" },
                { "revoke app from other", "tightened-rights!" },
                { "alter table t enable row level security", "tightened-rights!" },
                { "alter table t force row level security", "tightened-rights!" },
                { "create schema s; revoke all on all tables in schema s from app", "" },
                { "create table a (); revoke all on table a, b from app", "tightened-rights!" },
                { "create table a (); create view b as select 1; revoke all on a, b from x, y", "" },
                { "create function f() returns int language sql as 'select 1'; revoke all on function f() from public",
                  "" },
                { "grant select on t to app", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_all_rows_are_not_written_while_locks_are_held(void **state)
{
        static const struct lint_case cases[] = {
                { "alter table t add c int;\nupdate t set c = 1", "update-beside-ddl" },
                { "update only t as x set c = 1 from u;\nalter table u add d int", "update-beside-ddl" },
                { "alter table t add c int;\nupdate t set c = 1 where c is null", "update-beside-ddl" },
                { "alter table t add c int;\nupdate t set c = 1 where t.c is null", "update-beside-ddl" },
                { "alter table t add c int;\nupdate t set c = 1 where true", "update-beside-ddl" },
                { "alter table t add c int;\ndelete from u", "update-beside-ddl" },
                { "alter table t add c int;\nwith x as (select 1 where true) update t set c = 1", "update-beside-ddl" },
                { "alter table t add c int;\nupdate t set c = (select 1 where true)", "update-beside-ddl" },
                { "create trigger x after insert on t execute function f();\nupdate t set c = 1", "update-beside-ddl" },
                { "alter table t add c int;\nupdate t set c = 1 where id = 7", "" },
                { "alter table t add c int;\nupdate t set c = 1 where c is null and id = 7", "" },
                { "alter table t add c int;\nupdate t set d = 1 where d is null", "" },
                { "update t set c = 1", "" },
                { "create table n (a int);\nupdate t set c = 1", "" },
                { "alter table t add c int;\ncreate table n (a int);\nupdate n set a = 1", "" },
                { "alter table t add c int;\ninsert into t values (1)", "" },
        };
        static const struct lint_case alone[] = {
                { "alter table t add if not exists c int;\nupdate t set c = 1", "" },
                { "begin;\nalter table t add if not exists c int;\nupdate t set c = 1;\ncommit", "update-beside-ddl" },
                { "begin;\nalter table t add if not exists c int;\ncommit;\nupdate t set c = 1", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
        assert_ups_alone(alone, ARRAY_SIZE(alone));
}

static void test_what_the_file_makes_itself_is_its_own(void **state)
{
        static const struct lint_case cases[] = {
                { "create table t (a int unique);\nalter table t add b uuid not null default gen_random_uuid();\n"
                  "alter table public.t alter a type bigint, alter a set not null, add check (a > 0);\n"
                  "create unique index i on t (a);\nalter table t rename a to c;\ndrop index i;\ndrop table t",
                  "" },
                { "create table if not exists \"T\" (a int);\ncreate index on \"T\" (a)", "" },
                { "create table \"T\" (a int);\ncreate index on t (a)", "index-not-concurrently" },
                { "create table app.t (a int);\ndrop table t", "drop-table!" },
                { "create table app.t (a int);\ncreate index i on app.t (a);\ndrop index app.i", "" },
                { "create table t (a int);\ndrop table t;\ndrop table t", "drop-table!" },
                { "drop table t;\ncreate table t (a int);\nalter table t drop a", "drop-table!" },
                { "create table n (a int);\nalter table n rename to t;\ndrop table t", "" },
                { "create table t (a int);\nalter table t set schema app;\ndrop table app.t", "" },
                { "alter table t rename to former;\ncreate table t (a int);\ndrop table former",
                  "rename! drop-table!" },
                { "select 1 as a into unlogged t;\ndrop table t", "" },
                { "with x as (select 1) insert into t select * from x;\ndrop table t", "drop-table!" },
                { "create temp table t (a int);\nalter table t drop a", "" },
                { "create materialized view v as select 1 as a;\ncreate unique index on v (a)", "" },
                { "create type mood as enum ('a');\nalter type mood rename value 'a' to 'b';\ndrop type mood", "" },
                { "create or replace function f() returns int language sql as 'select 1';\ndrop function f()", "" },
                { "create view v as select 1;\nalter view v rename to w;\ndrop view w", "" },
                { "create schema s;\ndrop schema s", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_what_is_not_a_transaction_can_be_run_again(void **state)
{
        static const struct lint_case cases[] = {
                { "create table t (a int)", "not-idempotent" },
                { "create index concurrently i on t (a)", "not-idempotent" },
                { "drop index concurrently i", "not-idempotent" },
                { "alter table t add c int", "not-idempotent" },
                { "alter table t add constraint k check (c > 0) not valid", "not-idempotent tightened-constraint!" },
                { "alter table t drop constraint k", "not-idempotent" },
                { "create type mood as enum ('a')", "not-idempotent" },
                { "alter type mood add value 'b'", "not-idempotent" },
                { "create view v as select 1", "not-idempotent" },
                { "alter table t rename to u", "not-idempotent rename!" },
                { "create table if not exists t (a int)", "" },
                { "create unlogged table if not exists t (a int); create index concurrently if not exists i on t (a)",
                  "" },
                { "drop index concurrently if exists i", "" },
                { "alter table t add column if not exists c int", "" },
                { "alter table t drop constraint if exists k", "" },
                { "alter type mood add value if not exists 'b'", "" },
                { "create or replace view v as select 1", "" },
                { "drop type if exists mood;\ncreate type mood as enum ('a')", "drop-object!" },
                { "do $$ begin if a then create table t (a int); end if; end $$", "" },
                { "vacuum t", "" },
        };

        (void)state;
        assert_ups_alone(cases, ARRAY_SIZE(cases));
}

static void test_a_down_breaks_nothing_but_may_lose_and_block(void **state)
{
        static const struct lint_case cases[] = {
                { "drop table made", "down-loses-data" },
                { "drop table t", "down-loses-data" },
                { "alter table t drop column c", "down-loses-data" },
                { "alter table t add c int; alter table t drop c", "" },
                { "truncate made, t", "down-loses-data down-loses-data" },
                { "delete from t where a = 1", "down-loses-data" },
                { "drop schema s", "down-loses-data" },
                { "create temp table x (a int); delete from x; drop table x", "" },
                { "drop view v; drop function f; alter table t rename to u", "" },
                { "revoke all on t from app; alter table t add check (a > 0) not valid", "" },
                { "alter table t alter c type int", "type-change" },
                { "alter table t alter c set not null", "not-null" },
                { "drop index i", "index-not-concurrently" },
                { "create index i on made (a); drop index i", "" },
                { "create index i on t (a)", "index-not-concurrently" },
                { "alter table t add unique (a)", "index-not-concurrently" },
                { "", "no-down" },
                { "-- nothing\n", "no-down" },
        };

        (void)state;
        assert_downs(cases, ARRAY_SIZE(cases));
}

static void test_each_up_has_a_down_that_works(void **state)
{
        (void)state;
        assert_finds("-- migrate:up\n-- migrate:down\n", "");
        assert_finds("-- migrate:up\nselect 1;\n-- migrate:down", "no-down");
        assert_finds("-- migrate:up\nselect 1;\n-- migrate:down\nselect 1;\n-- migrate:up\nselect 1;\n"
                     "-- migrate:down\n",
                     "no-down");
        assert_finds("-- migrate:up\n-- migrate:down\n-- migrate:up\nselect 1;\n-- migrate:down\nselect 1;\n", "");
        assert_finds("-- migrate:up\nselect 1;\n-- migrate:down transaction:false\n"
                     "-- migrate:up transaction:false\nselect 1;\n-- migrate:down\n",
                     "no-down no-down");
}

static void test_do_blocks_are_looked_into(void **state)
{
        static const struct lint_case cases[] = {
                { "do $$ begin drop table t; end $$", "drop-table!" },
                { "do $x$\nbegin\n  if exists (select 1) then\n    alter table t drop c;\n  else drop view v;\n"
                  "  end if;\nend$x$",
                  "drop-column! drop-object!" },
                { "do language plpgsql $$ begin for i in 1..2 loop create index i on t (a); end loop; end $$",
                  "index-not-concurrently" },
                { "do $$ declare a int; begin select 1 into a; alter table a drop b; end $$", "drop-column!" },
                { "do $$ begin null; -- drop table t; $$", "" },
                { "do $$ begin a := 'drop table t;'; end $$", "" },
                { "do $$ begin /* $$;\ndrop table t /* */ */", "drop-table!" },
                { "do $$$$", "" },
                { "do 'begin drop table t; end'", "" },
                { "create function f() returns void language plpgsql as $$ begin drop table t; end $$", "" },
        };

        (void)state;
        assert_ups(cases, ARRAY_SIZE(cases));
}

static void test_a_file_allows_a_rule_and_says_why(void **state)
{
        (void)state;
        assert_finds("-- tenantry:allow drop-table nobody reads it since 4.2\n-- migrate:up\ndrop table t;\n"
                     "-- migrate:down\nselect 1;\n",
                     "drop-table");
        assert_finds("-- migrate:up\ndrop table t;\n-- migrate:down\nselect 1;\n\t--tenantry:allow\tdrop-table  so\r\n",
                     "drop-table");
        assert_finds("-- migrate:up\n-- tenantry:allow drop-table so\ndrop table t;\nalter table u drop c;\n"
                     "-- migrate:down\nselect 1;\n",
                     "drop-table drop-column!");
        assert_finds("-- tenantry:allow drop-table\n-- migrate:up\ndrop table t;\n-- migrate:down\nselect 1;\n",
                     "bad-allow drop-table!");
        assert_finds("-- tenantry:allow drop-tables so\n-- tenantry:allow\n-- tenantry:allowed drop-table so\n"
                     "-- migrate:up\ndrop table t; -- tenantry:allow drop-table so\n-- migrate:down\nselect 1;\n",
                     "bad-allow bad-allow drop-table!");
}

static void test_a_finding_tells_where_what_and_why(void **state)
{
        static const char text[] = "-- tenantry:allow drop-column  not read since 4.2 \n-- migrate:up\nselect 1;\n"
                                   "alter table \"T\"\n  add a int,\n  drop column c;\n-- migrate:down\n"
                                   "drop table app.u;\n";
        struct migration_findings findings;
        struct migration m;
        auto_json *list = NULL;

        (void)state;
        assert_parses(text, &m);
        migration_lint(&m, &findings);
        assert_int_equal(findings.count, 2);
        assert_string_equal(findings.items[0].rule, "drop-column");
        assert_string_equal(findings.items[0].object, "T.c");
        assert_string_equal(findings.items[0].why, "not read since 4.2");
        assert_true(findings.items[0].breaking && findings.items[0].allowed && !findings.items[0].in_down);
        assert_int_equal(findings.items[0].place.line, 6);
        assert_int_equal(findings.items[0].place.column, 3);
        assert_int_equal(findings.items[0].place.statement, 2);
        assert_true(findings.items[1].in_down && !findings.items[1].breaking);
        assert_null(findings.items[1].why);
        assert_int_equal(migration_findings_stopping(&findings), 0);
        list = migration_findings_json(&findings);
        assert_int_equal(json_array_size(list), 2);
        assert_string_equal(json_text(json_array_get(list, 1), "object"), "app.u");
        assert_string_equal(json_text(json_array_get(list, 1), "section"), "down");
        assert_int_equal(json_number(json_array_get(list, 1), "line", 0), 8);
        migration_findings_release(&findings);
        assert_null(findings.items);
        migration_release(&m);
}

static void test_names_that_are_long_or_strange_are_shown_in_part(void **state)
{
        auto_free char *umlauts = mem_alloc(601, 1), *text = NULL;
        struct migration_findings findings;
        struct migration m;
        auto_json *list = NULL;

        (void)state;
        for (int i = 0; i < 300; i++)
                memcpy(umlauts + 2 * i, "\xc3\xa4", 2);
        text = mem_printf("-- migrate:up\ndrop table \"x\"\"%s\";\n-- migrate:down\nselect 1;\n", umlauts);
        assert_parses(text, &m);
        migration_lint(&m, &findings);
        assert_int_equal(findings.count, 1);
        assert_int_equal(strlen(findings.items[0].object), 200);
        assert_memory_equal(findings.items[0].object, "x\"\xc3\xa4", 4);
        list = migration_findings_json(&findings);
        assert_non_null(json_text(json_array_get(list, 0), "object"));
        migration_findings_release(&findings);
        migration_release(&m);
}

static void test_a_rule_is_told_however_much_else_is_found(void **state)
{
        struct migration_findings findings;
        struct migration m;
        auto_buf text = { 0 };

        (void)state;
        buf_add_text(&text, "-- migrate:up\n");
        for (int i = 0; i < 50000; i++)
                buf_printf(&text, "create index on t%d (a);\n", i);
        buf_add_text(&text, "drop table t;\ndrop trigger x on t; create trigger x after insert on t execute f();\n"
                            "-- migrate:down\nselect 1;\n");
        assert_parses(text.data, &m);
        migration_lint(&m, &findings);
        assert_int_equal(findings.count, 1002); /* the trigger's drop is not taken back any more */
        assert_string_equal(findings.items[1000].rule, "drop-table");
        assert_int_equal(findings.items[1000].place.line, 50002);
        assert_int_equal(migration_findings_stopping(&findings), 2);
        migration_findings_release(&findings);
        migration_release(&m);
}

static void test_rules_are_known_by_their_names(void **state)
{
        (void)state;
        assert_true(migration_rule_is_known("drop-table"));
        assert_true(migration_rule_is_known("bad-allow"));
        assert_false(migration_rule_is_known("drop_table"));
        assert_false(migration_rule_is_known(""));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_what_old_programs_use_is_not_dropped),
                SENTENCE(test_nothing_gets_another_name_under_old_programs),
                SENTENCE(test_columns_are_not_tightened),
                SENTENCE(test_a_validated_check_lets_not_null_pass),
                SENTENCE(test_constraints_come_without_a_look_at_all_rows),
                SENTENCE(test_a_constraint_is_validated_in_another_transaction),
                SENTENCE(test_indexes_are_built_concurrently),
                SENTENCE(test_a_new_column_has_the_same_value_in_all_rows),
                SENTENCE(test_rights_are_not_taken_from_old_programs),
                SENTENCE(test_all_rows_are_not_written_while_locks_are_held),
                SENTENCE(test_what_the_file_makes_itself_is_its_own),
                SENTENCE(test_what_is_not_a_transaction_can_be_run_again),
                SENTENCE(test_a_down_breaks_nothing_but_may_lose_and_block),
                SENTENCE(test_each_up_has_a_down_that_works),
                SENTENCE(test_do_blocks_are_looked_into),
                SENTENCE(test_a_file_allows_a_rule_and_says_why),
                SENTENCE(test_a_finding_tells_where_what_and_why),
                SENTENCE(test_names_that_are_long_or_strange_are_shown_in_part),
                SENTENCE(test_a_rule_is_told_however_much_else_is_found),
                SENTENCE(test_rules_are_known_by_their_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
