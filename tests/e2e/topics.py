"""Kafka as another system uses it: producing events and reading topics, with Debian's confluent-kafka."""

from __future__ import annotations

import json
import socket
import struct
import time
import uuid
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition


@dataclass
class Record:
    """One message as it came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        return json.loads(self.value) if self.value is not None else None


def produce(
    brokers: str, topic: str, key: bytes | None, value: bytes | None, headers: dict[str, Any] | None = None
) -> None:
    """Sends one message and waits until the broker has it."""
    failed: list[Any] = []
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random"})
    producer.produce(
        topic, value, key, headers=headers or {}, on_delivery=lambda error, _: failed.append(error) if error else None
    )
    left = producer.flush(20)
    assert left == 0 and not failed, f"not delivered: {failed}"


def cloudevent(event_type: str, **more: str) -> dict[str, str]:
    """Headers of a CloudEvent in binary mode."""
    made = {"ce_specversion": "1.0", "ce_id": str(uuid.uuid4()), "ce_source": "/test", "ce_type": event_type}
    made["content-type"] = "application/json"
    made.update(more)
    return made


def read_all(brokers: str, topic: str, seconds: float = 20) -> list[Record]:
    """Everything in the topic from its beginning to its present end."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"read-{uuid.uuid4()}", "enable.auto.commit": False})
    records: list[Record] = []
    try:
        metadata = consumer.list_topics(topic, timeout=10)
        ends: dict[int, int] = {}
        for partition in metadata.topics[topic].partitions:
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            ends[partition] = high
        consumer.assign([TopicPartition(topic, p, 0) for p, high in ends.items() if high > 0])
        missing = {p for p, high in ends.items() if high > 0}
        deadline = time.monotonic() + seconds
        while missing:
            assert time.monotonic() < deadline, f"{topic} was not read to its end in {seconds:g} s"
            message = consumer.poll(0.2)
            if message is None or message.error():
                for p in list(missing):
                    position = consumer.position([TopicPartition(topic, p)])[0].offset
                    if position >= ends[p]:
                        missing.discard(p)
                continue
            records.append(
                Record(
                    topic, message.partition(), message.offset(), message.key(), message.value(),
                    dict(message.headers() or []),
                )
            )  # fmt: skip
            if message.offset() + 1 >= ends[message.partition()]:
                missing.discard(message.partition())
    finally:
        consumer.close()
    return records


def delete_records(port: int, topic: str, before: dict[int, int]) -> None:
    """Deletes of each partition what stands before an offset, as retention would. The Python client has no call for it,
    so this is the protocol's DeleteRecords, version 1 (kafka.apache.org/protocol)."""
    name = topic.encode()
    partitions = b"".join(struct.pack(">iq", partition, offset) for partition, offset in before.items())
    body = struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", len(before)) + partitions
    request = struct.pack(">hhih", 21, 1, 1, -1) + body + struct.pack(">i", 10_000)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rwb") as stream:
        stream.write(struct.pack(">i", len(request)) + request)
        stream.flush()
        (size,) = struct.unpack(">i", stream.read(4))
        answer = stream.read(size)
    (count,) = struct.unpack_from(">i", answer, 14 + len(name))
    answered = [struct.unpack_from(">iqh", answer, 18 + len(name) + 14 * place) for place in range(count)]
    assert sorted(answered) == sorted((partition, offset, 0) for partition, offset in before.items()), answered


def latest(records: list[Record]) -> dict[str, Any]:
    """What compaction leaves: the last value of each key, None for a tombstone."""
    return {(record.key or b"").decode(): record.json for record in records}


def topics_of(brokers: str) -> list[str]:
    """All topics but Kafka's own."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"list-{uuid.uuid4()}"})
    try:
        return sorted(name for name in consumer.list_topics(timeout=10).topics if not name.startswith("__"))
    finally:
        consumer.close()
