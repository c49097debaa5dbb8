"""The sandbox's memory: a small pool of PostgreSQL connections, and the tables that all rooms share."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]

SCHEMA = """
create table if not exists setting (
    key   text primary key,
    value jsonb not null
);

create table if not exists fault (
    id   bigint generated always as identity primary key,
    rule jsonb not null
);

create table if not exists mail (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    sender     text not null,
    recipients text[] not null,
    raw        bytea not null
);

create table if not exists request (
    id       bigint generated always as identity primary key,
    at       timestamptz not null,
    method   text not null,
    path     text not null,
    template text,
    query    text not null,
    status   integer,
    faults   bigint[] not null,
    ms       double precision not null,
    body     text
);

create unlogged table if not exists rate_window (
    endpoint   text primary key,
    started_at timestamptz not null,
    used       integer not null
);
"""

# What a reset empties.
TABLES = ("setting", "fault", "mail", "request", "rate_window")


class Pool:
    """At most `size` autocommit connections to one database; a broken one is replaced at its next use."""

    def __init__(self, conninfo: str, size: int, options: str = "") -> None:
        self._conninfo = make_conninfo(conninfo, application_name="tenantry-sandbox", options=options)
        self._slots: asyncio.Queue[Connection | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._slots.put_nowait(None)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lends a connection; one that was interrupted mid-statement is closed, never lent again."""
        connection = await self._slots.get()
        try:
            if connection is None or not is_usable(connection):
                connection = None
                connection = await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, row_factory=dict_row
                )
            yield connection
        except (psycopg.OperationalError, asyncio.CancelledError):
            if connection is not None:
                await connection.close()
            connection = None
            raise
        finally:
            self._slots.put_nowait(connection)

    async def rows(self, statement: str, **params: Any) -> list[Row]:
        async with self.connection() as connection:
            return await (await connection.execute(statement, params)).fetchall()

    async def row(self, statement: str, **params: Any) -> Row | None:
        async with self.connection() as connection:
            return await (await connection.execute(statement, params)).fetchone()

    async def run(self, statement: str | sql.Composable, **params: Any) -> None:
        async with self.connection() as connection:
            await connection.execute(statement, params or None)  # type: ignore[arg-type]

    async def close(self) -> None:
        while not self._slots.empty():
            connection = self._slots.get_nowait()
            if connection is not None:
                await connection.close()


def is_usable(connection: Connection) -> bool:
    """Whether an idle connection is still one: a server that has ended it has left word in the socket."""
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


class Store:
    """Three pools: the state itself, the log (which may lose its last moment in a power cut), the cluster."""

    def __init__(self, database_url: str, state_database: str, cluster_connections: int) -> None:
        state = make_conninfo(database_url, dbname=state_database)
        self.database = state_database
        self.state = Pool(state, 6)
        self.log = Pool(state, 2, options="-c synchronous_commit=off")
        self.cluster = Pool(database_url, cluster_connections)

    async def open(self, schemas: Iterable[str]) -> None:
        """Creates the sandbox's own database, its tables and the rooms' where they are missing."""
        found = await self.cluster.row("select 1 from pg_database where datname = %(name)s", name=self.database)
        if found is None:
            create = sql.SQL("create database {} template template0").format(sql.Identifier(self.database))
            with suppress(psycopg.errors.DuplicateDatabase):
                await self.cluster.run(create)
        await self.state.run("".join(["set client_min_messages = warning;", SCHEMA, *schemas]))

    async def empty(self, tables: Iterable[str]) -> None:
        """Forgets all that is in these tables and in those that are shared."""
        named = sql.SQL(", ").join(sql.Identifier(table) for table in (*TABLES, *tables))
        await self.state.run(sql.SQL("truncate {} restart identity").format(named))

    async def close(self) -> None:
        for pool in (self.state, self.log, self.cluster):
            await pool.close()
