"""Rollouts whose migrators die or freeze at any instruction: nothing twice, nothing lost, no manual step."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from deploy.local.stack import Service, Stack

from .client import Api, eventually
from .conftest import make_stack
from .rollouts import Rollouts
from .service_faults import armed, died_of_sigkill, frozen_in_failpoint, started

LONG = os.environ.get("TENANTRY_LONG") == "1"
SEED = int(os.environ.get("TENANTRY_SEED", "7"))
SHOPS = 6
POINTS = [
    "job_after_claim", "migration_before_apply", "migration_after_apply=crash@5", "job_before_result", "job_after_result",
    "run_after_advance", "intake_after_commit",
]  # fmt: skip
FROZEN = ["migration_before_apply"]
if LONG:
    POINTS += [
        "job_before_connect=crash@4", "migration_after_apply", "job_before_result=crash@4", "run_before_advance=crash@2",
        "intake_before_commit",
    ]  # fmt: skip
    FROZEN += ["migration_after_apply", "job_before_result"]
ALSO_IN_THE_ROLLBACK = {"migration_after_apply=crash@5", "job_before_result"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", migrators=1, keep_memberships=True, options={"LEASE": "2s"})


@pytest.fixture(scope="module")
def rollouts(stack: Stack) -> Rollouts:
    return Rollouts(stack)


@pytest.fixture(scope="module")
def shops(stack: Stack) -> list[str]:
    api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    return [api.ready_tenant(f"Crash Shop {number}") for number in range(SHOPS)]


@pytest.fixture
def migrator(stack: Stack) -> Service:
    return stack.services["migrator-0"]


def has_once(rollouts: Rollouts, shop: str, version: str) -> bool:
    sql = f"select (select count(*) from public.schema_migrations where version = '{version}'), "
    return rollouts.query(shop, sql + f"(select count(*) from tenantry.migration where version = '{version}')") == [
        (1, 1)
    ]


@pytest.mark.parametrize("point", POINTS)
def test_a_migrator_dies_and_the_next_one_ends_its_run_and_its_rollback(
    rollouts: Rollouts, shops: list[str], migrator: Service, point: str
) -> None:
    before = {shop: rollouts.versions(shop) for shop in shops}
    version = rollouts.file("create table of_crash (a int);", "drop table of_crash;")
    with armed(migrator, point if "=" in point else f"{point}=crash"):
        asked = rollouts.api.post("/api/admin/migrations/run", {"strategy": "all"})
        assert asked.status == 202 and died_of_sigkill(migrator)
    run = asked.json["run_id"]
    assert rollouts.api.wait_operation(asked.json["operation_id"])["state"] == "succeeded"
    ended = rollouts.wait(run, "completed", "halted")
    assert ended["state"] == "completed" and ended["states"] == {"done": SHOPS}, ended
    assert all(has_once(rollouts, shop, version) for shop in shops)
    assert [job["brought"] for job in rollouts.tenants(run)] == [[version]] * SHOPS, "even by attempts that were lost"
    if point in ALSO_IN_THE_ROLLBACK:
        with armed(migrator, point if "=" in point else f"{point}=crash"):
            assert rollouts.api.post(f"/api/admin/migrations/runs/{run}/rollback").status == 202
            assert died_of_sigkill(migrator)
    else:
        assert rollouts.command(run, "rollback")["state"] == "succeeded"
    ended = rollouts.wait(run, "rolled_back", "halted")
    assert ended["state"] == "rolled_back" and ended["states"] == {"undone": SHOPS}, ended
    assert {shop: rollouts.versions(shop) for shop in shops} == before
    assert rollouts.withdraw(version)["state"] == "succeeded"


@pytest.mark.parametrize("point", FROZEN)
def test_a_migrator_that_was_frozen_past_its_lease_changes_nothing_when_it_comes_back(
    stack: Stack, rollouts: Rollouts, shops: list[str], migrator: Service, point: str
) -> None:
    other = stack.services.get("migrator-1") or stack.service("migrator", 1)
    version = rollouts.file("create table of_ice (a int);", "drop table of_ice;")
    with armed(migrator, f"{point}=stop@2"):
        migrator.wait_until_ready()
        run = rollouts.begin(strategy="all")
        with frozen_in_failpoint(migrator), started(other):
            ended = rollouts.wait(run, "completed", "halted")
            assert ended["states"] == {"done": SHOPS}, ended
    assert all(has_once(rollouts, shop, version) for shop in shops)
    assert [job["brought"] for job in rollouts.tenants(run)] == [[version]] * SHOPS
    assert rollouts.command(run, "rollback")["state"] == "succeeded"
    assert rollouts.wait(run, "rolled_back", "halted")["states"] == {"undone": SHOPS}
    assert rollouts.withdraw(version)["state"] == "succeeded"


@pytest.mark.skipif(not LONG, reason="two hundred tenants, for minutes")
def test_a_hundred_kills_at_any_moment_leave_each_tenant_with_each_file_once(
    stack: Stack, rollouts: Rollouts, shops: list[str]
) -> None:
    """Of three migrators, through runs and rollbacks; nobody does anything by hand."""
    chance = random.Random(SEED)
    asked = [rollouts.api.signup(f"Killed Shop {number}").json["tenant_id"] for number in range(200 - SHOPS)]
    for shop in asked:
        rollouts.api.wait_state(shop, "ready", 300)
    everybody = [*shops, *asked]
    before = rollouts.versions(shops[0])
    files = [
        rollouts.file("create table k (a int); insert into k select generate_series(1, 99);", "drop table k;"),
        rollouts.file(
            "create index concurrently k_a on k (a); alter table k add b int; create unique index concurrently k_ab on k (a, b);",
            "drop index concurrently k_ab; alter table k drop b; drop index concurrently k_a;",
            options=" transaction:false",
        ),
        rollouts.file("select pg_sleep(0.2); create view k_view as select * from k;", "drop view k_view;"),
    ]
    migrators = [stack.services[name] for name in stack.services if name.startswith("migrator")]
    migrators += [stack.service("migrator", number) for number in range(len(migrators), 3)]
    run, runs = "", 0

    def command_next() -> None:
        """A run that has ended is taken back, and one that was taken back is followed by another."""
        nonlocal run, runs
        state = rollouts.run(run)["state"] if run else "rolled_back"
        assert state != "halted", rollouts.run(run)
        if state == "rolled_back":
            told = rollouts.api.post("/api/admin/migrations/run", {"strategy": "all", "concurrency": 24})
            assert told.status == 202
            run, runs = told.json["run_id"], runs + 1
            eventually(lambda: rollouts.api.get(f"/api/admin/migrations/runs/{run}").status == 200, 60, "it is planned")
        elif state == "completed":
            assert rollouts.api.post(f"/api/admin/migrations/runs/{run}/rollback").status == 202

    with started(*migrators):
        for _ in range(100):
            command_next()
            until = time.monotonic() + chance.uniform(0, 1.5)
            eventually(lambda until=until: time.monotonic() >= until, 5, "it dies at any moment")  # type: ignore[misc]
            victim = chance.choice(migrators)
            victim.kill9()
            victim.start()
        while rollouts.wait(run, "completed", "rolled_back", "halted", seconds=300)["state"] != "completed":
            command_next()
        ended = rollouts.run(run)
    assert ended["states"] == {"done": 200}, ended
    broken = "select (select count(*) from pg_index where not indisvalid), (select count(*) from tenantry.migration_progress)"
    for shop in everybody:
        assert rollouts.versions(shop) == [*before, *files]
        assert all(has_once(rollouts, shop, version) for version in files)
        assert rollouts.query(shop, broken) == [(0, 0)]
        assert rollouts.query(shop, "select count(*) from k_view") == [(99,)], "what a file inserts is there once"
    print(f"{runs} runs")
