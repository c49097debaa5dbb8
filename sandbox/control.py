"""The test's own side of the sandbox, /_sandbox: the clock, settings, faults, what was asked, what was mailed."""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from .clock import Clock
from .faults import Faults
from .mail import Mailbox
from .observation import Observation
from .refusal import Refusal
from .room import Room
from .settings import change, live
from .store import Store

KEEP_SETTINGS = """
insert into setting (key, value)
values ('settings', %(value)s)
on conflict (key) do update set value = excluded.value
"""

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
        clock: Clock,
        faults: Faults,
        observation: Observation,
        mailbox: Mailbox,
        rooms: list[Room],
    ) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._observation = observation
        self._mailbox = mailbox
        self._rooms = rooms
        self._settings = [room.settings for room in rooms]
        self._told_at_start = live(self._settings)

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
            web.get("/_sandbox/requests", self.list_requests),
            web.get("/_sandbox/stats", self.stats),
            web.get("/_sandbox/mail", self.list_mail),
            web.post("/_sandbox/reset", self.reset),
        ]

    async def load_settings(self) -> None:
        kept = await self._store.state.row("select value from setting where key = 'settings'")
        if kept is not None:
            change(self._settings, kept["value"])

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
        for room in self._rooms:
            await room.clock_moved()
        return web.json_response(self._clock.describe())

    async def get_settings(self, _: web.Request) -> Answer:
        return web.json_response(live(self._settings))

    async def set_settings(self, request: web.Request) -> Answer:
        change(self._settings, await read_object(request))
        await self._store.state.run(KEEP_SETTINGS, value=json.dumps(live(self._settings)))
        return web.json_response(live(self._settings))

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
        for room in self._rooms:
            await room.faults_removed(gone)
        return web.json_response({"removed": gone})

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
        """Back to the first start: what the rooms made elsewhere is removed, all is forgotten."""
        await self._faults.remove()
        report: dict[str, Any] = {}
        for room in self._rooms:
            report.update(await room.clear())
        await self._store.empty(table for room in self._rooms for table in room.tables)
        await self._clock.reset()
        change(self._settings, self._told_at_start)
        for room in self._rooms:
            await room.begin()
        return web.json_response(report)
