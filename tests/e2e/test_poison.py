"""Messages that nobody should send: each is answered, kept and told, and the next one always goes through."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Message, Producer

from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .invariants import rows
from .service_faults import stopped
from .topics import Record, cloudevent, read_all
from .watch import Watch

SIGNUP, COMMAND = "tenant.signup.v1", "tenant.command.v1"
SIGNUP_TYPE, RESUME_TYPE = "tenant.signup.requested.v1", "tenant.resume.requested.v1"
STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}
GOOD = {"company": "Good Shop", "email": "good@shop.test"}
MINE = object()  # stands for the known tenant's id, which a test learns only when it runs


@dataclass
class Poison:
    """One bad message and what is to be said about it."""

    what: str
    value: bytes | None
    headers: dict[str, Any] = field(default_factory=dict)
    topic: str = SIGNUP
    key: Any = MINE
    code: str = "invalid_field"
    field: str | None = None

    def key_bytes(self, tenant: str) -> bytes | None:
        return tenant.encode() if self.key is MINE else self.key


def js(value: Any) -> bytes:
    return json.dumps(value).encode()


def binary(event_type: str = SIGNUP_TYPE, /, without: str = "", **changed: Any) -> dict[str, Any]:
    headers: dict[str, Any] = cloudevent(event_type)
    headers |= {name.replace("content_type", "content-type"): value for name, value in changed.items()}
    headers.pop(without, None)
    return headers


def structured(without: str = "", **changed: Any) -> bytes:
    envelope: dict[str, Any] = {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": "/test", "type": SIGNUP_TYPE,
        "datacontenttype": "application/json", "data": GOOD,
    }  # fmt: skip
    envelope |= changed
    envelope.pop(without, None)
    return js(envelope)


POISONS = [
    # The body.
    Poison("no JSON", b"<signup/>", binary(), code="not_json"),
    Poison("half a JSON", b'{"company": "x"', binary(), code="not_json"),
    Poison("an empty value", b"", binary(), code="not_json"),
    Poison("no value", None, binary(), code="no_value"),
    Poison("JSON that is not UTF-8", b'{"company": "\xff\xfe", "email": "a@b.test"}', binary(), code="not_json"),
    Poison("a NUL inside", b'{"company": "a\\u0000b", "email": "a@b.test"}', binary(), code="not_json"),
    Poison("a name twice", b'{"company": "a", "company": "b", "email": "a@b.test"}', binary(), code="not_json"),
    Poison("lists in lists", b"[" * 100_000 + b"]" * 100_000, binary(), code="not_json"),
    Poison("a list", js([1, 2]), binary(), code="not_an_object"),
    Poison("a number", b"7", binary(), code="not_an_object"),
    # The schema.
    Poison("no company", js({"email": "a@b.test"}), binary(), field="company"),
    Poison("a number as company", js({**GOOD, "company": 7}), binary(), field="company"),
    Poison("an overlong company", js({**GOOD, "company": "x" * 201}), binary(), field="company"),
    Poison("a control character", js({**GOOD, "company": "a\u0007b"}), binary(), field="company"),
    Poison("no mail address", js({**GOOD, "email": "nobody"}), binary(), field="email"),
    Poison("an unknown field", js({**GOOD, "colour": "red"}), binary(), field="colour"),
    Poison("an unknown field of long name", js({**GOOD, "é" * 100: 1}), binary(), field="é" * 31 + "?"),
    Poison("a foreign tenant id", js({**GOOD, "tenant_id": str(uuid.uuid4())}), binary(), field="tenant_id"),
    Poison("a megabyte", js({**GOOD, "company": "x" * 1_100_000}), binary(), field="company"),
    # The key.
    Poison("a null key", js(GOOD), binary(), key=None, field="key"),
    Poison("an empty key", js(GOOD), binary(), key=b"", field="key"),
    Poison("a key that is no UUID", js(GOOD), binary(), key=b"tenant one", field="key"),
    Poison("a key that is not UTF-8", js(GOOD), binary(), key=b"\xff\xfe\x00\x01", field="key"),
    # Binary mode.
    Poison("no ce_id", js(GOOD), binary(without="ce_id"), field="id"),
    Poison("an empty ce_id", js(GOOD), binary(ce_id=""), field="id"),
    Poison("an overlong ce_id", js(GOOD), binary(ce_id="i" * 513), field="id"),
    Poison("a ce_id that is not UTF-8", js(GOOD), binary(ce_id=b"\xc3\x28"), field="id"),
    Poison("a ce_id with a line feed", js(GOOD), binary(ce_id="a\nb"), field="id"),
    Poison("a null ce_id", js(GOOD), binary(ce_id=None), field="id"),
    Poison("no ce_source", js(GOOD), binary(without="ce_source"), field="source"),
    Poison("an empty ce_source", js(GOOD), binary(ce_source=""), field="source"),
    Poison("an overlong ce_source", js(GOOD), binary(ce_source="s" * 513), field="source"),
    Poison("no ce_type", js(GOOD), binary(without="ce_type"), field="type"),
    Poison("an empty ce_type", js(GOOD), binary(ce_type=""), field="type"),
    Poison("a ce_type that is not UTF-8", js(GOOD), binary(ce_type=b"\xe0\x80"), field="type"),
    Poison("another specversion", js(GOOD), binary(ce_specversion="0.3"), field="specversion"),
    Poison("an empty specversion", js(GOOD), binary(ce_specversion=""), field="specversion"),
    Poison("an overlong traceparent", js(GOOD), binary(ce_traceparent="0" * 600), field="traceparent"),
    Poison("another content type", js(GOOD), binary(content_type="text/xml"), field="content-type"),
    Poison("nearly JSON", js(GOOD), binary(content_type="application/json-seq"), field="content-type"),
    # Structured mode.
    Poison("a structured event that is no JSON", b"{", STRUCTURED, code="not_json"),
    Poison("a structured event that is a list", b"[]", STRUCTURED, code="not_cloudevent"),
    Poison("a structured event without value", None, STRUCTURED, code="no_value"),
    Poison("a structured event without id", structured(without="id"), STRUCTURED, field="id"),
    Poison("a structured event with an empty id", structured(id=""), STRUCTURED, field="id"),
    Poison("a structured event with an overlong id", structured(id="i" * 513), STRUCTURED, field="id"),
    Poison("a structured event with a number as id", structured(id=7), STRUCTURED, field="id"),
    Poison("a structured event with null as id", structured(id=None), STRUCTURED, field="id"),
    Poison("a structured event without source", structured(without="source"), STRUCTURED, field="source"),
    Poison("a structured event without type", structured(without="type"), STRUCTURED, field="type"),
    Poison("a structured event of another version", structured(specversion="1.1"), STRUCTURED, field="specversion"),
    Poison("a structured event without version", structured(without="specversion"), STRUCTURED, field="specversion"),
    Poison("a structured event without data", structured(without="data"), STRUCTURED, field="data"),
    Poison("a structured event with bad data", structured(data={"company": "x"}), STRUCTURED, field="email"),
    # Bare JSON.
    Poison("bare text", b"hello", code="not_json"),
    Poison("a bare empty value", b"", code="not_json"),
    Poison("no bare value", None, code="no_value"),
    Poison("bare JSON without mail address", js({"company": "x"}), field="email"),
    Poison("bare JSON as a command", js({"reason": "x"}), topic=COMMAND, field="specversion"),
    # Commands.
    Poison("a command with an unknown field", js({"x": 1}), binary(RESUME_TYPE), topic=COMMAND, field="x"),
    Poison("a command without key", js({}), binary(RESUME_TYPE), topic=COMMAND, key=None, field="key"),
    Poison("a command that is no JSON", b"resume", binary(RESUME_TYPE), topic=COMMAND, code="not_json"),
    Poison(
        "a deprovision without confirmation", js({}), binary("tenant.deprovision.requested.v1"), topic=COMMAND,
        field="confirm",
    ),
]  # fmt: skip


class Sender:
    """Sends what no careful client would, and knows where it came to lie."""

    def __init__(self, brokers: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "partitioner": "murmur2_random",
                "message.max.bytes": 1_190_000,
                "linger.ms": 0,
            }
        )

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: dict[str, Any], partition: int = -1
    ) -> Message:
        told: list[tuple[Any, Message]] = []
        self._producer.produce(
            topic, value, key, partition, headers=list(headers.items()),
            on_delivery=lambda error, message: told.append((error, message)),
        )  # fmt: skip
        self._producer.flush(10)
        assert told and told[0][0] is None, f"not delivered: {told}"
        return told[0][1]


@pytest.fixture(scope="module")
def sender(stack: Stack) -> Sender:
    return Sender(stack.kafka.bootstrap)


@pytest.fixture(scope="module")
def watch(stack: Stack) -> Iterator[Watch]:
    with Watch(
        stack.kafka.bootstrap, "tenant.events.v1", f"{SIGNUP}.provisioner.dlq", f"{COMMAND}.provisioner.dlq"
    ) as made:
        yield made


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> str:
    caller = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    return caller.ready_tenant("Known Shop")


def send_next(sender: Sender, tenant: str, topic: str, partition: int) -> str:
    """A good message behind the bad one, in the same partition; returns its id."""
    event_type, data = (SIGNUP_TYPE, GOOD) if topic == SIGNUP else (RESUME_TYPE, {})
    headers = cloudevent(event_type)
    sender.send(topic, tenant.encode(), js(data), headers, partition)
    return headers["ce_id"]


def goes_through(api: Api, topic: str, event_id: str) -> None:
    """The good message was carried out (a second signup for one tenant: refused by rule)."""
    ended = api.wait_operation(event_id, 10)
    if topic == SIGNUP:
        assert ended["state"] == "rejected" and ended["code"] == "tenant_exists", ended
    else:
        assert ended["state"] == "succeeded", ended


@pytest.fixture(scope="module")
def sent(sender: Sender, tenant: str) -> dict[str, tuple[Message, str]]:
    """All the poison, each with a good message behind it: where it lies, and the good one's id."""
    made = {}
    for poison in POISONS:
        message = sender.send(poison.topic, poison.key_bytes(tenant), poison.value, poison.headers)
        made[poison.what] = (message, send_next(sender, tenant, poison.topic, message.partition()))
    return made


