"""What the sandbox knows of projects and organizations, and the rules by which a project's state follows."""

from __future__ import annotations

import random
import string
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ..clock import Clock
from ..refusal import Refusal
from ..store import Pool, Row, Store
from .databases import Databases
from .settings import SupabaseSettings

POSTGREST = {
    "db_schema": "public,graphql_public",
    "max_rows": 1000,
    "db_extra_search_path": "public, extensions",
    "db_pool": None,
}
RESTRICTIONS = {
    "entitlement": "allowed",
    "config": {"dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": ["::/0"]},
    "status": "applied",
}
DELETABLE = {
    "ACTIVE_HEALTHY",
    "ACTIVE_UNHEALTHY",
    "INACTIVE",
    "INIT_FAILED",
    "PAUSE_FAILED",
    "RESTORE_FAILED",
}

INSERT = """
insert into project (ref, organization_slug, name, region, instance_size, is_branch, created_at, up_at,
                     stuck_by, stuck_status, stuck_until, database_name, owner_login, password_verifier,
                     jwt_secret, postgrest, auth_config, restrictions)
values (%(ref)s, %(organization_slug)s, %(name)s, %(region)s, %(instance_size)s, %(is_branch)s,
        %(created_at)s, %(up_at)s, %(stuck_by)s, %(stuck_status)s, %(stuck_until)s, %(database_name)s,
        %(owner_login)s, %(password_verifier)s, %(jwt_secret)s, %(postgrest)s, %(auth_config)s,
        %(restrictions)s)
returning *
"""

LIST = """
select *, count(*) over () as matching
from project
where deleted_at is null
  and (%(slug)s::text is null or organization_slug = %(slug)s)
  and position(lower(%(search)s) in lower(name)) > 0
  and (created_at <= %(seen_until)s)
order by {order}
limit %(limit)s
offset %(offset)s
"""
ORDERS = {
    "name_asc": "name, id",
    "name_desc": "name desc, id desc",
    "created_asc": "id",
    "created_desc": "id desc",
}

COUNT_ACTIVE = """
select count(*) as active
from project
where organization_slug = %(slug)s
  and deleted_at is null
  and not is_branch
  and settled <> 'INACTIVE'
"""

KEEP_ORGANIZATION = """
insert into organization (slug, name, plan, max_projects)
values (%(slug)s, %(name)s, %(plan)s, %(max_projects)s)
on conflict (slug) do update set
    name = excluded.name,
    plan = excluded.plan,
    max_projects = excluded.max_projects
returning *
"""

CHANGEABLE = {
    "name",
    "up_at",
    "coming",
    "settled",
    "forced_status",
    "deleted_at",
    "password_verifier",
    "jwt_secret",
    "postgrest",
    "auth_config",
    "restrictions",
}


def new_ref() -> str:
    return "".join(random.SystemRandom().choices(string.ascii_lowercase, k=20))


def new_secret() -> str:
    """What all keys of a project are made of."""
    return "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=48))


