"""What waits in Kafka or in the catalog is dealt with to the end: long queues, oversized keys, parked events."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer

from deploy.local.stack import Stack

from .client import Api, eventually
from .invariants import rows
from .topics import cloudevent, produce, read_all

MANY = 1200  # over six partitions: far more than a lane holds before it pauses its partition


def test_a_long_queue_is_read_to_its_end_after_the_catalog_was_away(stack: Stack, api: Api) -> None:
    stack.postgres.stop()
    try:
        producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, "partitioner": "murmur2_random"})
        for _ in range(MANY):
            producer.produce("tenant.signup.v1", b"not JSON", str(uuid.uuid4()).encode())
        assert producer.flush(20) == 0
    finally:
        stack.postgres.start()
    eventually(
        lambda: rows(stack, "select count(*) from catalog.dead_letter")[0][0] == str(MANY), 40, "all are refused"
    )
    api.ready_tenant("Behind The Queue")


def test_a_huge_key_stops_nobody(stack: Stack, api: Api) -> None:
    produce(stack.kafka.bootstrap, "tenant.signup.v1", b"k" * 400_000, b"{}", cloudevent("tenant.signup.requested.v1"))
    tenant = api.ready_tenant("After The Key")
    eventually(
        lambda: any(record.key == tenant.encode() for record in read_all(stack.kafka.bootstrap, "tenant.events.v1")),
        20,
        "what came later is published",
    )


def test_parked_events_are_taken_up_with_their_contract(stack: Stack, api: Api) -> None:
    good, bad = str(uuid.uuid4()), str(uuid.uuid4())
    for event_id, key, data in (
        (bad, str(uuid.uuid4()), {"company": "No Address"}),
        (good, str(uuid.uuid4()), {"company": "Parked Shop", "email": "P@parked.test"}),
    ):
        event = {"id": event_id, "source": "/test", "type": "tenant.signup.requested.v1", "key": key, "body_hash": "x",
                 "topic": "tenant.signup.v1"}  # fmt: skip
        stack.postgres.execute(
            "insert into catalog.parked (service, reason, event, data) values ('provisioner', 'type_unknown', :'event', :'data')",
            "tenantry",
            event=json.dumps(event),
            data=json.dumps(data),
        )
        if event_id == good:
            tenant = key
    service = stack.services["provisioner-0"]
    assert service.stop()
    service.start()
    service.wait_until_ready()
    assert api.wait_state(tenant, "ready")["slug"] == "parked-shop"
    refused = api.wait_operation(bad)
    assert (refused["state"], refused["field"]) == ("rejected", "email")


FLEET = 8000  # snapshots of these are several times what a stream may have waiting


def add_archived_tenants(stack: Stack, count: int) -> None:
    """As if they had come and gone over the years; a page of their snapshots is more than a stream may have waiting."""
    stack.postgres.execute(
        f"""
        insert into provisioner.tenant (tenant_id, slug, company, email, admin_id, plan, driver, state,
                                        lifecycle_wanted, caused_by, reason_code, reason_detail)
        select gen_random_uuid(), 'old-' || n, repeat('💊', 200), '', gen_random_uuid(), 'starter', 'postgres',
               'archived', 'archived', repeat('c', 300), 'old', repeat('é', 400)
        from generate_series(1, {count}) n;
        insert into catalog.lifecycle_wanted (tenant_id, source, wanted)
        select tenant_id, 'operator', 'archived' from provisioner.tenant where slug like 'old-%';
        insert into catalog.tenant_status (tenant_id, version, caused_by)
        select tenant_id, 1, caused_by from provisioner.tenant where slug like 'old-%'
        """,
        "tenantry",
    )


def test_a_slow_reader_of_a_large_fleet_gets_every_tenant_and_then_changes(stack: Stack, api: Api) -> None:
    add_archived_tenants(stack, FLEET)
    known = int(rows(stack, "select count(*) from catalog.tenant_snapshot where snapshot is not null")[0][0])
    seen: set[str] = set()
    request = urllib.request.Request(
        f"{stack.services['gateway-0'].url}/api/stream", headers={"authorization": f"Bearer {api.token}"}
    )
    deadline = time.monotonic() + 90
    with urllib.request.urlopen(request, timeout=20) as stream:
        for event in events_of(stream, deadline):
            if event[0] == "live":
                break
            seen.add(event[1]["tenant_id"])
            if len(seen) % 1000 == 0:
                resume_at = time.monotonic() + 0.3
                eventually(lambda at=resume_at: time.monotonic() > at, 2, "it dawdles")
        assert len(seen) >= known
        tenant = api.signup("Newest Shop").json["tenant_id"]
        assert any(
            kind == "status" and data["tenant_id"] == tenant and data["state"] == "ready"
            for kind, data in events_of(stream, deadline)
        )


def events_of(stream: Any, deadline: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events as they come, until the deadline."""
    kind = ""
    for line in stream:
        assert time.monotonic() < deadline, "the stream takes too long"
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            kind = text[7:]
        elif text.startswith("data: "):
            yield kind, json.loads(text[6:])
