"""Makes once what every later broker starts faster with: storage that is formatted, and an archive of Kafka's classes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from .kafka import CLASSES, FAST_START, FORMATTED, KafkaBroker, kafka_jars, prepared_start
from .ports import reserve_ports
from .process import ServerError, wait_until

SECONDS = 60.0
TOPIC = "topic"


def prepare_start() -> None:
    """Unless it is there. The archive is written by a broker as it ends, and has what was loaded by then: before that it does
    what brokers do in tests. Who calls sees that nobody else is at it."""
    place = prepared_start(kafka_jars())
    if place.exists():
        return
    for old in place.parent.glob("start-*"):
        shutil.rmtree(old)
    fresh = place.with_suffix(".fresh")
    with tempfile.TemporaryDirectory(prefix="tenantry-start-") as folder:
        root, (port, controller_port) = Path(folder), reserve_ports(2)
        shutil.copytree(KafkaBroker(root, port, controller_port).format(), fresh / FORMATTED)
        options = (*FAST_START, f"-XX:ArchiveClassesAtExit={fresh / CLASSES}")
        broker = KafkaBroker(root, port, controller_port, jvm_options=options, die_with_parent=True)
        try:
            broker.start()
            use(broker)
            ended = broker.process.stop(SECONDS)
        finally:
            broker.kill9()
    if not ended or not (fresh / CLASSES).exists():
        raise ServerError(f"no archive of Kafka's classes was made in {fresh}")
    fresh.rename(place)


def use(broker: KafkaBroker) -> None:
    """A topic, a producer that repeats nothing, a group that reads and remembers how far."""
    servers = {"bootstrap.servers": broker.bootstrap, "log_level": 2}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic(TOPIC, 4, 1)])[TOPIC].result(SECONDS)
    producer = Producer({**servers, "enable.idempotence": True})
    consumer = Consumer({**servers, "group.id": "group", "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([TOPIC])

    def read() -> bool:
        producer.produce(TOPIC, b"message")
        producer.flush(SECONDS)
        message = consumer.poll(0.1)
        if message is None or message.error() is not None:
            return False
        consumer.commit(message, asynchronous=False)
        return True

    wait_until(read, SECONDS, "a message is read")
    consumer.close()


if __name__ == "__main__":
    prepare_start()
