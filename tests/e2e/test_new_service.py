"""A service that nobody planned for moves in: its own schema and login, one event, one saga, dead letters. tests/service/ is all
that it brings."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.ports import reserve_port
from deploy.local.process import ServerProcess
from deploy.local.stack import CATALOG, REPOSITORY, Service, Stack

from .client import Api, eventually
from .command import answered, cli, refused
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
    topics = [
        NewTopic(name, 3, 1)
        for name in ("example.v1", "example.v1.example.dlq", "example.note.v1", "example.note.v1.example.dlq")
    ]
    topics.append(NewTopic("example.status.v1", 3, 1, config={"cleanup.policy": "compact"}))
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
    known |= {name: value for name, value in environment.items() if name.endswith("SAN_OPTIONS")}
    process = ServerProcess(
        [str(Path(stack.build) / "tests" / "tenantry-example")], log_path=log, pid_path=stack.root / "example.pid", env=known
    )  # fmt: skip
    service = Service("example", process, port, None, log, known)
    service.start()
    service.wait_until_ready()
    yield service
    assert service.stop()


def greet(stack: Stack, tenant: str, words: object, **more: object) -> str:
    producer, headers = Producer({"bootstrap.servers": stack.kafka.bootstrap}), cloudevent(TYPE)
    producer.produce("example.v1", json.dumps({"words": words, **more}), tenant.encode(), headers=headers)
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


def clock(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return cli(stack, "clock", *words, SANDBOX="1")


def send_note(stack: Stack, body: bytes, content_type: str) -> str:
    producer, headers = (
        Producer({"bootstrap.servers": stack.kafka.bootstrap}),
        cloudevent("example.note.received.v1") | {"content-type": content_type},
    )
    producer.produce("example.note.v1", body, b"live,acct_1,cus_2", headers=headers)
    assert producer.flush(20) == 0
    return str(headers["ce_id"])


def test_bytes_are_taken_as_they_came_whatever_they_are(stack: Stack, example: Service) -> None:
    body = bytes(range(256)) + b'{"amount": 1.10 }'
    taken = f"select encode(body, 'hex') from example.note where event_id = '{send_note(stack, body, 'application/octet-stream')}'"
    assert eventually(lambda: rows(stack, taken), 20, "they are taken") == [[body.hex()]]


@pytest.mark.parametrize(
    "body, content_type, field",
    [
        (b"x" * 1001, "application/octet-stream", "body_base64"),
        (b'{"body_base64": "eA=="}', "application/json", "content-type"),
    ],
    ids=["too many", "not as bytes"],
)
def test_bytes_that_break_their_contract_are_a_dead_letter(
    stack: Stack, example: Service, body: bytes, content_type: str, field: str
) -> None:
    event = send_note(stack, body, content_type)
    letter = f"select field from catalog.dead_letter where headers::text like '%{base64.b64encode(event.encode()).decode()}%'"
    assert eventually(lambda: rows(stack, letter), 20, "it is refused") == [[field]]


def test_a_timer_set_with_the_facts_comes_due_in_business_time_and_outlives_its_process(
    stack: Stack, example: Service, api: Api
) -> None:
    tenant = api.ready_tenant("Reminded Shop")
    api.wait_operation(greet(stack, tenant, ["hello"], remind_after_s=14 * 86400))
    example.kill9()
    due = rows(stack, f"select catalog.json_time(due_at) from catalog.timer where key = '{tenant}'")[0][0]
    refused(clock(stack, "advance", "15d", "--timeout", "2s"), 5, f"the timer remind {tenant} of example")
    example.start()
    example.wait_until_ready()
    assert answered(clock(stack, "advance", "1d", "--json"))["ahead_ms"] > 14 * 86400000
    assert rows(stack, f"select catalog.json_time(reminded_at) from example.greeting where tenant_id = '{tenant}'") == [
        [due]
    ]
    snapshots = eventually(lambda: read_all(stack.kafka.bootstrap, "example.status.v1"), 20, "it is published")
    assert snapshots[-1].json == {"reminded": True, "version": 1} and snapshots[-1].key == tenant.encode()


def test_a_timer_whose_work_fails_is_told_and_holds_up_no_other(stack: Stack, example: Service, api: Api) -> None:
    first, second = api.ready_tenant("Stuck Shop"), api.ready_tenant("Free Shop")
    for tenant, seconds in ((first, 60), (second, 120)):
        api.wait_operation(greet(stack, tenant, ["hello"], remind_after_s=seconds))
    stack.postgres.execute(
        f"create function example.refuse() returns trigger language plpgsql as "
        f"$$ begin if new.tenant_id = '{first}' then raise 'not this one'; end if; return new; end $$; "
        f"create trigger refuse before update on example.greeting for each row execute function example.refuse()", CATALOG,
    )  # fmt: skip
    refused(clock(stack, "advance", "1h", "--timeout", "1s"), 5, "which fails: not this one")
    stack.postgres.execute("update catalog.business_clock set ahead = ahead + interval '1 hour'", CATALOG)
    reminded = f"select 1 from example.greeting where tenant_id = '{second}' and reminded_at is not null"
    eventually(lambda: rows(stack, reminded), 20, "the other one is dealt with")
    alert = "select detail from catalog.alert where cause = 'timer:example:remind' and resolved_at is null"
    assert rows(stack, alert) == [[f"{first}: not this one"]]
    stack.postgres.execute("drop trigger refuse on example.greeting", CATALOG)
    eventually(lambda: rows(stack, alert) == [], 60, "it is tried again, and the alert ends")


def test_the_clock_of_what_is_no_sandbox_is_not_moved_and_a_moved_one_is_refused(
    stack: Stack, example: Service
) -> None:
    refused(cli(stack, "clock", "advance", "1h"), 4, "SANDBOX=1")
    refused(clock(stack, "back", "1h"), 2)
    stack.postgres.execute("update catalog.business_clock set ahead = '1 hour'", CATALOG)
    example.stop()
    example.restart({"SANDBOX": "0"})
    ops = Api(example.ops_url, None)
    try:
        said = "the business clock of this catalog was advanced"
        eventually(lambda: said in ops.get("/readyz").text, 20, "it says why it is not ready")
    finally:
        example.stop()
        example.restart({"SANDBOX": "1"})
        example.wait_until_ready()
