"""The sandbox's memory: a small pool of PostgreSQL connections and the tables everything is kept in."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
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

create table if not exists organization (
    slug         text primary key,
    name         text not null,
    plan         text not null,
    max_projects integer not null
);

create table if not exists project (
    id                bigint generated always as identity primary key,
    ref               text not null unique,
    organization_slug text not null references organization,
    name              text not null,
    region            text not null,
    instance_size     text not null,
    is_branch         boolean not null default false,
    created_at        timestamptz not null,
    up_at             timestamptz not null,
    coming            text not null default 'COMING_UP',
    settled           text not null default 'ACTIVE_HEALTHY',
    forced_status     text,
    stuck_by          bigint,
    stuck_status      text,
    stuck_until       timestamptz,
    deleted_at        timestamptz,
    database_name     text not null,
    owner_login       text not null,
    password_verifier text not null,
    database_ready    boolean not null default false,
    database_dropped  boolean not null default false,
    jwt_secret        text not null,
    postgrest         jsonb not null,
    auth_config       jsonb not null,
    restrictions      jsonb not null
);

create unique index if not exists project_name
    on project (organization_slug, name)
    where deleted_at is null and not is_branch;

create table if not exists auth_user (
    ref        text not null references project (ref),
    id         uuid not null,
    email      text,
    password   text,
    document   jsonb not null,
    deleted_at timestamptz,
    primary key (ref, id)
);

create unique index if not exists auth_user_email
    on auth_user (ref, email)
    where deleted_at is null;

create table if not exists auth_link (
    ref        text not null,
    user_id    uuid not null,
    purpose    text not null,
    token_hash text not null,
    expires_at timestamptz not null,
    primary key (ref, user_id, purpose),
    foreign key (ref, user_id) references auth_user (ref, id) on delete cascade
);

create table if not exists auth_session (
    token_hash text primary key,
    ref        text not null,
    user_id    uuid not null,
    foreign key (ref, user_id) references auth_user (ref, id) on delete cascade
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

    def __init__(self, database_url: str, state_database: str, workers: int) -> None:
        state = make_conninfo(database_url, dbname=state_database)
        self.database = state_database
        self.state = Pool(state, 6)
        self.log = Pool(state, 2, options="-c synchronous_commit=off")
        self.cluster = Pool(database_url, workers + 1)

    async def open(self) -> None:
        """Creates the sandbox's own database and its tables where they are missing."""
        found = await self.cluster.row("select 1 from pg_database where datname = %(name)s", name=self.database)
        if found is None:
            create = sql.SQL("create database {} template template0").format(sql.Identifier(self.database))
            with suppress(psycopg.errors.DuplicateDatabase):
                await self.cluster.run(create)
        await self.state.run("set client_min_messages = warning; " + SCHEMA)

    async def close(self) -> None:
        for pool in (self.state, self.log, self.cluster):
            await pool.close()
