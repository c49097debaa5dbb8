"""The migration engine on one database, by way of `tenantry init --migrations`: whose mistake it was, what a lost session
leaves behind, indexes that are built concurrently, and dbmate beside us."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.postgres import PostgresServer

from .client import eventually
from .conftest import bare_postgres
from .engine import ALONE, GATE, Database, Outcome, foreign_transaction

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with bare_postgres("engine") as server:
        yield server


@pytest.fixture
def database(server: PostgresServer, tmp_path: Path) -> Database:
    return Database(server, f"engine_{next(numbers)}", tmp_path)


def test_a_failing_statement_is_named_with_its_number_line_and_column(database: Database) -> None:
    tables = [f"create table t{i} (x int{'t' if i == 300 else ''});" for i in range(601)]
    database.put("01_big.sql", "\n".join(tables))
    database.fails("01_big.sql: statement 301, line 302, column 22", 'type "intt" does not exist (SQLSTATE 42704)')
    assert not database.rows("select 1 from pg_tables where tablename = 't0'")


def test_columns_are_counted_in_characters(database: Database) -> None:
    database.put("1_umlauts.sql", "select 1; -- \u00e4\u00f6\u00fc\n\nselect '\u20ac\u20ac\u20ac', nothing;")
    database.fails("1_umlauts.sql: statement 2, line 4, column 15", "42703")


def test_what_postgresql_says_beside_its_sentence_is_told(database: Database) -> None:
    database.put("1_good.sql", "create table t (a int primary key);")
    database.put("2_twice.sql", "insert into t values (1);\n-- again; and again\ninsert into t values (1);")
    database.fails("2_twice.sql: statement 2, line 4, column 1", "23505", "detail: Key (a)=(1) already exists.")
    database.put("2_twice.sql", "select lenght('x');")
    database.fails("2_twice.sql: statement 1, line 2, column 8", "42883", "hint: No function matches")
    assert database.ledger() == ["1"]


@pytest.mark.parametrize("options", ["", ALONE])
def test_the_right_file_is_blamed_whatever_is_wrong(database: Database, options: str) -> None:
    database.put("1_first.sql", "create table first (a int);")
    database.put("2_bad.sql", "select 1;\nselect 1 / 0;", options)
    database.put("3_last.sql", "create table last (a int);")
    for bad, words in {
        "select 1;\nselect 1 / 0;": ("statement 2, line 3, column 1", "22012"),
        "select 1;\n create tabel t ();": ("statement 2, line 3, column 9", "42601"),
        "create table open (a int": ("statement 1, line 3, column 1", "42601"),
        "select 1;;\n;do $$ begin raise exception 'no'; end $$": ("statement 2, line 3, column 2", "P0001"),
    }.items():
        database.put("2_bad.sql", bad, options)
        database.fails("2_bad.sql", *words)
        assert database.ledger() == ["1"]
        database.run("delete from tenantry.migration_progress")  # else one in part done could not be another
    database.put("2_bad.sql", "select 1;", options)
    database.applies()
    assert database.ledger() == ["1", "2", "3"]


def test_what_fails_at_the_end_of_its_transaction_names_the_file(database: Database) -> None:
    database.put("1_good.sql", "create table a (a int primary key);")
    database.put(
        "2_later.sql",
        "create table b (a int references a deferrable initially deferred); insert into b values (1);",
    )
    database.fails("2_later.sql: ", "23503", "detail: Key (a)=(1) is not present")
    assert database.ledger() == ["1"]


def test_a_file_in_another_encoding_is_found_before_anything_is_done(database: Database) -> None:
    database.put("01_a.sql", "create table a (x int);")
    (database.directory / "03_c.sql").write_bytes(
        b"-- migrate:up\ncreate table c (x text default 'caf\xe9');\n-- migrate:down\n"
    )
    database.fails("03_c.sql line 2", "byte 50", "E9", "UTF-8")
    assert not database.rows("select 1 from pg_tables where tablename = 'a'")


def test_the_ledger_outlives_the_schema_it_stands_in(database: Database) -> None:
    database.put("1_old.sql", "create table old (a int);")
    database.put("2_anew.sql", "drop schema public cascade;\ncreate schema public;\ncreate table new (a int);")
    database.put("3_more.sql", "create table more (a int);")
    database.applies()
    assert database.ledger() == ["1", "2", "3"]
    database.put("4_alone.sql", "drop schema public cascade; create schema public;", ALONE)
    database.applies()
    assert database.ledger() == ["1", "2", "3", "4"]
    database.put("5_ours.sql", "drop schema tenantry cascade")
    database.fails("5_ours.sql", "schema tenantry is gone")
    assert database.ledger() == ["1", "2", "3", "4"]


@pytest.mark.parametrize("options", ["", ALONE])
def test_nothing_of_a_file_stays_in_the_session_of_the_next(database: Database, options: str) -> None:
    held = "" if options else "create temp table left_over (a int); prepare left_over as select 1;"
    leaves = f"{held} set search_path to pg_catalog; set work_mem = '77MB'; set role engine_guest;"
    database.run("create role engine_guest")
    database.put("1_leaves.sql", leaves, options)
    database.put(
        "2_looks.sql",
        """do $$ begin
        assert current_setting('search_path') = '"$user", public' and current_setting('work_mem') <> '77MB';
        assert current_user = session_user and to_regclass('pg_temp.left_over') is null;
        assert not exists (select from pg_prepared_statements);
        assert not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid());
        end $$;""",
    )
    try:
        database.applies()
    finally:
        database.run("drop role engine_guest")


def test_a_file_without_transaction_goes_on_with_the_settings_of_the_session_that_was_lost(database: Database) -> None:
    database.run("create schema inside; create role engine_maker; grant all on schema inside to engine_maker")
    database.put(
        "1_alone.sql",
        f"""set search_path to inside;
        select pg_catalog.set_config('my.word', 'kept', false);
        set role engine_maker;
        begin; set search_path to pg_catalog; rollback;
        create table counted (a int);
        insert into counted values (1);
        {GATE};
        insert into counted values (2);
        create table word as select current_setting('my.word') as word;""",
        ALONE,
    )
    database.loses_its_session_at_the_gate()
    database.applies()
    assert database.rows("select a from inside.counted order by a") == [(1,), (2,)]
    assert database.rows("select word from inside.word") == [("kept",)]
    assert database.rows("select tableowner from pg_tables where tablename = 'word'") == [("engine_maker",)]
    assert database.ledger() == ["1"]
    assert database.rows("select count(*) from tenantry.migration_progress") == [(0,)]


def test_a_transaction_of_the_files_own_is_done_whole_and_once(database: Database) -> None:
    database.put(
        "1_alone.sql",
        f"create table t (a int);\nbegin;\ninsert into t values (1);\n{GATE};\ninsert into t values (2);\ncommit;\n"
        "insert into t values (3);",
        ALONE,
    )
    database.loses_its_session_at_the_gate()
    assert database.rows("select count(*) from t") == [(0,)]
    database.applies()
    assert database.rows("select a from t order by a") == [(1,), (2,), (3,)]


def test_settings_that_cannot_be_seen_are_not_guessed_at(database: Database) -> None:
    hidden = f"do $$ begin perform set_config('search_path', 'pg_catalog', false); end $$;\n{GATE};\ncreate table t ();"
    database.put("1_hidden.sql", hidden, ALONE)
    database.loses_its_session_at_the_gate()
    database.fails("1_hidden.sql: statement 2, line 3", "could be restored", "hint: Make them with")
    assert not database.rows("select 1 from pg_tables where tablename = 't'")


def test_what_a_session_alone_can_hold_is_refused_at_its_place(database: Database) -> None:
    database.put("1_temp.sql", "create table t ();\ndo $$ begin create temp table hidden (); end $$;", ALONE)
    database.fails("1_temp.sql: statement 2, line 3, column 1", "0A000", "hint: They would be lost if the worker died")
    assert database.rows("select statements from tenantry.migration_progress") == [(1,)]


def test_a_place_belongs_to_the_file_it_was_reached_in(database: Database) -> None:
    database.put("1_alone.sql", "create table a ();\nselect 1 / 0;", ALONE)
    database.fails("statement 2")
    begun = database.directory.joinpath("1_alone.sql").read_text()
    database.put("1_alone.sql", "create table b ();\nselect 1;", ALONE)
    database.fails("1_alone.sql is not the file that was started here", "tenantry.migration_progress")
    assert not database.rows("select 1 from pg_tables where tablename = 'b'")
    database.directory.joinpath("1_alone.sql").write_text(begun)
    database.fails("statement 2")
    database.run("delete from tenantry.migration_progress; drop table a")
    database.put("1_alone.sql", "select 1 / 0;", ALONE)
    database.fails("statement 1")
    database.put("1_alone.sql", "create table c ();", ALONE)  # nothing was done of the other: it may be mended
    database.applies()
    assert database.ledger() == ["1"]


def test_a_place_that_an_earlier_version_has_written_is_gone_on_from(database: Database) -> None:
    database.applies()
    database.run(
        "create table a ();"
        "alter table tenantry.migration_progress drop column if exists checksum, drop column if exists session;"
        "insert into tenantry.migration_progress values ('1', 1, 1)"
    )
    database.put("1_alone.sql", "create table a ();\ncreate table b ();", ALONE)
    database.applies()
    assert database.rows("select tablename from pg_tables where schemaname = 'public' and tablename in ('a', 'b')")


def test_a_procedure_that_commits_runs_outside_of_a_transaction(database: Database) -> None:
    database.put("1_make.sql", "create table t (a int); create procedure p() language plpgsql as "
                 "$$ begin for i in 1..3 loop insert into t values (i); commit; end loop; end $$;")  # fmt: skip
    database.put("2_call.sql", "call p();\ndo $$ begin insert into t values (4); commit; end $$;\nvacuum t;", ALONE)
    database.applies()
    assert database.rows("select a from t order by a") == [(1,), (2,), (3,), (4,)]


def index(database: Database, name: str) -> list[tuple[object, ...]]:
    return database.rows(f"select indisvalid from pg_index where indexrelid = to_regclass('{name}')")


def test_an_index_is_built_behind_a_foreign_transaction_that_takes_its_time(database: Database) -> None:
    database.put("1_table.sql", "create table t (a int);")
    database.put("2_index.sql", "create index concurrently t_by_a on t (a);\ncreate table after ();", ALONE)
    with foreign_transaction(database) as end, database.under_way("create index"):
        eventually(lambda: database.waits("create index", 5.2), 20, "it waits longer than for a lock")
        end()
    assert database.outcome == Outcome(0, "")
    assert index(database, "t_by_a") == [(True,)]


def test_an_index_that_failed_is_cleared_away_and_built_when_it_can_be(database: Database) -> None:
    database.put("1_table.sql", "create table t (a int); insert into t values (1), (1);")
    database.put("2_unique.sql", "create unique index concurrently if not exists once on t (a);", ALONE)
    database.fails("2_unique.sql: statement 1, line 2, column 1", "23505", "detail: Key (a)=(1) is duplicated.")
    assert index(database, "once") == []
    database.run("delete from t where ctid = '(0,1)'")
    database.applies()
    assert index(database, "once") == [(True,)]


@pytest.mark.parametrize("exists", ["", "if not exists "])
def test_an_index_whose_builder_died_is_built_anew_and_no_other_is_touched(database: Database, exists: str) -> None:
    database.put(
        "1_tables.sql",
        """create table t (a int, b int); insert into t values (1, 1), (1, 1);
        create schema elsewhere; create table elsewhere.t (a int); insert into elsewhere.t values (1), (1);
        create table parent (a int) partition by list (a); create table child partition of parent for values in (1);
        create index on_purpose on only parent (a);""",
    )
    database.applies()
    for sql in ("create unique index concurrently others on t (b)",
                'create unique index concurrently "Half" on elsewhere.t (a)'):  # fmt: skip
        with pytest.raises(psycopg.errors.UniqueViolation):
            database.run(sql)
    database.put("2_index.sql", f'create index concurrently {exists}"Half" on public . t (a);', ALONE)
    with foreign_transaction(database), database.under_way("create index"):
        database.cut()
    assert index(database, '"Half"') == [(False,)]
    database.applies()
    assert index(database, '"Half"') == [(True,)]
    assert (
        index(database, "others") == index(database, 'elsewhere."Half"') == index(database, "on_purpose") == [(False,)]
    )


def test_an_index_that_was_built_and_not_written_down_is_not_built_again(database: Database) -> None:
    """The record fails, for somebody holds the row of the fence; a later attempt knows that it may have been done."""
    database.put("1_table.sql", "create table t (a int);")
    database.put(
        "2_index.sql",
        "create index concurrently first on t (a);\ncreate index concurrently second on t (a);\ncreate table after ();",
        ALONE,
    )
    with foreign_transaction(database) as end, database.connect() as fence:
        with database.under_way("concurrently first"):
            fence.execute("begin; select fence from tenantry.fence for update")
            end()
        assert database.outcome is not None and "55P03" in database.outcome.error
        assert index(database, "first") == [(True,)] and index(database, "second") == []
    database.applies()
    assert index(database, "second") == [(True,)]
    assert database.ledger() == ["1", "2"]


def test_an_index_that_somebody_else_is_building_is_left_to_them(database: Database) -> None:
    database.put("1_table.sql", "create table t (a int);")
    database.applies()
    database.put("2_index.sql", "create index concurrently if not exists t_by_a on t (a);", ALONE)
    with foreign_transaction(database) as end:
        builder = threading.Thread(target=database.run, args=("create index concurrently t_by_a on t (a)",))
        builder.start()
        eventually(lambda: index(database, "t_by_a") == [(False,)], 20, "it is being built")
        database.fails("2_index.sql: statement 1", "t_by_a is being built by another session")
        assert index(database, "t_by_a") == [(False,)]
        end()
        builder.join(20)
    assert index(database, "t_by_a") == [(True,)]
    database.applies()


def test_a_version_that_dbmate_has_rolled_back_is_applied_again(database: Database) -> None:
    database.put("1_a.sql", "create table a ();")
    database.put("2_b.sql", "create table b ();")
    database.put("3_c.sql", "create index concurrently b_index on a ((1));", ALONE)
    database.applies()
    for version, undo in {"3": "drop index b_index", "2": "drop table b"}.items():  # as `dbmate rollback` does
        database.run(f"begin; {undo}; delete from public.schema_migrations where version = '{version}'; commit")
    database.put("2_b.sql", "create table b (other int);")  # nobody has it: it may change
    database.applies()
    assert database.ledger() == ["1", "2", "3"]
    assert index(database, "b_index") == [(True,)]
    database.run("delete from public.schema_migrations where version <> '1'; drop table b; drop index b_index")
    for name in ("2_b.sql", "3_c.sql"):
        (database.directory / name).unlink()
    database.put("4_d.sql", "create table d ();")
    database.applies()
    assert database.ledger() == ["1", "4"]


def test_files_are_applied_in_the_order_of_their_names_as_dbmate_does(database: Database) -> None:
    database.put("1_a.sql", "alter table t add column a int;")
    database.put("10_b.sql", "create table t ();")
    database.applies()
    assert database.rows("select version from tenantry.migration order by applied_at") == [("10",), ("1",)]
    database.applies()


def test_several_sections_of_a_file_run_and_are_recorded_once(database: Database) -> None:
    (database.directory / "1_two.sql").write_text(
        "-- migrate:up\ncreate table t (a int)\n-- migrate:down\ndrop table t;\n"
        "-- migrate:up\ninsert into t values (1)\n-- migrate:down\ndelete from t;\n"
    )
    database.applies()
    assert database.rows("select a from t") == [(1,)]
    assert database.rows("select version from public.schema_migrations") == [("1",)]


def test_a_failure_in_a_later_section_is_found_by_its_line_and_undoes_the_whole_file(database: Database) -> None:
    (database.directory / "1_two.sql").write_text(
        "-- migrate:up\ncreate table t (a int);\n-- migrate:down\n\n-- migrate:up\nselect 1;\ninsert into t values ('x');\n"
        "-- migrate:down\n"
    )
    database.fails("1_two.sql: statement 2, line 7, column 23")
    assert not database.rows("select 1 from pg_tables where tablename = 't'")


def test_a_section_with_a_transaction_stands_beside_one_without(database: Database) -> None:
    (database.directory / "1_mixed.sql").write_text(
        "-- migrate:up\ncreate table t (a int);\nselect 1\n-- migrate:down\n"
        "-- migrate:up transaction:false\ncreate index concurrently t_a on t (a)\n-- migrate:down transaction:false\n"
    )
    database.applies()
    assert database.rows("select indexname from pg_indexes where tablename = 't'") == [("t_a",)]
    assert database.rows("select version from public.schema_migrations") == [("1",)]
    database.applies()


def test_a_file_before_an_applied_one_and_a_version_of_no_file_are_refused(database: Database) -> None:
    database.put("2_b.sql", "create table b ();")
    database.applies()
    early = database.put("1_a.sql", "create table a ();")
    database.fails("1_a.sql sorts before 2_b.sql, which the database has")
    early.unlink()
    database.run("insert into public.schema_migrations (version) values ('3')")
    database.fails("the database has version 3, which none of these files has")


def test_a_version_that_dbmate_applied_in_the_middle_is_no_reason_to_stop(database: Database) -> None:
    for number in (1, 2, 3):
        database.put(f"{number}_t.sql", f"create table t{number} ();")
    database.run(
        "create table public.schema_migrations (version varchar(50) primary key, applied_at timestamptz default now()); "
        "create table t1 (); insert into public.schema_migrations (version) values ('1')"
    )
    database.applies()
    assert database.rows("select count(*) from public.schema_migrations") == [(3,)]


def put_both(database: Database, name: str, up: str, down: str, options: str = "") -> None:
    text = f"-- migrate:up{options}\n{up}\n-- migrate:down{options}\n{down}\n"
    (database.directory / name).write_text(text)


def test_a_target_ends_there_and_what_came_late_is_applied_where_that_is_wanted(database: Database) -> None:
    for number in (1, 2, 3):
        database.put(f"{number}_t.sql", f"create table t{number} ();")
    assert database.engine("apply", "2") == Outcome(0, "2")
    assert database.engine("apply", "9").error.startswith("target_unknown: ")
    database.put("0_early.sql", "create table early ();")
    assert database.engine("apply").error.startswith("out_of_order: 0_early.sql sorts before 2_t.sql")
    assert database.engine("apply-out-of-order") == Outcome(0, "3")
    assert database.rows("select count(*) from public.schema_migrations") == [(4,)]


def test_versions_are_taken_back_from_the_last_to_the_first_with_their_ledger_rows(database: Database) -> None:
    put_both(database, "1_a.sql", "create table a (x int);", "drop table a;")
    put_both(database, "2_b.sql", "create table b (x int); insert into a values (1);", "delete from a; drop table b;")
    put_both(database, "3_c.sql", "alter table b add column y int;", "alter table b drop column y;")
    assert database.engine("apply") == Outcome(0, "3")
    assert database.engine("revert", "2", "3") == Outcome(0, "1")
    assert database.rows("select version from public.schema_migrations") == [("1",)]
    assert database.rows("select version from tenantry.migration") == [("1",)]
    assert database.engine("revert", "2", "3") == Outcome(0, "1"), "what is gone already is passed over"
    assert database.engine("apply") == Outcome(0, "3")
    assert database.engine("revert", "1", "2", "3") == Outcome(0, "none")
    assert (
        database.rows("select 1 from pg_tables where schemaname = 'public' and tablename <> 'schema_migrations'") == []
    )


def test_a_version_that_cannot_be_taken_back_stays_whole_and_is_named(database: Database) -> None:
    put_both(database, "1_a.sql", "create table a ();", "drop table a;\nselect nothing;")
    database.engine("apply")
    failed = database.engine("revert", "1")
    assert failed.status == 1 and "1_a.sql: statement 2, line 5, column 8" in failed.error
    assert database.rows("select version from public.schema_migrations") == [("1",)]
    assert database.rows("select tablename from pg_tables where tablename = 'a'") == [("a",)]
    assert database.engine("revert", "7").error.startswith("target_unknown: ")


def test_a_late_worker_takes_nothing_back(database: Database) -> None:
    put_both(database, "1_a.sql", "create table a ();", "drop table a;")
    assert database.engine("apply", fence=5).status == 0
    assert database.engine("revert", "1", fence=4).error.startswith("TN409: ")
    assert database.rows("select version from public.schema_migrations") == [("1",)]


@pytest.mark.parametrize("failpoint", ["migration_after_statement=crash@1", "migration_after_statement=crash@2"])
def test_taking_back_without_a_transaction_goes_on_where_a_worker_died(database: Database, failpoint: str) -> None:
    put_both(
        database, "1_index.sql", "create table t (a int); create index concurrently t_a on t (a);",
        "drop index concurrently t_a; drop table t; select 1;", ALONE,
    )  # fmt: skip
    assert database.engine("apply") == Outcome(0, "1")
    assert database.engine("revert", "1", ENGINE_FAILPOINTS=failpoint).status != 0
    assert database.engine("revert", "1", fence=2) == Outcome(0, "none")
    assert database.rows("select count(*) from public.schema_migrations") == [(0,)]
    assert database.rows("select count(*) from tenantry.migration_progress") == [(0,)]
    assert database.engine("apply", fence=3) == Outcome(0, "1"), "and the way there begins anew"
