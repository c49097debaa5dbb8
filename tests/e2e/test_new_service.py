"""A service that nobody planned for moves in: its own schema and login, one event, one saga, dead letters. tests/service/ is all
that it brings."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.ports import reserve_port
from deploy.local.process import ServerProcess
from deploy.local.stack import CATALOG, REPOSITORY, Service, Stack

from .client import Api, eventually
from .command import answered, cli, refused
from .conftest import SHORT_LEASE
from .invariants import rows
from .service_faults import armed, frozen_in_failpoint, start, stopped
from .topics import cloudevent, read_all

TYPE = "example.greeting.requested.v1"


@pytest.fixture(scope="module")
def example(stack: Stack) -> Iterator[Service]:
    stack.postgres.execute(
        f"create role tenantry_example login password 'example' in role tenantry_service; "
        f"grant connect on database {CATALOG} to tenantry_example", CATALOG,
    )  # fmt: skip
    stack.postgres.execute((REPOSITORY / "tests" / "service" / "catalog.sql").read_text(), CATALOG)
    topics = [
        NewTopic(name, 3, 1)
        for name in ("example.v1", "example.v1.example.dlq", "example.note.v1", "example.note.v1.example.dlq")
    ]
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for future in admin.create_topics(topics).values():
        future.result(20)
    stack.init()  # again: it makes the topics of snapshots that services brought
    port, log = reserve_port(), stack.root / "logs" / "example.log"
    environment = {
        **stack.environment("gateway", 0), "OPS_PORT": str(port),
        "CATALOG_DATABASE_URL": stack.postgres.url(CATALOG, "tenantry_example", "example"),
    }  # fmt: skip
    known = {
        name: environment[name] for name in ("PATH", "SANDBOX", "KAFKA_BROKERS", "CATALOG_DATABASE_URL", "OPS_PORT")
    }
    known |= {name: value for name, value in environment.items() if name.endswith("SAN_OPTIONS")}
    process = ServerProcess(
        [str(Path(stack.build) / "tests" / "tenantry-example")], log_path=log, pid_path=stack.root / "example.pid", env=known
    )  # fmt: skip
    service = Service("example", process, port, None, log, known)
    service.start()
    service.wait_until_ready()
    yield service
    assert service.stop()


def greet(stack: Stack, tenant: str, words: object, **more: object) -> str:
    producer, headers = Producer({"bootstrap.servers": stack.kafka.bootstrap}), cloudevent(TYPE)
    producer.produce("example.v1", json.dumps({"words": words, **more}), tenant.encode(), headers=headers)
    assert producer.flush(20) == 0
    return str(headers["ce_id"])


def test_an_event_of_its_own_becomes_work_of_its_own(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Greeted Shop")
    ended = api.wait_operation(greet(stack, tenant, ["good", "morning"]))
    assert (ended["state"], ended["service"], ended["kind"]) == ("succeeded", "example", "greet")
    assert rows(stack, f"select words from example.greeting where tenant_id = '{tenant}'") == [['["good", "morning"]']]


def test_its_work_outlives_its_process(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Patient Shop")
    stack.postgres.execute("alter table example.greeting rename to lost", CATALOG)
    try:
        operation = greet(stack, tenant, ["later"])
        eventually(
            lambda: rows(stack, "select 1 from catalog.alert where cause = 'held:example:catalog-refuses' and resolved_at is null"),
            20, "somebody is told",
        )  # fmt: skip
        example.kill9()
    finally:
        stack.postgres.execute("alter table example.lost rename to greeting", CATALOG)
    example.start()
    example.wait_until_ready()
    assert api.wait_operation(operation, 60)["state"] == "succeeded"


def test_it_gives_way_to_what_is_urgent_of_another_service(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Busy Shop")
    stack.postgres.execute("alter table example.greeting rename to lost", CATALOG)
    try:
        operation = greet(stack, tenant, ["later"], alone=True)
        claim = f"select kind from catalog.tenant_claim where tenant_id = '{tenant}'"
        eventually(lambda: rows(stack, claim) == [["greet"]], 20, "it has the tenant")
        assert api.wait_operation(api.command(tenant, "suspend").json["operation_id"], 30)["state"] == "succeeded"
        assert api.wait_operation(operation)["state"] == "failed"
    finally:
        stack.postgres.execute("alter table example.lost rename to greeting", CATALOG)


def test_its_dead_letters_stand_among_those_of_the_others_and_are_replayed_to_its_topic(
    stack: Stack, example: Service, api: Api
) -> None:
    tenant = api.ready_tenant("Loud Shop")
    operation = greet(stack, tenant, ["a", "b", "c", "d", "e", "f"])
    letter = eventually(
        lambda: [each for each in api.get("/api/admin/dead-letters").json["items"] if each["service"] == "example"],
        20, "it is a dead letter",
    )[0]  # fmt: skip
    assert (letter["topic"], letter["code"], letter["field"]) == ("example.v1", "invalid_field", "words")
    assert api.operation(operation)["state"] == "rejected"
    eventually(lambda: read_all(stack.kafka.bootstrap, "example.v1.example.dlq"), 20, "it is published")
    assert api.post(f"/api/admin/dead-letters/{letter['id']}/replay").status == 202
    eventually(
        lambda: len([each for each in api.get("/api/admin/dead-letters").json["items"] if each["service"] == "example"]) == 2,
        20, "it was refused again",
    )  # fmt: skip


def test_a_command_of_the_provisioners_is_none_of_its_business(stack: Stack, example: Service, api: Api) -> None:
    tenant = api.ready_tenant("Guarded Shop")
    producer, headers = (
        Producer({"bootstrap.servers": stack.kafka.bootstrap}),
        cloudevent("tenant.archive.requested.v1"),
    )
    producer.produce("example.v1", b"{}", tenant.encode(), headers=headers)
    assert producer.flush(20) == 0
    parked = f"select service, reason from catalog.parked where event ->> 'id' = '{headers['ce_id']}'"
    assert eventually(lambda: rows(stack, parked), 20, "it is parked") == [["example", "type_unknown"]]
    assert api.tenant(tenant)["state"] == "ready"


def clock(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return cli(stack, "clock", *words, SANDBOX="1")


def send_note(stack: Stack, body: bytes, content_type: str) -> str:
    producer, headers = (
        Producer({"bootstrap.servers": stack.kafka.bootstrap}),
        cloudevent("example.note.received.v1") | {"content-type": content_type},
    )
    producer.produce("example.note.v1", body, b"live,acct_1,cus_2", headers=headers)
    assert producer.flush(20) == 0
    return str(headers["ce_id"])


def test_bytes_are_taken_as_they_came_whatever_they_are(stack: Stack, example: Service) -> None:
    body = bytes(range(256)) + b'{"amount": 1.10 }'
    taken = f"select encode(body, 'hex') from example.note where event_id = '{send_note(stack, body, 'application/octet-stream')}'"
    assert eventually(lambda: rows(stack, taken), 20, "they are taken") == [[body.hex()]]


@pytest.mark.parametrize(
    "body, content_type, field",
    [
        (b"x" * 1001, "application/octet-stream", "body_base64"),
        (b'{"body_base64": "eA=="}', "application/json", "content-type"),
    ],
    ids=["too many", "not as bytes"],
)
def test_bytes_that_break_their_contract_are_a_dead_letter(
    stack: Stack, example: Service, body: bytes, content_type: str, field: str
) -> None:
    event = send_note(stack, body, content_type)
    letter = f"select field from catalog.dead_letter where headers::text like '%{base64.b64encode(event.encode()).decode()}%'"
    assert eventually(lambda: rows(stack, letter), 20, "it is refused") == [[field]]


def test_a_timer_set_with_the_facts_comes_due_in_business_time_and_outlives_its_process(
    stack: Stack, example: Service, api: Api
) -> None:
    tenant = api.ready_tenant("Reminded Shop")
    api.wait_operation(greet(stack, tenant, ["hello"], remind_after_s=14 * 86400))
    example.kill9()
    due = rows(stack, f"select catalog.json_time(due_at) from catalog.timer where key = '{tenant}'")[0][0]
    refused(clock(stack, "advance", "15d", "--timeout", "2s"), 5, f"the timer remind {tenant} of example")
    example.start()
    example.wait_until_ready()
    assert answered(clock(stack, "advance", "1d", "--json"))["ahead_ms"] > 14 * 86400000
    assert rows(stack, f"select catalog.json_time(reminded_at) from example.greeting where tenant_id = '{tenant}'") == [
        [due]
    ]
    snapshots = eventually(lambda: read_all(stack.kafka.bootstrap, "example.status.v1"), 20, "it is published")
    assert snapshots[-1].json["reminded"] is True and snapshots[-1].key == tenant.encode()


def test_a_timer_whose_work_fails_is_told_and_holds_up_no_other(stack: Stack, example: Service, api: Api) -> None:
    first, second = api.ready_tenant("Stuck Shop"), api.ready_tenant("Free Shop")
    for tenant, seconds in ((first, 60), (second, 120)):
        api.wait_operation(greet(stack, tenant, ["hello"], remind_after_s=seconds))
    stack.postgres.execute(
        f"create function example.refuse() returns trigger language plpgsql as "
        f"$$ begin if new.tenant_id = '{first}' then raise 'not this one'; end if; return new; end $$; "
        f"create trigger refuse before update on example.greeting for each row execute function example.refuse()", CATALOG,
    )  # fmt: skip
    refused(clock(stack, "advance", "1h", "--timeout", "1s"), 5, "which fails: not this one")
    stack.postgres.execute("update catalog.business_clock set ahead = ahead + interval '1 hour'", CATALOG)
    reminded = f"select 1 from example.greeting where tenant_id = '{second}' and reminded_at is not null"
    eventually(lambda: rows(stack, reminded), 20, "the other one is dealt with")
    alert = "select detail from catalog.alert where cause = 'timer:example:remind' and resolved_at is null"
    assert rows(stack, alert) == [[f"{first}: not this one"]]
    stack.postgres.execute("drop trigger refuse on example.greeting", CATALOG)
    eventually(lambda: rows(stack, alert) == [], 60, "it is tried again, and the alert ends")


def own(stack: Stack) -> psycopg.Connection:
    """The catalog as the service sees it."""
    options = "-c search_path=example,durable,catalog"
    return psycopg.connect(stack.postgres.url(CATALOG, "tenantry_example", "example"), autocommit=True, options=options)


def set_timers(stack: Stack, *timers: tuple[str, str], ago: str = "1 minute") -> None:
    """All due at one instant, set in one transaction."""
    with own(stack) as catalog, catalog.transaction():
        for name, key in timers:
            catalog.execute(f"select set_timer(%s, %s, business_now() - interval '{ago}')", (name, key))


def timers_left(stack: Stack) -> list[list[str]]:
    return rows(stack, "select name, key from catalog.timer where service = 'example' order by name, key")


def fired(stack: Stack) -> list[str]:
    return [name for (name,) in rows(stack, "select name from example.fired order by at")]


@contextlib.contextmanager
def timer_work(stack: Stack, work: str) -> Iterator[None]:
    """What the service's timers do for the length of the block, before they write down that they came."""
    (before,) = rows(stack, "select pg_get_functiondef('example.timer_due'::regproc)")[0]
    stack.postgres.execute(
        f"create table example.fired (name text, key text, at timestamptz default clock_timestamp()); "
        f"grant all on example.fired to tenantry_example; "
        f"create or replace function example.timer_due(p_name text, p_key text, p_due_at timestamptz) returns void "
        f"language plpgsql as $$ begin {work} insert into fired (name, key) values (p_name, p_key); end $$", CATALOG,
    )  # fmt: skip
    try:
        yield
    finally:
        stack.postgres.execute("delete from catalog.timer where service = 'example'", CATALOG)
        stack.postgres.execute(f"{before}; drop table example.fired", CATALOG)


