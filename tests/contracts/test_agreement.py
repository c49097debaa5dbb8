"""The schemas and the product agree: what a schema takes the product takes, and the other way round. Each event is
produced to Kafka as another system would, and looked for among the dead letters."""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from deploy.local.stack import REPOSITORY, Stack
from tests.e2e.client import eventually
from tests.e2e.invariants import rows
from tests.e2e.topics import cloudevent

from .documents import complaints, messages, reader_of, schema
from .mutations import mutations
from .recording import RecordingApi

# A signup for a reserved name is well-formed and makes no tenant, so that hundreds of them cost nothing.
RESERVED = {"subdomain": "www"}
# The same of a run to a version that no file has, and of a file with a version that tenants have.
NOWHERE = {"target": "1"}
APPLIED = min(path.name for path in (REPOSITORY / "migrations" / "tenant").glob("*.sql")).partition("_")[0]
TAKEN_FILE = {"name": f"{APPLIED}_another.sql"}
# What the text of a file stands between, so that the file can be read whatever the text is.
FILE_AROUND = {
    "name": (f"{APPLIED}_", ".sql"),
    "sql": ("-- migrate:up\n/* ", " */ select 1;\n-- migrate:down\n"),
}
FILE_NAMES = [
    "1.sql",
    "1" * 50 + ".sql",
    "1" * 51 + ".sql",
    "1.sql.sql",
    "1é.sql",
    "1.SQL",
    "1sql",
    "1",
    ".sql",
    "a1.sql",
    "1.sql ",
    "１.sql",
]


def waves_rise_to_all(data: Any) -> bool:
    """What the schema of a run cannot say: percentages rise, and the last wave is 100 per cent."""
    waves = data.get("waves", [{"percent": 100}])
    percents = [wave["percent"] for wave in waves if "percent" in wave]
    return percents == sorted(set(percents)) and waves[-1].get("percent") == 100


def name_fits_a_directory(data: Any) -> bool:
    """What the schema of a file cannot say: its name is also counted in bytes."""
    return len(data.get("name", "").encode()) <= 255


RUNS = ("migration.run.requested.v1", "http.migration_begin")
FILES = (
    "migration.register.requested.v1", "migration.withdraw.requested.v1", "http.migration_register", "http.migration_withdraw",
)  # fmt: skip
BEYOND_SCHEMAS = {**dict.fromkeys(RUNS, waves_rise_to_all), **dict.fromkeys(FILES, name_fits_a_directory)}


def is_allowed(value: Any, name: str) -> bool:
    return not complaints(value, schema(name)) and BEYOND_SCHEMAS.get(name, lambda _: True)(value)


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
        return is_allowed(self.value, self.by)


def key_field(event_type: str) -> str:
    if event_type in ("migration.register.requested.v1", "migration.withdraw.requested.v1"):
        return "name"
    if event_type == "migration.drift.requested.v1":
        return "check_id"
    return "run_id" if event_type.startswith("migration.") else "tenant_id"


def of_data(event_type: str, topic: str, data: Any) -> Trial:
    """Binary mode. The key is the field of the data that names it, where that could be one, so that only the schema decides."""
    field = key_field(event_type)
    given = data.get(field) if isinstance(data, dict) else None
    could_be = isinstance(given, str) and not complaints(given, schema(event_type)["properties"][field])
    otherwise = TAKEN_FILE["name"] if field == "name" else str(uuid.uuid4())
    return Trial(topic, str(given) if could_be else otherwise, data, cloudevent(event_type), event_type)


def of_commands(topic: str, whole: list[str]) -> list[Trial]:
    """All mutations of those in whole; other commands share their fields with the first one, and take turns with its
    mutations."""
    others = sorted(name for name in messages(topic) if schema(name)["properties"] == schema(whole[0])["properties"])
    others.remove(whole[0])
    tried = [(name, data) for name in whole for data in mutations(name)]
    for turn, name in enumerate(others):
        tried += [(name, data) for data in schema(name)["examples"]]
        tried += [(name, data) for data in list(mutations(name))[turn :: len(others)]]
    return [of_data(name, topic, data) for name, data in tried]


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
    sql = f"select partition, next_offset from {reader_of(topic)}.consumer_offset where topic = '{topic}'"

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
    """For tenants that do not exist: what is allowed is put aside."""
    whole = [f"tenant.{command}.requested.v1" for command in ("suspend", "deprovision", "restore", "label")]
    trials = of_commands("tenant.command.v1", whole)
    assert {trial.by for trial in trials} == set(messages("tenant.command.v1"))
    check_agreement(stack, trials)


def test_commands_to_billing_are_taken_as_their_schemas_say(stack: Stack) -> None:
    """For tenants that do not exist: what is allowed is put aside."""
    whole = [
        f"billing.{command}.v1"
        for command in (
            "override.requested",
            "usage.reported",
            "checkout.requested",
            "change_plan.requested",
            "cancel.requested",
        )
    ]
    check_agreement(stack, of_commands("billing.command.v1", whole))


@pytest.fixture(scope="module")
def migrated(api: RecordingApi) -> str:
    """A tenant that has the product's files."""
    return api.ready_tenant("Agreeable Chemist")


