"""Stripe's events from Kafka into the catalog, what waits is applied and the catalog's own times are read; and what the
gateway then tells of tenants' entitlements."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from deploy.local.fleet import make_fleet, tenant_number
from deploy.local.process import wait_until
from deploy.local.stack import CATALOG, Stack
from tests.e2e.stripe_life import DAY, Object

from .ingest import BROKER_JVM, CONNECTIONS, Ingest, measure_generator
from .machine import CpuMeter, peak_rss_mb, rss_mb
from .stripe_events import as_delivered

TOPIC = "billing.stripe.v1"
WAIT_SECONDS = 900.0
POLL_SECONDS = 0.5
READ_WARMUP_SECONDS = 5
READ_MOST = 5000  # tenants, so that each was asked before the warm-up is over

# Of the events that were applied since.
APPLIED = """
select count(*), extract(epoch from min(at))::float8, extract(epoch from max(at))::float8, count(distinct xmin::text)
from billing.event
where number > %s
"""

COUNTED = "select count(*) from billing.event where number > %s"

OUTCOMES = "select outcome, count(*) from billing.event where number > %s group by outcome"

MakeEvents = Callable[[int, str], list[Object]]


@dataclass
class Applied:
    """So many events that waited in Kafka when the billing processes were started."""

    processes: int
    tenants: int
    count: int
    seconds: float  # from the first that was applied to the last
    from_start: float  # from the start of the processes to the last
    transactions: int
    outcomes: dict[str, int]
    cpu: dict[str, float]
    rss_start_mb: float  # of the larger process, when it was ready; it reads already
    rss_mb: float  # when all was applied
    peak_mb: float
    samples: list[tuple[float, float]] = field(default_factory=list)  # share that was applied, MB

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def cpu_us(self, *prefixes: str) -> float:
        return sum(used for name, used in self.cpu.items() if name.startswith(prefixes)) * 1e6 / self.count


def day_of(event: Object, life: list[Object]) -> int:
    """Days since the first of its tenant's."""
    return int(event["created"] - life[0]["created"]) // DAY


class Fleet:
    """A fleet with fsync on, which billing knows; no billing process runs. Each round has tenants of its own."""

    def __init__(self, stack: Stack, tenants: int) -> None:
        self.stack = stack
        self.tenants = tenants
        self.used = 0
        self.rounds = 0
        self.rss_idle_mb = 0.0  # of a billing process that knows them and has nothing to do
        self.catalog = psycopg.connect(stack.postgres.url(CATALOG), autocommit=True)

    def take(self, count: int) -> range:
        """Tenants that no round had before."""
        first = self.used + 1
        self.used += count
        self.rounds += 1
        if self.used > self.tenants:
            raise RuntimeError(f"the fleet has {self.tenants} tenants, and {self.used} are wanted")
        return range(first, first + count)

    def number(self, sql: str, *values: object) -> int:
        row = self.catalog.execute(sql, values).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def last_event(self) -> int:
        return self.number("select coalesce(max(number), 0) from billing.event")

    def events(self, count: int, make: MakeEvents) -> list[bytes]:
        """As they come: what one act of a tenant's makes Stripe tell stands together; the acts of all tenants by days."""
        numbers = self.take(count)
        lives = [make(number, f"r{self.rounds}x{time.time_ns() % 1_000_000}_") for number in numbers]
        acts = [(day_of(event, life), at, event) for at, life in enumerate(lives) for event in life]
        return [as_delivered(event) for _, _, event in sorted(acts, key=lambda act: act[:2])]

    def settle(self) -> None:
        """The next round begins as the one before it did: what was written is on the disk, and PostgreSQL plans with
        what is known of tables that have rows. (One that was vacuumed while it was empty is scanned.)"""
        self.catalog.execute("vacuum analyze")
        self.catalog.execute("checkpoint")


@contextmanager
def billing_fleet(root: Path, tenants: int, say: Callable[[str], None]) -> Iterator[Fleet]:
    stack = Stack(root, fast=False)
    stack.kafka.jvm_options = BROKER_JVM
    try:
        stack.start_servers()
        make_fleet(stack.postgres.url(CATALOG), tenants)
        fleet = Fleet(stack, tenants)
        service, began = stack.start_service("billing"), time.monotonic()
        wait_until(
            lambda: fleet.number("select count(*) from billing.tenant") == tenants,
            WAIT_SECONDS,
            "billing knows them all",
        )
        fleet.rss_idle_mb = rss_mb(service.process.pid or 0)
        say(f"  billing knows {tenants} tenants after {time.monotonic() - began:.1f} s")
        service.stop()
        fleet.settle()
        with closing(fleet.catalog):
            yield fleet
    finally:
        stack.destroy()


