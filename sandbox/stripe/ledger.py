"""Transactions one after the other, each after everything that was due before it, by the sandbox's clock or a test clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ..clock import Clock
from ..store import Pool, Row
from .errors import StripeError
from .work import CLOCK, TAKE_DUE, Document, Work

log = logging.getLogger("sandbox.stripe")

DUE = """
select object_id, what, at, clock
from stripe_due
where clock = %(clock)s
  and at <= %(now)s
order by at, what, object_id
limit 1
"""

Happening = Callable[[Work, Document], Awaitable[None]]
NOBODY: Document = {"id": None, "idempotency_key": None}


class Ledger:
    def __init__(self, state: Pool, clock: Clock, version: str) -> None:
        self._state = state
        self._clock = clock
        self._version = version
        self._lock = asyncio.Lock()
        self._happenings: dict[str, tuple[str, Happening]] = {}
        # Set after every change, for those who wait for one.
        self.wakes: list[asyncio.Event] = []

    def now(self) -> int:
        return int(self._clock.now().timestamp())

    def when_due(self, what: str, kind: str, happening: Happening) -> None:
        """Names what is done to an object of a kind when its moment has come."""
        self._happenings[what] = (kind, happening)

    @asynccontextmanager
    async def work(self, cause: Document | None = None) -> AsyncIterator[Work]:
        """A transaction now, alone, after all that was due before; an exception undoes it."""
        async with self._lock:
            now = self.now()
            await self._catch_up(now)
            async with self._transaction(now, cause or NOBODY) as work:
                yield work
        self._wake()

    async def catch_up(self) -> None:
        """Does what is due by now."""
        async with self._lock:
            done = await self._catch_up(self.now())
        if done:
            self._wake()

    def _wake(self) -> None:
        for each in self.wakes:
            each.set()

    async def _catch_up(self, now: int, clock: str = "") -> int:
        """Each with the moment it was due as its own, so that a leap of the clock leaves no trace in what happened."""
        done = 0
        while (row := await self._state.row(DUE, now=now, clock=clock)) is not None:
            try:
                await (self._advance(row["object_id"]) if row["what"] == "advance" else self._happen(row))
            except StripeError as refused:
                # Nobody is there to be told; what cannot happen must not keep everything after it from happening.
                log.warning("%s of %s does not happen: %s", row["what"], row["object_id"], refused.message)
                await self._state.run(TAKE_DUE, id=row["object_id"], what=row["what"])
            done += 1
        return done

    async def _happen(self, row: Row) -> None:
        kind, happening = self._happenings[row["what"]]
        async with self._transaction(row["at"], NOBODY, row["clock"] or None) as work:
            await work.connection.execute(TAKE_DUE, {"id": row["object_id"], "what": row["what"]})
            document = await work.get(kind, row["object_id"])
            if not document.get("deleted"):
                await happening(work, document)

    async def _advance(self, clock_id: str) -> None:
        """A test clock lives through the time up to its target; only then is that done."""
        async with self._transaction(self.now(), NOBODY) as work:
            target = (await work.get(CLOCK, clock_id))["status_details"]["advancing"]["target_frozen_time"]
        await self._catch_up(target, clock_id)
        async with self._transaction(self.now(), NOBODY) as work:
            clock = await work.get(CLOCK, clock_id)
            clock.update(status="ready", status_details={}, frozen_time=target)
            work.due(clock, "advance", None)
            work.tell("test_helpers.test_clock.ready", clock)

    @asynccontextmanager
    async def _transaction(self, at: int, cause: Document, clock: str | None = None) -> AsyncIterator[Work]:
        async with self._state.connection() as connection, connection.transaction():
            now = self.now()
            work = Work(connection, at, now, cause, self._version, clock)
            yield work
            await work.finish(now)
