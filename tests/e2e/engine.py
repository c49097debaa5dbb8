"""One database and the files for it, to which `tenantry init --migrations` applies them: the migration engine without a
service around it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.postgres import PostgresServer
from deploy.local.stack import REPOSITORY, SANITIZERS

from .client import eventually

ALONE = " transaction:false"
GATE = "select pg_advisory_xact_lock(7)"  # a statement waits here while `gate` is shut


@dataclass
class Outcome:
    status: int
    error: str


class Database:
    """A database of its own and a directory of files for it."""

    def __init__(self, server: PostgresServer, name: str, directory: Path) -> None:
        self.server, self.name, self.directory = server, name, directory
        server.execute(f"create database {name}")

    def put(self, name: str, up: str, options: str = "") -> Path:
        path = self.directory / name
        path.write_text(f"-- migrate:up{options}\n{up}\n-- migrate:down\n")
        return path

    def apply(self) -> Outcome:
        build = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
        done = subprocess.run(
            [build / "tenantry", "init", "--no-topics", "--migrations", self.directory],
            env={"PATH": os.environ["PATH"], "CATALOG_ADMIN_URL": self.server.url(self.name), **SANITIZERS},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return Outcome(done.returncode, done.stderr)

    def engine(self, *words: str, fence: int = 1, **environment: str) -> Outcome:
        """The engine by the test's own program; error is what it printed."""
        build = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
        done = subprocess.run(
            [build / "tests" / "migrate-one", self.server.url(self.name), self.directory, str(fence), *words],
            env={"PATH": os.environ["PATH"], **SANITIZERS, **environment}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout.strip() or done.stderr)

    def applies(self) -> None:
        outcome = self.apply()
        assert outcome.status == 0, outcome.error

    def fails(self, *words: str) -> str:
        outcome = self.apply()
        assert outcome.status == 1, outcome
        for word in words:
            assert word in outcome.error
        return outcome.error

    def connect(self, **more: Any) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.server.url(self.name), autocommit=True, **more)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with self.connect() as session:
            return session.execute(sql).fetchall()

    def run(self, sql: str) -> None:
        with self.connect() as session:
            session.execute(sql)

    def ledger(self) -> list[str]:
        ours = self.rows("select version from tenantry.migration order by 1")
        assert self.rows("select version from public.schema_migrations order by 1") == ours
        return [str(version) for (version,) in ours]

    @contextmanager
    def under_way(self, waiting: str) -> Iterator[None]:
        """Applies until a statement with these words waits; after the block it comes to its end, well or not."""
        self.outcome: Outcome | None = None
        thread = threading.Thread(target=lambda: setattr(self, "outcome", self.apply()))
        thread.start()
        try:
            eventually(lambda: self.waits(waiting), 20, f"{waiting} waits")
            yield
        finally:
            thread.join(60)
        assert self.outcome is not None

    def waits(self, statement: str, seconds: float = 0) -> bool:
        return bool(self.rows(
            "select 1 from pg_stat_activity where application_name = 'tenantry-init' and wait_event_type = 'Lock' "
            f"and datname = current_database() and query like '%{statement}%' "
            f"and now() - query_start > interval '{seconds} s'"
        ))  # fmt: skip

    def cut(self) -> None:
        """The session of whoever applies is lost in the middle of its statement."""
        eventually(
            lambda: not self.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'tenantry-init' and datname = current_database()"
            ),
            10, "the session is gone",
        )  # fmt: skip

    def loses_its_session_at_the_gate(self) -> None:
        with self.connect() as gate:
            gate.execute("select pg_advisory_lock(7)")
            with self.under_way(GATE):
                self.cut()
        assert self.outcome is not None and self.outcome.status == 1


@contextmanager
def foreign_transaction(database: Database) -> Iterator[Callable[[], object]]:
    """An idle transaction that has never touched the table in question; the function ends it."""
    with database.connect() as session:
        session.execute("begin isolation level repeatable read; select 1")
        yield lambda: session.execute("rollback")
