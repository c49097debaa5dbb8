"""What stands in Kafka is read to its end, or somebody is told what was not."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
import uuid
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .faults import stopped
from .invariants import rows
from .service_faults import armed, told
from .service_faults import stopped as services_stopped
from .topics import cloudevent, delete_records, read_all

SIGNUPS = "tenant.signup.v1"


def signup_event(producer: Producer, partition: int) -> str:
    tenant = str(uuid.uuid4())
    value = b'{"company": "Gap Shop", "email": "g@gap.test"}'
    headers = cloudevent("tenant.signup.requested.v1")
    producer.produce(SIGNUPS, value, tenant.encode(), partition=partition, headers=headers)
    assert producer.flush(30) == 0
    return tenant


def signup_in_partition(stack: Stack, partition: int) -> str:
    return signup_event(Producer({"bootstrap.servers": stack.kafka.bootstrap}), partition)


def in_transaction(stack: Stack) -> Producer:
    settings = {"transactional.id": str(uuid.uuid4()), "transaction.timeout.ms": 300_000}
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, **settings})
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer


def lag(stack: Stack) -> float | None:
    """What the provisioner says; NaN while it does not know, None while it does not answer."""
    with contextlib.suppress(OSError):
        return stack.services["provisioner-0"].metrics().get("tenantry_intake_lag_offsets")
    return None


def next_offset(stack: Stack, partition: int) -> str | None:
    found = rows(
        stack,
        f"select next_offset from provisioner.consumer_offset where topic = '{SIGNUPS}' and partition = {partition}",
    )
    return found[0][0] if found else None


def expired(stack: Stack) -> dict[str, str]:
    """The alerts of messages that were deleted unread: what each says, by its cause."""
    prefix = f"messages-expired:{SIGNUPS}/"
    found = rows(stack, f"select cause, detail from catalog.alert where cause like '{prefix}%'")
    return {cause.removeprefix(prefix): detail.partition(",")[0] for cause, detail in found}


def test_a_partition_that_nobody_reads_is_noticed_and_started_again(stack: Stack, api: Api) -> None:
    """As after a start that librdkafka had thrown away."""
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, "consumer_after_assign=error"):
        tenant = signup_in_partition(stack, 0)
        eventually(lambda: lag(stack) == 1, 20, "the lag is shown")
        api.wait_state(tenant, "ready", 60)
        assert "partition_stalled" in provisioner.log_path.read_text()
        eventually(lambda: lag(stack) == 0, 20, "nothing is left to be read")


def test_the_mark_of_a_transaction_is_no_message_that_waits_or_was_lost(stack: Stack, api: Api) -> None:
    with stopped(stack.postgres):
        producer = in_transaction(stack)
        tenant = signup_event(producer, 1)
        producer.commit_transaction(30)
        eventually(lambda: lag(stack) == 2, 20, "message and mark wait")
    api.wait_state(tenant, "ready")
    eventually(lambda: next_offset(stack, 1) == "2", 20, "the mark is passed")
    eventually(lambda: lag(stack) == 0, 20, "nothing is left")
    with services_stopped(stack.services["provisioner-0"]):
        delete_records(stack.kafka.port, SIGNUPS, {1: 2})
    api.wait_state(signup_in_partition(stack, 1), "ready")
    assert expired(stack) == {}


def test_a_transaction_that_stays_open_shows_in_the_lag(stack: Stack, api: Api) -> None:
    """Until it ends nobody may read what stands behind it."""
    producer = in_transaction(stack)
    taken_back = signup_event(producer, 2)
    behind = signup_in_partition(stack, 2)
    eventually(lambda: lag(stack) == 2, 20, "both wait")
    producer.abort_transaction(30)
    api.wait_state(behind, "ready")
    eventually(lambda: next_offset(stack, 2) == "3", 20, "the mark is passed")
    eventually(lambda: lag(stack) == 0, 20, "nothing is left")
    assert api.get(f"/api/tenants/{taken_back}").status == 404


def test_messages_that_are_deleted_before_they_are_read_raise_an_alert(stack: Stack, api: Api) -> None:
    """By retention, while nobody read or after a restore of an old catalog: nobody else would ever know."""
    for partition in (3, 4):
        api.wait_state(signup_in_partition(stack, partition), "ready")
    with services_stopped(stack.services["provisioner-0"]):
        lost = [signup_in_partition(stack, partition) for partition in (3, 4, 5)]
        delete_records(stack.kafka.port, SIGNUPS, {3: 2, 4: 2, 5: 1})
        kept = [signup_in_partition(stack, partition) for partition in (3, 5)]
    for tenant in kept:
        api.wait_state(tenant, "ready")
    for tenant in lost:
        assert api.get(f"/api/tenants/{tenant}").status == 404
    eventually(lambda: next_offset(stack, 4) == "2", 20, "a partition with nothing left is passed too")
    assert expired(stack) == {
        "3@1": f"Kafka deleted the offsets 1 to 1 of {SIGNUPS}/3",
        "4@1": f"Kafka deleted the offsets 1 to 1 of {SIGNUPS}/4",
        "5@0": f"Kafka deleted the offsets 0 to 0 of {SIGNUPS}/5",
    }


def fill_signups(stack: Stack) -> None:
    """More in each partition than the signups that come later can be, with the mark of a transaction at its end."""
    before = [int(next_offset(stack, partition) or 0) for partition in range(6)]
    producer = in_transaction(stack)
    for number in range(60):
        producer.produce(SIGNUPS, b"not JSON", str(uuid.uuid4()).encode(), partition=number % 6)
    producer.commit_transaction(30)
    for partition in range(6):
        expected = str(before[partition] + 11)
        eventually(lambda p=partition, e=expected: next_offset(stack, p) == e, 30, f"partition {partition} is read")


def make_signups_again(stack: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    admin.delete_topics([SIGNUPS])[SIGNUPS].result(20)
    eventually(lambda: SIGNUPS not in admin.list_topics(timeout=5).topics, 20, "the topic is gone")
    stack.init()


def check_that_signups_are_read_anew(stack: Stack, api: Api) -> None:
    """Once the reader has seen that all partitions are empty now."""
    for partition in range(6):
        eventually(lambda p=partition: next_offset(stack, p) == "0", 30, f"partition {partition} is begun anew")
    alerts = [alert["cause"] for alert in api.get("/api/admin/alerts").json["items"]]
    assert f"log-began-anew:{SIGNUPS}" in alerts
    stack.postgres.execute(f"select catalog.resolve_alert('log-began-anew:{SIGNUPS}')", CATALOG)
    tenants: list[str] = []

    def signed_up() -> bool:
        answer = api.signup(f"Reborn {len(tenants)}")
        if answer.status == 202:
            tenants.append(answer.json["tenant_id"])
        return len(tenants) == 8

    eventually(signed_up, 20, "the gateway finds the topic")
    for tenant in tenants:
        api.wait_state(tenant, "ready", 60)


def test_a_topic_that_is_made_again_is_read_from_its_beginning(stack: Stack, api: Api) -> None:
    """Its log begins below the offset that the catalog has: nothing of it may be taken for seen."""
    fill_signups(stack)
    with services_stopped(*stack.services.values()):
        make_signups_again(stack)
    check_that_signups_are_read_anew(stack, api)


def test_a_topic_that_is_made_again_under_its_readers_is_read_from_its_beginning(stack: Stack, api: Api) -> None:
    fill_signups(stack)
    make_signups_again(stack)
    check_that_signups_are_read_anew(stack, api)


def committed(stack: Stack, partition: int) -> int:
    """Up to where the group's offset in Kafka says that it has read."""
    settings = {"bootstrap.servers": stack.kafka.bootstrap, "group.id": "tenantry-provisioner"}
    watcher = Consumer({**settings, "enable.auto.commit": False})
    try:
        return int(watcher.committed([TopicPartition(SIGNUPS, partition)], timeout=20)[0].offset)
    finally:
        watcher.close()


