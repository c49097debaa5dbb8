"""The real dbmate as judge of the format: what it makes of files, the migration engine makes of them too, or both refuse; and
where we are stricter on purpose, dbmate does what the documents say of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.postgres import PostgresServer

from .conftest import bare_postgres
from .dbmate import Dbmate, let_dbmate_in, schema_of, there_is_dbmate
from .engine import Database, Outcome

Files = dict[str, str | bytes]
A_DOWN = "-- migrate:down\ndrop table a;\n"
A = f"-- migrate:up\ncreate table a (x int);\n{A_DOWN}"
numbers = itertools.count(1)


def one(text: str | bytes) -> Files:
    return {"1_a.sql": text}


def beside_a(text: str) -> Files:
    return {"1_a.sql": A, "2_b.sql": text}


# What both make the same of: files of one directory, each with a table of its own (@), so that one pg_dump judges them all.
SAME: dict[str, str] = {
    "lines that end as on Windows": "-- migrate:up\r\ncreate table @ (\r\n  x int\r\n);\r\n-- migrate:down\r\ndrop table @;\r\n",
    "no newline at the end": "-- migrate:up\ncreate table @ (x int);\n-- migrate:down\ndrop table @;",
    "a comment ends each part": "-- migrate:up\ncreate table @ () -- up\n-- migrate:down\ndrop table @ -- down",
    "the directive ends the file": "-- migrate:up\nset work_mem = '1MB'\n-- migrate:down",
    "without a transaction":
        "-- migrate:up transaction:false\ncreate table @ (x int);\n-- migrate:down transaction:false\ndrop table @;\n",
    "what can have no transaction":
        "-- migrate:up transaction:false\ncreate index concurrently of_windows on t100 (x);\n"
        "-- migrate:down transaction:false\ndrop index concurrently of_windows;\n",
    "a transaction of its own":
        "-- migrate:up transaction:false\nbegin; create table @ (); alter table @ add x int; commit; create view @v as table @;\n"
        "-- migrate:down\ndrop view @v; drop table @;\n",
    "a function's body without quotes":
        "-- migrate:up transaction:false\ncreate function @() returns int begin atomic select 1; select 2; end;\n"
        "-- migrate:down\ndrop function @();\n",
    "blanks and tabs around an option":
        "-- migrate:up \t  transaction:false   \ncreate table @ (x int);\n-- migrate:down\ndrop table @;\n",
    "transaction:true": "-- migrate:up transaction:true\ncreate table @ (x int);\n-- migrate:down\ndrop table @;\n",
    "no blank, or many": "--migrate:up\ncreate table @ (x int);\n-- \t migrate:down\ndrop table @;\n",
    "comments before migrate:up":
        "-- what for\n\n   -- and why\n-- migrate:up\ncreate table @ (x int);\n-- migrate:down\ndrop table @;\n",
    "several statements":
        "-- migrate:up\ncreate table @ (x int);create table @b (y int);\ncreate view @v as select * from @, @b;\n"
        "-- migrate:down\ndrop view @v;drop table @, @b;\n",
    "nothing to do": "-- migrate:up\n-- nothing\n-- migrate:down\n/* nothing */\n",
    "empty statements": "-- migrate:up\n;;create table @ (x int);;\n-- migrate:down\n;drop table @;;\n",
    "dollar quotes":
        "-- migrate:up\ncreate function @() returns int language plpgsql as $f$ begin perform $$a;b$$; return 1; end $f$;\n"
        "-- migrate:down\ndrop function @();\n",
    "semicolons that end nothing":
        "-- migrate:up\ncreate table @ (x text default ';\n\'\'--', \"y;\" int /* ; /* ; */ ' */);\n"
        "comment on table @ is E'it\\'s; -- so';\n-- migrate:down\ndrop table @;\n",
    "what printf or psql would replace":
        "-- migrate:up\ncreate table @ (x text default '%s %1$s \\ $1 :x :\'\'x\'\'');\n-- migrate:down\ndrop table @;\n",
    "savepoints":
        "-- migrate:up\ncreate table @ (); savepoint s; create table @b (); rollback to s;\n-- migrate:down\ndrop table @;\n",
}  # fmt: skip

# Versions are what a name begins with, and names are sorted as text.
NAMES: dict[str, Files] = {
    "versions of different length": {
        "1_third.sql": "-- migrate:up\nalter table t add a int;\n-- migrate:down\nalter table t drop a;\n",
        "10_second.sql": "-- migrate:up\ncreate table t ();\n-- migrate:down\ndrop table t;\n",
        "0002_first.sql": "-- migrate:up\ncreate table c ();\n-- migrate:down\ndrop table c;\n"},
    "2 and 002": {"2_b.sql": A, "002_c.sql": "-- migrate:up\ncreate table c ();\n-- migrate:down\n"},
    "only a version, and what does not end in .sql": {"1.sql": A, "0_b.SQL": "?", "3_c.sql.bak": "?"},
    "a name that goes on without a _": {"1it's.sql": A},
}  # fmt: skip

REFUSED: dict[str, Files] = {
    "nothing at all": one(""),
    "no directive": one("create table a ();"),
    "no migrate:up": one("-- migrate:down\ncreate table a (x int);\n"),
    "no migrate:down": one("-- migrate:up\ncreate table a (x int);\n"),
    "migrate:down first": one(f"{A_DOWN}-- migrate:up\ncreate table a (x int);\n"),
    "a statement before migrate:up": one(f"create table z ();\n{A}"),
    "a block comment before migrate:up": one(f"/* why */\n{A}"),
    "blanks before a directive": one(f"  {A}"),
    "capitals": one("-- MIGRATE:UP\ncreate table a (x int);\n-- MIGRATE:DOWN\ndrop table a;\n"),
    "a blank in a directive": one("-- migrate: up\ncreate table a (x int);\n-- migrate: down\ndrop table a;\n"),
    "something behind migrate:up": one(f"-- migrate:upwards\ncreate table a (x int);\n{A_DOWN}"),
    "lines that end as long ago": one(A.replace("\n", "\r")),
    "a byte order mark": one(b"\xef\xbb\xbf" + A.encode()),
    "another encoding": one(b"-- migrate:up\ncreate table a (x text default '\xe9');\n" + A_DOWN.encode()),
    "a directive in a string": one("-- migrate:up\ncreate table a (x text default '\n-- migrate:down\n');\n" + A_DOWN),
    "a second migrate:down": one(f"{A}-- migrate:down\n"),
    "a migrate:up without its down": one(f"-- migrate:up\ncreate table z ();\n{A}"),
    "a quote that stays open": one(f"-- migrate:up\nselect 'a;\n{A_DOWN}"),
    "a comment that stays open": one(f"-- migrate:up\nselect 1; /* a\n{A_DOWN}"),
    "copy from stdin": one(f"-- migrate:up\ncreate table a (x int); copy a from stdin;\n{A_DOWN}"),
    "a command of psql": one(f"-- migrate:up\n\\set x 1\ncreate table a (x int);\n{A_DOWN}"),
    "a statement that fails": one(f"-- migrate:up\ncreate table a (x int); select 1 / 0;\n{A_DOWN}"),
}  # fmt: skip

# What we say, and what dbmate does: whether it says that all went well, and the versions it has recorded.
STRICTER: dict[str, tuple[Files, str, bool, list[str]]] = {
    "transaction=false": (
        one(f"-- migrate:up transaction=false\ncreate table a (x int);\n{A_DOWN}"), "line 1: unknown option", True, ["1"]),
    "transaction:maybe": (
        one(f"-- migrate:up transaction:maybe\ncreate table a (x int);\n{A_DOWN}"), "line 1: unknown option", True, ["1"]),
    "a blank in an option": (
        one(f"-- migrate:up transaction: false\ncreate table a (x int);\n{A_DOWN}"), "line 1: unknown option", True, ["1"]),
    "an option that nobody knows": (
        one(f"-- migrate:up speed:9\ncreate table a (x int);\n{A_DOWN}"), "line 1: unknown option", True, ["1"]),
    "an option twice": (
        one(f"-- migrate:up transaction:false transaction:true\nselect 1;\n{A_DOWN}"), "line 1: a second option", True, ["1"]),
    "no version": ({"1_a.sql": A, "seeds.sql": A}, "seeds.sql: a migration's name begins with", True, ["1"]),
    "a version twice": ({"2_a.sql": A, "2_b.sql": A.replace("table a", "table b")}, "the same version", False, ["2"]),
    "the end of its transaction": (
        one(f"-- migrate:up\ncreate table a (); commit; create table b ();\n{A_DOWN}"), 'line 2: "commit"', False, ["1"]),
    "what is lost with the session": (
        one(f"-- migrate:up transaction:false\ncreate temp table a (x int);\n{A_DOWN}"), "line 2: ", True, ["1"]),
}  # fmt: skip

# What we do, and dbmate fails at. The file's table is there, and recorded once.
BETTER: dict[str, Files] = {
    "several pairs in one file": one(f"{A}-- migrate:up\ncreate table b ();\n-- migrate:down\ndrop table b;\n"),
    "two indexes without a transaction": beside_a(
        "-- migrate:up transaction:false\ncreate index concurrently i on a (x);\ncreate index concurrently j on a (x);\n"
        "-- migrate:down\ndrop index i, j;\n"),
    "another search_path": beside_a("-- migrate:up\ncreate schema s; set search_path = s;\n-- migrate:down\ndrop schema s;\n"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    there_is_dbmate()
    with bare_postgres("dbmate") as server:
        let_dbmate_in(server)
        yield server


class Two:
    """A database for dbmate and one for us, with the same files."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        number = next(numbers)
        self.directory = directory
        self.ours = Database(server, f"ours_{number}", directory)
        self.theirs = Database(server, f"theirs_{number}", directory)
        self.dbmate = Dbmate(server.url(self.theirs.name), directory)
        self.dbmate_on_ours = Dbmate(server.url(self.ours.name), directory)

    def put(self, files: Files) -> None:
        for path in self.directory.iterdir():
            path.unlink()
        for name, text in files.items():
            (self.directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def versions(self, database: Database) -> list[str]:
        if database.rows("select to_regclass('public.schema_migrations')") == [(None,)]:
            return []
        return [str(version) for (version,) in database.rows("select version from public.schema_migrations order by 1")]

    def schema(self, database: Database) -> str:
        return schema_of(database.server.url(database.name))

    def are_equal(self) -> bool:
        return self.versions(self.ours) == self.versions(self.theirs) and self.schema(self.ours) == self.schema(
            self.theirs
        )


@pytest.fixture
def two(server: PostgresServer, tmp_path: Path) -> Two:
    return Two(server, tmp_path)


def test_we_make_of_files_what_dbmate_makes_of_them_and_the_same_of_their_way_back(two: Two) -> None:
    files: Files = {
        f"{number}_{re.sub('[^a-z]+', '_', name)}.sql": text.replace("@", f"t{number}")
        for number, (name, text) in enumerate(SAME.items(), 100)
    }
    two.put(files)
    empty = two.schema(two.ours)
    assert two.dbmate.migrate()
    done = two.ours.engine("apply")
    assert done.status == 0 and two.versions(two.ours) == [name[:3] for name in files], done
    assert two.are_equal() and two.schema(two.ours) != empty
    assert two.dbmate_on_ours.pending() == 0 and two.dbmate_on_ours.migrate()
    for _ in files:
        assert two.dbmate.rollback()
    assert two.ours.engine("revert", *two.versions(two.ours)) == Outcome(0, "none")
    assert two.are_equal() and two.schema(two.ours) == empty


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_files_is_dbmates(two: Two, name: str) -> None:
    two.put(NAMES[name])
    assert two.dbmate.migrate()
    done = two.ours.engine("apply")
    assert done.status == 0 and two.are_equal() and two.dbmate_on_ours.pending() == 0, done
    before = two.versions(two.ours)
    assert two.dbmate.rollback() and two.ours.engine("revert", done.error).status == 0
    assert two.are_equal() and len(two.versions(two.ours)) == len(before) - 1, "both take the same one back"


@pytest.fixture(scope="module")
def untouched(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Two:
    """For files that are refused."""
    return Two(server, tmp_path_factory.mktemp("refused"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_dbmate_refuses_we_refuse(untouched: Two, name: str) -> None:
    untouched.put(REFUSED[name])
    assert not untouched.dbmate.migrate()
    assert untouched.ours.engine("apply").status == 1
    for database in (untouched.ours, untouched.theirs):
        assert untouched.versions(database) == []
        assert database.rows("select to_regclass('a'), to_regclass('z')") == [(None, None)]


@pytest.mark.parametrize("name", STRICTER)
def test_what_we_refuse_beyond_dbmate_it_does_as_the_documents_say(untouched: Two, name: str) -> None:
    files, words, well, recorded = STRICTER[name]
    untouched.put(files)
    refused = untouched.ours.engine("apply")
    assert refused.status == 1 and words in refused.error, refused
    assert untouched.versions(untouched.ours) == []
    assert untouched.dbmate.migrate() == well
    assert untouched.versions(untouched.theirs) == recorded
    untouched.theirs.run("drop schema public cascade; create schema public")


@pytest.mark.parametrize("name", BETTER)
def test_a_known_fault_of_dbmate_is_not_repeated(two: Two, name: str) -> None:
    two.put(BETTER[name])
    done = two.ours.engine("apply")
    assert done.status == 0 and two.versions(two.ours) == [file.partition("_")[0] for file in BETTER[name]], done
    before = two.schema(two.ours)
    assert two.dbmate_on_ours.pending() == 0 and two.dbmate_on_ours.migrate()
    assert two.schema(two.ours) == before
    assert not two.dbmate.migrate(), "dbmate has learnt it: this belongs to what both do"


def test_each_goes_on_where_the_other_stopped(two: Two) -> None:
    two.put({"1_a.sql": A, "2_b.sql": A.replace(" a", " b")})
    assert two.dbmate.migrate() and two.ours.engine("apply") == Outcome(0, "2")
    two.put({"1_a.sql": A, "2_b.sql": A.replace(" a", " b"), "3_c.sql": A.replace(" a", " c")})
    assert two.dbmate_on_ours.pending() == 1 and two.dbmate_on_ours.migrate()
    on_theirs = two.theirs.engine("apply")
    assert on_theirs == Outcome(0, "3"), "only what dbmate had not: its tables cannot be made twice"
    assert two.are_equal()
    assert two.dbmate_on_ours.rollback() and two.dbmate.rollback()
    assert two.versions(two.ours) == ["1", "2"] and two.are_equal()
    assert two.ours.engine("apply") == two.theirs.engine("apply") == Outcome(0, "3")
    assert two.versions(two.ours) == ["1", "2", "3"] and two.are_equal()


def test_what_came_late_dbmate_applies_and_we_only_where_that_is_wanted(two: Two) -> None:
    two.put({"2_b.sql": A})
    assert two.dbmate.migrate() and two.ours.engine("apply") == Outcome(0, "2")
    two.put({"2_b.sql": A, "1_late.sql": A.replace(" a", " late")})
    assert two.dbmate.migrate()
    assert two.ours.engine("apply").error.startswith("out_of_order: ")
    assert two.ours.engine("apply-out-of-order") == Outcome(0, "2") and two.are_equal()
