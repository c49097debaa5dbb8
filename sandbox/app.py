"""Puts the parts of the sandbox together: rooms, routes, the order in which a request meets them, start and stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

import psycopg
from aiohttp import web
from aiohttp.typedefs import Handler

from .clock import Clock
from .control import Control
from .faults import Faults
from .mail import Mailbox
from .observation import Observation
from .refusal import Refusal
from .room import Room
from .settings import Settings
from .store import Store
from .stripe.room import StripeRoom
from .stripe.settings import StripeSettings
from .supabase.room import SupabaseRoom
from .supabase.settings import SupabaseSettings

log = logging.getLogger("sandbox")
LARGEST_BODY = 4 * 1024 * 1024


class Sandbox:
    """Everything one process needs; `open` it before serving its rooms, `close` it afterwards."""

    def __init__(self, settings: Settings, supabase: SupabaseSettings, stripe: StripeSettings) -> None:
        self._store = Store(settings.database_url, settings.state_database, supabase.database_workers + 1)
        self._clock = Clock(self._store.state)
        self.rooms: list[Room] = [
            SupabaseRoom(supabase, self._store, self._clock, settings.seed),
            StripeRoom(stripe, self._store, self._clock, settings.seed),
        ]
        kinds = {
            name: dataclasses.replace(kind, room=room.name) for room in self.rooms for name, kind in room.kinds.items()
        }
        secret_fields = {name for room in self.rooms for name in room.secret_fields}
        self._faults = Faults(self._store.state, settings.seed, kinds)
        for room in self.rooms:
            room.uses(self._faults)
        self.mailbox = Mailbox(self._store.state)
        self._observation = Observation(self._store.log, self._clock, secret_fields)
        self._control = Control(self._store, self._clock, self._faults, self._observation, self.mailbox, self.rooms)
        self.stopping = asyncio.Event()

    async def open(self) -> None:
        await self._store.open(room.schema for room in self.rooms)
        await self._clock.load()
        await self._faults.load()
        await self._control.load_settings()
        for room in self.rooms:
            await room.begin()
            await room.open()

    async def close(self) -> None:
        for room in self.rooms:
            await room.close()
        await self._store.close()

    def web_app(self, room: Room) -> web.Application:
        """One room's API; every room's ports answer to /_sandbox."""
        app = web.Application(
            client_max_size=LARGEST_BODY,
            middlewares=[
                self._observation.middleware(),
                *room.middlewares(),
                self._faults.middleware(room.rate_limited),
                answer_middleware(room),
            ],
        )
        app["stopping"] = self.stopping
        app["room"] = room.name
        app.add_routes(room.routes())
        app.add_routes(self._control.routes())
        for each in self.rooms:
            app.add_routes(each.control_routes())
        return app


def answer_middleware(room: Room) -> Any:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers: dict[str, str] = {}
        try:
            if not request.path.startswith("/_sandbox"):
                await room.admit(request, headers)
            response = await handler(request)
        except Refusal as refusal:
            response = refusal.response()
        except web.HTTPException as exception:
            response = room.unknown(request, exception)
        except (psycopg.OperationalError, OSError) as problem:
            log.error("%s %s: PostgreSQL: %s", request.method, request.path, problem)
            response = room.broken()
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response

    return answer