def letters(api: Api) -> list[dict[str, Any]]:
    return list(api.get("/api/admin/dead-letters").json["items"])


def open_causes(api: Api) -> dict[str, int]:
    """Open alerts, and how often each was raised."""
    return {alert["cause"]: alert["times"] for alert in api.get("/api/admin/alerts").json["items"]}


def letter_at(api: Api, message: Message) -> dict[str, Any]:
    """The dead letter that was this message."""

    def found() -> dict[str, Any] | None:
        where = (message.topic(), message.partition(), message.offset())
        for letter in letters(api):
            if (letter["topic"], letter["partition"], letter["at_offset"]) == where:
                return dict(letter)
        return None

    letter: dict[str, Any] = eventually(found, 10, "the message is a dead letter")
    return letter


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.what)
def test_a_bad_message_is_answered_and_kept_and_the_next_goes_through(
    api: Api, sent: dict[str, tuple[Message, str]], watch: Watch, tenant: str, poison: Poison
) -> None:
    key = poison.key_bytes(tenant)
    message, behind = sent[poison.what]
    goes_through(api, poison.topic, behind)

    letter = letter_at(api, message)
    assert (letter["code"], letter["field"]) == (poison.code, poison.field), letter
    assert letter["detail"]
    whole = api.get(f"/api/admin/dead-letters/{letter['id']}").json
    assert decoded(whole["value"]) == poison.value and decoded(whole["message_key"]) == key

    def is_the_letter(record: Record) -> bool:
        return record.headers.get("tenantry_dead_letter") == str(letter["id"]).encode()

    dead = watch.wait_for(is_the_letter, "the message stands in the dead letter queue")
    assert dead.topic == f"{poison.topic}.provisioner.dlq"
    assert (dead.key, dead.value) == (key, poison.value)
    assert dead.headers["tenantry_code"] == poison.code.encode()
    as_it_came = {name: value.encode() if isinstance(value, str) else value for name, value in poison.headers.items()}
    assert {name: dead.headers.get(name) for name in as_it_came} == as_it_came

    def is_the_answer(record: Record) -> bool:
        if record.headers.get("ce_type") != b"tenant.request.rejected.v1":
            return False
        return (record.json["code"], record.json["field"]) == (poison.code, poison.field) and (
            record.json["detail"] == letter["detail"]
        )

    answer = watch.wait_for(is_the_answer, "the producer is answered by event")
    event_id = poison.headers.get("ce_id")
    if poison.field not in ("id", "specversion") and isinstance(event_id, str):
        mine = watch.wait_for(
            lambda record: is_the_answer(record) and record.json["event_id"] == event_id, "the answer names the event"
        )
        if poison.field != "key":
            assert mine.key == tenant.encode()
    assert answer.json["detail"]


def decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def test_an_event_of_unknown_type_is_parked_and_blocks_nobody(
    stack: Stack, api: Api, sender: Sender, tenant: str
) -> None:
    headers = cloudevent("tenant.teleport.requested.v7")
    message = sender.send(COMMAND, tenant.encode(), js({"where": "Mars"}), headers)
    goes_through(api, COMMAND, send_next(sender, tenant, COMMAND, message.partition()))
    parked = rows(stack, "select reason, data ->> 'where' from catalog.parked where reason = 'type_unknown'")
    assert ["type_unknown", "Mars"] in parked
    assert not rows(stack, f"select 1 from catalog.dead_letter where at_offset = {message.offset()} "
                    f"and topic = '{COMMAND}' and partition = {message.partition()}")  # fmt: skip


def test_a_command_for_a_tenant_not_yet_seen_waits_for_it(stack: Stack, api: Api, sender: Sender) -> None:
    tenant = str(uuid.uuid4())
    command = cloudevent("tenant.suspend.requested.v1")
    sender.send(COMMAND, tenant.encode(), js({"reason": "early"}), command)
    eventually(lambda: api.operation(command["ce_id"]).get("state") == "accepted", 10, "the command is parked")
    sender.send(SIGNUP, tenant.encode(), js({"company": "Late Shop", "email": "l@shop.test"}), cloudevent(SIGNUP_TYPE))
    assert api.wait_operation(command["ce_id"])["state"] == "succeeded"
    assert api.tenant(tenant)["access"]["wanted"] == "none"


