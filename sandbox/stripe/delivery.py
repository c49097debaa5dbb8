"""Delivers events to webhook endpoints: signed, at least once, again over three days of the clock where nobody takes them."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

import aiohttp
import psycopg

from ..clock import Clock, stamp
from ..faults import Faults, Rule
from ..store import Pool, Row
from .errors import StripeError
from .ledger import Ledger
from .rendering import rendered
from .settings import StripeSettings
from .signature import sign
from .webhooks import secrets_at
from .work import Document

log = logging.getLogger("sandbox.stripe")
HOUR = 3600
# After the first attempt; the last is three days after it.
FIRST_RETRIES = (300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, *[12 * HOUR] * 4)
RETRIES = (*FIRST_RETRIES, 72 * HOUR - sum(FIRST_RETRIES))
TIMEOUT = aiohttp.ClientTimeout(total=10)
MOST_QUEUED = 200
PAUSE_SECONDS = 1.0
# What a fault can do to a delivery.
HOW = ("duplicate", "delay", "reorder", "drop_answer", "lose")

DUE = """
select d.*, e.document as event, w.document as endpoint
from stripe_delivery d
join stripe_object e on e.id = d.event_id
join stripe_object w on w.id = d.endpoint_id
where d.next_at <= %(now)s
  and not w.gone
  and w.document ->> 'status' = 'enabled'
  and d.id <> all (%(under_way)s)
order by d.next_at, d.id
limit %(most)s
"""

NEXT = "select min(next_at) as at from stripe_delivery where next_at > %(now)s"

POSTPONE = "update stripe_delivery set next_at = %(at)s, delayed = true where id = %(id)s"

RECORD = """
update stripe_delivery
set attempts = attempts + 1,
    status = %(status)s,
    error = %(error)s,
    next_at = %(next_at)s
where id = %(id)s
returning attempts
"""

OPEN = """
select count(*) as open, count(*) filter (where attempts > 0) as failed
from stripe_delivery
where event_id = %(event)s
  and (status is null or status not between 200 and 299)
