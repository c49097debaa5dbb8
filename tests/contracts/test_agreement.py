"""The schemas and the product agree: what a schema takes the product takes, and the other way round. Each event is
produced to Kafka as another system would, and looked for among the dead letters."""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from deploy.local.stack import Stack
from tests.e2e.client import eventually
from tests.e2e.invariants import rows
from tests.e2e.topics import cloudevent

from .documents import complaints, messages, schema
from .mutations import mutations
from .recording import RecordingApi

COMMANDS = sorted(messages("tenant.command.v1"))
# A signup for a reserved name is well-formed and makes no tenant, so that hundreds of them cost nothing.
RESERVED = {"subdomain": "www"}


@dataclass
class Trial:
    """One message, and where it came to stand."""

    topic: str
    key: str | None
    value: Any
    headers: dict[str, str]
    by: str  # the schema that judges it
    place: list[int] = field(default_factory=list)  # partition, offset

    @property
    def allowed(self) -> bool:
        return not complaints(self.value, schema(self.by))


def of_data(event_type: str, topic: str, data: Any) -> Trial:
    """Binary mode. The key is the tenant id in the data where that could be one, so that only the schema decides."""
    given = data.get("tenant_id") if isinstance(data, dict) else None
    could_be = isinstance(given, str) and not complaints(given, schema(event_type)["properties"]["tenant_id"])
    key = str(given) if could_be else str(uuid.uuid4())
    return Trial(topic, key, data, cloudevent(event_type), event_type)


def find_refused(stack: Stack, trials: list[Trial]) -> list[str]:
    """Produces them all, waits until all are taken; the code of each that was refused by contract, else empty."""
    failed: list[Any] = []

    def delivered(trial: Trial, error: Any, message: Any) -> None:
        if error:
            failed.append(error)
        else:
            trial.place = [message.partition(), message.offset()]

    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})
    for trial in trials:
        producer.produce(
            trial.topic, json.dumps(trial.value), trial.key, headers=trial.headers,
            on_delivery=lambda error, message, trial=trial: delivered(trial, error, message),
        )  # fmt: skip
    assert producer.flush(30) == 0 and not failed, failed
    for topic in {trial.topic for trial in trials}:
        wait_until_taken(stack, topic)
    letters = {
        (topic, int(partition), int(offset)): code
        for topic, partition, offset, code in rows(
            stack, "select topic, partition, at_offset, code from catalog.dead_letter"
        )
    }
    return [letters.get((trial.topic, *trial.place), "") for trial in trials]  # type: ignore[arg-type]


def wait_until_taken(stack: Stack, topic: str) -> None:
    consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": "ends"})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), 10)[1] for n in partitions}
    consumer.close()
    sql = f"select partition, next_offset from provisioner.consumer_offset where topic = '{topic}'"

    def taken() -> bool:
        reached = {int(partition): int(offset) for partition, offset in rows(stack, sql)}
        return all(reached.get(n, 0) >= end for n, end in ends.items())

    eventually(taken, 40, f"{topic} is read to its end")


def check_agreement(stack: Stack, trials: list[Trial]) -> None:
    assert any(trial.allowed for trial in trials) and not all(trial.allowed for trial in trials)
    codes = find_refused(stack, trials)
    disagree = [
        f"{trial.by}: {'allowed' if trial.allowed else 'refused'} by the schema, product: {code or 'took it'}: "
        f"{trial.value!r:.300}"
        for trial, code in zip(trials, codes, strict=True)
        if trial.allowed == bool(code)
    ]
    assert not disagree, "\n".join(disagree)
    assert {"internal"}.isdisjoint(codes), "what breaks a statement is a defect"


def test_signups_are_taken_as_their_schema_says(stack: Stack) -> None:
    name = "tenant.signup.requested.v1"
    check_agreement(stack, [of_data(name, "tenant.signup.v1", data) for data in mutations(name, RESERVED)])