def open_alerts(stack: Stack, cause: str) -> list[list[str]]:
    return rows(stack, f"select detail from catalog.alert where cause = '{cause}' and resolved_at is null")


def test_what_a_timers_work_sets_anew_or_drops_is_not_lost_and_does_not_come_though_it_was_due_too(
    stack: Stack, example: Service
) -> None:
    work = (
        "if p_name = 'a' then perform set_timer('b', p_key, catalog.business_now() + interval '1 day'); "
        "perform drop_timer('c', p_key); end if;"
    )
    with timer_work(stack, work):
        set_timers(stack, ("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"))
        eventually(lambda: "d" in fired(stack), 20, "the last one came")
        assert (fired(stack), timers_left(stack)) == (["a", "d"], [["b", "1"]])


@pytest.mark.parametrize("mend", ["set_timer('bad', '1', business_now() + interval '1 day')", "drop_timer('bad', '1')"])
def test_the_alert_about_a_timer_ends_when_it_is_set_anew_or_dropped(stack: Stack, example: Service, mend: str) -> None:
    with timer_work(stack, "if p_name = 'bad' then raise 'it fails'; end if;"):
        set_timers(stack, ("bad", "1"))
        eventually(lambda: open_alerts(stack, "timer:example:bad") == [["1: it fails"]], 20, "somebody is told")
        with own(stack) as catalog:
            catalog.execute(f"select {mend}")  # type: ignore[call-overload]
        eventually(lambda: not open_alerts(stack, "timer:example:bad"), 20, "the alert is over")
        assert not fired(stack)


