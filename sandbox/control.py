"""The test's own side of the sandbox, /_sandbox: faults, the clock, what was asked and what there is."""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from .clock import Clock, stamp
from .faults import Faults
from .mail import Mailbox
from .observation import Observation
from .projects import Projects, new_secret
from .refusal import Refusal
from .settings import Settings
from .store import Row, Store
from .users import Users, describe

FORGET = """
truncate project, organization, auth_user, auth_link, auth_session, fault, mail, request, rate_window, setting
restart identity
"""

KEEP_SETTINGS = """
insert into setting (key, value)
values ('settings', %(value)s)
on conflict (key) do update set value = excluded.value
"""

SHOWN = (
    "ref",
    "organization_slug",
    "name",
    "region",
    "instance_size",
    "is_branch",
    "database_name",
    "owner_login",
    "database_ready",
    "database_dropped",
    "postgrest",
    "auth_config",
    "restrictions",
)
Answer = web.Response


async def read_object(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError:
        raise Refusal(400, "the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be an object")
    return body


def number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdigit():
        raise Refusal(400, f"{name} must be a whole number")
    return int(text)


class Control:
    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        faults: Faults,
        projects: Projects,
        users: Users,
        observation: Observation,
        mailbox: Mailbox,
    ) -> None:
        self._store = store
        self._settings = settings
        self._told_at_start = settings.live()
        self._clock = clock
        self._faults = faults
        self._projects = projects
        self._users = users
        self._observation = observation
        self._mailbox = mailbox

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sandbox/healthz", self.healthz),
            web.get("/_sandbox/clock", self.get_clock),
            web.post("/_sandbox/clock", self.set_clock),
            web.get("/_sandbox/settings", self.get_settings),
            web.post("/_sandbox/settings", self.set_settings),
            web.get("/_sandbox/faults", self.list_faults),
            web.post("/_sandbox/faults", self.add_fault),
            web.delete("/_sandbox/faults", self.remove_faults),
            web.get("/_sandbox/faults/{id}", self.get_fault),
            web.delete("/_sandbox/faults/{id}", self.remove_faults),
            web.get("/_sandbox/projects", self.list_projects),
            web.patch("/_sandbox/projects/{ref}", self.change_project),
            web.post("/_sandbox/branches", self.create_branch),
            web.put("/_sandbox/organizations/{slug}", self.keep_organization),
            web.get("/_sandbox/users", self.list_users),
            web.get("/_sandbox/requests", self.list_requests),
            web.get("/_sandbox/stats", self.stats),
            web.get("/_sandbox/mail", self.list_mail),
            web.post("/_sandbox/reset", self.reset),
        ]

    async def load_settings(self) -> None:
        kept = await self._store.state.row("select value from setting where key = 'settings'")
        if kept is not None:
            self._settings.change(kept["value"])

    async def healthz(self, _: web.Request) -> Answer:
        await self._store.state.row("select 1")
        return web.json_response({"ok": True})

    async def get_clock(self, _: web.Request) -> Answer:
        return web.json_response(self._clock.describe())

    async def set_clock(self, request: web.Request) -> Answer:
        body = await read_object(request)
        if odd := set(body) - {"rate", "advance_seconds"}:
            raise Refusal(400, f"the clock takes rate and advance_seconds, not {', '.join(sorted(odd))}")
        await self._clock.change(**body)
        return web.json_response(self._clock.describe())

    async def get_settings(self, _: web.Request) -> Answer:
        return web.json_response(self._settings.live())

    async def set_settings(self, request: web.Request) -> Answer:
        self._settings.change(await read_object(request))
        await self._store.state.run(KEEP_SETTINGS, value=json.dumps(self._settings.live()))
        return web.json_response(self._settings.live())

    async def list_faults(self, _: web.Request) -> Answer:
        return web.json_response([rule.describe() for rule in self._faults.all()])

    async def add_fault(self, request: web.Request) -> Answer:
        rule = await self._faults.add(await read_object(request))
        return web.json_response(rule.describe(), status=201)

    async def get_fault(self, request: web.Request) -> Answer:
        for rule in self._faults.all():
            if str(rule.id) == request.match_info["id"]:
                return web.json_response(rule.describe())
        raise Refusal(404, "no such fault")

    async def remove_faults(self, request: web.Request) -> Answer:
        wanted = request.match_info.get("id")
        if wanted is not None and not wanted.isdigit():
            raise Refusal(404, "no such fault")
        gone = await self._faults.remove(None if wanted is None else int(wanted))
        if wanted is not None and not gone:
            raise Refusal(404, "no such fault")
        await self._projects.release(gone)
        return web.json_response({"removed": gone})

    async def list_projects(self, _: web.Request) -> Answer:
        return web.json_response([self._describe(row) for row in await self._projects.everything()])

    def _describe(self, project: Row) -> dict[str, Any]:
        return {
            **{name: project[name] for name in SHOWN},
            "status": self._projects.status(project),
            "created_at": stamp(project["created_at"]),
            "deleted_at": stamp(project["deleted_at"]),
        }

    async def change_project(self, request: web.Request) -> Answer:
        """Holds a project in a status until it is given back with null, or gives it new keys: the former are refused."""
        body = await read_object(request)
        if odd := set(body) - {"status", "new_keys"}:
            raise Refusal(400, f"a project takes status and new_keys, not {', '.join(sorted(odd))}")
        changes: dict[str, Any] = {"forced_status": body["status"]} if "status" in body else {}
        if body.get("new_keys") is True:
            changes["jwt_secret"] = new_secret()
        if not changes:
            raise Refusal(400, "say status or new_keys")
        return web.json_response(self._describe(await self._projects.change(request.match_info["ref"], **changes)))

    async def create_branch(self, request: web.Request) -> Answer:
        """A preview branch of a project: a row of its own in the list, even of the same name."""
        body = await read_object(request)
        parent = await self._projects.get(str(body.get("ref")))
        organization = await self._projects.organization(parent["organization_slug"])
        branch = await self._projects.create(
            organization,
            str(body.get("name", parent["name"])),
            parent["region"],
            parent["instance_size"],
            db_pass=str(body.get("db_pass", parent["ref"])),
            is_branch=True,
        )
        return web.json_response(self._describe(branch), status=201)

    async def keep_organization(self, request: web.Request) -> Answer:
        body, slug = await read_object(request), request.match_info["slug"]
        plan = body.get("plan", "pro")
        if plan not in ("free", "pro", "team", "enterprise"):
            raise Refusal(400, "plan must be free, pro, team or enterprise")
        most = body.get("max_projects", 2 if plan == "free" else self._settings.max_projects)
        if not isinstance(most, int):
            raise Refusal(400, "max_projects must be a whole number")
        kept = await self._projects.keep_organization(slug, str(body.get("name", slug)), plan, most)
        return web.json_response(kept)

    async def list_users(self, request: web.Request) -> Answer:
        rows = await self._users.of_project(request.query.get("ref", ""))
        return web.json_response([{"ref": row["ref"], **describe(row)} for row in rows])

    async def list_requests(self, request: web.Request) -> Answer:
        path = request.query.get("path", "")
        try:
            re.compile(path)
        except re.error as problem:
            raise Refusal(400, f"path is no regular expression: {problem}") from None
        since, limit = number(request, "since", 0), number(request, "limit", 1000)
        method = request.query.get("method", "")
        return web.json_response(await self._observation.find(path, method, since, limit))

    async def stats(self, _: web.Request) -> Answer:
        return web.json_response(await self._observation.stats())

    async def list_mail(self, request: web.Request) -> Answer:
        return web.json_response(await self._mailbox.find(request.query.get("to", "")))

    async def reset(self, _: web.Request) -> Answer:
        """Back to the first start: the projects' databases and logins are dropped, all is forgotten."""
        await self._faults.remove()
        left = [row for row in await self._projects.everything() if not row["database_dropped"]]
        for project in left:
            if project["deleted_at"] is None:
                await self._projects.delete(project)
        await self._projects.databases.idle()
        await self._store.state.run(FORGET)
        await self._clock.reset()
        self._settings.change(self._told_at_start)
        await self._projects.keep_default_organization()
        return web.json_response({"dropped": len(left)})