class Projects:
    def __init__(self, store: Store, clock: Clock, settings: SupabaseSettings, databases: Databases) -> None:
        self._state: Pool = store.state
        self._clock = clock
        self._settings = settings
        self.databases = databases

    async def organization(self, slug: str) -> Row:
        found = await self._state.row("select * from organization where slug = %(slug)s", slug=slug)
        if found is None:
            raise Refusal(404, "Organization not found")
        return found

    async def organizations(self) -> list[Row]:
        return await self._state.rows("select * from organization order by slug")

    async def keep_organization(self, slug: str, name: str, plan: str, max_projects: int) -> Row:
        kept = await self._state.row(KEEP_ORGANIZATION, slug=slug, name=name, plan=plan, max_projects=max_projects)
        assert kept is not None
        return kept

    async def keep_default_organization(self) -> None:
        known = await self._state.row("select 1 from organization")
        if known is None:
            told = self._settings
            await self.keep_organization(told.organization, "Sandbox", told.plan, told.max_projects)

    async def find(self, ref: str) -> Row | None:
        return await self._state.row("select * from project where ref = %(ref)s and deleted_at is null", ref=ref)

    async def get(self, ref: str) -> Row:
        found = await self.find(ref)
        if found is None:
            raise Refusal(404, "Project not found")
        self._build_if_due(found)
        return found

    async def page(
        self, slug: str | None, search: str, sort: str, limit: int | None, offset: int, lag_seconds: float
    ) -> tuple[list[Row], int]:
        """One page of the projects and how many there are in all; the newest may be held back."""
        rows = await self._state.rows(
            LIST.format(order=ORDERS[sort]),
            slug=slug,
            search=search,
            limit=limit,
            offset=offset,
            seen_until=self._clock.now() - timedelta(seconds=lag_seconds) if lag_seconds else self._clock.later(1),
        )
        if not rows and offset:
            # A page past the end has no row that could carry the count.
            _, matching = await self.page(slug, search, sort, 1, 0, lag_seconds)
            return [], matching
        return rows, rows[0]["matching"] if rows else 0

    async def everything(self) -> list[Row]:
        return await self._state.rows("select * from project order by id")

    async def create(
        self,
        organization: Row,
        name: str,
        region: str,
        instance_size: str,
        db_pass: str,
        stuck: dict[str, Any] | None = None,
        is_branch: bool = False,
    ) -> Row:
        """Records a new project and starts its database; refuses a name in use and a full organization."""
        ref, now = new_ref(), self._clock.now()
        login = f"postgres.{ref}"
        jammed = stuck or {"stuck_by": None, "stuck_status": None, "stuck_until": None}
        record = {
            "ref": ref,
            "organization_slug": organization["slug"],
            "name": name,
            "region": region,
            "instance_size": instance_size,
            "is_branch": is_branch,
            "created_at": now,
            "up_at": now + timedelta(seconds=self._settings.coming_up_seconds),
            "database_name": f"sb_{ref}",
            "owner_login": login,
            "password_verifier": await self.databases.password_verifier(login, db_pass),
            "jwt_secret": new_secret(),
            "postgrest": Jsonb(POSTGREST),
            "auth_config": Jsonb({"site_url": self._settings.site_url, "uri_allow_list": ""}),
            "restrictions": Jsonb(RESTRICTIONS),
            **jammed,
        }
        project = await self._insert(record, organization, check=not is_branch)
        self._build_if_due(project)
        return project

    async def _insert(self, record: dict[str, Any], organization: Row, check: bool) -> Row:
        slug, name = organization["slug"], record["name"]
        try:
            async with self._state.connection() as connection, connection.transaction():
                await connection.execute("select 1 from organization where slug = %s for update", (slug,))
                project = await (await connection.execute(INSERT, record)).fetchone()
                assert project is not None
                counted = await (await connection.execute(COUNT_ACTIVE, {"slug": slug})).fetchone()
                if check and counted is not None and counted["active"] > organization["max_projects"]:
                    raise over_quota(organization)
                return project
        except psycopg.errors.UniqueViolation:
            raise name_in_use(name) from None

    async def change(self, ref: str, **values: Any) -> Row:
        """Sets some columns of a project that is there and returns the row as it is then."""
        assert values.keys() <= CHANGEABLE
        columns = ", ".join(f"{name} = %({name})s" for name in values)
        wrapped = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
        changed = await self._state.row(
            f"update project set {columns} where ref = %(ref)s and deleted_at is null returning *",
            ref=ref,
            **wrapped,
        )
        if changed is None:
            raise Refusal(404, "Project not found")
        return changed

    async def rename(self, project: Row, name: str) -> Row:
        try:
            return await self.change(project["ref"], name=name)
        except psycopg.errors.UniqueViolation:
            raise name_in_use(name) from None

    async def delete(self, project: Row) -> Row:
        """Closes the owner's login at once; the database itself goes in the background."""
        gone = await self.change(project["ref"], deleted_at=self._clock.now())
        await self.databases.close_login(gone)
        self.databases.drop(gone["ref"])
        return gone

    async def set_password(self, project: Row, password: str) -> None:
        verifier = await self.databases.password_verifier(project["owner_login"], password)
        changed = await self.change(project["ref"], password_verifier=verifier)
        if changed["database_ready"]:
            await self.databases.set_password(changed, verifier)

    async def pause(self, project: Row) -> None:
        await self._settle(project, "PAUSING", "INACTIVE")
        if project["database_ready"]:
            await self.databases.close_database(project)

    async def restore(self, project: Row) -> None:
        await self._settle(project, "RESTORING", "ACTIVE_HEALTHY")
        if project["database_ready"]:
            await self.databases.open_database(project)

    async def _settle(self, project: Row, coming: str, settled: str) -> None:
        up_at = self._clock.later(self._settings.coming_up_seconds)
        await self.change(project["ref"], coming=coming, settled=settled, up_at=up_at, forced_status=None)

    async def release(self, fault_ids: list[int]) -> None:
        """Lets the projects go on that a removed fault has held back."""
        freed = await self._state.rows(
            "update project set stuck_by = null where stuck_by = any(%(ids)s) returning *", ids=fault_ids
        )
        for project in freed:
            self._build_if_due(project)

    def status(self, project: Row) -> str:
        now = self._clock.now()
        if project["deleted_at"] is not None:
            return "REMOVED"
        if project["forced_status"] is not None:
            return str(project["forced_status"])
        if self._is_stuck(project, now):
            return str(project["stuck_status"])
        if now < project["up_at"] or not self._has_database(project):
            return str(project["coming"])
        return str(project["settled"])

    def service_status(self, project: Row, service: str) -> tuple[str, str | None]:
        """The health of one service and its error; a pooler is found a little after its project is up."""
        status = self.status(project)
        if status in ("COMING_UP", "RESTORING", "UNKNOWN"):
            return "COMING_UP", None
        if status != "ACTIVE_HEALTHY":
            return "UNHEALTHY", f"project is {status}"
        lag = timedelta(seconds=self._settings.services_lag_seconds)
        if self._clock.now() >= project["up_at"] + lag:
            return "ACTIVE_HEALTHY", None
        if service == "pooler":
            return "UNHEALTHY", "Tenant or user not found"
        return ("COMING_UP", None) if service in ("auth", "rest") else ("ACTIVE_HEALTHY", None)

    def has_left_coming_up(self, project: Row) -> bool:
        return self.status(project) in DELETABLE

    def _has_database(self, project: Row) -> bool:
        return bool(self._settings.lazy_databases or project["database_ready"])

    def _is_stuck(self, project: Row, now: datetime) -> bool:
        return project["stuck_by"] is not None and (project["stuck_until"] is None or now < project["stuck_until"])

    def _build_if_due(self, project: Row) -> None:
        if not self._has_database(project) and not self._is_stuck(project, self._clock.now()):
            self.databases.build(project["ref"])

    async def database_exists(self, project: Row) -> Row:
        """Makes the database now if that was put off until it is asked for."""
        if not project["database_ready"] and self._settings.lazy_databases:
            await self.databases.build(project["ref"])
            return await self.get(project["ref"])
        return project


def name_in_use(name: str) -> Refusal:
    return Refusal(409, f'Project with name "{name}" already exists in your organization.')


def over_quota(organization: Row) -> Refusal:
    return Refusal(
        400,
        "The following organization members have reached their maximum limits for the number of active free "
        "projects within organizations where they are an administrator or owner: "
        f"{organization['name']} ({organization['max_projects']} project limit). Please delete, pause, or "
        "upgrade one or more of these projects before creating a new one.",
    )