def test_commands_are_taken_as_their_schemas_say(stack: Stack) -> None:
    """For tenants that do not exist: what is allowed is put aside. Those that share their fields with suspend take
    turns with their mutations."""
    whole = [f"tenant.{command}.requested.v1" for command in ("suspend", "deprovision", "restore", "label")]
    others = [name for name in COMMANDS if name not in whole]
    tried = [(name, data) for name in whole for data in mutations(name)]
    for turn, name in enumerate(others):
        assert schema(name)["properties"] == schema(whole[0])["properties"]
        tried += [(name, data) for data in schema(name)["examples"]]
        tried += [(name, data) for data in list(mutations(name))[turn :: len(others)]]
    check_agreement(stack, [of_data(name, "tenant.command.v1", data) for name, data in tried])


def test_envelopes_are_taken_as_their_schema_says(stack: Stack) -> None:
    def envelopes() -> list[Any]:
        good = {**cloudevent_envelope(), "data": {"company": "Acme", "email": "a@b.example", **RESERVED}}
        found: list[Any] = [dict(good), {**good, "dataschema": "any", "extension": 5}, [good], "text", 7]
        for name in ("specversion", "id", "source", "type", "subject", "time", "traceparent", "data"):
            found.append({other: value for other, value in good.items() if other != name})
            wrong: list[Any] = [None, 5, [], True, "", "a\nb", "a\u007fb", "x" * 513]
            found += [{**good, name: value} for value in wrong]
        for name in ("id", "source", "subject", "time", "traceparent"):
            found.append({**good, "id": str(uuid.uuid4()), name: "x" * 512})
        encoded = {name: value for name, value in good.items() if name != "data"}
        data = b64encode(json.dumps(good["data"]).encode()).decode()
        encoded["data_base64"] = data
        found += [encoded, {**encoded, "id": str(uuid.uuid4()), "data_base64": data.rstrip("=")}]
        found += [{**good, **encoded}, {**encoded, "data_base64": None}, {**encoded, "data_base64": {}}]
        return found + [{**good, "specversion": "0.3"}, {**good, "specversion": "1.0.2"}]

    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    trials = []
    for envelope in envelopes():
        if isinstance(envelope, dict) and envelope.get("id") == GOOD_ID:
            envelope["id"] = str(uuid.uuid4())  # an id again would be another reason to refuse
        trials.append(Trial("tenant.signup.v1", str(uuid.uuid4()), envelope, headers, "cloudevent"))
    check_agreement(stack, trials)


GOOD_ID = str(uuid.uuid4())


def cloudevent_envelope() -> dict[str, str]:
    made = {"specversion": "1.0", "id": GOOD_ID, "source": "/test", "type": "tenant.signup.requested.v1"}
    return made | {
        "subject": "acme",
        "time": "2026-11-22T19:00:00Z",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    }


def test_the_key_must_be_the_tenant(stack: Stack) -> None:
    tenant, other = str(uuid.uuid4()), str(uuid.uuid4())
    data = {"company": "Acme", "email": "a@b.example", **RESERVED}
    kind, topic = "tenant.signup.requested.v1", "tenant.signup.v1"
    wrong: list[tuple[str | None, Any]] = [
        (None, data),
        ("", data),
        ("acme", data),
        (tenant.upper(), data),
        (tenant + "\n", data),
    ]
    wrong.append((tenant, {**data, "tenant_id": other}))
    trials = [Trial(topic, key, value, cloudevent(kind), kind) for key, value in wrong]
    trials.append(Trial(topic, tenant, {**data, "tenant_id": tenant}, cloudevent(kind), kind))
    assert find_refused(stack, trials) == ["invalid_field"] * len(wrong) + [""]


def test_what_a_schema_refuses_http_refuses_too(api: RecordingApi) -> None:
    tenant = str(uuid.uuid4())
    ways = {
        "http.signup": "/api/signups",
        "http.command": f"/api/tenants/{tenant}/suspend",
        "http.confirmed_command": f"/api/tenants/{tenant}/deprovision",
        "http.restore": f"/api/tenants/{tenant}/restore",
        "http.label": f"/api/tenants/{tenant}/labels",
    }
    for name, path in ways.items():
        for body in mutations(name, RESERVED if name == "http.signup" else None):
            answer = api.call("POST", path, raw=json.dumps(body).encode())
            wanted = 400 if complaints(body, schema(name)) else 202
            assert answer.status == wanted, f"{path}: {body!r:.300}: {answer}"