"""


class Deliveries:
    def __init__(
        self, state: Pool, clock: Clock, ledger: Ledger, settings: StripeSettings, faults: Faults, seed: int
    ) -> None:
        self._state = state
        self._clock = clock
        self._ledger = ledger
        self._settings = settings
        self._faults = faults
        self._dice = random.Random(seed)
        self._queued: deque[tuple[Row, list[Rule]]] = deque()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._awake = asyncio.Event()
        ledger.wakes.append(self._awake)
        clock.wakes.append(self._awake)

    async def run(self) -> None:
        """Sends what is due, until it is cancelled."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
            try:
                while True:
                    self._awake.clear()
                    try:
                        await self._start_due(session)
                        wait = await self._seconds_until_next()
                    except (psycopg.OperationalError, OSError) as problem:
                        log.warning("deliveries are tried again: %s", problem)
                        wait = PAUSE_SECONDS
                    try:
                        await asyncio.wait_for(self._awake.wait(), wait)
                    except TimeoutError:
                        continue
            finally:
                self._queued.clear()
                for task in self._under_way.values():
                    task.cancel()
                await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _seconds_until_next(self) -> float | None:
        now = self._ledger.now()
        row = await self._state.row(NEXT, now=now)
        return None if row is None or row["at"] is None else self._clock.real_seconds_until_stamp(row["at"])

    async def _start_due(self, session: aiohttp.ClientSession) -> None:
        most = MOST_QUEUED - len(self._queued)
        taken = [*self._under_way, *(row["id"] for row, _ in self._queued)]
        due = await self._state.rows(DUE, now=self._ledger.now(), under_way=taken, most=most)
        struck = {row["id"]: await self._faults.sending("delivery", row["event"]["type"]) for row in due}
        for row in self._ordered(due, struck):
            faults = struck[row["id"]]
            late = next((rule for rule in faults if rule.fault["how"] == "delay"), None)
            if late is not None and not row["delayed"]:
                at = self._ledger.now() + int(late.fault.get("seconds", 60))
                await self._state.run(POSTPONE, id=row["id"], at=at)
            else:
                self._queued.append((row, faults))
        while self._queued and len(self._under_way) < self._settings.stripe_deliveries_at_once:
            row, faults = self._queued.popleft()
            task = asyncio.create_task(self._deliver(session, row, faults))
            self._under_way[row["id"]] = task
            task.add_done_callback(functools.partial(self._done, row["id"]))

    def _done(self, delivery_id: int, task: asyncio.Task[None]) -> None:
        self._under_way.pop(delivery_id, None)
        self._awake.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("a delivery has failed", exc_info=task.exception())

    def _ordered(self, due: list[Row], struck: dict[int, list[Rule]]) -> list[Row]:
        """Those that a rule puts in another order change places among each other."""
        rules = {
            number: rule
            for number, row in enumerate(due)
            for rule in struck[row["id"]]
            if rule.fault["how"] == "reorder"
        }
        moved = [due[number] for number in rules]
        at_random = any(rule.fault.get("order") == "random" for rule in rules.values())
        self._dice.shuffle(moved) if at_random else moved.reverse()
        ordered = list(due)
        for number, row in zip(rules, moved, strict=True):
            ordered[number] = row
        return ordered

    async def _deliver(self, session: aiohttp.ClientSession, row: Row, faults: list[Rule]) -> None:
        """One attempt, and what came of it; a process that dies in between makes the attempt again."""
        how = {rule.fault["how"]: rule.fault for rule in faults}
        status, error = None, None
        try:
            if "lose" in how:
                raise ConnectionError("lost by a fault of the sandbox")
            for _ in range(1 + int(how.get("duplicate", {}).get("count", 1 if "duplicate" in how else 0))):
                status = await self._send(session, row)
            if "drop_answer" in how:
                status, error = None, "the answer was dropped by a fault of the sandbox"
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            status, error = None, str(problem) or type(problem).__name__
        try:
            await self._record(row, status, error)
        except (psycopg.OperationalError, StripeError) as problem:
            log.warning("a delivery is made again: %s", problem)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, session: aiohttp.ClientSession, row: Row) -> int:
        endpoint = row["endpoint"]
        body = self._thin(row["event"]) if endpoint["_thin"] else self._whole(row["event"], endpoint)
        payload = json.dumps(body, indent=2).encode()
        # The receiver judges a signature's age by its own clock, not by the sandbox's.
        signature = sign(payload, secrets_at(endpoint, self._ledger.now()), int(time.time()))
        headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}
        async with session.post(endpoint["url"], data=payload, headers=headers, allow_redirects=False) as answer:
            await answer.read()
            return answer.status

    def _whole(self, event: Document, endpoint: Document) -> Any:
        version = endpoint["api_version"] or self._settings.stripe_version
        return rendered({**event, "api_version": version}, version)

    def _thin(self, event: Document) -> Document:
        """Says only what to look at."""
        about = event["data"]["object"]
        related = {"id": about.get("id"), "type": about["object"], "url": None}
        at = stamp(datetime.fromtimestamp(event["created"], UTC))
        own = {"id": event["id"], "object": "v2.core.event", "type": f"v1.{event['type']}", "created": at}
        return {**own, "livemode": False, "related_object": related}

    async def _record(self, row: Row, status: int | None, error: str | None) -> None:
        taken = status is not None and 200 <= status < 300
        async with self._ledger.work() as work:
            made = row["attempts"]
            again = None if taken or made >= len(RETRIES) else work.at + RETRIES[made]
            told = {"id": row["id"], "status": status, "error": error, "next_at": again}
            await work.connection.execute(RECORD, told)
            counted = await (await work.connection.execute(OPEN, {"event": row["event_id"]})).fetchone()
            assert counted is not None
            event = await work.get("event", row["event_id"])
            event.update(pending_webhooks=counted["open"], _delivered=counted["failed"] == 0)
