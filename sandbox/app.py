"""Puts the parts of the sandbox together: routes, the order in which a request meets them, start and stop."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from typing import Any

import psycopg
from aiohttp import web
from aiohttp.typedefs import Handler

from .auth import Auth
from .auth_gate import AuthGate
from .clock import Clock
from .control import Control
from .databases import Databases
from .faults import Faults
from .limits import RateLimit
from .mail import Mailbox
from .management import Management
from .observation import Observation
from .openapi import Document
from .projects import Projects
from .refusal import Refusal
from .settings import Settings
from .store import Store
from .users import Users

log = logging.getLogger("sandbox")
LARGEST_BODY = 4 * 1024 * 1024


class Sandbox:
    """Everything one process needs; `open` it before serving `web_app`, `close` it afterwards."""

    def __init__(self, settings: Settings) -> None:
        dice = random.Random(settings.seed)
        self.settings = settings
        self.store = Store(settings.database_url, settings.state_database, settings.database_workers)
        self.clock = Clock(self.store.state)
        self.databases = Databases(self.store, settings)
        self.projects = Projects(self.store, self.clock, settings, self.databases)
        self.faults = Faults(self.store.state, settings.seed)
        self.limits = RateLimit(self.store.log, self.clock, settings)
        self.mailbox = Mailbox(self.store.state)
        self.observation = Observation(self.store.log, self.clock)
        users = Users(self.store.state, self.clock)
        self.management = Management(self.projects, self.clock, settings, dice)
        self.auth = Auth(AuthGate(self.projects, self.clock, settings), users)
        self.control = Control(
            self.store,
            settings,
            self.clock,
            self.faults,
            self.projects,
            users,
            self.observation,
            self.mailbox,
        )
        self.stopping = asyncio.Event()
        self._document = Document()
        self._caller = str(uuid.uuid4())

    async def open(self) -> None:
        await self.store.open()
        await self.clock.load()
        await self.faults.load()
        await self.control.load_settings()
        await self.projects.keep_default_organization()
        await self.databases.resume()

    async def close(self) -> None:
        await self.databases.stop()
        await self.store.close()

    def web_app(self) -> web.Application:
        app = web.Application(
            client_max_size=LARGEST_BODY,
            middlewares=[self.observation.middleware(), self.faults.middleware(), self._answer_middleware()],
        )
        app["stopping"] = self.stopping
        app.add_routes(self.management.routes())
        app.add_routes(self.auth.routes())
        app.add_routes(self.control.routes())
        app.add_routes([web.get("/rest/{ref}/v1/", self.rest_probe), web.get("/rest/{ref}/v1", self.rest_probe)])
        return app

    async def rest_probe(self, request: web.Request) -> web.Response:
        """200 while the Data API shows the schema that is asked for, 404 once it is closed."""
        project = await self.projects.get(request.match_info["ref"])
        if self.projects.status(project) != "ACTIVE_HEALTHY":
            raise Refusal(503, "name resolution failed")
        shown = {name.strip() for name in project["postgrest"]["db_schema"].split(",")}
        asked = request.headers.get("Accept-Profile", "public")
        if asked not in shown:
            raise Refusal(404, f"the schema {asked} is not exposed")
        return web.json_response({"swagger": "2.0", "info": {"title": "standard public schema"}})

    def _answer_middleware(self) -> Any:
        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            headers: dict[str, str] = {}
            try:
                if request.path.startswith("/v1/"):
                    headers["x-gotrue-id"] = self._caller
                    await self._admit(request, headers)
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.response()
            except web.HTTPException as exception:
                response = self._unknown(request, exception)
            except (psycopg.OperationalError, OSError) as problem:
                log.error("%s %s: PostgreSQL: %s", request.method, request.path, problem)
                response = web.json_response({"message": "An error has occurred"}, status=500)
            for name, value in headers.items():
                response.headers.setdefault(name, value)
            return response

        return answer

    async def _admit(self, request: web.Request, headers: dict[str, str]) -> None:
        """Token, rate limit and schema, in the order in which the real service looks at them."""
        resource = request.match_info.route.resource
        if request.headers.get("Authorization") != f"Bearer {self.settings.token}":
            raise Refusal(401, "Unauthorized")
        if resource is None:
            return
        template = resource.canonical
        scope = request.match_info.get("ref") or request.match_info.get("slug") or ""
        headers.update(await self.limits.take(request.method, template, scope))
        request["input"] = await self._document.accept(request, template)

    def _unknown(self, request: web.Request, exception: web.HTTPException) -> web.Response:
        if request.path.startswith("/auth/"):
            return web.Response(status=exception.status, text=f"{exception.status} page not found\n")
        message = exception.reason
        if request.path.startswith("/v1/") and exception.status in (404, 405):
            return web.json_response({"message": f"Cannot {request.method} {request.path}"}, status=404)
        return web.json_response({"message": message}, status=exception.status)
