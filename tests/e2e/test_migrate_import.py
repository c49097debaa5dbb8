"""`tenantry migrate import`, with alembic as the judge: what it prints, imported and applied by our engine, leaves a
database like the one that it upgraded itself, there and back. And what is refused, with its line."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.postgres import PostgresServer, postgres_programs
from deploy.local.stack import REPOSITORY, SANITIZERS

from .conftest import bare_postgres
from .engine import Database

numbers = itertools.count(1)

ENVIRONMENT = """\
import os
from alembic import context
from sqlalchemy import create_engine, pool

url = os.environ["ALEMBIC_URL"]
options = {"transaction_per_migration": "ALEMBIC_EACH" in os.environ}
if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
"""

# What a revision is called, and its upgrade() and downgrade().
REVISIONS = {
    "r1": (
        """op.create_table("branches", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.Text))
op.execute("create function shout(t text) returns text language plpgsql as $body$ begin\\n"
           "  /* COMMIT; */ return upper(t) || ' BEGIN; COMMIT;'; -- COMMIT;\\nend $body$")
op.bulk_insert(sa.table("branches", sa.column("id", sa.BigInteger), sa.column("name", sa.Text)),
               [{"id": 1, "name": "'; COMMIT; --"}, {"id": 2, "name": "M\\u00fcnchen"}])""",
        """op.execute("drop function shout(text)")
op.drop_table("branches")""",
    ),
    "r2": (
        """op.add_column("branches", sa.Column("city", sa.Text))
with op.get_context().autocommit_block():
    op.create_index("branches_city", "branches", ["city"], postgresql_concurrently=True)
    op.execute("create index concurrently branches_name on branches (name)")
op.execute("update branches set city = name where city is null;")""",
        """with op.get_context().autocommit_block():
    op.drop_index("branches_name", "branches", postgresql_concurrently=True)
    op.drop_index("branches_city", "branches", postgresql_concurrently=True)
op.drop_column("branches", "city")""",
    ),
    "r3": (
        """with op.get_context().autocommit_block():
    op.create_index("branches_upper", "branches", [sa.text("upper(name)")], postgresql_concurrently=True)""",
        """with op.get_context().autocommit_block():
    op.drop_index("branches_upper", "branches", postgresql_concurrently=True)""",
    ),
    "r4": (
        """op.alter_column("branches", "name", nullable=False)
op.create_table("visits", sa.Column("branch", sa.BigInteger, sa.ForeignKey("branches.id")), sa.Column("at", sa.Date))""",
        """op.drop_table("visits")
