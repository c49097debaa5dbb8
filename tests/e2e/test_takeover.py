"""Workers that die, freeze and come back: another carries on, and who was thought dead changes nothing any more."""

from __future__ import annotations

import contextlib
import os
import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from deploy.local.stack import Service, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import check_snapshots, rows, wait_until_idle
from .service_faults import armed, frozen_in_failpoint, start, started, stopped
from .topics import cloudevent, produce

LONG = os.environ.get("TENANTRY_LONG") == "1"
SEED = int(os.environ.get("TENANTRY_SEED", "7"))
SIGNUPS = 200 if LONG else 60


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Short leases, and a group that soon notices who is gone."""
    options = {"LEASE": SHORT_LEASE, "KAFKA_PROPERTIES": "session.timeout.ms=4000;heartbeat.interval.ms=500"}
    yield from make_stack("postgres", provisioners=3, options=options)


def provisioners(stack: Stack, count: int) -> list[Service]:
    return [stack.services[f"provisioner-{n}"] for n in range(count)]


def sign_up(api: Api, count: int, name: str) -> list[str]:
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda n: api.signup(f"{name} {n}"), range(count)))
    assert {answer.status for answer in answers} == {202}
    return [str(answer.json["tenant_id"]) for answer in answers]


def count_ready(stack: Stack, tenants: list[str]) -> int:
    ids = ", ".join(f"'{tenant}'" for tenant in tenants)
    found = rows(stack, f"select count(*) from provisioner.tenant where state = 'ready' and tenant_id in ({ids})")
    return int(found[0][0])


def leads(service: Service) -> bool:
    return service.ready() and metric(service, "tenantry_publisher_leading") == 1


def metric(service: Service, name: str) -> float | None:
    """None while the service does not answer."""
    try:
        return service.metrics()[name]
    except OSError:
        return None


@pytest.mark.parametrize("count", [2, 3])
def test_provisioners_killed_and_started_at_random_lose_no_signup(count: int, stack: Stack, api: Api) -> None:
    chance = random.Random(SEED + count)
    workers = provisioners(stack, count)
    with stopped(*provisioners(stack, 3)[count:]):
        tenants = sign_up(api, SIGNUPS, f"Trampled {count}")
        ready = 0
        while ready < SIGNUPS:
            goal = min(SIGNUPS, ready + chance.randint(1, 8))
            victim = chance.choice(workers)
            if victim.process.running and chance.random() < 0.6:
                victim.kill9()
            for each in workers:
                if not each.process.running and chance.random() < 0.7:
                    each.start()
            if not any(each.process.running for each in workers):
                victim.start()
            ready = eventually(
                lambda goal=goal: (now := count_ready(stack, tenants)) >= goal and now, 60, f"{goal} tenants are ready"
            )
        start(*workers)


def test_a_frozen_provisioner_that_comes_back_changes_nothing(stack: Stack, api: Api) -> None:
    frozen, other = provisioners(stack, 2)
    with stopped(*provisioners(stack, 3)[1:]):
        tenants: list[str] = []

        def in_hand() -> bool:
            return bool(rows(stack, "select 1 from provisioner.saga where owner is not null and status = 'running'"))

        def frozen_with_work() -> bool:
            tenants.extend(sign_up(api, 8, "Frozen"))
            eventually(in_hand, 20, "it has taken up work")
            frozen.process.pause()
            if in_hand():
                return True
            frozen.process.resume()
            return False

        eventually(frozen_with_work, 30, "it freezes with work in hand")
        start(other)
        eventually(lambda: count_ready(stack, tenants) == len(tenants), 60, "another makes them ready")
        wait_until_idle(stack)
        before = state_of(stack, tenants)
        frozen.process.resume()
        eventually(frozen.ready, 20, "it is back")
        eventually(lambda: frozen.metrics()["tenantry_sagas_in_hand"] == 0, 20, "it has put down what it held")
        assert frozen.metrics()["tenantry_sagas_lost_total"] >= 1
        assert state_of(stack, tenants) == before


def test_a_late_statement_of_the_old_owner_is_refused_inside_the_tenants_database(
    stack: Stack, api: Api, app: Api
) -> None:
    """It hangs between its decision to suspend and the statement; meanwhile others suspend, and resume."""
    old = stack.services["provisioner-0"]
    tenant = api.ready_tenant("Late Shop")
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    with stopped(*provisioners(stack, 3)[1:]), armed(old, "driver_before_access=stop"):
        eventually(old.ready, 30, "it is ready")
        suspended = api.command(tenant, "suspend").json["operation_id"]
        with frozen_in_failpoint(old):
            start(stack.services["provisioner-1"])
            assert api.wait_operation(suspended)["state"] == "succeeded"
            assert api.wait_operation(api.command(tenant, "resume").json["operation_id"])["state"] == "succeeded"
            wait_until_idle(stack)
            before = state_of(stack, [tenant])
        eventually(old.ready, 30, "it is back")
        eventually(lambda: old.metrics()["tenantry_sagas_in_hand"] == 0, 20, "it has put down what it held")
        assert old.metrics()["tenantry_sagas_lost_total"] == 1
        assert state_of(stack, [tenant]) == before
    psycopg.connect(
        host=connection["host"], port=connection["port"], dbname=connection["database"], user=connection["user"],
        password=connection["password"],
    ).close()  # fmt: skip


@contextlib.contextmanager
def no_database_can_be_created(stack: Stack) -> Iterator[None]:
    """Whoever copies the template waits, for as long as the block lasts; nobody else does."""
    with psycopg.connect(stack.postgres.superuser_url) as other:
        other.execute("comment on database template0 is 'somebody is at it'")
        yield
        other.rollback()


def creating(stack: Stack) -> list[list[str]]:
    """Backends that create a database right now, and the seconds they have been at it."""
    return rows(
        stack,
        "select pid, extract(epoch from clock_timestamp() - query_start)::int from pg_stat_activity "
        "where state = 'active' and query like 'create database %'",
    )


def test_a_statement_longer_than_the_lease_goes_on_while_its_worker_lives_and_ends_when_it_dies(
    stack: Stack, api: Api
) -> None:
    worker = stack.services["provisioner-0"]
    with stopped(*provisioners(stack, 3)[1:]):
        resident = api.ready_tenant("Resident Shop")
        with no_database_can_be_created(stack):
            tenants = sign_up(api, 6, "Patient")
            eventually(lambda: creating(stack), 30, "it creates the database")
            worker.kill9()
            eventually(lambda: not creating(stack), 5, "nobody creates it for a worker that is dead")
            start(worker)
            eventually(lambda: [age for _, age in creating(stack) if int(age) > 7], 60, "it waits, and keeps its lease")
            suspended = api.command(resident, "suspend").json["operation_id"]
            assert api.wait_operation(suspended)["state"] == "succeeded", "it needs the server too, and does not wait"
        eventually(lambda: count_ready(stack, tenants) == 6, 60, "they are ready")


def state_of(stack: Stack, tenants: list[str]) -> dict[str, object]:
    """All there is of these tenants: facts, sagas and secrets in the catalog, their logins, their own databases."""
    ids = ", ".join(f"'{tenant}'" for tenant in tenants)
    found: dict[str, object] = {
        table: rows(stack, f"select t.xmin, md5(t::text) from {table} t where tenant_id in ({ids}) order by 2")
        for table in (
            "provisioner.tenant", "provisioner.database", "provisioner.saga", "provisioner.secret",
            "catalog.operation", "catalog.tenant_claim", "catalog.access_wanted",
            "catalog.lifecycle_wanted",
        )
    }  # fmt: skip
    # Whether Kafka has it by now is the publisher's business.
    found["events"] = rows(
        stack, f"select md5((to_jsonb(t) - 'published')::text) from catalog.tenant_event t where tenant_id in ({ids}) "
        "order by seq",
    )  # fmt: skip
    found["versions"] = rows(
        stack, f"select tenant_id, version from catalog.tenant_status where tenant_id in ({ids}) order by 1"
    )
    names = rows(stack, f"select name from provisioner.database where tenant_id in ({ids}) and status = 'live'")
    for (name,) in names:
        found[f"logins of {name}"] = rows(
            stack, f"select xmin, md5(a::text) from pg_authid a where starts_with(rolname, '{name}') order by 2"
        )
        with psycopg.connect(stack.postgres.url(name)) as database:
            found[name] = [
                database.execute(f"select xmin::text, t::text from {table} t order by 2").fetchall()
                for table in ("tenantry.fence", "tenantry.identity", "tenantry.admin", "tenantry.migration")
            ]
    return found


def test_the_standby_publishes_when_the_publisher_freezes_and_kafka_ends_as_the_catalog(stack: Stack, api: Api) -> None:
    gateway, *workers = [stack.services["gateway-0"], *provisioners(stack, 3)]
    with stopped(*workers[1:], gateway):
        eventually(lambda: leads(workers[0]), 20, "the first publishes")
    eventually(
        lambda: not rows(stack, "select 1 from catalog.tenant_event where not published"), 20, "all is published"
    )
    assert leads(workers[0])
    tenants = sign_up(api, 12, "Standby")
    with workers[0].process.paused():
        eventually(lambda: any(leads(each) for each in (gateway, *workers[1:])), 20, "a standby publishes")
        eventually(lambda: count_ready(stack, tenants) == 12, 60, "they are ready")
        check_snapshots(stack)
    eventually(lambda: workers[0].ready() and not leads(workers[0]), 20, "the first stands by")
    check_snapshots(stack)


def test_a_publisher_that_lost_its_lease_and_has_it_again_repeats_what_may_be_stale(stack: Stack) -> None:
    """It hangs with a snapshot in hand. Another publishes newer ones and ends; then it has the lease before Kafka has
    the old snapshot, and must not take that for the newest."""
    old, other = provisioners(stack, 2)
    tenant = str(uuid.uuid4())
    with stopped(stack.services["gateway-0"], *provisioners(stack, 3)[1:]):
        with armed(old, "publisher_before_produce=stop@2"):  # the first batch is the signup's events
            eventually(old.ready, 30, "it is ready")
            produce(
                stack.kafka.bootstrap, "tenant.signup.v1", tenant.encode(),
                b'{"company": "Stale", "email": "s@s.test"}', cloudevent("tenant.signup.requested.v1"),
            )  # fmt: skip
            with frozen_in_failpoint(old):
                with started(other):
                    eventually(lambda: count_ready(stack, [tenant]) == 1, 30, "the other makes the tenant ready")
                    eventually(lambda: not unpublished(stack), 20, "the other publishes it")
                stack.kafka.process.pause()
            try:
                eventually(lambda: metric(old, "tenantry_publisher_leading") == 1, 20, "it has the lease again")
            finally:
                stack.kafka.process.resume()
            check_snapshots(stack)


def unpublished(stack: Stack) -> bool:
    return bool(rows(stack, "select 1 from catalog.tenant_status where published_version < version"))
