"""Servers go and come back, processes end and start, the catalog falls back in time: what was acknowledged stays."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.stack import CATALOG, Service, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .faults import (
    crash_with_unread_statements,
    crowded,
    dump_catalog,
    open_sockets,
    restore_catalog,
    stopped,
    terminate,
)
from .invariants import check_databases, rows, wait_until_idle
from .load import Load, what_the_reader_says
from .service_faults import armed, died_of_sigkill, frozen_in_failpoint

LONG = os.environ.get("TENANTRY_LONG") == "1"
MESSAGE_TIMEOUT = 2.0
TIMEOUT_GRAIN = 1.0  # librdkafka looks for messages that are too old once a second


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A gateway that gives Kafka two seconds, and a PostgreSQL that is soon full."""
    options = {"MESSAGE_TIMEOUT": "2s", "LEASE": SHORT_LEASE}
    yield from make_stack("postgres", options=options, max_connections=50)


def tenant_databases(stack: Stack) -> set[str]:
    return {row[0] for row in rows(stack, "select datname from pg_database where datname like 'tn\\_%'")}


def end_by_sigterm(service: Service) -> None:
    """Asks it to end: it does within ten seconds, and says that all is well."""
    began = time.monotonic()
    service.process.signal(signal.SIGTERM)
    service.process.wait(15)
    took = time.monotonic() - began
    assert took < 10, f"{service.name} took {took:.1f} s to end"
    eventually(lambda: service.process.returncode is not None, 2, "its threads have ended too")
    assert service.process.returncode == 0


def all_ready(stack: Stack) -> None:
    for service in stack.services.values():
        eventually(service.ready, 15, f"{service.name} is ready")


def test_signups_while_kafka_is_stopped_are_refused_in_time_and_the_gateway_comes_back_by_itself(stack: Stack) -> None:
    with Load(stack) as load:
        load.wait_for(202, 3)
        with stopped(stack.kafka):
            began = time.monotonic()
            load.wait_for(503, 2, 20)
            if LONG:
                eventually(lambda: time.monotonic() - began > 30, 35, "thirty seconds have passed")
        load.wait_for(202, 3, 20)
    refused = [each for each in load.attempts if each.status == 503]
    assert all(each.retry_after and int(each.retry_after) >= 1 for each in refused), refused
    slowest = max(each.seconds for each in refused)
    assert slowest < MESSAGE_TIMEOUT + TIMEOUT_GRAIN + 0.5, f"a refusal took {slowest:.1f} s"
    assert {each.status for each in load.attempts} == {202, 503}
    load.wait_until_ready()


