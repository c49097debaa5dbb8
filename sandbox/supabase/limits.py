"""The Management API's rate limit: so many requests a minute, told in the X-RateLimit headers."""

from __future__ import annotations

import math

from ..limits import RateLimit
from ..refusal import Refusal
from .settings import SupabaseSettings


class Throttle:
    def __init__(self, counted: RateLimit, settings: SupabaseSettings) -> None:
        self._counted = counted
        self._settings = settings

    async def take(self, method: str, template: str, scope: str) -> dict[str, str]:
        """Counts one request and returns the headers of its answer, or refuses with 429."""
        endpoint = f"{method} {template}"
        if self._settings.rate_scope == "project":
            endpoint += f" {scope}"
        used, reset_seconds = await self._counted.take(endpoint)
        left = self._settings.rate_limit - used
        headers = {
            "X-RateLimit-Limit": str(self._settings.rate_limit),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(max(1, math.ceil(reset_seconds))),
        }
        if left < 0:
            raise too_many_requests(headers)
        return headers


def too_many_requests(headers: dict[str, str]) -> Refusal:
    return Refusal(429, "ThrottlerException: Too Many Requests", headers=headers)