@pytest.mark.parametrize("mode", ["binary", "structured", "bare"])
def test_each_way_to_write_a_signup_makes_a_tenant(api: Api, sender: Sender, mode: str) -> None:
    tenant = str(uuid.uuid4())
    data = {"company": f"Shop {mode}", "email": "s@shop.test"}
    headers: dict[str, Any] = {"binary": binary(), "structured": STRUCTURED, "bare": {}}[mode]
    value = structured(data=data, type=SIGNUP_TYPE) if mode == "structured" else js(data)
    sender.send(SIGNUP, tenant.encode(), value, headers)
    api.wait_state(tenant, "ready")


def test_another_event_under_a_known_id_is_refused_and_replay_does_not_change_that(
    api: Api, sender: Sender, watch: Watch, tenant: str
) -> None:
    headers = cloudevent(RESUME_TYPE)
    sender.send(COMMAND, tenant.encode(), js({}), headers)
    assert api.wait_operation(headers["ce_id"])["state"] == "succeeded"
    again = sender.send(COMMAND, tenant.encode(), js({}), headers)
    other = sender.send(COMMAND, tenant.encode(), js({"reason": "something else"}), headers)
    letter = letter_at(api, other)
    assert (letter["code"], letter["field"]) == ("event_id_conflict", "id")
    watch.wait_for(
        lambda record: (
            record.headers.get("ce_type") == b"tenant.request.rejected.v1"
            and record.json["event_id"] == headers["ce_id"]
            and record.json["code"] == "event_id_conflict"
        ),
        "the conflict is answered by event",
    )
    assert api.operation(headers["ce_id"])["state"] == "succeeded"
    assert api.post(f"/api/admin/dead-letters/{letter['id']}/replay").status == 202
    eventually(
        lambda: sum(each["code"] == "event_id_conflict" for each in letters(api)) == 2,
        10,
        "the replayed message is refused again",
    )
    known = [(each["topic"], each["partition"], each["at_offset"]) for each in letters(api)]
    assert (COMMAND, again.partition(), again.offset()) not in known, "the same event twice is no fault"


def test_a_bad_message_under_the_id_of_a_good_one_leaves_the_good_ones_operation_alone(
    api: Api, sender: Sender, tenant: str
) -> None:
    command = cloudevent("tenant.suspend.requested.v1")
    unseen = str(uuid.uuid4())
    sender.send(COMMAND, unseen.encode(), js({}), command)
    eventually(lambda: api.operation(command["ce_id"]).get("state") == "accepted", 10, "the command is taken")
    bad = sender.send(COMMAND, unseen.encode(), b"no JSON", command)
    letter_at(api, bad)
    assert api.operation(command["ce_id"])["state"] == "accepted"


