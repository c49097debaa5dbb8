"""The sandbox's own time: real time that a test may speed up or push forward, and that survives a restart."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from .refusal import Refusal
from .store import Pool

LOAD = "select value from setting where key = 'clock'"

SAVE = """
insert into setting (key, value)
values ('clock', %(value)s)
on conflict (key) do update set value = excluded.value
"""


def stamp(moment: datetime | None) -> str | None:
    """A moment as the APIs write it, or None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Clock:
    """now = (real time - origin) * rate + base."""

    def __init__(self, state: Pool) -> None:
        self._state = state
        # Set whenever the clock was changed, for those who wait for a moment of it.
        self.wakes: list[asyncio.Event] = []
        self._forget()

    def _forget(self) -> None:
        self._origin = self._base = time.time()
        self.rate = 1.0

    def _seconds(self) -> float:
        return self._base + (time.time() - self._origin) * self.rate

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds(), UTC)

    def later(self, seconds: float) -> datetime:
        return self.now() + timedelta(seconds=seconds)

    def real_seconds_until(self, moment: datetime) -> float:
        """How long somebody with an ordinary watch has to wait for a moment of this clock."""
        return self.real_seconds_until_stamp(moment.timestamp())

    def real_seconds_until_stamp(self, seconds: float) -> float:
        """The same for a moment in seconds since 1970."""
        return max(0.0, (seconds - self._seconds()) / self.rate)

    async def load(self) -> None:
        found = await self._state.row(LOAD)
        if found is not None:
            value = found["value"]
            self._origin, self._base, self.rate = value["origin"], value["base"], value["rate"]

    async def change(self, rate: Any = None, advance_seconds: Any = None) -> None:
        """Sets the rate and / or pushes the clock forward; it never runs backwards."""
        for name, value, least in (("rate", rate, 0.001), ("advance_seconds", advance_seconds, 0)):
            if value is not None and (not isinstance(value, int | float) or value < least):
                raise Refusal(400, f"{name} must be a number of at least {least}")
        base = self._seconds() + (advance_seconds or 0)
        self._origin, self._base, self.rate = time.time(), base, float(rate or self.rate)
        await self._save()

    async def reset(self) -> None:
        self._forget()
        await self._save()

    async def _save(self) -> None:
        value = {"origin": self._origin, "base": self._base, "rate": self.rate}
        await self._state.run(SAVE, value=Jsonb(value))
        for each in self.wakes:
            each.set()

    def describe(self) -> dict[str, Any]:
        return {
            "now": stamp(self.now()),
            "rate": self.rate,
            "ahead_seconds": round(self._seconds() - time.time(), 3),
        }
