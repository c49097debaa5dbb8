"""Counts requests in windows of the sandbox's clock; what is too many, and how that is said, is a room's own."""

from __future__ import annotations

from datetime import timedelta

from .clock import Clock
from .store import Pool

TAKE = """
insert into rate_window as w (endpoint, started_at, used)
values (%(endpoint)s, %(now)s, 1)
on conflict (endpoint) do update set
    started_at = case when w.started_at <= %(over)s then excluded.started_at else w.started_at end,
    used = case when w.started_at <= %(over)s then 1 else w.used + 1 end
returning started_at, used
"""


class RateLimit:
    def __init__(self, log: Pool, clock: Clock, seconds: float) -> None:
        self._log = log
        self._clock = clock
        self._window = timedelta(seconds=seconds)

    async def take(self, endpoint: str) -> tuple[int, float]:
        """Counts one request; returns how many the window has with it, and the real seconds until it is over."""
        now = self._clock.now()
        window = await self._log.row(TAKE, endpoint=endpoint, now=now, over=now - self._window)
        assert window is not None
        return window["used"], self._clock.real_seconds_until(window["started_at"] + self._window)
