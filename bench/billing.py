"""Stripe's events from Kafka into the catalog: what waits is applied, and the catalog's own times are read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer

from deploy.local.fleet import make_fleet, tenant_number
from deploy.local.process import wait_until
from deploy.local.stack import CATALOG, Stack
from tests.e2e.stripe_life import START, Life

from .ingest import BROKER_JVM
from .machine import CpuMeter

TOPIC = "billing.stripe.v1"
BYTES = 4096  # of an event, as they are in life
WAIT_SECONDS = 600.0

APPLIED = """
select count(*), extract(epoch from max(at) - min(at))::float8, count(distinct xmin::text)
from billing.event
where event_id like %s
"""


@dataclass
class Applied:
    """So many events that waited in Kafka when the billing processes were started."""

    processes: int
    tenants: int
    count: int
    seconds: float
    transactions: int
    cpu: dict[str, float]
    rss_mb: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def cpu_us(self, *prefixes: str) -> float:
        return sum(used for name, used in self.cpu.items() if name.startswith(prefixes)) * 1e6 / self.count


@contextmanager
def billing_stack(root: Path, tenants: int) -> Iterator[Stack]:
    """A fleet in the catalog with fsync on, which billing knows; no billing process runs."""
    stack = Stack(root, fast=False)
    stack.kafka.jvm_options = BROKER_JVM
    try:
        stack.start_servers()
        make_fleet(stack.postgres.url(CATALOG), tenants)
        service = stack.start_service("billing")
        with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:

            def known() -> bool:
                return catalog.execute("select count(*) from billing.tenant").fetchone() == (tenants,)

            wait_until(known, WAIT_SECONDS, "billing knows all tenants")
            service.stop()
            catalog.execute("vacuum analyze")
        yield stack
    finally:
        stack.destroy()


def events_of(number: int, run: str) -> list[dict[str, Any]]:
    """The first two months of a tenant: paid at once, a renewal that fails and is paid late, the end."""
    life = Life(tenant=tenant_number(number), number=f"{run}{number}")
    return life.first_payment() + life.failed_renewal(START + 30 * 86400) + life.end()


def padded(event: dict[str, Any]) -> bytes:
    text = json.dumps(event)
    event["data"]["object"]["description"] = "x" * max(0, BYTES - len(text) - 20)
    return json.dumps(event).encode()


def _produce(stack: Stack, run: str, tenants: int) -> int:
    failed: list[object] = []
    producer = Producer({
        "bootstrap.servers": stack.kafka.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True,
        "queue.buffering.max.messages": 100_000, "queue.buffering.max.kbytes": 1_000_000, "linger.ms": 20,
    })  # fmt: skip
    lives = [events_of(number, run) for number in range(1, tenants + 1)]
    count = 0
    for step in range(len(lives[0])):  # as they come: of all tenants, in turn
        for life in lives:
            event = life[step]
            headers = {
                "ce_specversion": "1.0", "ce_id": event["id"], "ce_source": "/stripe",
                "content-type": "application/octet-stream", "ce_type": "billing.stripe.received.v1",
                "ce_time": "2026-01-01T00:00:00.000Z",
            }  # fmt: skip
            producer.produce(
                TOPIC, padded(event), f"test/-/{event['data']['object']['customer']}".encode(), headers=headers,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )  # fmt: skip
            count += 1
            if count % 1000 == 0:
                producer.poll(0)
    if producer.flush(120) or failed:
        raise RuntimeError(f"not delivered: {failed[:3]}")
    return count


def rss_mb(pid: int) -> float:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def measure_applied(stack: Stack, tenants: int, processes: int) -> Applied:
    """From the first that was applied to the last."""
    run = f"p{processes}x{time.monotonic_ns() % 1_000_000}_"
    count = _produce(stack, run, tenants)
    services = [stack.service("billing", index) for index in range(processes)]
    for service in services:
        service.start()
    pids = {"postgres": stack.postgres.pid, "broker": stack.kafka.pid}
    pids |= {f"billing-{index}": service.process.pid for index, service in enumerate(services)}
    meter = CpuMeter({name: pid for name, pid in pids.items() if pid is not None}, frozenset({"postgres"}))
    meter.start()
    with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:

        def applied() -> tuple[int, float, int]:
            row = catalog.execute(APPLIED, (f"evt_{run}%",)).fetchone()
            assert row is not None
            return int(row[0]), float(row[1] or 0), int(row[2])

        def all_applied() -> bool:
            time.sleep(1)
            return applied()[0] == count

        wait_until(all_applied, WAIT_SECONDS, f"{count} events are applied")
        cpu = meter.read()
        _, seconds, transactions = applied()
    rss = max(rss_mb(service.process.pid or 0) for service in services)
    for service in services:
        service.stop()
    return Applied(processes, tenants, count, seconds, transactions, cpu, rss)
