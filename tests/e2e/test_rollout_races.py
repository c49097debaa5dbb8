"""Rollouts whose migrators cross each other's way, and that of whoever wants a tenant at the same moment."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .conftest import make_stack
from .invariants import rows
from .rollouts import Rollouts


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", whole_product=True, migrators=1, options={"LEASE": "20s"})


@pytest.fixture(scope="module")
def rollouts(stack: Stack) -> Rollouts:
    return Rollouts(stack)


@pytest.fixture(scope="module")
def shops(stack: Stack) -> list[str]:
    api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    return [api.ready_tenant(f"Race Shop {number}") for number in range(2)]


@contextlib.contextmanager
def held(stack: Stack, database: str, sql: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction of somebody else, who has done this and not ended it; rolled back after the block."""
    with contextlib.closing(psycopg.connect(stack.postgres.url(database))) as session:
        session.execute(sql)  # type: ignore[arg-type]
        yield session
        session.rollback()


def waits(stack: Stack, words: str) -> bool:
    sql = f"select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name || query like '%{words}%'"
    return int(rows(stack, sql)[0][0]) > 0


def job_of(stack: Stack, run: str, tenant: str, column: str) -> str:
    return rows(stack, f"select {column} from migrator.job where run_id = '{run}' and tenant_id = '{tenant}'")[0][0]


@pytest.fixture
def unrehearsed(stack: Stack) -> Iterator[None]:
    """Jobs made meanwhile count as rehearsed: what is held is held from the first attempt on."""
    stack.postgres.execute("alter table migrator.job alter forecast set default 'passed'", database=CATALOG)
    yield
    stack.postgres.execute("alter table migrator.job alter forecast drop default", database=CATALOG)


def test_a_claim_that_is_answered_while_a_renewal_is_on_its_way_is_kept(
    stack: Stack, rollouts: Rollouts, shops: list[str], unrehearsed: None
) -> None:
    one, two = shops
    lock = "lock table public.schema_migrations in exclusive mode"
    claim = f"insert into catalog.tenant_claim (tenant_id, kind, holder) values ('{two}', 'backup', '{uuid.uuid4()}')"
    rollouts.file("create table of_race (a int);", "drop table of_race;")
    with contextlib.ExitStack() as locks:
        for shop in shops:
            locks.enter_context(held(stack, rollouts.database_of(shop), lock))
        stack.postgres.execute(claim, database=CATALOG)
        run = rollouts.begin(strategy="all", lock_timeout="60s")
        eventually(lambda: waits(stack, one), 10, "the first one is at work")
        free = f"delete from catalog.tenant_claim where tenant_id = '{two}' and kind = 'backup'"
        with held(
            stack, CATALOG, f"select from migrator.job where run_id = '{run}' and tenant_id = '{one}' for update"
        ):
            with held(stack, CATALOG, free) as freeing:
                eventually(lambda: waits(stack, "renew_jobs"), 20, "the renewal waits, and most of the time a claim")
                freeing.commit()
            eventually(lambda: job_of(stack, run, two, "state") == "applying", 10, "it has been claimed")
        until = job_of(stack, run, two, "lease_until")
        eventually(lambda: job_of(stack, run, two, "lease_until") != until, 8, "its lease is renewed: it is held")
    assert rollouts.wait(run, "completed", "halted")["state"] == "completed"
    assert [job["attempts"] for job in rollouts.tenants(run)] == [1, 1]


def test_a_suspension_does_not_wait_for_a_statement_that_takes_long(
    stack: Stack, rollouts: Rollouts, shops: list[str]
) -> None:
    slow = rollouts.file("create table of_patience (a int); select pg_sleep(40);", "drop table of_patience;")
    run = rollouts.begin(strategy="all", tenants=shops[:1])
    sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    eventually(lambda: int(rows(stack, sleeping)[0][0]) == 1, 10, "the file is being applied")
    rollouts.api.command(shops[0], "suspend")
    eventually(lambda: rollouts.api.tenant(shops[0])["access"]["applied"] == "none", 15, "it is suspended")
    assert rollouts.command(run, "cancel")["state"] == "succeeded"
    eventually(lambda: rollouts.withdraw(slow)["state"] == "succeeded", 20, "nobody has it")


def test_a_verify_only_looks_and_may_end_in_a_semicolon(stack: Stack, rollouts: Rollouts, shops: list[str]) -> None:
    shop = shops[1:]
    rollouts.file("create table of_truth (a int);", "", verify="select to_regclass('of_truth') is not null; -- there")
    rollouts.completed(strategy="all", tenants=shop, out_of_order=True)
    for verify, said in (
        ("select setval('of_lie', 7) = 7", "read-only"),
        ("select 'true, or what do you think'::text", "boolean"),
        ("select false", "did not return true"),
    ):
        version = rollouts.file(
            "create sequence if not exists of_lie;", "drop sequence if exists of_lie;", verify=verify
        )
        run = rollouts.begin(strategy="all", tenants=shop)
        halted = rollouts.wait(run, "halted", "completed")
        assert halted["failures"][0]["code"] == "verify_failed" and said in halted["failures"][0]["example"], halted
        assert rollouts.command(run, "rollback")["state"] == "succeeded"
        rollouts.wait(run, "rolled_back")
        assert rollouts.withdraw(version)["state"] == "succeeded"
    told = rollouts.api.post(
        "/api/admin/migrations/files",
        {"name": "20280101_two.sql", "sql": "-- migrate:up\nselect 1;\n", "verify": "select true; drop table product"},
    )
    assert told.status == 400 and told.json["field"] == "verify", told
