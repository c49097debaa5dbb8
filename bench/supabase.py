"""A wave of Supabase signups on the sandbox, under the provider's limit of requests, on a faster clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.postgres import PostgresServer
from deploy.local.stack import CATALOG, Stack

from .machine import peak_rss_mb, rss_mb
from .tenants import READY, sign_up

PROVIDER_LIMIT = 120  # requests a minute and endpoint, as Supabase says
OWN_LIMIT = 110  # SUPABASE_REQUESTS_PER_MINUTE's default
AT_ONCE = 5  # of these may go at once; the rest are spread over the minute
POLL_SECONDS = 5  # SUPABASE_POLL's default
COMING_UP_SECONDS = 60
WAIT_SECONDS = 2400.0

QUEUED = "select tenant_id::text from provisioner.saga where kind = 'provision' order by created_at"


class SandboxStack(Stack):
    """A stack whose sandbox makes a project's database when it is first looked for, on a server of its own: what the
    provider's disks do must not weigh on the catalog."""

    def __init__(self, root: Path, **more: Any) -> None:
        super().__init__(root, **more)
        self.provider = PostgresServer(self.root / "provider", self._port("provider"), fast=True)

    def start_sandbox(self, *arguments: str) -> None:
        self.provider.start()
        super().start_sandbox("--lazy-databases", *arguments)

    def stop(self) -> None:
        super().stop()
        self.provider.stop()

    def destroy(self) -> None:
        super().destroy()
        self.provider.destroy()


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
    queue_displaced: list[int]  # for each create: places away from its place in the catalog's queue of work
    overtaken_seconds: list[float]  # for each create: how much younger the youngest signup was that came before it
    signups_seconds: float  # from the first signup to the last

    @property
    def limited(self) -> int:
        return int(self.stats["limited"])

    @property
    def provider_minutes(self) -> float:
        return self.seconds * self.rate / 60


def measure_wave(root: Path, count: int, rate: int, say: Callable[[str], None]) -> Wave:
    """Signups as fast as they are taken, then until all are ready; the provider's clock runs `rate` times faster."""
    stack = SandboxStack(
        root,
        driver="supabase",
        options={
            # So that a minute of the provider's sees as many as a real one: what may go at once does not scale.
            "SUPABASE_REQUESTS_PER_MINUTE": str((OWN_LIMIT - AT_ONCE) * rate + AT_ONCE),
            "SUPABASE_POLL": f"{POLL_SECONDS * 1000 // rate}ms",
            "JANITOR_INTERVAL": "5m",
        },
    )
    try:
        stack.start(gateways=1, provisioners=1)
        settings = {"coming_up_seconds": COMING_UP_SECONDS, "services_lag_seconds": 10, "rate_limit": PROVIDER_LIMIT}
        stack.control_sandbox("POST", "settings", settings)
        stack.control_sandbox("POST", "clock", {"rate": rate})
        return _measure(stack, count, rate, say)
    finally:
        stack.destroy()


def _measure(stack: SandboxStack, count: int, rate: int, say: Callable[[str], None]) -> Wave:
    provisioner = stack.services["provisioner-0"].process.pid
    assert provisioner is not None
    rss_start = rss_mb(provisioner)
    began = time.monotonic()
    times: list[float] = []
    tenants = sign_up(stack, count, "Wave", times)
    ready = _wait(stack, tenants, began, say)
    seconds = time.monotonic() - began
    created = _created(
        tenants, stack.control_sandbox("GET", f"requests?method=POST&path=^/v1/projects$&limit={count * 4}")
    )
    return Wave(
        count, rate, seconds, ready, rss_start, peak_rss_mb(provisioner), rss_mb(provisioner),
        stack.control_sandbox("GET", "stats"), _displaced(_queued(stack), created),
        _overtaken(dict(zip(tenants, times, strict=True)), created), times[-1] - times[0],
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


def _created(tenants: list[str], requests: list[dict[str, Any]]) -> list[str]:
    """The tenants in the order in which the provider took their creates."""
    by_name = {tenant.replace("-", ""): tenant for tenant in tenants}
    order: list[str] = []
    for request in requests:
        found = re.search(r"[0-9a-f]{32}", str((request["body"] or {}).get("name", "")))
        if request["status"] == 201 and found is not None and found[0] in by_name:
            order.append(by_name[found[0]])
    return order


def _queued(stack: Stack) -> list[str]:
    """The tenants in the order in which the catalog learned of them: partitions of a topic are read one by one."""
    with psycopg.connect(stack.postgres.url(CATALOG)) as catalog:
        return [str(row[0]) for row in catalog.execute(QUEUED).fetchall()]


def _displaced(queued: list[str], created: list[str]) -> list[int]:
    place = {tenant: number for number, tenant in enumerate(queued)}
    return [abs(place[tenant] - turn) for turn, tenant in enumerate(created) if tenant in place]


def _overtaken(sent: dict[str, float], created: list[str]) -> list[float]:
    youngest, overtaken = 0.0, []
    for tenant in created:
        youngest = max(youngest, sent[tenant])
        overtaken.append(youngest - sent[tenant])
    return overtaken
