"""What a test sees and changes of the Supabase room, under /_sandbox: projects, branches, organizations, users."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..clock import stamp
from ..control import read_object
from ..refusal import Refusal
from ..store import Row
from .projects import Projects, new_secret
from .settings import SupabaseSettings
from .users import Users, describe

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


class Control:
    def __init__(self, settings: SupabaseSettings, projects: Projects, users: Users) -> None:
        self._settings = settings
        self._projects = projects
        self._users = users

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sandbox/projects", self.list_projects),
            web.patch("/_sandbox/projects/{ref}", self.change_project),
            web.post("/_sandbox/branches", self.create_branch),
            web.put("/_sandbox/organizations/{slug}", self.keep_organization),
            web.get("/_sandbox/users", self.list_users),
        ]

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
