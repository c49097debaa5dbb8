"""The same event again and again, two who want one thing, commands that race: all ends in the state that was wanted."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from deploy.local.ports import release_port, reserve_port
from deploy.local.stack import CATALOG, Stack

from .client import FINAL, Answer, Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows
from .service_faults import told
from .topics import Record, cloudevent, produce, read_all

SIGNUP = "tenant.signup.requested.v1"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Two of each, so that what comes twice may come to two."""
    yield from make_stack("postgres", gateways=2, provisioners=2, options={"LEASE": SHORT_LEASE})


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as callers:
        return [future.result() for future in [callers.submit(call) for call in calls]]


def produce_signup(stack: Stack, tenant: str, headers: dict[str, str], **body: str) -> None:
    data = json.dumps({"company": "Echo Shop", "email": "e@echo.test", **body}).encode()
    produce(stack.kafka.bootstrap, "tenant.signup.v1", tenant.encode(), data, headers)


def produce_command(stack: Stack, tenant: str, command: str, **body: str) -> str:
    """Straight to Kafka; returns the event's id, which is the operation's."""
    headers = cloudevent(f"tenant.{command}.requested.v1")
    produce(stack.kafka.bootstrap, "tenant.command.v1", tenant.encode(), json.dumps(body).encode(), headers)
    return headers["ce_id"]


def rejections(stack: Stack, event_id: str) -> list[dict[str, Any]]:
    events = read_all(stack.kafka.bootstrap, "tenant.events.v1")
    found = [each.json for each in events if each.headers["ce_type"] == b"tenant.request.rejected.v1"]
    return [each for each in found if each["event_id"] == event_id]


def dead_letters(stack: Stack, event_id: str) -> list[Record]:
    records = read_all(stack.kafka.bootstrap, "tenant.signup.v1.provisioner.dlq")
    return [each for each in records if each.headers.get("ce_id") == event_id.encode()]


def consumed(stack: Stack, topic: str) -> bool:
    """Whether the catalog stands at the end of the topic."""
    ends = {record.partition: record.offset + 1 for record in read_all(stack.kafka.bootstrap, topic)}
    known = rows(stack, f"select partition, next_offset from provisioner.consumer_offset where topic = '{topic}'")
    positions = {int(partition): int(offset) for partition, offset in known}
    return all(positions.get(partition, 0) >= end for partition, end in ends.items())


def snapshot_at_rest(stack: Stack, tenant: str) -> list[list[str]]:
    """When its invitation has gone out too, which nobody waits for."""
    sent = f"select 1 from provisioner.tenant where tenant_id = '{tenant}' and invite_sent = invite_wanted"
    busy = f"select 1 from catalog.tenant_claim where tenant_id = '{tenant}'"
    eventually(lambda: rows(stack, sent) and not rows(stack, busy), 20, "nothing is under way")
    return snapshot_of(stack, tenant)


def snapshot_of(stack: Stack, tenant: str) -> list[list[str]]:
    return rows(stack, f"select version, snapshot from catalog.tenant_snapshot where tenant_id = '{tenant}'")


def test_the_same_event_five_times_at_once_and_later_is_one_signup(stack: Stack, api: Api) -> None:
    tenant, headers = str(uuid.uuid4()), cloudevent(SIGNUP)
    at_once(*[lambda: produce_signup(stack, tenant, headers)] * 5)
    api.wait_state(tenant, "ready")
    before = snapshot_at_rest(stack, tenant)
    for _ in range(5):
        produce_signup(stack, tenant, headers)
    eventually(lambda: consumed(stack, "tenant.signup.v1"), 20, "all five were looked at")
    assert snapshot_of(stack, tenant) == before
    assert not rejections(stack, headers["ce_id"]) and not dead_letters(stack, headers["ce_id"])
    made = rows(
        stack, f"select kind, count(*) from provisioner.saga where tenant_id = '{tenant}' group by 1 order by 1"
    )
    assert made == [["invite", "1"], ["provision", "1"]], "one provisioning and its one mail"


