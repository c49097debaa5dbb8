"""What a whole run shows, held against the contracts."""

from __future__ import annotations

import json

import pytest

from deploy.local.stack import Stack
from tests.e2e.topics import Record, read_all

from .documents import closed_schema, complaints, messages, operations, reader_of, schema
from .life import OUT_TOPICS, Life
from .recording import RecordingApi


def test_every_event_of_a_run_is_as_its_schema_says(life: Life) -> None:
    """With additionalProperties false: what is not described is not sent."""
    assert life.records
    for record in life.records:
        if record.topic not in OUT_TOPICS:
            continue
        kind = record.headers["ce_type"].decode()
        assert kind in messages(record.topic), f"{kind} on {record.topic}"
        if record.value is None:
            assert record.topic == "tenant.status.v1"
            continue
        wrong = complaints(record.json, closed_schema(kind))
        assert not wrong, f"{kind}: {wrong}: {record.value.decode()}"


def test_every_event_carries_the_headers_and_the_key_that_were_promised(life: Life) -> None:
    for record in life.records:
        if record.topic not in OUT_TOPICS:
            continue
        headers = {name: value.decode() for name, value in record.headers.items()}
        wrong = complaints(headers, messages(record.topic)[headers["ce_type"]]["headers"])
        assert not wrong, f"{headers}: {wrong}"
        key = record.key.decode() if record.key is not None else None
        assert headers.get("ce_partitionkey") == headers.get("ce_subject") == key
        assert key is not None or headers["ce_type"] == "tenant.request.rejected.v1"
        if record.value is not None and "tenant_id" in schema(headers["ce_type"])["properties"]:
            assert record.json["tenant_id"] == key
        if headers["ce_type"] == "migration.runs.v1":
            assert record.json["run_id"] == key


@pytest.mark.usefixtures("life")
def test_an_event_of_stripes_carries_the_headers_and_the_key_that_were_promised(stack: Stack) -> None:
    [(kind, told)] = messages("billing.stripe.v1").items()
    records = read_all(stack.kafka.bootstrap, "billing.stripe.v1")
    assert records
    for record in records:
        headers = {name: value.decode() for name, value in record.headers.items()}
        assert headers["ce_type"] == kind and not complaints(headers, told["headers"])
        key = (record.key or b"").decode()
        assert headers["ce_partitionkey"] == headers["ce_subject"] == key
        assert not complaints(key, told["bindings"]["kafka"]["key"])


def test_the_run_shows_every_type_of_event(life: Life) -> None:
    for topic in OUT_TOPICS:
        for kind in messages(topic):
            assert life.of_type(kind), f"no {kind} was seen"
    assert any(record.value is None for record in life.of_type("tenant.status.v1")), "no tombstone was seen"


def test_the_run_shows_every_operation_succeed(life: Life) -> None:
    good = {(method, path) for method, path, status in RecordingApi.seen if status < 400}
    assert good == set(operations())


def request_id(record: Record) -> str:
    """The id of an event as the intake sees it, by the mode in which it came."""
    if "ce_id" in record.headers:
        return record.headers["ce_id"].decode()
    if record.headers.get("content-type", b"").startswith(b"application/cloudevents+json"):
        return str(record.json.get("id") if isinstance(record.json, dict) else None)
    return f"{record.topic}-{record.partition}-{record.offset}"


def test_what_a_request_led_to_names_the_request(life: Life) -> None:
    topics = ("tenant.signup.v1", "tenant.command.v1", "tenant.migration.v1", "billing.command.v1")
    requests = {request_id(each) for each in life.records if each.topic in topics}
    for kind in (
        "tenant.command.accepted.v1",
        "tenant.requested.v1",
        "tenant.activity.finished.v1",
        "tenant.ledger.corrected.v1",
    ):
        for record in life.of_type(kind):
            assert record.json["caused_by"] in requests, record
    for record in life.of_type("tenant.request.rejected.v1"):
        assert record.json["event_id"] is None or record.json["event_id"] in requests, record


def test_the_topic_of_runs_shows_what_was_said_of_one_and_whom_it_did_not_rehearse_on(life: Life) -> None:
    runs = [record.json for record in life.of_type("migration.runs.v1")]
    signalled = [run for run in runs if run["state"] == "completed" and run["signals"]]
    assert {run["options"]["forecast"] for run in signalled} == {"none"}
    assert set(signalled[-1]["forecast"]) == {"skipped"} and set(signalled[-1]["probes"].values()) == {0}
    assert sorted(said["name"] for said in signalled[-1]["signals"]) == sorted(
        f"probe-{number}" for number in range(20)
    )
    assert {said["verdict"] for said in signalled[-1]["signals"]} == {"good"}


def test_the_stream_shows_what_the_topic_shows(life: Life) -> None:
    assert len(life.stream) > 1
    for shown in life.stream:
        assert not complaints(shown, closed_schema("http.stream.status")), shown
    versions = [shown["version"] for shown in life.stream if "version" in shown]
    assert versions


def test_history_is_by_the_schemas_of_its_events(life: Life, api: RecordingApi) -> None:
    for tenant in api.get("/api/tenants").json["tenants"]:
        for event in api.get(f"/api/tenants/{tenant['tenant_id']}").json["history"]:
            assert not complaints(event["data"], closed_schema(event["type"])), event


def test_dead_letters_are_the_messages_as_they_came(life: Life) -> None:
    letters = [
        record
        for record in life.records
        if record.topic.endswith(".dlq") and int(record.headers["tenantry_dead_letter"]) > life.letters_before
    ]
    came = {
        int(each.headers["tenantry_dead_letter"]): (
            each.topic, each.key, each.value,
            {name: text.decode() for name, text in each.headers.items() if not name.startswith("tenantry_")},
        )
        for each in letters
    }  # fmt: skip
    wanted = [(f"{topic}.{reader_of(topic)}.dlq", key, value, headers) for topic, key, value, headers in life.refused]
    assert sorted(map(repr, came.values())) == sorted(map(repr, wanted))
    for letter in letters:
        headers = {name: text.decode() for name, text in letter.headers.items()}
        wrong = complaints(headers, messages(letter.topic)["dead letter"]["headers"])
        assert not wrong, f"{headers}: {wrong}"


def test_each_refused_message_is_answered(life: Life) -> None:
    answers = [record.json for record in life.of_type("tenant.request.rejected.v1")]
    codes = {answer["code"] for answer in answers}
    assert codes >= {"invalid_field", "not_json", "not_an_object", "no_value", "event_id_conflict", "slug_taken",
                     "not_confirmed", "tenant_archived", "tenant_gone", "out_of_order", "run_active", "unknown_run",
                     "unknown_version", "wrong_state", "nothing_to_retry", "too_many_signals", "check_exists", "unknown_label"}, json.dumps(sorted(codes))  # fmt: skip
