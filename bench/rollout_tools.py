"""What else brings a schema change to many databases: one process a database, as many at once as xargs starts."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.postgres import postgres_programs
from deploy.local.stack import REPOSITORY

DBMATE = Path(os.environ.get("TENANTRY_CACHE", REPOSITORY / ".run" / "cache")) / "dbmate" / "bin" / "dbmate"

ALTER = "alter table public.branches add column {column} text"
DROP = "alter table public.branches drop column {column}"

# Each tool has a ledger of its own, as if it had made the database: none finds what another one did.
LEDGERS = """
create schema bench;
create table bench.dbmate (version varchar(128) primary key);
create table bench.psql (version varchar(50) primary key, applied_at timestamptz default now());
create table bench.alembic (version_num varchar(32) primary key);
insert into bench.dbmate select version from public.schema_migrations;
insert into bench.psql select version from public.schema_migrations;
insert into bench.alembic values ('r0');
"""

ALEMBIC_ENVIRONMENT = """\
import os
from alembic import context
from sqlalchemy import engine_from_config, pool

url = f"postgresql://postgres@127.0.0.1:{os.environ['PGPORT']}/{context.get_x_argument(as_dictionary=True)['database']}"
engine = engine_from_config({"sqlalchemy.url": url}, prefix="sqlalchemy.", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, version_table="alembic", version_table_schema="bench")
    with context.begin_transaction():
        context.run_migrations()
"""

ALEMBIC_REVISION = """\
from alembic import op
import sqlalchemy as sa

revision, down_revision = {revision!r}, {before!r}


def upgrade():
    {up}


def downgrade():
    pass
"""


class Unavailable(RuntimeError):
    """A tool cannot be had here; the text says why."""


def dbmate_program() -> Path:
    """The one that the tests compare our migrations with: deploy/local/install.sh test brings it."""
    if not DBMATE.exists():
        raise Unavailable(f"dbmate: deploy/local/install.sh test brings none for {platform.machine()}")
    return DBMATE


def _run(command: list[str], databases: list[str], environment: dict[str, str], log: Path) -> float:
    """Feeds the names of databases to a command; returns the CPU seconds of it and of what it has waited for."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, stdout=output, stderr=output)
        assert process.stdin is not None
        process.stdin.write(("\n".join(databases) + "\n").encode())
        process.stdin.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:6])} ended with {process.returncode}: {log.read_text()[-800:]}")
    return used.ru_utime + used.ru_stime


class Tools:
    """Scripts and directories of the tools, each with one more change a round."""

    def __init__(self, root: Path, tenant_migrations: Path, port: int, password: str, programs: Path) -> None:
        self.root = root
        self.port = port
        self.password = password
        self.programs = programs
        self.changes = 0
        self.revision = "r0"
        root.mkdir(exist_ok=True)
        self.dbmate_directory = root / "dbmate"
        shutil.copytree(tenant_migrations, self.dbmate_directory)
        (root / "alembic" / "versions").mkdir(parents=True)
        (root / "alembic" / "env.py").write_text(ALEMBIC_ENVIRONMENT)
        (root / "alembic.ini").write_text(f"[alembic]\nscript_location = {root}/alembic\n")
        self._write_revision("r0", None, "pass")

    def _write_revision(self, revision: str, before: str | None, up: str) -> None:
        text = ALEMBIC_REVISION.format(revision=revision, before=before, up=up)
        (self.root / "alembic" / "versions" / f"{revision}.py").write_text(text)

    def _environment(self, port: int) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""), "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres",
            "PGPASSWORD": self.password,
        }  # fmt: skip

    def _xargs(self, at_once: int, *command: str) -> list[str]:
        return ["xargs", f"-P{at_once}", "-I{}", *command]

    def _next(self) -> int:
        """No two changes are alike, and the later comes later."""
        self.changes += 1
        return self.changes

    def dbmate(self, databases: list[str], at_once: int, port: int | None = None) -> float:
        number, port = self._next(), port or self.port
        column = f"dbmate_{number}"
        path = self.dbmate_directory / f"2028{number:010}_{column}.sql"
        path.write_text(
            f"-- migrate:up\n{ALTER.format(column=column)};\n\n-- migrate:down\n{DROP.format(column=column)};\n"
        )
        command = self._xargs(
            at_once, str(dbmate_program()), "--url", f"postgres://postgres@127.0.0.1:{port}/{{}}?sslmode=disable",
            "--migrations-dir", str(self.dbmate_directory), "--migrations-table", "bench.dbmate", "--no-dump-schema",
            "migrate",
        )  # fmt: skip
        return _run(command, databases, self._environment(port), self.root / "dbmate.log")

    def psql(self, databases: list[str], at_once: int) -> float:
        number, script = self._next(), self.root / "psql.sql"
        script.write_text(
            f"begin;\ninsert into bench.psql (version) values ('{number}');\n"
            f"{ALTER.format(column=f'psql_{number}')};\ncommit;\n"
        )
        psql = str(postgres_programs() / "psql")  # not Debian's wrapper, which is a script of its own
        command = self._xargs(at_once, psql, "-Xq", "--set=ON_ERROR_STOP=1", f"--file={script}", "--dbname={}")
        return _run(command, databases, self._environment(self.port), self.root / "psql.log")

    def alembic(self, databases: list[str], at_once: int) -> float:
        revision = f"r{self._next()}"
        up = f"op.add_column('branches', sa.Column('alembic_{revision}', sa.Text), schema='public')"
        self._write_revision(revision, self.revision, up)
        self.revision = revision
        command = self._xargs(
            at_once, "alembic", "--config", str(self.root / "alembic.ini"), "-x", "database={}", "upgrade", "head"
        )
        return _run(command, databases, self._environment(self.port), self.root / "alembic.log")

    def connect(self, databases: list[str], at_once: int) -> float:
        """No change: the cost of having been there."""
        command = [str(self.programs / "connect"), str(at_once)]
        return _run(command, databases, self._environment(self.port), self.root / "connect.log")


@dataclass
class Tool:
    """One of them, as it is measured."""

    name: str
    run: Callable[[list[str], int], float]
    at_once: int
    most: int | None = None  # databases, where all would take minutes


def tools_to_measure(tools: Tools) -> tuple[list[Tool], list[str]]:
    """Those that are there, and why others are not."""
    found = [
        Tool("psql, 8 at once", tools.psql, 8),
        Tool("alembic, 8 at once", tools.alembic, 8, most=100),
        Tool("connect, `select 1`, close: one after the other", tools.connect, 1),
        Tool("connect, `select 1`, close: 8 at once", tools.connect, 8),
    ]
    try:
        dbmate_program()
    except Unavailable as why:
        return found, [str(why)]
    return [
        Tool("dbmate, one after the other", tools.dbmate, 1),
        Tool("dbmate, 8 at once", tools.dbmate, 8),
        *found,
    ], []