def test_a_message_that_met_a_defect_of_ours_is_replayed_when_that_is_mended(
    stack: Stack, api: Api, sender: Sender
) -> None:
    tenant, headers = str(uuid.uuid4()), cloudevent(SIGNUP_TYPE, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    stack.postgres.execute(
        "alter table provisioner.tenant add constraint defect check (company <> 'Patient') not valid", CATALOG
    )
    try:
        message = sender.send(SIGNUP, tenant.encode(), js({"company": "Patient", "email": "p@shop.test"}), headers)
        letter = letter_at(api, message)
    finally:
        stack.postgres.execute("alter table provisioner.tenant drop constraint defect", CATALOG)
    assert letter["code"] == "internal"
    assert api.operation(headers["ce_id"])["state"] == "rejected"
    assert api.post(f"/api/admin/dead-letters/{letter['id']}/replay").status == 202
    api.wait_state(tenant, "ready")
    assert api.wait_operation(headers["ce_id"])["state"] == "succeeded"


def test_a_message_keeps_all_its_headers_on_its_way_through_the_dead_letters(
    stack: Stack, api: Api, sender: Sender
) -> None:
    """More than anybody counts on, and those that matter at the end."""
    tenant = str(uuid.uuid4())
    headers = {**{f"x-{number}": str(number) for number in range(150)}, **cloudevent(SIGNUP_TYPE)}
    stack.postgres.execute(
        "alter table provisioner.tenant add constraint defect check (company <> 'Headed') not valid", CATALOG
    )
    try:
        message = sender.send(SIGNUP, tenant.encode(), js({"company": "Headed", "email": "h@shop.test"}), headers)
        letter = letter_at(api, message)
    finally:
        stack.postgres.execute("alter table provisioner.tenant drop constraint defect", CATALOG)

    def copies(topic: str) -> list[dict[str, bytes]]:
        found = [each.headers for each in read_all(stack.kafka.bootstrap, topic) if each.key == tenant.encode()]
        return [{name: text for name, text in each.items() if not name.startswith("tenantry_")} for each in found]

    sent = {name: text.encode() for name, text in headers.items()}
    eventually(lambda: copies(f"{SIGNUP}.provisioner.dlq") == [sent], 10, "the copy has all of them")
    assert api.post(f"/api/admin/dead-letters/{letter['id']}/replay").status == 202
    api.wait_state(tenant, "ready")
    assert copies(SIGNUP) == [sent, sent]


def test_what_the_catalog_cannot_run_is_no_messages_fault_and_all_wait(stack: Stack, api: Api, sender: Sender) -> None:
    tenants = [str(uuid.uuid4()) for _ in range(3)]
    before = len(letters(api))
    stack.postgres.execute("alter function provisioner.slug_is_free(text, text[]) rename to slug_is_broken", CATALOG)
    try:
        for tenant in tenants:
            body = js({"company": f"Waiting {tenant[:8]}", "email": "w@shop.test"})
            sender.send(SIGNUP, tenant.encode(), body, cloudevent(SIGNUP_TYPE))
        eventually(lambda: "intake-held:provisioner" in open_causes(api), 10, "somebody is told")
        assert open_causes(api)["intake-held:provisioner"] < 20, "they do not ask in a hot loop"
    finally:
        stack.postgres.execute(
            "alter function provisioner.slug_is_broken(text, text[]) rename to slug_is_free", CATALOG
        )
    for tenant in tenants:
        api.wait_state(tenant, "ready", 90)
    assert len(letters(api)) == before
    eventually(lambda: "intake-held:provisioner" not in open_causes(api), 10, "the alert is over")


def test_a_command_on_another_topic_is_a_dead_letter(stack: Stack, api: Api, sender: Sender, tenant: str) -> None:
    """Whoever may write signups may not therefore delete."""
    event = cloudevent("tenant.deprovision.requested.v1")
    body = js({"tenant_id": tenant, "confirm": api.tenant(tenant)["slug"]})
    letter = letter_at(api, sender.send(SIGNUP, tenant.encode(), body, event))
    assert (letter["code"], letter["field"]) == ("wrong_topic", "type")
    assert api.tenant(tenant)["state"] == "ready"


def test_an_event_that_was_parked_is_taken_from_its_own_topic_only(stack: Stack, api: Api, tenant: str) -> None:
    """A version that did not know its type yet parked it, whichever topic it came on."""
    data = {"tenant_id": tenant, "confirm": api.tenant(tenant)["slug"]}
    parked: list[str] = []
    with stopped(stack.services["provisioner-0"]):  # it looks as it starts, and then twice a minute
        for topic in ("tenant.signup.v1", None):
            parked.append(str(uuid.uuid4()))
            event = {
                "id": parked[-1], "source": "/test", "type": "tenant.deprovision.requested.v1", "key": tenant,
                **({"topic": topic} if topic else {}),
            }  # fmt: skip
            stack.postgres.execute(
                "insert into catalog.parked (service, reason, event, data) values "
                f"('provisioner', 'type_unknown', '{json.dumps(event)}', '{json.dumps(data)}')", CATALOG,
            )  # fmt: skip
    for event_id in parked:
        ended = api.wait_operation(event_id, 40)
        assert (ended["state"], ended["code"]) == ("rejected", "wrong_topic"), ended
    assert api.tenant(tenant)["state"] == "ready"


def test_a_dead_letter_that_does_not_exist_is_not_replayed(api: Api) -> None:
    assert api.post("/api/admin/dead-letters/999999/replay").status == 404
    assert api.post("/api/admin/dead-letters/1x/replay").status == 404
    assert api.post("/api/admin/dead-letters/99999999999999999999/replay").status == 404
    assert api.get("/api/admin/dead-letters/0").status == 404
