"""A wave of Supabase signups on the sandbox, under the provider's limit of requests, on a faster clock."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from deploy.local.stack import CATALOG, Stack

from .machine import peak_rss_mb, rss_mb
from .tenants import READY, sign_up

PROVIDER_LIMIT = 120  # requests a minute and endpoint, as Supabase says
OWN_LIMIT = 110  # SUPABASE_REQUESTS_PER_MINUTE's default
POLL_SECONDS = 5  # SUPABASE_POLL's default
COMING_UP_SECONDS = 60
WAIT_SECONDS = 2400.0


class SandboxStack(Stack):
    """A stack whose sandbox makes a project's database when it is first looked for."""

    def start_sandbox(self, *arguments: str) -> None:
        super().start_sandbox("--lazy-databases", *arguments)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.sandbox_url}/_sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")


@dataclass
class Wave:
    """What became of it."""

    signups: int
    rate: int
    seconds: float
    ready: int
    rss_start_mb: float
    rss_peak_mb: float
    rss_end_mb: float
    stats: dict[str, Any]
    displaced: list[int]  # for each create in its turn: places away from its signup's place

    @property
    def limited(self) -> int:
        return int(self.stats["limited"])

    @property
    def provider_minutes(self) -> float:
        return self.seconds * self.rate / 60


def measure_wave(root: Path, count: int, rate: int, say: Callable[[str], None]) -> Wave:
    """Signups as fast as they are taken, then until all are ready; the clock of the provider runs `rate` times faster."""
    stack = SandboxStack(
        root,
        driver="supabase",
        options={
            "SUPABASE_REQUESTS_PER_MINUTE": str(OWN_LIMIT * rate),
            "SUPABASE_POLL": f"{POLL_SECONDS * 1000 // rate}ms",
            "JANITOR_INTERVAL": "5m",
        },
    )
    try:
        stack.start(gateways=1, provisioners=1)
        settings = {"coming_up_seconds": COMING_UP_SECONDS, "services_lag_seconds": 10, "rate_limit": PROVIDER_LIMIT}
        stack.control("POST", "settings", settings)
        stack.control("POST", "clock", {"rate": rate})
        return _measure(stack, count, rate, say)
    finally:
        stack.destroy()


def _measure(stack: SandboxStack, count: int, rate: int, say: Callable[[str], None]) -> Wave:
    provisioner = stack.services["provisioner-0"].process.pid
    assert provisioner is not None
    rss_start = rss_mb(provisioner)
    began = time.monotonic()
    tenants = sign_up(stack, count, "Wave")
    ready = _wait(stack, tenants, began, say)
    seconds = time.monotonic() - began
    created = stack.control("GET", f"requests?method=POST&path=^/v1/projects$&limit={count * 4}")
    return Wave(
        count, rate, seconds, ready, rss_start, peak_rss_mb(provisioner), rss_mb(provisioner),
        stack.control("GET", "stats"), _displaced(tenants, created),
    )  # fmt: skip


def _wait(stack: Stack, tenants: list[str], began: float, say: Callable[[str], None]) -> int:
    """Until all are ready or the time is over; says how far it is."""
    told = began
    with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:
        while True:
            row = catalog.execute(READY, (tenants,)).fetchone()
            ready = int(row[0]) if row is not None else 0
            if ready == len(tenants) or time.monotonic() - began > WAIT_SECONDS:
                return ready
            if time.monotonic() - told > 15:
                told = time.monotonic()
                say(f"  {ready} of {len(tenants)} ready after {told - began:.0f} s")
            time.sleep(0.25)


def _displaced(tenants: list[str], requests: Any) -> list[int]:
    """The creates that were done, in the order of their arrival, against the order of the signups."""
    listed = requests["requests"] if isinstance(requests, dict) else requests
    place = {tenant.replace("-", ""): number for number, tenant in enumerate(tenants)}
    order: list[int] = []
    for request in listed:
        found = re.search(r"[0-9a-f]{32}", str((request["body"] or {}).get("name", "")))
        if request["status"] == 201 and found is not None and found[0] in place:
            order.append(place[found[0]])
    return [abs(number - turn) for turn, number in enumerate(order)]
