"""What waits in a partition is taken many at a time, and what holds for one message holds for each of many."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from confluent_kafka import Producer

from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .conftest import make_stack
from .invariants import rows
from .service_faults import armed, died_of_sigkill, started, stopped
from .topics import cloudevent

SIGNUP, COMMAND = "tenant.signup.v1", "tenant.command.v1"
SIGNUP_TYPE, RESUME_TYPE = "tenant.signup.requested.v1", "tenant.resume.requested.v1"
PARTITION = 3
MANY = 200

# What a batch holds is the code's to decide; so many messages in so few transactions were not taken one by one.
FEW = MANY // 4

Message = tuple[str, dict[str, str], bytes]  # key, headers, value


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", keep_memberships=True)


def resumes(count: int, event_type: str = RESUME_TYPE) -> list[Message]:
    """Commands for tenants that nobody knows: each waits in the catalog for its signup."""
    return [(str(uuid.uuid4()), cloudevent(event_type), b"{}") for _ in range(count)]


def produce(stack: Stack, topic: str, messages: list[Message]) -> int:
    """Into one partition, in this order. Returns the offset behind the last."""
    ends: list[int] = []
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, "enable.idempotence": True})
    for key, headers, value in messages:
        producer.produce(
            topic, value, key.encode(), PARTITION, headers=dict(headers),
            on_delivery=lambda error, record: ends.append(-1 if error else record.offset()),
        )  # fmt: skip
    assert producer.flush(20) == 0 and -1 not in ends
    return max(ends) + 1


def wait_until_taken(stack: Stack, topic: str, end: int, seconds: float = 40) -> None:
    position = (
        f"select next_offset from provisioner.consumer_offset where topic = '{topic}' and partition = {PARTITION}"
    )
    eventually(lambda: rows(stack, position) == [[str(end)]], seconds, f"{topic} is taken up to {end}")


def among(messages: list[Message]) -> str:
    return "(" + ", ".join(f"'{headers['ce_id']}'" for _, headers, _ in messages) + ")"


def taken(stack: Stack, messages: list[Message]) -> list[str]:
    """Their events in the order in which the catalog took them."""
    found = rows(stack, f"select event_id from provisioner.inbox where event_id in {among(messages)} order by taken_at")
    return [event for (event,) in found]


def transactions(stack: Stack, messages: list[Message]) -> int:
    """In how many they were taken."""
    counted = f"select count(distinct xmin::text) from provisioner.inbox where event_id in {among(messages)}"
    return int(rows(stack, counted)[0][0])


def ids(messages: list[Message]) -> list[str]:
    return [headers["ce_id"] for _, headers, _ in messages]


@contextmanager
def refused_by_the_catalog(stack: Stack, event_id: str) -> Iterator[None]:
    """As if a defect of ours met this one event."""
    stack.postgres.execute(
        f"""
        create function provisioner.refuse_one() returns trigger language plpgsql
        as $$ begin raise exception 'this one breaks the statement'; end $$;
        create trigger refuse_one before insert on provisioner.inbox
        for each row when (new.event_id = '{event_id}') execute function provisioner.refuse_one()
        """,
        CATALOG,
    )
    try:
        yield
    finally:
        stack.postgres.execute(
            "drop trigger refuse_one on provisioner.inbox; drop function provisioner.refuse_one()", CATALOG
        )


def test_what_waits_is_taken_in_order_in_few_transactions(stack: Stack) -> None:
    messages = resumes(MANY)
    with stopped(stack.services["provisioner-0"]):
        end = produce(stack, COMMAND, messages)
    wait_until_taken(stack, COMMAND, end)
    assert taken(stack, messages) == ids(messages)
    assert transactions(stack, messages) <= FEW
    waiting = f"select count(*) from catalog.operation where code = 'parked' and operation_id in {among(messages)}"
    assert rows(stack, waiting) == [[str(MANY)]]


def test_one_that_the_catalog_refuses_becomes_a_dead_letter_and_the_rest_of_its_batch_is_taken(stack: Stack) -> None:
    messages = resumes(MANY)
    refused = messages.pop(MANY // 2)
    with refused_by_the_catalog(stack, refused[1]["ce_id"]):
        with stopped(stack.services["provisioner-0"]):
            end = produce(stack, COMMAND, [*messages[: MANY // 2], refused, *messages[MANY // 2 :]])
        wait_until_taken(stack, COMMAND, end)
    assert taken(stack, messages) == ids(messages)
    assert not taken(stack, [refused])
    letters = rows(stack, f"select at_offset, code, detail from catalog.dead_letter where message_key = '{refused[0]}'")
    assert [letter[:2] for letter in letters] == [[str(end - MANY // 2), "internal"]]
    assert "this one breaks the statement" in letters[0][2]
    assert transactions(stack, messages) < MANY // 2, "those of other batches went together"


def test_what_breaks_its_contract_is_refused_amid_what_is_taken(stack: Stack) -> None:
    messages = resumes(MANY)
    broken = messages[::10]
    with stopped(stack.services["provisioner-0"]):
        end = produce(
            stack, COMMAND, [(key, headers, b"half a {" if i % 10 == 0 else b"{}")
                             for i, (key, headers, _) in enumerate(messages)],
        )  # fmt: skip
    wait_until_taken(stack, COMMAND, end)
    good = [message for message in messages if message not in broken]
    assert taken(stack, messages) == ids(good)
    assert transactions(stack, good) <= FEW
    letters = rows(
        stack,
        f"select at_offset from catalog.dead_letter where topic = '{COMMAND}' and code = 'not_json' order by at_offset",
    )
    assert [int(offset) for (offset,) in letters] == list(range(end - MANY, end, 10))


def test_an_event_that_comes_twice_in_a_batch_is_taken_once_and_its_forgery_refused(stack: Stack) -> None:
    messages = resumes(60)
    again = messages[10]
    forged = (str(uuid.uuid4()), again[1], b'{"reason": "another body"}')
    with stopped(stack.services["provisioner-0"]):
        end = produce(stack, COMMAND, [*messages[:20], again, *messages[20:40], forged, *messages[40:]])
    wait_until_taken(stack, COMMAND, end)
    assert taken(stack, messages) == ids(messages)
    parked = f"select count(*) from catalog.parked where event ->> 'id' = '{again[1]['ce_id']}'"
    assert rows(stack, parked) == [["1"]]
    letters = rows(stack, f"select code, at_offset from catalog.dead_letter where message_key = '{forged[0]}'")
    assert letters == [["event_id_conflict", str(end - 21)]]


def test_commands_of_one_tenant_keep_their_order_between_those_of_others(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Ordered Shop")
    mine = [
        (tenant, cloudevent(f"tenant.{command}.requested.v1"), b"{}")
        for command in ("suspend", "resume", "suspend", "resume", "suspend", "resume")
    ]
    others = resumes(60)
    messages = [each for i, one in enumerate(mine) for each in (*others[i * 10 : i * 10 + 10], one)]
    with stopped(stack.services["provisioner-0"]):
        end = produce(stack, COMMAND, messages)
    wait_until_taken(stack, COMMAND, end)
    assert taken(stack, messages) == ids(messages)
    numbers = rows(
        stack, f"select target from catalog.operation where operation_id in {among(mine)} order by created_at"
    )
    assert [int(number) for (number,) in numbers] == list(range(1, 7))
    assert api.wait_operation(mine[-1][1]["ce_id"])["state"] == "succeeded"
    access = api.wait_state(tenant, "ready")["access"]
    assert (access["wanted"], access["applied"]) == ("full", "full")


def test_a_worker_that_dies_before_or_after_a_batch_is_committed_takes_none_twice_and_none_not(stack: Stack) -> None:
    """Dead letters are not told apart by any id: what were taken twice would be there twice."""
    service = stack.services["provisioner-0"]
    for failpoint in ("intake_before_commit=crash@3", "intake_after_commit=crash@3"):
        service.stop()
        end = produce(stack, COMMAND, [(key, headers, b"neither {") for key, headers, _ in resumes(MANY)])
        with armed(service, failpoint):
            assert died_of_sigkill(service)
        wait_until_taken(stack, COMMAND, end)
        letters = rows(
            stack,
            f"select at_offset from catalog.dead_letter where topic = '{COMMAND}' and partition = {PARTITION} "
            f"and at_offset >= {end - MANY} order by at_offset",
        )
        assert [int(offset) for (offset,) in letters] == list(range(end - MANY, end))


def test_signups_that_meet_others_in_a_deadlock_are_taken_one_by_one(stack: Stack, api: Api) -> None:
    """Two readers may come to the same names in opposite orders; the other one here never gives way."""
    names = [f"crossed-{word}" for word in ("first", "second")]
    messages = [
        (str(uuid.uuid4()), cloudevent(SIGNUP_TYPE), json.dumps(
            {"company": "Crossed Shop", "email": "c@crossed.test", "subdomain": name}).encode())
        for name in names
    ]  # fmt: skip
    lead = [(key, headers, b"{") for key, headers, _ in resumes(1)]  # in hand alone, while those behind it come
    service = stack.services["provisioner-0"]
    with stopped(service):
        end = produce(stack, SIGNUP, [*lead, *messages])
        with psycopg.connect(stack.postgres.url(CATALOG)) as other:
            other.execute("set deadlock_timeout = '10min'")
            other.execute("select provisioner.lock_name('slug', %s)", (names[1],))
            with started(service):
                held = (
                    "select 1 from pg_locks where locktype = 'advisory' and not granted "
                    "and classid::bigint << 32 | objid::bigint = "
                    f"hashtextextended('tenantry slug {names[1]}', 0)"
                )
                eventually(lambda: rows(stack, held), 20, "it waits for the second name, and has the first")
                other.execute("select provisioner.lock_name('slug', %s)", (names[0],))
                other.rollback()
                wait_until_taken(stack, SIGNUP, end)
    for (tenant, _, _), name in zip(messages, names, strict=True):
        assert api.wait_state(tenant, "ready")["slug"] == name
    assert "messages are taken one by one" in service.log_path.read_text()
