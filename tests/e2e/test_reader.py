"""What stands in Kafka is read to its end, or somebody is told what was not."""

from __future__ import annotations

import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from deploy.local.stack import Stack

from .client import Api, eventually
from .invariants import rows
from .faults import stopped
from .service_faults import armed
from .service_faults import stopped as services_stopped
from .topics import cloudevent, delete_records

SIGNUPS = "tenant.signup.v1"


def signup_in_partition(stack: Stack, partition: int, transactional: bool = False) -> str:
    """Straight into a partition, in a transaction if wanted: its mark takes an offset of its own."""
    tenant = str(uuid.uuid4())
    settings = {"bootstrap.servers": stack.kafka.bootstrap}
    producer = Producer({**settings, "transactional.id": tenant} if transactional else settings)
    if transactional:
        producer.init_transactions(30)
        producer.begin_transaction()
    value = b'{"company": "Gap Shop", "email": "g@gap.test"}'
    headers = cloudevent("tenant.signup.requested.v1")
    producer.produce(SIGNUPS, value, tenant.encode(), partition=partition, headers=headers)
    if transactional:
        producer.commit_transaction(30)
    assert producer.flush(30) == 0
    return tenant


def lag(stack: Stack) -> float | None:
    return stack.services["provisioner-0"].metrics().get("tenantry_intake_lag_messages")


def causes(api: Api) -> list[str]:
    return [alert["cause"] for alert in api.get("/api/admin/alerts").json["items"]]


def test_a_partition_that_nobody_reads_is_noticed_and_started_again(stack: Stack, api: Api) -> None:
    """As after a start that librdkafka had thrown away."""
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, "consumer_after_assign=error"):
        tenant = signup_in_partition(stack, 0)
        eventually(lambda: lag(stack) == 1, 20, "the lag is shown")
        api.wait_state(tenant, "ready", 60)
        assert "partition_stalled" in provisioner.log_path.read_text()
        eventually(lambda: lag(stack) == 0, 20, "nothing is left to be read")


def test_the_mark_of_a_transaction_is_no_message_that_waits(stack: Stack, api: Api) -> None:
    with stopped(stack.postgres):
        tenant = signup_in_partition(stack, 1, transactional=True)
        eventually(lambda: lag(stack) == 2, 20, "message and mark wait")
    api.wait_state(tenant, "ready")
    where = f"topic = '{SIGNUPS}' and partition = 1"
    ends = rows(stack, f"select next_offset from provisioner.consumer_offset where {where}")
    assert ends == [["1"]], "the catalog stands before the mark"
    eventually(lambda: lag(stack) == 0, 20, "the mark was read")
    api.wait_state(signup_in_partition(stack, 1), "ready")
    assert not [cause for cause in causes(api) if cause.startswith("messages-expired")]


def test_messages_that_are_deleted_before_they_are_read_raise_an_alert(stack: Stack, api: Api) -> None:
    """By retention, while nobody read or after a restore of an old catalog: nobody else would ever know."""
    api.wait_state(signup_in_partition(stack, 2), "ready")
    with services_stopped(stack.services["provisioner-0"]):
        lost = [signup_in_partition(stack, partition) for partition in (2, 3)]  # of 3 the catalog never knew anything
        delete_records(stack.kafka.port, SIGNUPS, {2: 2, 3: 1})
        kept = [signup_in_partition(stack, partition) for partition in (2, 3)]
    for tenant in kept:
        api.wait_state(tenant, "ready")
    for tenant in lost:
        assert api.get(f"/api/tenants/{tenant}").status == 404
    alerts = rows(stack, f"select cause, detail from catalog.alert where cause like 'messages-expired:{SIGNUPS}/%' order by 1")
    assert [(cause, detail.split(",")[0]) for cause, detail in alerts] == [
        (f"messages-expired:{SIGNUPS}/2", f"Kafka deleted the offsets 1 to 1 of {SIGNUPS}/2"),
    ]


def test_a_topic_that_is_made_again_is_read_from_its_beginning(stack: Stack, api: Api) -> None:
    """Its log begins below the offset that the catalog has: nothing of it may be taken for seen."""
    before = rows(stack, f"select sum(next_offset) from provisioner.consumer_offset where topic = '{SIGNUPS}'")
    assert int(before[0][0]) > 0
    with services_stopped(*stack.services.values()):
        admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
        admin.delete_topics([SIGNUPS])[SIGNUPS].result(20)
        eventually(lambda: SIGNUPS not in admin.list_topics(timeout=5).topics, 20, "the topic is gone")
        stack.init()
    tenants = [api.signup(f"Reborn {number}").json["tenant_id"] for number in range(8)]
    for tenant in tenants:
        api.wait_state(tenant, "ready", 60)
    assert f"log-began-anew:{SIGNUPS}" in causes(api)