def test_the_same_command_five_times_at_once_and_later_is_carried_out_once(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Repeating Shop")
    headers = cloudevent("tenant.rotate_credentials.requested.v1")

    def ask() -> None:
        produce(stack.kafka.bootstrap, "tenant.command.v1", tenant.encode(), b"{}", headers)

    at_once(*[ask] * 5)
    assert api.wait_operation(headers["ce_id"])["state"] == "succeeded"
    ask()
    eventually(lambda: consumed(stack, "tenant.command.v1"), 20, "all six were looked at")
    assert app.get(f"/api/tenants/{tenant}/connection").json["credential_version"] == 2


def test_the_same_event_id_with_another_body_is_a_dead_letter_and_its_producer_is_told(stack: Stack, api: Api) -> None:
    tenant, headers = str(uuid.uuid4()), cloudevent(SIGNUP)
    produce_signup(stack, tenant, headers, company="First Words")
    api.wait_state(tenant, "ready")
    before = snapshot_at_rest(stack, tenant)
    produce_signup(stack, tenant, headers, company="Second Words")
    told_to = eventually(lambda: rejections(stack, headers["ce_id"]), 20, "the producer is told")
    assert [(each["code"], each["field"]) for each in told_to] == [("event_id_conflict", "id")]
    kept = eventually(lambda: dead_letters(stack, headers["ce_id"]), 20, "the event is a dead letter")
    assert [json.loads(each.value or b"")["company"] for each in kept] == ["Second Words"]
    assert kept[0].headers["tenantry_code"] == b"event_id_conflict"
    assert snapshot_of(stack, tenant) == before
    assert api.operation(headers["ce_id"])["state"] == "succeeded"


def test_two_who_want_one_subdomain_at_once_get_one_winner_and_one_who_is_told(stack: Stack) -> None:
    callers = [Api(stack.services[f"gateway-{n}"].url, stack.settings["tokens"]["admin"]) for n in range(2)]
    for turn in range(8):
        name = f"wanted-{turn}"

        def ask(caller: Api, name: str = name) -> Answer:
            return caller.signup("Wanted", subdomain=name, prefer="wait=20")

        answers = at_once(*[lambda caller=caller: ask(caller) for caller in callers])  # type: ignore[misc]
        won, lost = sorted(answers, key=lambda answer: answer.status)
        assert (won.status, won.json["state"]) == (200, "succeeded"), won
        assert (lost.status, lost.json["code"], lost.json["field"]) == (409, "slug_taken", "subdomain"), lost
        operations = rows(
            stack,
            "select o.operation_id, o.result ->> 'suggestions' from catalog.operation o where o.code = 'slug_taken' "
            f"and o.detail like '% {name} %'",
        )
        assert len(operations) == 1 and json.loads(operations[0][1]) == [f"{name}-{n}" for n in (2, 3, 4)]
        [rejected] = eventually(lambda id=operations[0][0]: rejections(stack, id), 20, "the loser's event")
        assert rejected["suggestions"] == [f"{name}-{n}" for n in (2, 3, 4)]
        assert rows(stack, f"select count(*) from provisioner.tenant where slug = '{name}'") == [["1"]]


def test_a_command_before_its_signup_waits_for_it(stack: Stack, api: Api) -> None:
    tenant = str(uuid.uuid4())
    operation = produce_command(stack, tenant, "suspend", reason="early")
    eventually(lambda: api.operation(operation).get("state") == "accepted", 20, "the command is known")
    produce_signup(stack, tenant, cloudevent(SIGNUP))
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert api.wait_state(tenant, "ready")["access"] == {"wanted": "none", "applied": "none", "reason": "early"}


def test_a_deprovision_before_its_signup_leaves_nothing(stack: Stack, api: Api) -> None:
    tenant = str(uuid.uuid4())
    operation = produce_command(stack, tenant, "deprovision", confirm="still-born")
    eventually(lambda: api.operation(operation).get("state") == "accepted", 20, "the command is known")
    produce_signup(stack, tenant, cloudevent(SIGNUP), subdomain="still-born")
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert api.tenant(tenant)["state"] == "deprovisioned"


def test_a_command_taken_in_the_same_moment_as_its_signup_is_not_forgotten(stack: Stack, api: Api) -> None:
    """The command's transaction has looked for the tenant in vain and is not over when the signup's begins."""
    tenant = str(uuid.uuid4())
    headers = cloudevent("tenant.suspend.requested.v1")
    with psycopg.connect(stack.postgres.url(CATALOG)) as catalog:
        catalog.execute(
            "insert into catalog.operation (operation_id, source, kind) values (%s, '', 'x')", [headers["ce_id"]]
        )
        produce(stack.kafka.bootstrap, "tenant.command.v1", tenant.encode(), b'{"reason": "soon"}', headers)
        eventually(lambda: waiting_for_locks(stack) == 1, 20, "the command is half way in")
        produce_signup(stack, tenant, cloudevent(SIGNUP))
        eventually(
            lambda: waiting_for_locks(stack) == 2 or api.tenant(tenant).get("state") == "ready",
            20,
            "the signup came in",
        )
        catalog.rollback()
    assert api.wait_operation(headers["ce_id"])["state"] == "succeeded"
    assert api.wait_state(tenant, "ready")["access"]["wanted"] == "none"


def waiting_for_locks(stack: Stack) -> int:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    return int(rows(stack, f"{waiting} and application_name like 'tenantry-%'")[0][0])


@pytest.mark.parametrize("seed", range(6))
def test_commands_that_race_end_in_what_was_wanted_last(seed: int, stack: Stack, api: Api) -> None:
    """Half of them while the tenant is being made."""
    chance = random.Random(seed)
    name = f"racing-{seed}"
    signup = api.signup("Racing Shop", subdomain=name)
    tenant = signup.json["tenant_id"]
    if seed % 2:
        api.wait_state(tenant, "ready")
    wishes = ["suspend", "resume", "suspend", "resume", "archive", "backup", "rotate-credentials", "retry"]
    wishes = chance.sample(wishes, len(wishes)) + ["archive"] * (seed in (1, 4)) + ["deprovision"] * (seed in (2, 3))
    chance.shuffle(wishes)
    if seed in (0, 5):
        wishes.remove("archive")

    def ask(wish: str) -> Answer:
        return api.command(tenant, wish, {"confirm": name} if wish == "deprovision" else {})

    answers = at_once(*[lambda wish=wish: ask(wish) for wish in wishes])  # type: ignore[misc]
    for answer in [signup, *answers]:
        assert answer.status == 202, answer
        assert api.wait_operation(answer.json["operation_id"], 60)["state"] in FINAL
    [[lifecycle, wanted]] = rows(
        stack,
        "select t.lifecycle_wanted, coalesce(a.wanted, 'full') from provisioner.tenant t left join "
        f"catalog.access_wanted a using (tenant_id) where t.tenant_id = '{tenant}'",
    )
    assert lifecycle == ("gone" if "deprovision" in wishes else "archived" if "archive" in wishes else "live")
    api.wait_state(tenant, {"live": "ready", "archived": "archived", "gone": "deprovisioned"}[lifecycle])
    if lifecycle == "live":
        eventually(lambda: api.tenant(tenant)["access"]["applied"] == wanted, 20, "access is as it is wanted")


def test_a_name_on_the_server_that_is_somebody_elses_is_left_alone_and_retry_takes_the_next(
    stack: Stack, api: Api
) -> None:
    tenant = str(uuid.uuid4())
    name = f"tn_{tenant.replace('-', '')}_g1"
    stack.postgres.execute(f"create database {name}")
    stack.postgres.execute("create table theirs (n int); insert into theirs values (7)", name)
    try:
        produce_signup(stack, tenant, cloudevent(SIGNUP))
        reason = api.wait_state(tenant, "attention")["reason"]
        assert reason["code"] == "name_taken", reason
        assert stack.postgres.execute("select n from theirs", name) == "7"
        untouched = stack.postgres.execute(
            "select shobj_description(oid, 'pg_database') is null and datacl is null "
            f"from pg_database where datname = '{name}'"
        )
        assert untouched == "t", "the other's database was changed"
        operation = api.command(tenant, "retry").json["operation_id"]
        assert api.wait_operation(operation)["state"] == "succeeded"
        assert api.wait_state(tenant, "ready")["reason"] is None
        assert stack.postgres.execute("select n from theirs", name) == "7"
    finally:
        stack.postgres.execute(f"drop database if exists {name} with (force)")


def test_a_retry_while_the_failed_tenant_is_being_removed_changes_nothing(stack: Stack, api: Api) -> None:
    tenant = str(uuid.uuid4())
    name = f"tn_{tenant.replace('-', '')}_g1"
    stack.postgres.execute(f"create database {name}")
    try:
        produce_signup(stack, tenant, cloudevent(SIGNUP), subdomain="short-lived")
        api.wait_state(tenant, "attention")
        gone, retried = (
            api.command(tenant, wish, {"confirm": "short-lived"} if wish == "deprovision" else {}).json["operation_id"]
            for wish in ("deprovision", "retry")
        )
        assert api.wait_operation(gone)["state"] == "succeeded"
        assert api.wait_operation(retried)["state"] in FINAL
        assert api.tenant(tenant)["state"] == "deprovisioned"
    finally:
        stack.postgres.execute(f"drop database if exists {name} with (force)")


def test_a_signup_waits_while_its_server_is_away_and_says_so(stack: Stack, api: Api) -> None:
    port = reserve_port()
    servers = json.loads(stack.services["provisioner-0"].environment["TENANT_SERVERS"])
    servers[0]["admin_url"] = servers[0]["admin_url"].replace(f":{stack.postgres.port}/", f":{port}/")
    with told(stack.services["provisioner-0"], TENANT_SERVERS=json.dumps(servers)):
        with told(stack.services["provisioner-1"], TENANT_SERVERS=json.dumps(servers)):
            tenant = api.signup("Patient Shop").json["tenant_id"]

            def delayed() -> bool:
                seen = api.tenant(tenant)
                return seen.get("state") == "provisioning" and seen["activity"]["error"] is not None

            eventually(delayed, 20, "the snapshot says what it waits for")
            assert api.tenant(tenant)["activity"]["step"] == "create"
    release_port(port)
    api.wait_state(tenant, "ready")