op.alter_column("branches", "name", nullable=True)""",
    ),
}


class Alembic:
    """A project of revisions, each a step from the one before."""

    def __init__(self, place: Path, each: bool = False) -> None:
        self.place, self.each, self.last = place, each, ""
        (place / "versions").mkdir(parents=True)
        (place / "alembic.ini").write_text("[alembic]\nscript_location = .\n")
        (place / "env.py").write_text(ENVIRONMENT)

    def add(self, revision: str, upgrade: str, downgrade: str) -> None:
        bodies = [code.replace("\n", "\n    ") for code in (upgrade, downgrade)]
        (self.place / "versions" / f"{revision}.py").write_text(
            f"import sqlalchemy as sa\nfrom alembic import op\n\nrevision, down_revision = {revision!r}, "
            f"{self.last or None!r}\n\n\ndef upgrade():\n    {bodies[0]}\n\n\ndef downgrade():\n    {bodies[1]}\n"
        )
        self.last = revision

    def add_all(self) -> Alembic:
        for revision, (upgrade, downgrade) in REVISIONS.items():
            self.add(revision, upgrade, downgrade)
        return self

    def run(self, *words: str, url: str = "postgresql://") -> str:
        each = {"ALEMBIC_EACH": "yes"} if self.each else {}
        done = subprocess.run(
            ["alembic", *words], cwd=self.place, capture_output=True, text=True, timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHONIOENCODING": "utf-8", "ALEMBIC_URL": url, **each},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def current(self, database: Database) -> str:
        return self.run("current", url=database.server.url(database.name)).strip()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with bare_postgres("import") as server:
        yield server


def new_database(server: PostgresServer, directory: Path) -> Database:
    directory.mkdir(exist_ok=True)
    return Database(server, f"import_{next(numbers)}", directory)


def run_import(
    directory: Path,
    up: str | bytes,
    down: str | bytes | None = None,
    name: str = "shop",
    more: tuple[str, ...] = (),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    build = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
    words: list[str | Path] = ["--directory", directory, *more]
    if down is not None:
        path = directory.parent / "down.sql"
        path.write_bytes(down if isinstance(down, bytes) else down.encode())
        words += ["--down", path]
    done = subprocess.run(
        [build / "tenantry", "migrate", "import", name, *words],
        env={"PATH": os.environ["PATH"], **SANITIZERS, **environment}, input=up if isinstance(up, bytes) else up.encode(),
        capture_output=True, timeout=60,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def imported(directory: Path, up: str | bytes, down: str | bytes | None = None, name: str = "shop") -> list[Path]:
    """The files that were written, whose paths it printed."""
    done = run_import(directory, up, down, name)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" if down is not None else "migrate:down is empty" in done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert paths and all(path.parent == directory for path in paths)
    return paths


def sections(path: Path) -> tuple[str, str]:
    """Up and down of a file as it is, without the blank lines around them; ` transaction:false` stays before it."""
    up, down = path.read_text().removeprefix("-- migrate:up").split("\n-- migrate:down")
    return up.strip(), down.strip()


def schema(database: Database) -> str:
    """What pg_dump says of it, but for what is ours; \\restrict has a new word each time."""
    done = subprocess.run(
        [postgres_programs() / "pg_dump", "--schema-only", "--exclude-schema=tenantry",
         "--exclude-table=public.schema_migrations", database.server.url(database.name)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", done.stdout)


def rows(database: Database) -> list[tuple[object, ...]]:
    columns = database.rows("select column_name from information_schema.columns where table_name = 'branches'")
    return database.rows(f"select {', '.join(sorted(str(name) for (name,) in columns))} from branches order by id")


def versions(paths: list[Path]) -> list[str]:
    return [path.name.partition("_")[0] for path in paths]


@pytest.mark.parametrize("each", [False, True], ids=["one transaction", "one for each revision"])
def test_what_is_imported_makes_the_database_that_alembic_makes(
    server: PostgresServer, tmp_path: Path, each: bool
) -> None:
    alembic = Alembic(tmp_path / "alembic", each).add_all()
    ours, theirs = new_database(server, tmp_path / "ours"), new_database(server, tmp_path / "theirs")
    paths = imported(ours.directory, alembic.run("upgrade", "base:head", "--sql"))
    alembic.run("upgrade", "head", url=server.url(theirs.name))
    outcome = ours.engine("apply")
    assert outcome.status == 0 and outcome.error == versions(paths)[-1]
    assert alembic.current(ours) == alembic.current(theirs) == "r4 (head)"
    assert "branches_upper" in schema(ours) and schema(ours) == schema(theirs)
    assert rows(ours) == rows(theirs) and len(rows(ours)) == 2


@pytest.mark.parametrize("each", [False, True], ids=["one transaction", "one for each revision"])
def test_the_way_back_ends_where_alembics_does(server: PostgresServer, tmp_path: Path, each: bool) -> None:
    alembic = Alembic(tmp_path / "alembic", each).add_all()
    ours, theirs = new_database(server, tmp_path / "ours"), new_database(server, tmp_path / "theirs")
    nothing = schema(theirs)
    paths = imported(
        ours.directory, alembic.run("upgrade", "base:head", "--sql"), alembic.run("downgrade", "head:base", "--sql")
    )
    alembic.run("upgrade", "head", url=server.url(theirs.name))
    assert ours.engine("apply").status == 0
    outcome = ours.engine("revert", *versions(paths))
    assert outcome.status == 0, outcome.error
    assert schema(ours) == nothing and alembic.current(ours) == ""
    outcome = ours.engine("apply")
    assert outcome.status == 0 and schema(ours) == schema(theirs) and rows(ours) == rows(theirs)


@pytest.mark.parametrize("each", [False, True], ids=["one transaction", "one for each revision"])
def test_after_each_file_that_is_taken_back_the_rest_can_be_applied_again(
    server: PostgresServer, tmp_path: Path, each: bool
) -> None:
    alembic = Alembic(tmp_path / "alembic", each).add_all()
    ours, theirs = new_database(server, tmp_path / "ours"), new_database(server, tmp_path / "theirs")
    paths = imported(
        ours.directory, alembic.run("upgrade", "base:head", "--sql"), alembic.run("downgrade", "head:base", "--sql")
    )
    alembic.run("upgrade", "head", url=server.url(theirs.name))
    assert ours.engine("apply").status == 0 and len(paths) >= 5
    for kept in range(len(paths)):
        for step in (["revert", *versions(paths[kept:])], ["apply"]):
            outcome = ours.engine(*step)
            assert outcome.status == 0, (paths[kept].read_text(), outcome.error)
        assert schema(ours) == schema(theirs) and alembic.current(ours) == "r4 (head)", paths[kept].read_text()


def test_revisions_that_are_imported_one_by_one_stop_where_alembic_stops(
    server: PostgresServer, tmp_path: Path
) -> None:
    alembic = Alembic(tmp_path / "alembic").add_all()
    ours, theirs = new_database(server, tmp_path / "ours"), new_database(server, tmp_path / "theirs")
    steps = list(zip(["base", *REVISIONS], REVISIONS, strict=False))
    files = {}
    for before, revision in steps:  # faster than one a second: each comes after the one before all the same
        files[revision] = imported(
            ours.directory,
            alembic.run("upgrade", f"{before}:{revision}", "--sql"),
            alembic.run("downgrade", f"{revision}:{before}", "--sql"),
            revision,
        )
    states = {"base": schema(theirs)}
    for _, revision in steps:
        alembic.run("upgrade", revision, url=server.url(theirs.name))
        states[revision] = schema(theirs)
        assert ours.engine("apply", versions(files[revision])[-1]).status == 0
        assert schema(ours) == states[revision] and alembic.current(ours) == alembic.current(theirs)
    for before, revision in reversed(steps):
        alembic.run("downgrade", before, url=server.url(theirs.name))
        assert ours.engine("revert", *versions(files[revision])).status == 0
        assert alembic.current(ours) == alembic.current(theirs)
        assert before == "base" or schema(ours) == schema(theirs) == states[before]
    assert schema(ours) == states["base"]  # where alembic leaves its own empty table


def test_each_transaction_and_each_autocommit_block_is_a_file(tmp_path: Path) -> None:
    alembic = Alembic(tmp_path / "alembic").add_all()
    target = tmp_path / "files"
    target.mkdir()
    paths = imported(
        target, alembic.run("upgrade", "r1:r2", "--sql"), alembic.run("downgrade", "r2:r1", "--sql"), "city"
    )
    assert [re.sub(r"^\d{14}", "", path.name) for path in paths] == ["_city_1.sql", "_city_2.sql", "_city_3.sql"]
    assert versions(paths) == sorted(versions(paths)) and len(set(versions(paths))) == 3
    (column, no_column), (index, no_index), (data, nothing) = map(sections, paths)
    assert column.startswith("-- Running upgrade r1 -> r2\n") and column.endswith("ADD COLUMN city TEXT;")
    assert no_column.startswith("ALTER TABLE branches DROP COLUMN city;") and "version_num='r1'" in no_column
    assert index.startswith("transaction:false\nCREATE INDEX CONCURRENTLY") and index.count("branches_") == 2
    assert no_index.startswith("transaction:false\n-- Running downgrade r2 -> r1\n\nDROP INDEX CONCURRENTLY")
    assert data.startswith("update branches") and data.endswith("WHERE alembic_version.version_num = 'r1';")
    assert nothing == ""


def test_a_downgrade_of_several_parts_takes_a_single_file_back(server: PostgresServer, tmp_path: Path) -> None:
    alembic = Alembic(tmp_path / "alembic")
    alembic.add("a", 'op.execute("create table t (x int)")\nop.execute("create index t_x on t (x)")', REVERSE_IN_PARTS)
    ours = new_database(server, tmp_path / "ours")
    nothing = schema(ours)
    (path,) = imported(
        ours.directory, alembic.run("upgrade", "base:a", "--sql"), alembic.run("downgrade", "a:base", "--sql")
    )
    assert re.fullmatch(r"\d{14}_shop\.sql", path.name)
    assert sections(path)[1].startswith("transaction:false\nBEGIN;") and sections(path)[1].endswith("COMMIT;")
    assert ours.engine("apply").status == 0 and alembic.current(ours) == "a (head)"
    outcome = ours.engine("revert", *versions([path]))
    assert outcome.status == 0 and schema(ours) == nothing, outcome.error


REVERSE_IN_PARTS = """with op.get_context().autocommit_block():
    op.execute("drop index concurrently t_x")