def test_a_timer_whose_work_takes_the_connection_with_it_holds_up_no_other(stack: Stack, example: Service) -> None:
    """As work that never ends does when the statement is given up, only sooner."""
    with timer_work(stack, "if p_name = 'bad' then perform pg_terminate_backend(pg_backend_pid()); end if;"):
        set_timers(stack, ("bad", "1"), ago="1 hour")
        set_timers(stack, *[("good", str(n)) for n in range(3)])
        eventually(lambda: fired(stack) == ["good"] * 3, 20, "the others come")
        assert timers_left(stack) == [["bad", "1"]]
        eventually(lambda: open_alerts(stack, "timer:example:bad"), 20, "somebody is told which one it is")
    eventually(lambda: not open_alerts(stack, "timer:example:bad"), 20, "the alert is over")


def test_a_timer_that_waits_for_what_somebody_holds_lets_the_others_go_first(stack: Stack, example: Service) -> None:
    with (
        timer_work(stack, "if p_name = 'bad' then lock table note; end if;"),
        psycopg.connect(stack.postgres.url(CATALOG)) as other,
    ):
        other.execute("lock table example.note")
        set_timers(stack, ("bad", "1"), ago="1 hour")
        set_timers(stack, ("good", "1"))
        eventually(lambda: fired(stack) == ["good"], 20, "the other one comes")
        eventually(lambda: "lock timeout" in str(open_alerts(stack, "timer:example:bad")), 20, "somebody is told why")
        other.rollback()
        eventually(lambda: fired(stack) == ["good", "bad"], 40, "it comes when it can")
        eventually(lambda: not open_alerts(stack, "timer:example:bad"), 20, "the alert is over")