def test_the_offsets_in_kafka_follow_the_catalog_though_nothing_comes(stack: Stack, api: Api) -> None:
    """The last commit was lost, as with an outage at the wrong moment; and the log ends with a transaction's mark."""
    tenant = signup_in_partition(stack, 4)
    api.wait_state(tenant, "ready")
    producer = in_transaction(stack)
    last = signup_event(producer, 4)
    producer.commit_transaction(30)
    api.wait_state(last, "ready")
    end = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": "ends"})
    high = end.get_watermark_offsets(TopicPartition(SIGNUPS, 4), 20)[1]
    end.close()
    eventually(lambda: committed(stack, 4) == high, 20, "Kafka is told of all, the mark included")
    with services_stopped(stack.services["provisioner-0"]):
        eventually(lambda: commit(stack, 4, high - 3), 20, "the commit is taken back")
        assert committed(stack, 4) == high - 3
    eventually(lambda: committed(stack, 4) == high, 20, "it follows again, though no message came")


def commit(stack: Stack, partition: int, offset: int) -> bool:
    """False while the group still has a member."""
    member = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": "tenantry-provisioner"})
    try:
        member.commit(offsets=[TopicPartition(SIGNUPS, partition, offset)], asynchronous=False)
    except KafkaException:
        return False
    finally:
        member.close()
    return True


