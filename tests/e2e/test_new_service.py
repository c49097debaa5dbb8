"""A service that nobody planned for moves in: its own schema and login, one event, one saga, dead letters. tests/service/ is all
that it brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.ports import reserve_port
from deploy.local.process import ServerProcess
from deploy.local.stack import CATALOG, REPOSITORY, Service, Stack

from .client import Api, eventually
from .invariants import rows
from .topics import cloudevent, read_all

TYPE = "example.greeting.requested.v1"


@pytest.fixture(scope="module")
def example(stack: Stack) -> Iterator[Service]:
    stack.postgres.execute(
        f"create role tenantry_example login password 'example' in role tenantry_service; "
        f"grant connect on database {CATALOG} to tenantry_example", CATALOG,
    )  # fmt: skip
    stack.postgres.execute((REPOSITORY / "tests" / "service" / "catalog.sql").read_text(), CATALOG)
    topics = [NewTopic(name, 3, 1) for name in ("example.v1", "example.v1.example.dlq")]
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for future in admin.create_topics(topics).values():
        future.result(20)
    port, log = reserve_port(), stack.root / "logs" / "example.log"
    environment = {
        **stack.environment("gateway", 0), "OPS_PORT": str(port),
        "CATALOG_DATABASE_URL": stack.postgres.url(CATALOG, "tenantry_example", "example"),
    }  # fmt: skip
    known = {
        name: environment[name] for name in ("PATH", "SANDBOX", "KAFKA_BROKERS", "CATALOG_DATABASE_URL", "OPS_PORT")
    }
    process = ServerProcess(
        [str(Path(stack.build) / "tests" / "tenantry-example")], log_path=log, pid_path=stack.root / "example.pid",
        env={**{name: value for name, value in environment.items() if name.endswith("SAN_OPTIONS")}, **known},
    )  # fmt: skip
    service = Service("example", process, port, None, log, known)
    service.start()
    service.wait_until_ready()
    yield service
    assert service.stop()


def greet(stack: Stack, tenant: str, words: object) -> str:
    producer, headers = Producer({"bootstrap.servers": stack.kafka.bootstrap}), cloudevent(TYPE)
    producer.produce("example.v1", json.dumps({"words": words}), tenant.encode(), headers=headers)
    assert producer.flush(20) == 0
    return str(headers["ce_id"])


def test_an_event_of_its_own_becomes_work_of_its_own(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Greeted Shop")
    ended = api.wait_operation(greet(stack, tenant, ["good", "morning"]))
    assert (ended["state"], ended["service"], ended["kind"]) == ("succeeded", "example", "greet")
    assert rows(stack, f"select words from example.greeting where tenant_id = '{tenant}'") == [['["good", "morning"]']]


def test_its_work_outlives_its_process(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Patient Shop")
    stack.postgres.execute("alter table example.greeting rename to lost", CATALOG)
    try:
        operation = greet(stack, tenant, ["later"])
        eventually(
            lambda: rows(stack, "select 1 from catalog.alert where cause = 'held:example:catalog-refuses' and resolved_at is null"),
            20, "somebody is told",
        )  # fmt: skip
        example.kill9()
    finally:
        stack.postgres.execute("alter table example.lost rename to greeting", CATALOG)
    example.start()
    example.wait_until_ready()
    assert api.wait_operation(operation, 60)["state"] == "succeeded"


def test_its_dead_letters_stand_among_those_of_the_others_and_are_replayed_to_its_topic(
    stack: Stack, example: Service, api: Api
) -> None:
    tenant = api.ready_tenant("Loud Shop")
    operation = greet(stack, tenant, ["a", "b", "c", "d", "e", "f"])
    letter = eventually(
        lambda: [each for each in api.get("/api/admin/dead-letters").json["items"] if each["service"] == "example"],
        20, "it is a dead letter",
    )[0]  # fmt: skip
    assert (letter["topic"], letter["code"], letter["field"]) == ("example.v1", "invalid_field", "words")
    assert api.operation(operation)["state"] == "rejected"
    eventually(lambda: read_all(stack.kafka.bootstrap, "example.v1.example.dlq"), 20, "it is published")
    assert api.post(f"/api/admin/dead-letters/{letter['id']}/replay").status == 202
    eventually(
        lambda: len([each for each in api.get("/api/admin/dead-letters").json["items"] if each["service"] == "example"]) == 2,
        20, "it was refused again",
    )  # fmt: skip


def test_a_command_of_the_provisioners_is_none_of_its_business(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Guarded Shop")
    producer, headers = (
        Producer({"bootstrap.servers": stack.kafka.bootstrap}),
        cloudevent("tenant.archive.requested.v1"),
    )
    producer.produce("example.v1", b"{}", tenant.encode(), headers=headers)
    assert producer.flush(20) == 0
    parked = f"select service, reason from catalog.parked where event ->> 'id' = '{headers['ce_id']}'"
    assert eventually(lambda: rows(stack, parked), 20, "it is parked") == [["example", "type_unknown"]]
    assert api.tenant(tenant)["state"] == "ready"