def _produce(stack: Stack, events: Sequence[bytes]) -> None:
    """As the gateway does."""
    failed: list[object] = []
    producer = Producer({
        "bootstrap.servers": stack.kafka.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True,
        "queue.buffering.max.messages": 100_000, "queue.buffering.max.kbytes": 1_000_000, "linger.ms": 20,
    })  # fmt: skip
    for number, body in enumerate(events):
        headers = {
            "ce_specversion": "1.0", "ce_id": _text_after(body, b'"id": "'), "ce_source": "/stripe",
            "content-type": "application/octet-stream", "ce_type": "billing.stripe.received.v1",
            "ce_time": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        key = "test/-/" + _text_after(body, b'"customer": "')
        producer.produce(
            TOPIC, body, key.encode(), headers=headers,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )  # fmt: skip
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(120) or failed:
        raise RuntimeError(f"not delivered: {failed[:3]}")


def _text_after(body: bytes, mark: bytes) -> str:
    """The first text in JSON behind its name."""
    begin = body.index(mark) + len(mark)
    return body[begin : body.index(b'"', begin)].decode()


def measure_applied(fleet: Fleet, events: Sequence[bytes], tenants: int, processes: int) -> Applied:
    stack = fleet.stack
    _produce(stack, events)
    fleet.settle()
    before, began = fleet.last_event(), time.time()
    services = [stack.start_service("billing", index) for index in range(processes)]
    billing = {f"billing-{index}": service.process.pid or 0 for index, service in enumerate(services)}
    pids = {"postgres": stack.postgres.pid or 0, "broker": stack.kafka.pid or 0, **billing}
    meter = CpuMeter(pids, frozenset({"postgres"}))
    meter.start()
    rss_start = max(rss_mb(pid) for pid in billing.values())
    samples: list[tuple[float, float]] = []

    def all_applied() -> bool:
        time.sleep(POLL_SECONDS)
        done = fleet.number(COUNTED, before)
        samples.append((done / len(events), max(rss_mb(pid) for pid in billing.values())))
        return done >= len(events)

    wait_until(all_applied, WAIT_SECONDS, f"{len(events)} events are applied")
    cpu = meter.read()
    row = fleet.catalog.execute(APPLIED, (before,)).fetchone()
    assert row is not None
    count, first, last, transactions = int(row[0]), float(row[1]), float(row[2]), int(row[3])
    outcomes = {str(name): int(of) for name, of in fleet.catalog.execute(OUTCOMES, (before,)).fetchall()}
    peak = max(peak_rss_mb(pid) for pid in billing.values())
    for service in services:
        service.stop()
    return Applied(
        processes, tenants, count, last - first, last - began, transactions, outcomes, cpu, rss_start, samples[-1][1], peak,
        samples,
    )  # fmt: skip


def measure_reads(fleet: Fleet, root: Path, programs: Path, seconds: int, with_tags: bool) -> Ingest:
    """Entitlements of tenants that have had events, each in its turn, over 64 connections."""
    gateway = fleet.stack.services["gateway-0"]
    pid, port = gateway.process.pid, gateway.http_port
    assert pid is not None and port is not None
    paths = root / "paths"
    numbers = range(1, min(READ_MOST, fleet.used) + 1)
    paths.write_text("".join(f"/api/tenants/{tenant_number(number)}/entitlements\n" for number in numbers))
    command = [
        str(programs / "load"), "--port", str(port), "--connections", str(CONNECTIONS), "--paths", str(paths), "--warmup",
        str(READ_WARMUP_SECONDS), "--seconds", str(seconds), *(["--etags"] if with_tags else []),
    ]  # fmt: skip
    environment = {
        "PATH": os.environ.get("PATH", ""), "TENANTRY_TOKEN": fleet.stack.settings["tokens"]["app"],
    }  # fmt: skip
    meter = CpuMeter({"server": pid, "postgres": fleet.stack.postgres.pid or 0}, frozenset({"postgres"}))
    measured = measure_generator(command, environment, meter, seconds)
    measured.rss_mb = rss_mb(pid)
    return measured
