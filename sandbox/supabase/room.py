"""Puts the parts of the Supabase room together, and looks at a request in the order in which the real service does."""

from __future__ import annotations

import random
import uuid
from typing import Any

from aiohttp import web

from ..clock import Clock
from ..faults import Kind, Rule
from ..limits import RateLimit
from ..refusal import Refusal
from ..room import Room
from ..store import Store
from .auth import Auth
from .auth_gate import AuthGate
from .control import Control
from .databases import Databases
from .limits import Throttle, too_many_requests
from .management import Management
from .openapi import Document
from .projects import Projects
from .settings import SupabaseSettings
from .tables import SCHEMA, TABLES
from .users import Users

WINDOW_SECONDS = 60
CREATE = {"method": "POST", "path": "^/v1/projects$"}
LIST = {"method": "GET", "path": "^/v1/(organizations/[^/]+/projects|projects)$"}


class SupabaseRoom(Room):
    name = "supabase"
    schema = SCHEMA
    tables = TABLES
    kinds = {
        "capacity": Kind({"region"}, needs="region", about={"path": "^/v1/projects(/available-regions)?$"}),
        "quota": Kind({"code", "message"}, about=CREATE),
        "stuck": Kind({"status", "seconds"}, about=CREATE),
        "unhealthy": Kind({"service", "status", "error"}, about={"method": "GET", "path": "/health$"}),
        "lagging_list": Kind({"seconds"}, needs="seconds", about=LIST),
        "list_order": Kind({"order"}, about=LIST),
    }
    secret_fields = {"db_pass", "password", "refresh_token", "token"}

    def __init__(self, settings: SupabaseSettings, store: Store, clock: Clock, seed: int) -> None:
        self.settings: SupabaseSettings = settings
        self._databases = Databases(store, settings)
        self._projects = Projects(store, clock, settings, self._databases)
        self._throttle = Throttle(RateLimit(store.log, clock, WINDOW_SECONDS), settings)
        users = Users(store.state, clock)
        self._management = Management(self._projects, clock, settings, random.Random(seed))
        self._auth = Auth(AuthGate(self._projects, clock, settings), users)
        self._control = Control(settings, self._projects, users)
        self._document = Document()
        self._caller = str(uuid.uuid4())

    def ports(self) -> set[int]:
        return {self.settings.port, self.settings.auth_port}

    def routes(self) -> list[web.RouteDef]:
        probes = [web.get("/rest/{ref}/v1/", self.rest_probe), web.get("/rest/{ref}/v1", self.rest_probe)]
        return [*self._management.routes(), *self._auth.routes(), *probes]

    def control_routes(self) -> list[web.RouteDef]:
        return self._control.routes()

    async def open(self) -> None:
        await self._databases.resume()

    async def close(self) -> None:
        await self._databases.stop()

    async def begin(self) -> None:
        await self._projects.keep_default_organization()

    async def clear(self) -> dict[str, Any]:
        """The projects' databases and logins live in the cluster, where no truncate reaches them."""
        left = [row for row in await self._projects.everything() if not row["database_dropped"]]
        for project in left:
            if project["deleted_at"] is None:
                await self._projects.delete(project)
        await self._databases.idle()
        return {"dropped": len(left)}

    async def faults_removed(self, fault_ids: list[int]) -> None:
        await self._projects.release(fault_ids)

    async def rest_probe(self, request: web.Request) -> web.Response:
        """200 while the Data API shows the schema that is asked for, 404 once it is closed."""
        project = await self._projects.get(request.match_info["ref"])
        if self._projects.status(project) != "ACTIVE_HEALTHY":
            raise Refusal(503, "name resolution failed")
        shown = {name.strip() for name in project["postgrest"]["db_schema"].split(",")}
        asked = request.headers.get("Accept-Profile", "public")
        if asked not in shown:
            raise Refusal(404, f"the schema {asked} is not exposed")
        return web.json_response({"swagger": "2.0", "info": {"title": "standard public schema"}})

    async def admit(self, request: web.Request, headers: dict[str, str]) -> None:
        """Token, rate limit and schema of the Management API; the Auth API looks for itself."""
        if not request.path.startswith("/v1/"):
            return
        headers["x-gotrue-id"] = self._caller
        resource = request.match_info.route.resource
        if request.headers.get("Authorization") != f"Bearer {self.settings.token}":
            raise Refusal(401, "Unauthorized")
        if resource is None:
            return
        template = resource.canonical
        scope = request.match_info.get("ref") or request.match_info.get("slug") or ""
        headers.update(await self._throttle.take(request.method, template, scope))
        request["input"] = await self._document.accept(request, template)

    def rate_limited(self, rule: Rule) -> Refusal:
        headers = {
            "X-RateLimit-Limit": "120",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(rule.fault.get("reset", 1)),
        }
        if "retry_after" in rule.fault:
            headers["Retry-After"] = str(rule.fault["retry_after"])
        return too_many_requests({**headers, **rule.fault.get("headers", {})})

    def unknown(self, request: web.Request, exception: web.HTTPException) -> web.Response:
        if request.path.startswith("/auth/"):
            return web.Response(status=exception.status, text=f"{exception.status} page not found\n")
        if request.path.startswith("/v1/") and exception.status in (404, 405):
            return web.json_response({"message": f"Cannot {request.method} {request.path}"}, status=404)
        return web.json_response({"message": exception.reason}, status=exception.status)

    def broken(self) -> web.Response:
        return web.json_response({"message": "An error has occurred"}, status=500)
