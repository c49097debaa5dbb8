"""The frame around every service, as monitoring and a supervisor see it: what it measures, and what it says of itself."""

from __future__ import annotations

import os
import re
import time
import uuid
from pathlib import Path

from confluent_kafka import Producer

from deploy.local.stack import REPOSITORY, Service, Stack

from .client import Api, eventually
from .service_faults import armed
from .topics import cloudevent


def services(stack: Stack) -> list[Service]:
    return [stack.services["gateway-0"], stack.services["provisioner-0"]]


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
        failures = [name for name in told if name.startswith("tenantry_step_failures_total{")]
        assert failures == [
            'tenantry_step_failures_total{activity="provision",step="reserve",code="failpoint",result="retried"}'
        ]
        assert told["tenantry_tokens"] == 4 and time.time() - told["tenantry_tokens_read_timestamp_seconds"] < 60
        assert told['tenantry_secrets_old_key{ring="control"}'] == told['tenantry_key_unknown{ring="app"}'] == 0
        measured = {re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name) for name in told}
    section = (REPOSITORY / "docs" / "operations.md").read_text().split("\n## Metrics\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert measured == documented, measured ^ documented