def test_the_gateway_is_ready_again_after_kafkas_absence_though_nobody_calls(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    with stopped(stack.kafka):
        eventually(lambda: not gateway.ready(), 15, "the gateway says that Kafka is away")
    eventually(gateway.ready, 10, "the gateway is ready again")


def test_kafka_killed_hard_under_load_loses_nothing(stack: Stack) -> None:
    with Load(stack) as load:
        load.wait_for(202, 3)
        with stack.kafka.down():
            load.wait_for(503, 2, 20)
        load.wait_for(202, 3, 20)
    load.wait_until_ready()


def test_postgresql_restarted_under_load_loses_nothing(stack: Stack) -> None:
    with Load(stack) as load:
        load.wait_for(202, 4)
        stack.postgres.restart()
        load.wait_for(202, 3)
        stack.postgres.restart("immediate")
        load.wait_for(202, 3)
    assert {each.status for each in load.attempts} == {202}
    load.wait_until_ready()


def test_with_postgresql_stopped_signups_are_taken_and_reads_say_when_to_come_again(stack: Stack, api: Api) -> None:
    with Load(stack) as load:
        with stopped(stack.postgres):
            load.wait_for(202, 4)
            refused = api.get("/api/tenants")
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1, refused
            assert refused.headers["content-type"] == "application/problem+json"
            # One that is opened before the gateway has seen all its connections end is ended by it: no answer hangs.
            eventually(lambda: api.get("/api/stream").status == 503, 10, "no stream is opened any more")
            waited = api.signup("Waiting For Nothing", prefer="wait=20")
            assert waited.status == 202, waited
            keyed = api.signup("Keyed Shop", idempotency_key="outage")
            assert keyed.status == 202 and api.signup("Keyed Shop", idempotency_key="outage").json == keyed.json
            assert api.signup("Other Shop", idempotency_key="outage").status == 409
            said, runs = {"name": "error-rate", "verdict": "halt"}, "/api/admin/migrations/runs"
            assert api.post(f"{runs}/{uuid.uuid4()}/signals", said).status == 202
            unknown = api.post(f"{runs}/active/signals", said)
            assert unknown.status == 503 and int(unknown.headers["retry-after"]) >= 1, unknown
    assert {each.status for each in load.attempts} == {202}
    load.wait_until_ready()
    api.wait_state(waited.json["tenant_id"], "ready")
    api.wait_state(keyed.json["tenant_id"], "ready")


def test_all_our_backends_terminated_under_load_lose_nothing(stack: Stack) -> None:
    with Load(stack) as load:
        for _ in range(3):
            load.wait_for(202, 4)
            eventually(lambda: terminate(stack, "tenantry-%") > 0, 5, "there was a connection to cut")
    assert {each.status for each in load.attempts} == {202}
    load.wait_until_ready()
    all_ready(stack)


def test_a_service_that_loses_one_of_its_connections_goes_on_with_the_others(stack: Stack, api: Api) -> None:
    def connections() -> int:
        sql = "select count(*) from pg_stat_activity where application_name = 'tenantry-provisioner'"
        return int(rows(stack, sql)[0][0])

    with Load(stack) as load:
        load.wait_for(202, 4)
        eventually(lambda: connections() > 1, 10, "the provisioner has several connections")
    load.wait_until_ready()
    eventually(lambda: terminate(stack, "tenantry-provisioner", keep=1) > 0, 5, "connections were cut")
    eventually(stack.services["provisioner-0"].ready, 5, "the provisioner is ready")
    with Load(stack) as load:
        load.wait_for(202, 3)
    load.wait_until_ready()
    all_ready(stack)


def test_connections_that_were_reset_with_a_statement_unread_are_given_up_at_once(stack: Stack, api: Api) -> None:
    """What the server said last still stands in them, before the reset."""
    wait_until_idle(stack)
    provisioner = stack.services["provisioner-0"]
    before = crash_with_unread_statements(stack, provisioner)
    assert before, "it had connections"
    # In a second: the statement, which got no answer, has five.
    eventually(lambda: not before & open_sockets(provisioner), 1, "it has given them up")
    api.ready_tenant("After The Reset")


def test_when_postgresql_is_full_everything_waits_and_nothing_is_lost(stack: Stack, api: Api) -> None:
    with Load(stack) as load:
        with crowded(stack):
            load.wait_for(202, 4)
            assert api.get("/api/tenants").status in (200, 503)
        load.wait_for(202, 2)
    assert {each.status for each in load.attempts} == {202}
    load.wait_until_ready()
    all_ready(stack)


def test_a_catalog_restored_under_load_reads_again_what_it_lost(stack: Stack, tmp_path: Path) -> None:
    with Load(stack, callers=2) as load:
        load.wait_for(202, 4)
        dump_catalog(stack, tmp_path / "catalog")
        load.wait_for(202, 4)
        restore_catalog(stack, tmp_path / "catalog")
        load.wait_for(202, 4)
    assert {each.status for each in load.attempts} == {202}
    load.wait_until_ready(90)
    check_databases(stack)


def test_a_catalog_restored_in_a_quiet_hour_reads_again_what_it_lost(
    stack: Stack, api: Api, app: Api, tmp_path: Path
) -> None:
    dump_catalog(stack, tmp_path / "catalog")
    stack.postgres.execute("select setval('catalog.fence', nextval('catalog.fence') + 1000)", CATALOG)  # a busy hour
    tenants = [api.ready_tenant(f"Forgotten {number}") for number in range(3)]
    sold = app.get(f"/api/tenants/{tenants[0]}/connection").json
    stack.postgres.execute("create table sold (what text); insert into sold values ('aspirin')", sold["database"])
    before = tenant_databases(stack)
    restore_catalog(stack, tmp_path / "catalog")
    try:
        for tenant in tenants:
            api.wait_state(tenant, "ready", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{what_the_reader_says(stack)}") from error
    assert tenant_databases(stack) == before
    assert stack.postgres.execute("select what from sold", sold["database"]) == "aspirin"
    now = app.get(f"/api/tenants/{tenants[0]}/connection").json
    psycopg.connect(
        host=now["host"], port=now["port"], dbname=now["database"], user=now["user"], password=now["password"]
    ).close()


@pytest.mark.parametrize("name", ["gateway-0", "provisioner-0"])
def test_sigterm_under_load_ends_a_service_in_time_and_loses_nothing(stack: Stack, name: str) -> None:
    service = stack.services[name]
    with Load(stack) as load:
        load.wait_for(202, 4)
        end_by_sigterm(service)
        service.start()
        service.wait_until_ready()
        load.wait_for(202, 3)
    load.wait_until_ready()
    assert all(each.status in (0, 202, 503) for each in load.attempts)


def test_a_gateway_that_stops_answers_202_to_every_signup_that_kafka_took(stack: Stack) -> None:
    """Callers that keep their connections and never pause: there is always something in hand. Each of their signups becomes a
    tenant."""
    gateway = stack.services["gateway-0"]
    with Load(stack, callers=8, pause=0) as load:
        load.wait_for(202, 16)
        end_by_sigterm(gateway)
    gateway.start()
    gateway.wait_until_ready()
    load.wait_until_ready(120)
    taken = {row[0] for row in rows(stack, "select company from provisioner.tenant")}
    unanswered = [each for each in load.attempts if each.company in taken and not each.accepted]
    assert not unanswered, unanswered[:3]


def test_a_signup_whose_steps_lasted_too_long_while_nobody_could_work_is_tried_first(stack: Stack, api: Api) -> None:
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, "saga_before_step=crash@5"):
        tenant = api.signup("Overslept Shop").json["tenant_id"]
        assert died_of_sigkill(provisioner)
        stack.postgres.execute("update catalog.business_clock set ahead = ahead + interval '3 hours'", CATALOG)
    api.wait_state(tenant, "ready", 60)


def test_sigterm_with_kafka_away_ends_the_gateway_in_time_and_tells_who_waits(stack: Stack) -> None:
    gateway = stack.services["gateway-0"]
    with Load(stack, callers=2) as load:
        load.wait_for(202, 2)
        with stopped(stack.kafka):
            load.wait_for(503, 1)
            end_by_sigterm(gateway)
        gateway.start()
        gateway.wait_until_ready()
        load.wait_for(202, 2)
    load.wait_until_ready()


@pytest.mark.parametrize("order", ["postgres first", "kafka first"])
def test_services_may_start_before_the_servers_they_need(stack: Stack, api: Api, order: str) -> None:
    for service in stack.services.values():
        assert service.stop(12), f"{service.name} did not end by itself"
    stack.kafka.stop()
    stack.postgres.stop()
    for service in stack.services.values():
        service.start()
    if order == "postgres first":
        stack.postgres.start()
        stack.kafka.start()
    else:
        stack.kafka.start()
        stack.postgres.start()
    all_ready(stack)
    api.ready_tenant(f"After The Night {order}")


STEPS = ["reserve", "create", "await_ready", "connect", "plant_identity", "migrate", "create_admin", "open_access"]


@pytest.mark.parametrize("step", STEPS[4:])
def test_a_signup_whose_server_lost_its_database_meanwhile_gets_it_again(stack: Stack, api: Api, step: str) -> None:
    provisioner = stack.services["provisioner-0"]
    wait_until_idle(stack)
    with armed(provisioner, f"saga_before_step=stop@{STEPS.index(step) + 1}"):
        tenant = api.signup(f"Lost At {step}").json["tenant_id"]
        with frozen_in_failpoint(provisioner):
            drop_with_logins(stack, f"tn_{tenant.replace('-', '')}_g1")
        api.wait_state(tenant, "ready")


@pytest.mark.parametrize("step", STEPS[4:7])
def test_a_signup_whose_owner_has_another_password_on_the_server_is_let_in_by_the_admin(
    stack: Stack, api: Api, step: str
) -> None:
    provisioner = stack.services["provisioner-0"]
    wait_until_idle(stack)
    with armed(provisioner, f"saga_before_step=stop@{STEPS.index(step) + 1}"):
        tenant = api.signup(f"Refused At {step}").json["tenant_id"]
        with frozen_in_failpoint(provisioner):
            owner = f"tn_{tenant.replace('-', '')}_g1_owner"
            stack.postgres.execute(f"alter role {owner} password 'of another time'")
            stack.postgres.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{owner}'")
        api.wait_state(tenant, "ready")


def test_a_backup_whose_owner_has_another_password_on_the_server_sets_it_anew(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Refused At Night")
    wait_until_idle(stack)
    stack.postgres.execute(f"alter role tn_{tenant.replace('-', '')}_g1_owner password 'of another time'")
    backup = api.command(tenant, "backup").json["operation_id"]
    assert api.wait_operation(backup)["state"] == "succeeded"


def test_a_worker_of_a_time_that_the_catalog_has_forgotten_teaches_it_nothing(stack: Stack, api: Api) -> None:
    """It believes in a later step than the catalog, and has the same fence."""
    tenant = api.ready_tenant("Forgotten Step")
    wait_until_idle(stack)
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, "saga_before_step=stop@2"):
        rotation = api.command(tenant, "rotate-credentials").json["operation_id"]
        with frozen_in_failpoint(provisioner):
            stack.postgres.execute(
                f"update provisioner.saga set step = 'set_login' where tenant_id = '{tenant}' and step = 'current'",
                CATALOG,
            )
        assert api.wait_operation(rotation)["state"] == "succeeded"
    applied = rows(stack, f"select rotation_applied from provisioner.tenant where tenant_id = '{tenant}'")
    assert applied == [["2"]]


def test_a_ready_tenant_whose_database_is_lost_is_told_and_gets_no_empty_one(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Lost For Good")
    wait_until_idle(stack)
    drop_with_logins(stack, f"tn_{tenant.replace('-', '')}_g1")
    suspended = api.command(tenant, "suspend").json["operation_id"]
    assert api.wait_operation(suspended)["code"] == "database_lost"
    assert api.wait_state(tenant, "attention")["reason"]["code"] == "database_lost"
    retried = api.command(tenant, "retry").json["operation_id"]
    assert api.wait_operation(retried)["state"] == "failed"
    assert f"tn_{tenant.replace('-', '')}_g1" not in tenant_databases(stack)
    api.command(tenant, "deprovision", {"confirm": "lost-for-good"})
    api.wait_state(tenant, "deprovisioned")


IN_ITS_PLACE = {  # of a lost database
    "as create database leaves it": "owner {0}_owner connection limit 0",
    "a stranger's": "",
    "made by hand for its owner": "owner {0}_owner",
}


@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_in_place_of_a_lost_database_only_one_that_nobody_was_let_into_is_dropped(
    stack: Stack, api: Api, what: str
) -> None:
    """Its mark comes with the first right to connect: a standby that takes over may lack both, and have the database."""
    tenant = api.ready_tenant(f"Lost {what}")
    wait_until_idle(stack)
    name = f"tn_{tenant.replace('-', '')}_g1"
    stack.postgres.execute(f"drop database {name} with (force)")
    assert ended(api, tenant, "suspend") == "database_lost"
    stack.postgres.execute(f"create database {name} {IN_ITS_PLACE[what].format(name)}")
    if what != "as create database leaves it":
        stack.postgres.execute("create table orders (n int)", name)
        assert ended(api, tenant, "retry") == "not_ours"
        assert ended(api, tenant, "deprovision", confirm=api.tenant(tenant)["slug"]) == "not_ours"
        assert stack.postgres.execute("select count(*) from orders", name) == "0"
        stack.postgres.execute(f"drop database {name}")
        assert ended(api, tenant, "retry") is None
    else:
        assert ended(api, tenant, "retry") == "database_lost"
        assert ended(api, tenant, "deprovision", confirm=api.tenant(tenant)["slug"]) is None
    assert api.tenant(tenant)["state"] == "deprovisioned" and name not in tenant_databases(stack)


def ended(api: Api, tenant: str, command: str, **body: str) -> str | None:
    """The code of its failure."""
    answer = api.command(tenant, command, body or None)
    assert answer.status == 202, answer
    code = api.wait_operation(answer.json["operation_id"]).get("code")
    return None if code is None else str(code)


def drop_with_logins(stack: Stack, name: str) -> None:
    """As on a standby that never heard of them."""
    stack.postgres.execute(f"drop database {name} with (force)")
    stack.postgres.execute(f"drop role {name}_owner; drop role {name}_app_a; drop role {name}_app")