def test_migration_files_are_taken_as_their_schema_says(stack: Stack, migrated: str) -> None:
    name, topic = "migration.register.requested.v1", "tenant.migration.v1"
    tried = list(mutations(name, TAKEN_FILE, FILE_AROUND))
    tried += [{**tried[0], "name": file_name} for file_name in FILE_NAMES]
    withdraw = "migration.withdraw.requested.v1"
    trials = [of_data(withdraw, topic, data) for data in mutations(withdraw)]
    check_agreement(stack, trials + [of_data(name, topic, data) for data in tried])


def test_runs_and_commands_to_them_are_taken_as_their_schemas_say(stack: Stack) -> None:
    """To a version that does not exist, and for runs that do not."""
    name, topic = "migration.run.requested.v1", "tenant.migration.v1"
    tried = list(mutations(name, NOWHERE))
    tried += [{**NOWHERE, "strategy": strategy} for strategy in schema(name)["properties"]["strategy"]["enum"]]
    whole = [f"migration.{command}.requested.v1" for command in ("pause", "retry", "mark", "signal")]
    trials = of_commands(topic, whole)
    assert {trial.by for trial in trials} | {name} == {each for each in messages(topic) if key_field(each) == "run_id"}
    check_agreement(stack, trials + [of_data(name, topic, data) for data in tried])


def test_checks_for_drift_are_taken_as_their_schema_says(stack: Stack, migrated: str) -> None:
    """Most are of labels that nobody has, or of nobody."""
    name = "migration.drift.requested.v1"
    check_agreement(stack, [of_data(name, "tenant.migration.v1", data) for data in mutations(name)])


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


def test_the_key_must_be_the_run_the_check_or_the_name_of_the_file(stack: Stack, migrated: str) -> None:
    topic, run, other = "tenant.migration.v1", str(uuid.uuid4()), str(uuid.uuid4())
    file = {"sql": "select 1;".join(FILE_AROUND["sql"])}
    wrong: list[tuple[str | None, str, Any]] = [
        (None, "run", NOWHERE), ("1", "run", NOWHERE), (run.upper(), "run", NOWHERE), (run, "run", {**NOWHERE, "run_id": other}),
        (None, "pause", {}), (run, "pause", {"run_id": other}),
        (None, "drift", {}), ("1", "drift", {}), (run, "drift", {"check_id": other}), (run, "drift", {"run_id": run}),
        (None, "register", file), ("", "register", file), ("a.sql", "register", file), ("1.sql", "register", {**file, **TAKEN_FILE}),
    ]  # fmt: skip
    right: list[tuple[str | None, str, Any]] = [
        (run, "run", {**NOWHERE, "run_id": run}), (run, "pause", {"run_id": run}), (run, "drift", {"check_id": run}), (TAKEN_FILE["name"], "register", {**file, **TAKEN_FILE}),
    ]  # fmt: skip
    kinds = {kind: f"migration.{kind}.requested.v1" for kind in ("run", "pause", "register", "drift")}
    trials = [Trial(topic, key, data, cloudevent(kinds[kind]), kinds[kind]) for key, kind, data in wrong + right]
    assert find_refused(stack, trials) == ["invalid_field"] * len(wrong) + [""] * len(right)


HTTP_WAYS = {
    "http.signup": "/api/signups",
    "http.command": "/api/tenants/{id}/suspend",
    "http.confirmed_command": "/api/tenants/{id}/deprovision",
    "http.restore": "/api/tenants/{id}/restore",
    "http.label": "/api/tenants/{id}/labels",
    "http.billing_override": "/api/tenants/{id}/billing/override",
    "http.migration_register": "/api/admin/migrations/files",
    "http.migration_withdraw": "/api/admin/migrations/files/withdraw",
    "http.migration_begin": "/api/admin/migrations/run",
    "http.migration_command": "/api/admin/migrations/runs/{id}/pause",
    "http.migration_retry": "/api/admin/migrations/runs/{id}/retry",
    "http.migration_mark": "/api/admin/migrations/runs/{id}/mark",
    "http.migration_signal": "/api/admin/migrations/runs/{id}/signals",
    "http.migration_drift_begin": "/api/admin/migrations/drift",
}
HARMLESS = {"http.signup": RESERVED, "http.migration_register": TAKEN_FILE, "http.migration_begin": NOWHERE}
# Of these only one in so many: the fields are the events', of which all are tried.
EVERY = {
    "http.migration_register": 3, "http.migration_begin": 7, "http.migration_retry": 3, "http.migration_mark": 3,
    "http.migration_signal": 5, "http.migration_drift_begin": 5,
}  # fmt: skip


def test_what_a_schema_refuses_http_refuses_too(api: RecordingApi, migrated: str) -> None:
    for name, path in HTTP_WAYS.items():
        around = FILE_AROUND if name == "http.migration_register" else None
        for body in list(mutations(name, HARMLESS.get(name), around))[:: EVERY.get(name, 1)]:
            answer = api.call("POST", path.replace("{id}", str(uuid.uuid4())), raw=json.dumps(body).encode())
            wanted = 202 if is_allowed(body, name) else 400
            assert answer.status == wanted, f"{path}: {body!r:.300}: {answer}"
