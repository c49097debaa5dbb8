"""Remembers every request, without its secrets, so that a test can see what was really asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler

from .clock import Clock, stamp
from .store import Pool, Row

LONGEST_BODY = 16_384

INSERT = """
insert into request (at, method, path, template, query, status, faults, ms, body)
values (%(at)s, %(method)s, %(path)s, %(template)s, %(query)s, %(status)s, %(faults)s, %(ms)s, %(body)s)
"""

FIND = """
select *
from (
    select *
    from request
    where id > %(since)s
      and path ~ %(path)s
      and (%(method)s = '' or method = %(method)s)
    order by id desc
    limit %(limit)s
) newest
order by id
"""

COUNTS = """
select method,
       coalesce(template, '(unknown)') as template,
       count(*) as total,
       count(*) filter (where status = 429) as limited,
       count(*) filter (where status is null) as unanswered,
       coalesce(max(ms), 0) as slowest_ms,
       array_agg(distinct status) filter (where status is not null) as statuses
from request
group by 1, 2
order by 2, 1
"""


class Observation:
    def __init__(self, log: Pool, clock: Clock, secret_fields: set[str]) -> None:
        self._log = log
        self._clock = clock
        self._secret_fields = secret_fields

    def middleware(self) -> Any:
        @web.middleware
        async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/_sandbox"):
                return await handler(request)
            began, at = time.monotonic(), self._clock.now()
            status: int | None = None
            # Read first, so that a request is remembered whole even where a fault cuts it off.
            body = await request.read() if request.body_exists else b""
            try:
                response = await handler(request)
                status = None if request.get("cut") else response.status
                return response
            finally:
                # Shielded: a client that has gone away was a caller all the same.
                ms = (time.monotonic() - began) * 1000
                await asyncio.shield(self._keep(request, at, status, ms, body))

        return observe

    async def _keep(self, request: web.Request, at: Any, status: int | None, ms: float, body: bytes) -> None:
        resource = request.match_info.route.resource
        await self._log.run(
            INSERT,
            at=at,
            method=request.method,
            path=request.path,
            template=resource.canonical if resource is not None else None,
            query="&".join(f"{name}={self._hidden(name, value)}" for name, value in request.query.items()),
            status=status,
            faults=[rule.id for rule in request.get("faults", [])],
            ms=round(ms, 2),
            body=self._without_secrets(body, request.content_type) if body else None,
        )

    def _hidden(self, name: str, value: Any) -> Any:
        """A secret's SHA-256 in place of the secret: two of them can be compared, none can be read."""
        if name not in self._secret_fields:
            return value
        return f"sha256:{hashlib.sha256(str(value).encode()).hexdigest()}"

    def _without_secrets(self, body: bytes, content_type: str) -> str:
        """A form is remembered as an object of its fields."""
        try:
            is_form = content_type == "application/x-www-form-urlencoded"
            parsed = dict(parse_qsl(body.decode(), keep_blank_values=True)) if is_form else json.loads(body)
        except ValueError:
            return f"({len(body)} bytes that cannot be read)"
        if isinstance(parsed, dict):
            parsed = {name: self._hidden(name, value) for name, value in parsed.items()}
        text = json.dumps(parsed)
        return text if len(text) <= LONGEST_BODY else json.dumps(f"({len(text)} characters)")

    async def find(self, path: str, method: str, since: int, limit: int) -> list[dict[str, Any]]:
        rows = await self._log.rows(FIND, path=path, method=method.upper(), since=since, limit=limit)
        return [describe(row) for row in rows]

    async def stats(self) -> dict[str, Any]:
        rows = await self._log.rows(COUNTS)
        return {
            "total": sum(row["total"] for row in rows),
            "limited": sum(row["limited"] for row in rows),
            "unanswered": sum(row["unanswered"] for row in rows),
            "endpoints": rows,
        }


def describe(row: Row) -> dict[str, Any]:
    body = row["body"]
    with contextlib.suppress(ValueError):
        body = None if body is None else json.loads(body)
    return {**row, "at": stamp(row["at"]), "body": body}