def test_a_timer_in_whose_work_the_process_dies_comes_once(stack: Stack, example: Service) -> None:
    """What was asked of the catalog comes to its end there, whoever asked; the next process finds nothing left of it."""
    with timer_work(stack, "perform pg_sleep(2);"):
        set_timers(stack, ("slow", "1"))
        under_way = "select 1 from pg_stat_activity where usename = 'tenantry_example' and wait_event = 'PgSleep'"
        eventually(lambda: rows(stack, under_way), 20, "its work is under way")
        example.kill9()
        example.start()
        example.wait_until_ready()
        eventually(lambda: fired(stack), 20, "it came")
        set_timers(stack, ("another", "1"))
        eventually(lambda: "another" in fired(stack), 20, "the next one comes")
        assert fired(stack) == ["slow", "another"] and not timers_left(stack)


def test_nobody_sets_or_drops_the_timers_of_another_service(stack: Stack, example: Service) -> None:
    options = "-c search_path=example,durable,catalog"
    with (
        timer_work(stack, ""),
        psycopg.connect(stack.catalog_url("provisioner"), autocommit=True, options=options) as other,
    ):
        with own(stack) as catalog:
            catalog.execute("select set_timer('mine', '1', business_now() + interval '1 day')")
        for name in ("mine", "new"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                other.execute("select set_timer(%s, '1', now())", [name])
        other.execute("select drop_timer('mine', '1')")
        other.execute("select put_timer_off('mine', '1', 'not mine')")
        assert timers_left(stack) == [["mine", "1"]] and not open_alerts(stack, "timer:example:mine")


def test_twenty_thousand_timers_due_at_once_all_come_and_each_once(stack: Stack, example: Service) -> None:
    with timer_work(stack, ""):
        stack.postgres.execute(
            "insert into catalog.timer (service, name, key, due_at) "
            "select 'example', 'many', n, now() from generate_series(1, 20000) n", CATALOG,
        )  # fmt: skip
        eventually(lambda: not timers_left(stack), 60, "all have come")
        assert rows(stack, "select count(*), count(distinct key) from example.fired") == [["20000", "20000"]]


def test_a_key_that_no_index_holds_is_refused_in_words(stack: Stack, example: Service) -> None:
    with own(stack) as catalog:
        for statement in (
            "select set_timer('x', repeat(md5('x'), 128), now())",
            "select put_snapshot('example.status.v1', repeat(md5('x'), 128), '{}')",
        ):
            with pytest.raises(psycopg.errors.StringDataRightTruncation, match="has 409[67] bytes; 1000 is the most"):
                catalog.execute(statement)  # type: ignore[call-overload]
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="a JSON object, this one is of type array"):
            catalog.execute("select put_snapshot('example.status.v1', 'k', '[]')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"the topic tenant\.status\.v1 is not of"):
            catalog.execute("select put_snapshot('tenant.status.v1', 'k', '{}')")


HOSTILE = ["a,b", 'quo"te', "back\\slash", "{curly}", "two\nlines", "ünïcode ✓", "null", " ", "'; drop table x; --"]


def test_a_snapshots_key_may_be_any_text_and_is_published_once(stack: Stack, example: Service) -> None:
    with own(stack) as catalog:
        for key in HOSTILE:
            catalog.execute("select put_snapshot('example.status.v1', %s, '{\"hostile\": true}')", [key])
    left = "select key from catalog.snapshot where published_version < version"
    eventually(lambda: rows(stack, left) == [], 20, "all are published")
    records = [each for each in read_all(stack.kafka.bootstrap, "example.status.v1") if each.json.get("hostile")]
    assert sorted((each.key or b"").decode() for each in records) == sorted(HOSTILE)
    assert {each.headers["ce_subject"] for each in records} == {key.encode() for key in HOSTILE}


def test_of_states_stored_at_once_the_last_one_counts_and_none_has_anothers_number(
    stack: Stack, example: Service
) -> None:
    def store(writer: int) -> None:
        with own(stack) as catalog:
            for number in range(50):
                catalog.execute(
                    "select put_snapshot('example.status.v1', 'contended', jsonb_build_object('by', %s::int, 'n', %s::int))",
                    (writer, number),
                )  # fmt: skip

    with ThreadPoolExecutor(2) as writers:
        list(writers.map(store, range(2)))
    stored = (
        "select version, body ->> 'by', body ->> 'n', published_version from catalog.snapshot where key = 'contended'"
    )
    eventually(lambda: rows(stack, stored)[0][3] == rows(stack, stored)[0][0], 20, "it is published")
    (version, by, number, _) = rows(stack, stored)[0]
    records = [each for each in read_all(stack.kafka.bootstrap, "example.status.v1") if each.key == b"contended"]
    versions = [each.json["version"] for each in records]
    assert versions == sorted(set(versions)) and str(versions[-1]) == version
    assert (str(records[-1].json["by"]), str(records[-1].json["n"])) == (by, number) and number == "49"


def test_snapshots_of_two_topics_with_one_key_and_one_number_are_two_events(stack: Stack, example: Service) -> None:
    stack.postgres.execute("select catalog.add_snapshot_topic('example.note.v1', 'example')", CATALOG)
    topics = ("example.status.v1", "example.note.v1")
    with own(stack) as catalog:
        for topic in topics:
            catalog.execute("select put_snapshot(%s, 'twin', '{}')", [topic])
    stack.postgres.execute("update catalog.snapshot set version = 7000000000000 where key = 'twin'", CATALOG)
    sent = "select 1 from catalog.snapshot where key = 'twin' and published_version = 7000000000000"
    eventually(lambda: len(rows(stack, sent)) == 2, 20, "both are published")
    records = [each for topic in topics for each in read_all(stack.kafka.bootstrap, topic) if each.key == b"twin"]
    last = [each for each in records if each.json["version"] == 7000000000000]
    assert {each.topic for each in last} == set(topics)
    assert len({(each.headers["ce_source"], each.headers["ce_id"]) for each in last}) == 2


def test_a_snapshots_number_rises_also_after_the_catalog_went_back_to_an_earlier_state(
    stack: Stack, example: Service
) -> None:
    version = "select version from catalog.snapshot where key = 'restored'"
    with own(stack) as catalog:
        catalog.execute("select put_snapshot('example.status.v1', 'restored', '{\"n\": 1}')")
        for number in range(2, 5):
            catalog.execute(
                "select put_snapshot('example.status.v1', 'restored', jsonb_build_object('n', %s::int))", [number]
            )
        seen = int(rows(stack, version)[0][0])
        stack.postgres.execute("delete from catalog.snapshot where key = 'restored'", CATALOG)
        catalog.execute("select put_snapshot('example.status.v1', 'restored', '{\"n\": 5}')")
    assert int(rows(stack, version)[0][0]) > seen, "watchers ignore what is lower than what they have seen"


def test_a_snapshot_that_a_frozen_publisher_sends_after_newer_ones_is_not_the_last(
    stack: Stack, example: Service
) -> None:
    gateway, provisioner = stack.services["gateway-0"], stack.services["provisioner-0"]
    put = "select put_snapshot('example.status.v1', 'stale', jsonb_build_object('n', %s::int))"
    unpublished = "select 1 from catalog.tenant_event where not published"
    eventually(lambda: not rows(stack, unpublished), 20, "no event is in the way")
    example.environment["LEASE"] = SHORT_LEASE
    with stopped(gateway, provisioner), own(stack) as catalog:
        catalog.execute(put, [1])
        with armed(example, "publisher_before_produce=stop"):
            with frozen_in_failpoint(example):
                start(gateway)
                catalog.execute(put, [2])
                eventually(lambda: numbers_of(stack, b"stale")[-1:] == [2], 40, "another publishes the newer one")
            eventually(lambda: 1 in numbers_of(stack, b"stale")[1:], 20, "the old one arrives late")
            eventually(lambda: numbers_of(stack, b"stale")[-1] == 2, 20, "and is followed by the newer one")
    del example.environment["LEASE"]


def numbers_of(stack: Stack, key: bytes) -> list[int]:
    return [each.json["n"] for each in read_all(stack.kafka.bootstrap, "example.status.v1") if each.key == key]


def test_a_topic_that_is_not_there_holds_up_no_other_and_gets_its_own_when_it_is_made(
    stack: Stack, example: Service, api: Api
) -> None:
    stack.postgres.execute("select catalog.add_snapshot_topic('example.missing.v1', 'example')", CATALOG)
    with own(stack) as catalog:
        catalog.execute("select put_snapshot('example.missing.v1', n::text, '{}') from generate_series(1, 1200) n")
    eventually(lambda: open_alerts(stack, "topic:example.missing.v1"), 20, "somebody is told")
    tenant = api.ready_tenant("Undisturbed Shop")
    with own(stack) as catalog:
        catalog.execute("select put_snapshot('example.status.v1', 'undisturbed', '{}')")
    greet(stack, tenant, ["a", "b", "c", "d", "e", "f"])
    waiting = (
        "select 1 from catalog.snapshot where published_version < version and topic <> 'example.missing.v1' union all "
        "select 1 from catalog.dead_letter where not published union all "
        "select 1 from catalog.tenant_status where published_version < version"
    )
    letters = f"select 1 from catalog.dead_letter where message_key = convert_to('{tenant}', 'UTF8')"
    eventually(lambda: rows(stack, letters), 20, "its message is a dead letter")
    eventually(lambda: rows(stack, waiting) == [], 10, "snapshots and dead letters of the others are published")
    assert rows(
        stack, "select count(*) from catalog.snapshot where topic = 'example.missing.v1' and published_version > 0"
    ) == [["0"]]
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    for future in admin.create_topics([NewTopic("example.missing.v1", 1, 1)]).values():
        future.result(20)
    left = "select 1 from catalog.snapshot where topic = 'example.missing.v1' and published_version < version limit 1"
    eventually(lambda: rows(stack, left) == [], 60, "it gets what is its own")
    eventually(lambda: not open_alerts(stack, "topic:example.missing.v1"), 20, "the alert is over")
    keys = {each.key for each in read_all(stack.kafka.bootstrap, "example.missing.v1")}
    assert keys == {str(n).encode() for n in range(1, 1201)}


def test_the_clock_of_what_is_no_sandbox_is_not_moved_and_a_moved_one_is_refused(
    stack: Stack, example: Service
) -> None:
    refused(cli(stack, "clock", "advance", "1h"), 4, "SANDBOX=1")
    refused(clock(stack, "back", "1h"), 2)
    stack.postgres.execute("update catalog.business_clock set ahead = '1 hour'", CATALOG)
    example.stop()
    example.restart({"SANDBOX": "0"})
    ops = Api(example.ops_url, None)
    try:
        said = "the business clock of this catalog was advanced"
        eventually(lambda: said in ops.get("/readyz").text, 20, "it says why it is not ready")
    finally:
        example.stop()
        example.restart({"SANDBOX": "1"})
        example.wait_until_ready()