def test_a_reader_that_was_fenced_ends_and_is_not_mended_by_nobody(stack: Stack) -> None:
    """Another member of its name came: its process would say that it is ready, and read nothing."""
    first = stack.services["provisioner-0"]
    with told(first, KAFKA_PROPERTIES="group.instance.id=the-only-one"):
        second = stack.service("provisioner", 1, KAFKA_PROPERTIES="group.instance.id=the-only-one")
        first.may_end_with.add(1)
        try:
            second.start()
            eventually(lambda: first.process.returncode is not None, 40, "the fenced one ends")
            assert first.process.returncode == 1, "so that its supervisor starts it again"
            assert "kafka_fatal" in first.log_path.read_text()
        finally:
            second.stop()
            del stack.services["provisioner-1"]


def test_a_client_that_cannot_start_on_a_crowded_machine_is_started_again(stack: Stack) -> None:
    service = stack.services["provisioner-0"]
    service.stop()
    service.may_end_with.add(1)
    service.environment["FAILPOINTS"] = "kafka_before_client=error"
    service.start()
    eventually(lambda: service.process.returncode is not None, 20, "it ends")
    assert service.process.returncode == 1, "2 would be what only a person can mend"
    del service.environment["FAILPOINTS"]
    service.start()
    service.wait_until_ready()


def test_a_gateway_whose_producer_failed_for_good_is_started_again(stack: Stack, api: Api) -> None:
    gateway = stack.services["gateway-0"]
    gateway.may_end_with.add(1)
    with armed(gateway, "kafka_before_produce=error"):
        gateway.wait_until_ready()
        assert api.signup("Twice Asked", idempotency_key="twice-asked").status == 503
        eventually(lambda: gateway.process.returncode is not None, 20, "it ends")
        assert gateway.process.returncode == 1 and "kafka_fatal" in gateway.log_path.read_text()
    assert api.signup("Twice Asked", idempotency_key="twice-asked").status == 202


def test_a_publisher_whose_producer_failed_for_good_makes_it_anew(stack: Stack, api: Api) -> None:
    provisioner, gateway = stack.services["provisioner-0"], stack.services["gateway-0"]
    with services_stopped(gateway), armed(provisioner, "kafka_before_produce=error"):
        provisioner.wait_until_ready()
        tenant = signup_in_partition(stack, 0)
        eventually(lambda: "is recreated" in provisioner.log_path.read_text(), 20, "the publisher notices")
        eventually(
            lambda: tenant.encode() in {record.key for record in read_all(stack.kafka.bootstrap, "tenant.status.v1")},
            30,
            "the tenant is told of all the same",
        )
    api.wait_state(tenant, "ready")


def test_a_stream_sees_partitions_that_are_added_to_the_status_topic(stack: Stack, api: Api) -> None:
    """Last in this file: the topic keeps them."""
    told_of: set[str] = set()

    def watch(stream: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                if line.startswith(b"data: ") and "tenant_id" in (event := json.loads(line[6:])):
                    told_of.add(event["tenant_id"])

    headers = {"authorization": f"Bearer {api.token}"}
    request = urllib.request.Request(f"{stack.services['gateway-0'].url}/api/stream", headers=headers)
    with urllib.request.urlopen(request, timeout=120) as stream:
        threading.Thread(target=watch, args=(stream,), daemon=True).start()
        admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
        for future in admin.create_partitions([NewPartitions("tenant.status.v1", 9)]).values():
            future.result(20)
        producer, gone = Producer({"bootstrap.servers": stack.kafka.bootstrap}), [str(uuid.uuid4()) for _ in range(9)]
        for partition, tenant in enumerate(gone):
            producer.produce("tenant.status.v1", None, tenant.encode(), partition=partition)
        assert producer.flush(30) == 0
        eventually(lambda: set(gone) <= told_of, 30, "the stream tells of those in every partition")
