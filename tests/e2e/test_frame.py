"""The frame around every service, as monitoring and a supervisor see it: what it measures, and what it says of itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.local.stack import REPOSITORY, Service, Stack

from .client import Api, eventually
from .conftest import make_stack
from .rollouts import Rollouts
from .service_faults import armed, told
from .topics import cloudevent


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One process of each service."""
    yield from make_stack("postgres", migrators=1, billings=1)


def services(stack: Stack) -> list[Service]:
    return [stack.services[f"{name}-0"] for name in ("gateway", "provisioner", "migrator", "billing")]


def test_every_service_tells_what_it_uses_of_the_machine(stack: Stack) -> None:
    version = re.search(r"^VERSION := (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    catalog = max(path.name for path in (REPOSITORY / "migrations" / "catalog").glob("*.sql")).partition("_")[0]
    assert version is not None
    for service in services(stack):
        pid, told = service.process.pid, service.metrics()
        started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        started += int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        pages = [int(number) for number in Path(f"/proc/{pid}/statm").read_text().split()]
        resident, files = pages[1] * os.sysconf("SC_PAGESIZE"), len(os.listdir(f"/proc/{pid}/fd"))
        assert abs(told["process_start_time_seconds"] - started) < 1
        assert resident / 2 < told["process_resident_memory_bytes"] < resident * 2
        assert told["process_virtual_memory_bytes"] > told["process_resident_memory_bytes"]
        assert abs(told["process_open_fds"] - files) < 20, "connections come and go"
        assert told["process_max_fds"] > told["process_open_fds"]
        assert 0 < told["process_cpu_seconds_total"] < 3600
        labels = f'service="{service.name}",version="{version[1]}",catalog="{catalog}"'
        assert told[f"tenantry_build_info{{{labels}}}"] == 1
        assert told["tenantry_catalog_up"] == 1


def send(stack: Stack, topic: str, event_type: str, tenant: str, body: str) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap})
    producer.produce(topic, body, tenant.encode(), headers=cloudevent(event_type))
    assert producer.flush(20) == 0


def test_monitoring_sees_the_fleet_its_alerts_and_what_waits(stack: Stack, api: Api) -> None:
    """The same numbers in every process. And all that is measured is documented, and the other way round."""
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, "saga_before_step=error@1"):
        provisioner.wait_until_ready()
        api.ready_tenant("Counted Shop")
        rollouts = Rollouts(stack)
        rollouts.file("create table counted (id int);")
        rollouts.completed(strategy="all")
        assert api.post("/api/webhooks/stripe").json["code"] == "stripe_not_configured"
        looked = api.post("/api/admin/migrations/drift", {}).json["operation_id"]
        assert api.wait_operation(looked)["result"]["drifted"] == 0
        unknown = str(uuid.uuid4())
        send(stack, "tenant.command.v1", "tenant.backup.requested.v1", unknown, f'{{"tenant_id": "{unknown}"}}')
        send(stack, "tenant.command.v1", "tenant.backup.requested.v1", unknown, "no JSON")
        wanted = {
            'tenantry_tenants{state="ready"}': 1,
            'tenantry_tenants{state="attention"}': 0,
            'tenantry_alerts_open{cause="dead-letters"}': 1,
            'tenantry_dead_letters{code="not_json"}': 1,
            'tenantry_parked_events{reason="tenant_unknown"}': 1,
        }
        told: dict[str, float] = {}
        for service in services(stack):

            def counted(service: Service = service) -> bool:
                told.update(service.metrics())
                return all(told.get(name) == value for name, value in wanted.items())

            eventually(counted, 30, f"{service.name} shows {wanted}")
            assert time.time() - told["tenantry_census_timestamp_seconds"] < 60
        assert told['tenantry_inspections_total{outcome="done"}'] == 1
        assert told['tenantry_jobs_total{outcome="done"}'] == 1 and told["tenantry_jobs_in_hand"] == 0
        failures = [name for name in told if name.startswith("tenantry_step_failures_total{")]
        assert failures == [
            'tenantry_step_failures_total{activity="provision",step="reserve",code="failpoint",result="retried"}'
        ]
        assert told['tenantry_webhooks_total{outcome="stripe_not_configured"}'] == 1
        assert told["tenantry_tokens"] == 4 and time.time() - told["tenantry_tokens_read_timestamp_seconds"] < 60
        assert told['tenantry_secrets_old_key{ring="control"}'] == told['tenantry_key_unknown{ring="app"}'] == 0
        measured = {re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name) for name in told}
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("\n## Metrics\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert measured == documented, measured ^ documented


class Supervisor:
    """The socket that a supervisor such as systemd gives to a service, and what came to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def heard(self, line: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines += self.socket.recv(4096).decode().splitlines()
        return line in self.lines

    def signs_of_life(self) -> int:
        self.heard("")
        return self.lines.count("WATCHDOG=1")


@contextlib.contextmanager
def supervised(stack: Stack, service: Service, **more: str) -> Iterator[Supervisor]:
    path = stack.root / "notify"
    supervisor = Supervisor(path)
    try:
        with told(service, NOTIFY_SOCKET=str(path), **more):
            yield supervisor
    finally:
        supervisor.socket.close()
        path.unlink()


def test_the_supervisor_is_told_of_start_readiness_life_and_end(stack: Stack) -> None:
    for service in services(stack):
        with supervised(stack, service, WATCHDOG_USEC="600000") as supervisor:
            eventually(lambda: supervisor.heard("READY=1"), 10, "it has started")
            eventually(lambda: supervisor.heard("STATUS=ready"), 10, "it is ready")
            assert supervisor.lines.index("READY=1") < supervisor.lines.index("STATUS=ready")
            before = supervisor.signs_of_life()
            eventually(lambda wanted=before + 3: supervisor.signs_of_life() >= wanted, 3, "it gives signs of life")
            assert not supervisor.heard("STOPPING=1")
            service.stop()
            assert supervisor.heard("STOPPING=1") and supervisor.heard("STATUS=stopping")


def test_a_loop_that_hangs_gives_no_sign_of_life(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    with supervised(stack, gateway, WATCHDOG_USEC="300000") as supervisor:
        eventually(lambda: supervisor.signs_of_life() > 0, 10, "it lives")
        with gateway.process.paused():
            last = supervisor.signs_of_life()
            with contextlib.suppress(TimeoutError):
                supervisor.socket.settimeout(1)
                raise AssertionError(f"a sign of a life that is not there: {supervisor.socket.recv(4096)!r}")
        supervisor.socket.setblocking(False)
        eventually(lambda: supervisor.signs_of_life() > last, 10, "it lives again")


def test_the_supervisor_is_told_to_wait_for_who_drains(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    with supervised(stack, gateway, DRAIN="100s") as supervisor:
        gateway.process.signal(signal.SIGTERM)
        eventually(lambda: supervisor.heard("STOPPING=1"), 10, "it says that it stops")
        assert supervisor.heard("EXTEND_TIMEOUT_USEC=110000000")
        gateway.process.signal(signal.SIGTERM)  # enough
        gateway.process.wait(20)


def test_a_supervisor_that_cannot_be_told_is_a_warning(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    with told(gateway, NOTIFY_SOCKET="/nowhere/notify"):
        assert "the supervisor cannot be notified" in gateway.log_path.read_text()
