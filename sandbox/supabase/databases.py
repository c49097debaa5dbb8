"""Makes and drops the real databases and owner logins behind the projects, a few at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import psycopg
from psycopg import sql

from ..store import Row, Store
from ..verifier import make_verifier
from .settings import SupabaseSettings

log = logging.getLogger("sandbox.databases")
LONGEST_PAUSE = 2.0

UNFINISHED = """
select ref, deleted_at is not null as deleted
from project
where (deleted_at is null and not database_ready and not %(lazy)s and stuck_by is null)
   or (deleted_at is not null and not database_dropped)
order by id
"""

# A role made by an owner belongs to that owner's database alone: nothing of it is to be found elsewhere.
ROLES_OF_DATABASE = """
select r.rolname
from pg_roles r
join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
join pg_database b on b.datname = %(database)s
where not r.rolsuper
  and r.rolname not like 'postgres.%%'
  and r.rolname not like 'pg\\_%%'
group by r.rolname
having bool_and(d.dbid = b.oid or (d.classid = 'pg_database'::regclass and d.objid = b.oid))
"""


class Databases:
    def __init__(self, store: Store, settings: SupabaseSettings) -> None:
        self._store = store
        self._settings = settings
        self._workers = asyncio.Semaphore(settings.database_workers)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def resume(self) -> None:
        """Takes up what an earlier process left unfinished."""
        for row in await self._store.state.rows(UNFINISHED, lazy=self._settings.lazy_databases):
            (self.drop if row["deleted"] else self.build)(row["ref"])

    def build(self, ref: str) -> asyncio.Task[None]:
        """Starts making a project's database, or joins the making already under way."""
        return self._start("build", ref, self._build)

    def drop(self, ref: str) -> asyncio.Task[None]:
        return self._start("drop", ref, self._drop)

    async def idle(self) -> None:
        """Waits until nothing is being made or dropped."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close_login(self, project: Row) -> None:
        await self._cluster(
            "alter role {owner} nologin", owner=sql.Identifier(project["owner_login"]), missing_is_fine=True
        )

    async def set_password(self, project: Row, verifier: str) -> None:
        owner = sql.Identifier(project["owner_login"])
        await self._cluster("alter role {owner} password {verifier}", owner=owner, verifier=sql.Literal(verifier))

    async def close_database(self, project: Row) -> None:
        await self._connection_limit(project["database_name"], 0)
        await self._store.cluster.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %(name)s",
            name=project["database_name"],
        )

    async def open_database(self, project: Row) -> None:
        await self._connection_limit(project["database_name"], -1)

    async def password_verifier(self, login: str, password: str) -> str:
        """What PostgreSQL keeps in place of a password, so that the sandbox keeps no password either."""
        if password.isascii():
            return make_verifier(password)
        async with self._store.state.connection() as connection:  # libpq knows how other signs are prepared
            kept = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
        return kept.decode()

    def _start(self, what: str, ref: str, work: Any) -> asyncio.Task[None]:
        key = (what, ref)
        if key not in self._tasks:
            task = asyncio.create_task(self._until_done(what, ref, work))
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return self._tasks[key]

    async def _until_done(self, what: str, ref: str, work: Any) -> None:
        pause = 0.1
        if what == "drop" and (building := self._tasks.get(("build", ref))) is not None:
            await asyncio.wait([building])
        while True:
            try:
                async with self._workers:
                    attempt: Coroutine[Any, Any, None] = work(ref)
                    return await attempt
            except (psycopg.Error, OSError) as problem:
                log.warning("%s of %s is tried again: %s", what, ref, problem)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _build(self, ref: str) -> None:
        """Each statement finds out what an earlier attempt has done, so that a killed sandbox carries on."""
        project = await self._project(ref)
        if project is None or project["deleted_at"] is not None or project["database_ready"]:
            return
        name, login = project["database_name"], project["owner_login"]
        database, owner = sql.Identifier(name), sql.Identifier(login)
        verb = "alter" if await self._exists("pg_roles", "rolname", login) else "create"
        await self._cluster(
            verb + " role {owner} login createrole nosuperuser password {verifier}",
            owner=owner,
            verifier=sql.Literal(project["password_verifier"]),
        )
        if not await self._exists("pg_database", "datname", name):
            # Nobody can enter before the public right to connect is gone.
            await self._cluster(
                "create database {database} owner {owner} template template0 encoding 'UTF8' "
                "strategy {strategy} connection limit 0",
                database=database,
                owner=owner,
                strategy=sql.Identifier(self._settings.database_strategy),
            )
        await self._cluster("revoke all on database {database} from public", database=database)
        await self._connection_limit(name, -1)
        # The password may have been changed while the role was made.
        current = await self._project(ref)
        if current is not None and current["password_verifier"] != project["password_verifier"]:
            await self.set_password(project, current["password_verifier"])
        await self._store.state.run("update project set database_ready = true where ref = %(ref)s", ref=ref)

    async def _drop(self, ref: str) -> None:
        project = await self._project(ref)
        if project is None or project["database_dropped"]:
            return
        name = project["database_name"]
        roles = await self._store.cluster.rows(ROLES_OF_DATABASE, database=name)
        await self._cluster("drop database if exists {database} with (force)", database=sql.Identifier(name))
        for role in [row["rolname"] for row in roles] + [project["owner_login"]]:
            await self._drop_role(role)
        await self._store.state.run("update project set database_dropped = true where ref = %(ref)s", ref=ref)

    async def _drop_role(self, role: str) -> None:
        """A role that has spread to somewhere else cannot go; then at least nobody can log in as it."""
        name = sql.Identifier(role)
        try:
            await self._cluster("drop role if exists {role}", role=name)
        except psycopg.errors.DependentObjectsStillExist as problem:
            log.warning("%s is kept, without login: %s", role, problem)
            await self._cluster("alter role {role} nologin", role=name)

    async def _project(self, ref: str) -> Row | None:
        return await self._store.state.row("select * from project where ref = %(ref)s", ref=ref)

    async def _exists(self, catalog: str, column: str, name: str) -> bool:
        query = f"select 1 from {catalog} where {column} = %(name)s"
        return await self._store.cluster.row(query, name=name) is not None

    async def _connection_limit(self, database: str, limit: int) -> None:
        await self._cluster(
            "alter database {database} connection limit {limit}",
            database=sql.Identifier(database),
            limit=sql.Literal(limit),
        )

    async def _cluster(self, statement: Any, missing_is_fine: bool = False, **names: sql.Composable) -> None:
        try:
            await self._store.cluster.run(sql.SQL(statement).format(**names))
        except psycopg.errors.UndefinedObject:
            if not missing_is_fine:
                raise