op.execute("drop table t")"""


def script(*parts: str, revision: str = "a -> b", down: bool = False) -> str:
    """Parts as alembic prints them: outside of a transaction those with an odd index, inside the others."""
    word = f"-- Running {'downgrade' if down else 'upgrade'} {revision}\n\n"
    return f"BEGIN;\n\n{word}" + "".join(
        f"{part};\n\n{'BEGIN' if i % 2 else 'COMMIT'};\n\n" if part else f"{'BEGIN' if i % 2 else 'COMMIT'};\n\n"
        for i, part in enumerate(parts)
    )


# Up, down, and what to say of it.
MISFITS = {
    "no autocommit_block in the downgrade": (
        script("a", "b", "c"), script("undo", revision="b -> a", down=True), ("does not mirror", "3 files", "--down"),
    ),
    "one too many in the downgrade": (
        script("a", "b", "c"), script("c", "b", "", "x", "a", revision="b -> a", down=True), ("does not mirror",),
    ),
    "an empty one in the downgrade": (
        script("a", "b", "c"), script("c", "", "a", revision="b -> a", down=True), ("does not mirror",),
    ),
    "in another revision": (
        script("a", "b", "-- Running upgrade b -> c\n\nc"),
        script("c", "b", "-- Running downgrade b -> a\n\na", revision="c -> b", down=True), ("does not mirror",),
    ),
    "another range": (
        script("a"), script("undo", revision="c -> b", down=True), ("other revisions", "down.sql", "same range"),
    ),
    "a smaller range": (
        script("a", "", "-- Running upgrade b -> c\n\nc"), script("c", revision="c -> b", down=True),
        ("other revisions",),
    ),
    "two upgrades": (script("a"), script("a"), ("down.sql line 3", "an upgrade", "alembic downgrade B:A")),
    "two downgrades": (
        script("a", down=True), script("a", down=True), ("standard input line 3", "a downgrade", "alembic upgrade A:B"),
    ),
    "an empty downgrade": (script("a"), "", ("down.sql has no statements",)),
    "a temporary table in one of several transactions": (
        script("a"), script("create temp table t (x int)", "b", "c", revision="b -> a", down=True),
        ("down.sql line 5", "temporary"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_a_downgrade_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    up, down, words = MISFITS[case]
    target = tmp_path / "files"
    target.mkdir()
    done = run_import(target, up, down)
    assert done.returncode == 4 and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert not list(target.iterdir())


# The SQL, and the sections that it becomes.
TAKEN: dict[str, tuple[str, list[str]]] = {
    "no transaction at all": ("create table a ();\n\nvacuum;\n", ["transaction:false\ncreate table a ();\n\nvacuum;"]),
    "a last statement without a semicolon": ("BEGIN; select 1; COMMIT; vacuum", ["select 1;", "transaction:false\nvacuum"]),
    "CRLF": ("BEGIN;\r\n\r\nselect '1\r\n2';\r\n\r\nCOMMIT;\r\n", ["select '1\r\n2';"]),
    "other words for it": (
        "begin work; select 1; end; start transaction; select 2; commit transaction;", ["select 1;", "select 2;"],
    ),
    "quotes and comments with the words in them": (
        "-- BEGIN;\nBEGIN;\n/* COMMIT; /* BEGIN; */ */ do $x$ begin\nCOMMIT;\nend $x$;\nselect 'COMMIT;', \"BEGIN;\";\n"
        "-- COMMIT;\nCOMMIT;",
        ["-- BEGIN;\n/* COMMIT; /* BEGIN; */ */ do $x$ begin\nCOMMIT;\nend $x$;\nselect 'COMMIT;', \"BEGIN;\";\n\n"
         "-- COMMIT;"],
    ),
    "a function body of statements": (
        "BEGIN; create function f() returns int begin atomic select 1; select 2; end; COMMIT;",
        ["create function f() returns int begin atomic select 1; select 2; end;"],
    ),
    "savepoints": (
        "BEGIN; savepoint a; select 1; rollback to a; COMMIT;", ["savepoint a; select 1; rollback to a;"],
    ),
    "semicolons too many": ("BEGIN;; select 1;; COMMIT;;", ["select 1;"]),
    "transactions with nothing in them": ("BEGIN;\nCOMMIT;\nBEGIN; select 1;\nCOMMIT; BEGIN; COMMIT;", ["select 1;"]),
    "a comment before a block on the same line": (
        "BEGIN; -- of the block\nCOMMIT; vacuum; BEGIN; COMMIT;", ["transaction:false\n-- of the block\n vacuum;"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_what_stands_between_begin_and_commit_is_a_transaction(tmp_path: Path, case: str) -> None:
    sql, ups = TAKEN[case]
    target = tmp_path / "files"
    target.mkdir()
    files = [path.read_bytes().decode() for path in imported(target, sql)]
    expected = [
        f"-- migrate:up{f' {up}' if up.startswith('transaction:false') else chr(10) + up}\n\n-- migrate:down\n"
        for up in ups
    ]
    assert files == expected


# The SQL, and what to say of it.
REFUSED: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "nothing": ("", ("standard input has no statements",)),
    "only comments": ("-- Running upgrade a -> b\n", ("has no statements",)),
    "only transactions": ("BEGIN;\n\nCOMMIT;\n\n", ("has no statements",)),
    "alembic stopped in the middle": ("BEGIN;\n\nselect 1;\n\n", ("line 1", "never ended", "did alembic stop")),
    "a transaction in another one": ("BEGIN;\nselect 1;\n\nBEGIN;\nCOMMIT;", ("line 4", "line 1 has not ended")),
    "an end without a beginning": ("BEGIN; COMMIT;\nselect 1;\nCOMMIT;", ("line 3", "autocommit_block()")),
    "a beginning with options": ("BEGIN ISOLATION LEVEL SERIALIZABLE;\nCOMMIT;", ("line 1", "plain BEGIN")),
    "an end that begins the next": ("BEGIN;\nselect 1; commit and chain;", ("line 2", "plain BEGIN")),
    "a rollback": ("BEGIN;\nselect 1;\nROLLBACK;", ("line 3", "cannot roll it back")),
    "a rollback outside": ("select 1;\nROLLBACK;", ("line 2", "plain BEGIN")),
    "a prepared transaction": ("BEGIN;\n\n\nprepare transaction 'a';", ("line 4", "cannot begin or end one")),
    "COPY with its data": ("BEGIN;\ncopy a from stdin;\n1\n\\.\nCOMMIT;", ("line 2", "copy from stdin")),
    "an unnamed index": ("BEGIN;\nCOMMIT;\ncreate index concurrently on a (b);", ("line 3", "needs a name")),
    "a temporary table outside": ("select 1;\ncreate temp table a ();", ("line 2", "temporary")),
    "an open quote": ("BEGIN;\nselect 'COMMIT;\n", ("line 2", "never closed")),
    "an open dollar quote": ("BEGIN;\n\ndo $x$ begin COMMIT; end $y$;\nCOMMIT;", ("line 3", "never closed")),
    "an open comment": ("BEGIN;\n/* COMMIT;\n", ("line 2", "comment", "never closed")),
    "a comment that would become a section": (
        "select 1;\n-- migrate:up\nselect 2;",
        ("line 2", "would begin a section"),
    ),
    "a section of its own": ("BEGIN;\nselect $$\n-- migrate:down\n$$;\nCOMMIT;", ("line 3", "would begin a section")),
    "a comment that would come to the beginning of a line": (
        "BEGIN;\nselect 1; COMMIT; -- migrate:down\nvacuum;",
        ("line 2", "would begin a section"),
    ),
    "control characters": ("BEGIN;\nbegin \x1b[2J;", ("line 2", "\\x1b")),
    "garbage": (")]}; begin (begin; commit); COMMIT; end; BEGIN", ("line 1",)),
    "a NUL byte": (b"BEGIN;\nselect '\0';\nCOMMIT;", ("NUL",)),
    "Latin-1": (b"BEGIN;\nselect 'M\xfcnchen';\nCOMMIT;", ("standard input line 2", "FC", "not UTF-8")),
    "UTF-16": ("BEGIN;".encode("utf-16"), ("NUL",)),
    "a byte order mark": ("\ufeffBEGIN;\nselect 1;\nCOMMIT;", ("byte order mark",)),
    "more than 4 MiB": ("BEGIN; select 1; COMMIT; -- " + "x" * 4 * 1024 * 1024, ("larger than 4194304 bytes",)),
    "too many transactions": ("BEGIN;a;COMMIT;" * 1001, ("more than 1000 transactions",)),
    "too many revisions": ("-- Running upgrade a -> b\n" * 1001 + "select 1;", ("more than 1000 revisions",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_migration_may_contain_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    sql, words = REFUSED[case]
    target = tmp_path / "files"
    target.mkdir()
    done = run_import(target, sql)
    assert done.returncode == 4 and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert not list(target.iterdir())


def test_four_mebibytes_are_imported(tmp_path: Path) -> None:
    target = tmp_path / "files"
    target.mkdir()
    value = "x" * (4 * 1024 * 1024 - 100)
    (path,) = imported(target, f"BEGIN;\nselect '{value}';\nCOMMIT;\n")
    assert f"select '{value}';" in path.read_text()


@pytest.mark.parametrize("name", ["", "-x", "_x", "a/b", "..", "a b", "a.sql", "Zo\u00eb", "a\nb", "a" * 101])
def test_a_name_that_is_no_part_of_a_files_name_is_refused(tmp_path: Path, name: str) -> None:
    done = run_import(tmp_path, "select 1;", name=name)
    assert done.returncode == 2 and done.stdout == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "Invoices-2_b", "2024", "a" * 100])
def test_a_name_is_kept_as_it_is(tmp_path: Path, name: str) -> None:
    (path,) = imported(tmp_path, "select 1;", name=name)
    assert path.name[14:] == f"_{name}.sql"


def test_what_is_imported_comes_after_every_file_that_is_there(tmp_path: Path) -> None:
    for name in ["001_old.sql", "20990228235959_last.sql", "20990231000000_no_day.sql", "20990301000000_draft.txt"]:
        (tmp_path / name).write_text("-- migrate:up\nselect 'old';\n-- migrate:down\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for first in (0, 2):
        paths = imported(tmp_path, script("select 1", "select 2", ""))
        assert versions(paths) == [f"2099030100000{first}", f"2099030100000{first + 1}"]
    assert len(list(tmp_path.iterdir())) == 8
    assert all(path.read_bytes() == text for path, text in before.items())
    (tmp_path / "99991231235959_end.sql").write_text("-- migrate:up\n-- migrate:down\n")
    done = run_import(tmp_path, "select 1;")
    assert done.returncode == 4 and "no version is later" in done.stderr and len(list(tmp_path.iterdir())) == 9


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    done = run_limited(tmp_path, script("select 1", "select 2", f"select '{'x' * 100_000}'"))
    assert done.returncode == 1 and "cannot write" in done.stderr and "File too large" in done.stderr, done
    assert not list(tmp_path.iterdir())


def test_a_file_that_comes_there_meanwhile_is_kept(tmp_path: Path) -> None:
    target, library = tmp_path / "files", tmp_path / "rival_file.so"
    target.mkdir()
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, Path(__file__).with_name("rival_file.c"), "-ldl"],
        check=True, timeout=60,
    )  # fmt: skip
    done = run_import(
        target, script("select 1", "select 2", "select 3"),
        LD_PRELOAD=str(library), ASAN_OPTIONS=f"{SANITIZERS['ASAN_OPTIONS']}:verify_asan_link_order=0",
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == "" and "shop_2.sql: File exists" in done.stderr, done
    (rival,) = target.iterdir()
    assert rival.name.endswith("_shop_2.sql") and rival.read_text() == "rival"


def test_imports_at_the_same_time_have_versions_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda i: imported(tmp_path, script("a", "b", "c"), name=f"n{i}"), range(8)))
    found = [version for paths in runs for version in versions(paths)]
    assert len(found) == len(set(found)) == 24
    assert all(int(paths[0].name[:14]) < int(paths[2].name[:14]) for paths in runs)
    assert sorted(path for paths in runs for path in paths) == sorted(tmp_path.iterdir())


def run_limited(directory: Path, sql: str) -> subprocess.CompletedProcess[str]:
    """With no file larger than 64 KiB: the third one cannot be written."""
    build = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
    command = "import resource, signal, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); "
    command += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", command, build / "tenantry", "migrate", "import", "shop", "--directory", directory],
        env={"PATH": os.environ["PATH"], **SANITIZERS}, input=sql, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_directory_or_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_import(tmp_path / "nowhere", "select 1;")
    assert done.returncode == 1 and "nowhere" in done.stderr and not list(tmp_path.iterdir())
    done = run_import(tmp_path, "select 1;", more=("--down", str(tmp_path / "none.sql")))
    assert done.returncode == 1 and "none.sql" in done.stderr and not list(tmp_path.iterdir())
    done = run_import(tmp_path, "select 1;", more=("--down", "-"))
    assert done.returncode == 2 and "--down needs a file" in done.stderr


def test_machines_get_the_paths_as_json(tmp_path: Path) -> None:
    done = run_import(tmp_path, script("select 1", "select 2", ""), more=("--json",))
    assert done.returncode == 0
    assert json.loads(done.stdout)["files"] == sorted(str(path) for path in tmp_path.iterdir())
    done = run_import(tmp_path, "", more=("--json",))
    assert done.returncode == 4 and "no statements" in json.loads(done.stdout)["error"]["message"]
