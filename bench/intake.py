"""Commands from Kafka into the catalog of a large fleet: what waits is taken, and the catalog's own times are read."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import Producer

from deploy.local.fleet import make_fleet, tenant_number
from deploy.local.process import wait_until
from deploy.local.stack import CATALOG, Stack

from .ingest import BROKER_JVM
from .machine import CpuMeter

COMMAND_TOPIC = "tenant.command.v1"
WAIT_SECONDS = 300.0

# A command that changes one fact and is settled at once, and one that begins work on its tenant.
COMMANDS = ("resume", "suspend")

TAKEN = """
select count(*), extract(epoch from max(taken_at) - min(taken_at))::float8, count(distinct xmin::text)
from provisioner.inbox
where source = %s
"""


@dataclass
class Intake:
    """So many commands, each for another tenant, that waited in Kafka when the provisioners were started."""

    command: str
    count: int
    seconds: float
    transactions: int
    cpu: dict[str, float]

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def cpu_us(self, *prefixes: str) -> float:
        return sum(used for name, used in self.cpu.items() if name.startswith(prefixes)) * 1e6 / self.count


@contextmanager
def intake_stack(root: Path, tenants: int) -> Iterator[Stack]:
    """A fleet in the catalog with fsync on; its databases are nowhere. No provisioner runs yet."""
    stack = Stack(root, fast=False, options={"JANITOR_INTERVAL": "5m"})
    stack.kafka.jvm_options = BROKER_JVM
    try:
        stack.start_servers()
        make_fleet(stack.postgres.url(CATALOG), tenants)
        yield stack
    finally:
        stack.destroy()


def _produce(stack: Stack, command: str, count: int, source: str) -> None:
    failed: list[object] = []
    producer = Producer({
        "bootstrap.servers": stack.kafka.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True,
        "queue.buffering.max.messages": count + 1, "linger.ms": 20,
    })  # fmt: skip
    for number in range(1, count + 1):
        headers = {
            "ce_specversion": "1.0", "ce_id": str(uuid.uuid4()), "ce_source": source, "content-type": "application/json",
            "ce_type": f"tenant.{command}.requested.v1", "ce_time": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        producer.produce(
            COMMAND_TOPIC, json.dumps({"reason": "the benchmark"}).encode(), tenant_number(number).encode(),
            headers=headers, on_delivery=lambda error, _: failed.append(error) if error else None,
        )  # fmt: skip
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(60) or failed:
        raise RuntimeError(f"not delivered: {failed[:3]}")


def measure_intake(stack: Stack, command: str, count: int, provisioners: int) -> Intake:
    """From the first that was taken to the last."""
    source = f"/bench/{command}/{provisioners}/{time.monotonic_ns()}"
    _produce(stack, command, count, source)
    services = [stack.service("provisioner", index) for index in range(provisioners)]
    for service in services:
        service.start()
    pids = {"postgres": stack.postgres.pid, "broker": stack.kafka.pid}
    pids |= {f"provisioner-{index}": service.process.pid for index, service in enumerate(services)}
    meter = CpuMeter({name: pid for name, pid in pids.items() if pid is not None}, frozenset({"postgres"}))
    meter.start()
    with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:

        def taken() -> tuple[int, float, int]:
            row = catalog.execute(TAKEN, (source,)).fetchone()
            assert row is not None
            return int(row[0]), float(row[1] or 0), int(row[2])

        def all_taken() -> bool:
            time.sleep(0.25)
            return taken()[0] == count

        wait_until(all_taken, WAIT_SECONDS, f"{count} commands are taken")
        cpu = meter.read()
        _, seconds, transactions = taken()
    for service in services:
        service.stop()
    return Intake(command, count, seconds, transactions, cpu)
