"""Topics read on while a test runs: what arrives is kept and may be looked for at any time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from .client import eventually
from .topics import Record


class Watch:
    """Everything in these topics from their beginning, read as it comes."""

    def __init__(self, brokers: str, *topics: str) -> None:
        self.records: list[Record] = []
        self._consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": f"watch-{uuid.uuid4()}", "enable.auto.commit": False,
             "fetch.wait.max.ms": 50}
        )  # fmt: skip
        metadata = self._consumer.list_topics(timeout=10)
        self._consumer.assign(
            [TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics for p in metadata.topics[topic].partitions]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def _read(self) -> None:
        while (message := self._consumer.poll(0.02)) is not None:
            if message.error() is None:
                self.records.append(
                    Record(
                        message.topic(), message.partition(), message.offset(), message.key(), message.value(),
                        dict(message.headers() or []),
                    )
                )  # fmt: skip

    def wait_for(self, wanted: Callable[[Record], bool], what: str, seconds: float = 10) -> Record:
        """The first record that is wanted."""

        def found() -> Record | None:
            self._read()
            return next((record for record in self.records if wanted(record)), None)

        record: Record = eventually(found, seconds, what)
        return record
