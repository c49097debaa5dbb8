"""What section 9 measures, in its order: webhooks, events applied, a year replayed, entitlements read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.npm import Unavailable
from deploy.local.process import log_tail

from .billing import Applied, Fleet, billing_fleet, measure_applied, measure_reads
from .ingest import Ingest
from .stripe_events import a_year, two_months
from .sync_engine import Synced, SyncEngine
from .webhooks import Webhooks, measure_webhooks

PROCESSES = (1, 2)


@dataclass
class Sizes:
    """How much is measured."""

    programs: Path
    runs: int
    seconds: int
    tenants: int  # of a year that is replayed

    @property
    def of_round(self) -> int:
        """Tenants whose two months are one round of events."""
        return 2 * self.tenants

    @property
    def of_warm_up(self) -> int:
        return max(10, self.tenants // 5)

    @property
    def of_fleet(self) -> int:
        return self.of_warm_up + self.runs * len(PROCESSES) * (self.of_round + self.tenants)


@dataclass
class Billing:
    """All that section 9 tells."""

    webhooks: Webhooks
    events: dict[int, list[Applied]] = field(default_factory=dict)  # by processes
    years: dict[int, list[Applied]] = field(default_factory=dict)
    synced: list[Synced] = field(default_factory=list)
    not_synced: str = ""
    rss_idle_mb: float = 0.0  # of billing, before the first event
    reads: dict[bool, list[Ingest]] = field(default_factory=dict)  # by whether If-None-Match was sent


def _sync_engine(fleet: Fleet, root: Path, events: list[bytes], measured: Billing) -> SyncEngine | None:
    """Warmed up; None where it cannot be had, or does not work."""
    try:
        engine = SyncEngine(root, fleet.stack.postgres)
        engine.measure(events)
        engine.settle()
        return engine
    except (Unavailable, RuntimeError, subprocess.TimeoutExpired) as why:
        measured.not_synced = str(why)
        return None


def _measure_events(fleet: Fleet, root: Path, sizes: Sizes, measured: Billing, say: Callable[[str], None]) -> None:
    """One and two processes, and the engine, in turn; every other round backwards."""
    events = fleet.events(sizes.of_warm_up, two_months)
    measure_applied(fleet, events, sizes.of_warm_up, 1)
    engine = _sync_engine(fleet, root, events, measured)
    fleet.settle()
    for number in range(sizes.runs):
        waiting = {processes: fleet.events(sizes.of_round, two_months) for processes in PROCESSES}
        for processes in (*PROCESSES, 0) if number % 2 == 0 else (0, *PROCESSES[::-1]):
            if processes > 0:
                one = measure_applied(fleet, waiting[processes], sizes.of_round, processes)
                measured.events.setdefault(processes, []).append(one)
                say(f"  {processes} process(es): {one.count:,} events, {one.per_second:,.0f}/s, {one.outcomes}")
            elif engine is not None:
                measured.synced.append(engine.measure(waiting[1]))
                engine.settle()
                say(f"  the engine: {measured.synced[-1].per_second:,.0f}/s")


def _measure_years(fleet: Fleet, sizes: Sizes, measured: Billing, say: Callable[[str], None]) -> None:
    for number in range(sizes.runs):
        for processes in PROCESSES if number % 2 == 0 else PROCESSES[::-1]:
            events = fleet.events(sizes.tenants, a_year)
            one = measure_applied(fleet, events, sizes.tenants, processes)
            measured.years.setdefault(processes, []).append(one)
            say(f"  {processes} process(es): a year, {one.count:,} events, in {one.from_start:.1f} s")


def _measure_reads(fleet: Fleet, root: Path, sizes: Sizes, measured: Billing, say: Callable[[str], None]) -> None:
    fleet.stack.start_service("gateway")
    fleet.settle()
    for number in range(sizes.runs):
        for with_tags in (False, True) if number % 2 == 0 else (True, False):
            one = measure_reads(fleet, root, sizes.programs, sizes.seconds, with_tags)
            measured.reads.setdefault(with_tags, []).append(one)
            say(f"  entitlements, {'with' if with_tags else 'without'} If-None-Match: {one.per_second:,.0f}/s")


def measure_billing(root: Path, sizes: Sizes, say: Callable[[str], None]) -> Billing:
    measured = Billing(measure_webhooks(root, sizes.programs, sizes.runs, sizes.seconds, say))
    with billing_fleet(root / "billing", sizes.of_fleet, say) as fleet:
        measured.rss_idle_mb = fleet.rss_idle_mb
        try:
            _measure_events(fleet, root, sizes, measured, say)
            _measure_years(fleet, sizes, measured, say)
            _measure_reads(fleet, root, sizes, measured, say)
        except Exception:
            for service in fleet.stack.services.values():  # the directory is gone when somebody looks
                say(log_tail(service.log_path))
            raise
    return measured
