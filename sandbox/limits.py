"""The Management API's rate limit: so many requests a minute, told in the X-RateLimit headers."""

from __future__ import annotations

import math
from datetime import timedelta

from .clock import Clock
from .refusal import Refusal
from .settings import Settings
from .store import Pool

WINDOW = timedelta(seconds=60)

TAKE = """
insert into rate_window as w (endpoint, started_at, used)
values (%(endpoint)s, %(now)s, 1)
on conflict (endpoint) do update set
    started_at = case when w.started_at <= %(over)s then excluded.started_at else w.started_at end,
    used = case when w.started_at <= %(over)s then 1 else w.used + 1 end
returning started_at, used
"""


class RateLimit:
    def __init__(self, log: Pool, clock: Clock, settings: Settings) -> None:
        self._log = log
        self._clock = clock
        self._settings = settings

    async def take(self, method: str, template: str, scope: str) -> dict[str, str]:
        """Counts one request and returns the headers of its answer, or refuses with 429."""
        endpoint = f"{method} {template}"
        if self._settings.rate_scope == "project":
            endpoint += f" {scope}"
        now = self._clock.now()
        window = await self._log.row(TAKE, endpoint=endpoint, now=now, over=now - WINDOW)
        assert window is not None
        left = self._settings.rate_limit - window["used"]
        headers = self.headers(left, self._clock.real_seconds_until(window["started_at"] + WINDOW))
        if left < 0:
            raise too_many_requests(headers)
        return headers

    def headers(self, left: int, reset_seconds: float) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self._settings.rate_limit),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(max(1, math.ceil(reset_seconds))),
        }


def too_many_requests(headers: dict[str, str]) -> Refusal:
    return Refusal(429, "ThrottlerException: Too Many Requests", headers=headers)
