"""Rollouts among tenants that are locked, held, somebody else's, or in need of something more urgent; and bad requests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .conftest import make_stack
from .rollouts import Rollouts
from .service_faults import started


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", whole_product=True, migrators=1, keep_memberships=True, options={"LEASE": "2s"})


@pytest.fixture(scope="module")
def rollouts(stack: Stack) -> Rollouts:
    return Rollouts(stack)


@pytest.fixture(scope="module")
def shops(rollouts: Rollouts) -> list[str]:
    return [rollouts.api.ready_tenant(f"Fault Shop {number}") for number in range(4)]


@pytest.fixture
def version(rollouts: Rollouts, shops: list[str]) -> Iterator[str]:
    """A file that alters a table; taken back by the test's run, or by us."""
    made = rollouts.file("alter table branches add column tried int;", "alter table branches drop column tried;")
    yield made
    for run in rollouts.api.get("/api/admin/migrations/status").json["ended"]:
        if run["state"] == "completed" and made in run["versions"] and "done" in run["states"]:
            rollouts.command(run["run_id"], "rollback")
            assert rollouts.wait(run["run_id"], "rolled_back", "halted")["state"] == "rolled_back"
    assert rollouts.withdraw(made)["state"] == "succeeded"


def names_holder(rollouts: Rollouts, run: str, shop: str) -> bool:
    [error] = [job["error"] for job in rollouts.tenants(run) if job["tenant_id"] == shop]
    return error is not None and "held by monthly-report: AccessShareLock on branches" in error["detail"]


def test_a_locked_tenant_is_tried_again_while_the_others_go_on(
    rollouts: Rollouts, shops: list[str], version: str
) -> None:
    database = rollouts.stack.postgres.url(rollouts.database_of(shops[0]))
    with psycopg.connect(database, application_name="monthly-report") as holder:
        holder.execute("select count(*) from branches")  # as a report that takes its time
        run = rollouts.begin(strategy="all", lock_timeout="100ms")
        eventually(lambda: rollouts.run(run)["states"].get("done") == len(shops) - 1, 30, "the others are done")
        began = time.monotonic()
        assert rollouts.query(shops[0], "select count(*) from branches") is not None
        assert time.monotonic() - began < 3, "a query of the product waits for a lock time-out at most"
        [job] = [job for job in rollouts.tenants(run) if job["tenant_id"] == shops[0]]
        assert job["state"] in ("waiting", "applying") and job["forecast"] == "busy", job
        eventually(lambda: names_holder(rollouts, run, shops[0]), 10, "its error names who stands in its way")
    assert rollouts.wait(run, "completed", "halted")["state"] == "completed"
    assert version in rollouts.versions(shops[0])


def test_a_database_with_another_marker_is_not_touched(rollouts: Rollouts, shops: list[str], version: str) -> None:
    rollouts.query(shops[1], f"update tenantry.identity set tenant_id = '{uuid.uuid4()}'")
    run = rollouts.begin(strategy="all", max_failure_rate=1)
    ended = rollouts.wait(run, "completed", "halted")
    assert ended["state"] == "completed" and ended["states"] == {"done": len(shops) - 1, "failed": 1}
    assert [each["code"] for each in ended["failures"]] == ["wrong_identity"]
    assert version not in rollouts.versions(shops[1])
    assert rollouts.api.tenant(shops[1])["state"] == "ready"
    rollouts.query(shops[1], f"update tenantry.identity set tenant_id = '{shops[1]}'")
    assert rollouts.command(run, "retry", code="wrong_identity")["state"] == "succeeded"
    assert rollouts.wait(run, "completed", "halted")["states"] == {"done": len(shops)}


def test_a_suspension_does_not_wait_for_a_long_migration(rollouts: Rollouts, shops: list[str]) -> None:
    slow = rollouts.file("select pg_sleep(30);", "select 1;")
    run = rollouts.begin(strategy="all", tenants=[shops[2]], max_failure_rate=1)
    eventually(lambda: rollouts.run(run)["state"] in ("forecasting", "running"), 10, "it is under way")
    began = time.monotonic()
    operation = rollouts.api.command(shops[2], "suspend").json["operation_id"]
    assert rollouts.api.wait_operation(operation)["state"] == "succeeded"
    assert time.monotonic() - began < 20, "it did not wait for the migration's end"
    eventually(
        lambda: rollouts.run(run)["states"] == {"applying": 1}, 20, "it is tried again, of a suspended tenant too"
    )
    assert rollouts.command(run, "cancel")["state"] == "succeeded"
    operation = rollouts.api.command(shops[2], "resume").json["operation_id"]
    assert rollouts.api.wait_operation(operation)["state"] == "succeeded"
    refused = rollouts.withdraw(slow)
    assert refused["code"] == "file_applied", "nobody knows what became of an attempt that was cut off"
    assert rollouts.command(run, "rollback")["state"] == "succeeded"
    rollouts.wait(run, "rolled_back")
    assert rollouts.withdraw(slow)["state"] == "succeeded", "the rollback has looked"


def test_a_migrator_that_is_told_to_stop_gives_its_tenants_back_at_once(
    stack: Stack, rollouts: Rollouts, shops: list[str]
) -> None:
    slow = rollouts.file("select pg_sleep(3);", "select 1;")
    run = rollouts.begin(strategy="all")
    rollouts.wait(run, "running", seconds=40)
    with started(stack.services.get("migrator-1") or stack.service("migrator", 1)):
        stack.services["migrator-0"].stop()
        ended = rollouts.wait(run, "completed", "halted", seconds=60)
        assert ended["states"] == {"done": len(shops)}, ended
        stack.services["migrator-0"].restart()
        stack.services["migrator-0"].wait_until_ready()
    assert rollouts.command(run, "rollback")["state"] == "succeeded"
    rollouts.wait(run, "rolled_back")
    assert rollouts.withdraw(slow)["state"] == "succeeded"


WAVES = {"strategy": "waves"}
REFUSED_AT_ONCE: list[tuple[dict[str, Any], str]] = [
    ({"strategy": "slowly"}, "strategy"),
    ({"waves": [{"percent": 100}]}, "waves"),
    (WAVES, "waves"),
    ({**WAVES, "waves": [{"percent": 50}, {"percent": 10}, {"percent": 100}]}, "waves"),
    ({**WAVES, "waves": [{"percent": 50}]}, "waves"),
    ({**WAVES, "waves": [{"percent": 50, "count": 1}, {"percent": 100}]}, "waves"),
    ({**WAVES, "waves": []}, "waves"),
    ({"labels": ["eu"], "tenants": [str(uuid.uuid4())]}, "tenants"),
    ({"soak": "soon"}, "soak"),
    ({"soak": "400d"}, "soak"),
    ({"max_failure_rate": 2}, "max_failure_rate"),
    ({"on_halt": "panic"}, "on_halt"),
    ({"concurrency": 0}, "concurrency"),
    ({"lock_timeout": "0"}, "lock_timeout"),
    ({"run_id": str(uuid.uuid4())}, "run_id"),
    ({"speed": 9}, "speed"),
]  # fmt: skip


@pytest.mark.parametrize("body, field", REFUSED_AT_ONCE)
def test_what_contradicts_itself_is_refused_with_the_field(
    rollouts: Rollouts, body: dict[str, Any], field: str
) -> None:
    told = rollouts.api.post("/api/admin/migrations/run", body)
    assert told.status == 400 and told.json["field"] == field, told


def test_what_the_fleet_cannot_do_is_refused_with_the_reason(
    rollouts: Rollouts, shops: list[str], version: str
) -> None:
    assert rollouts.refused(target="1")[0] == "unknown_version"
    assert rollouts.refused(tenants=[str(uuid.uuid4())])[0] == "unknown_tenant"
    assert rollouts.refused(labels=["nobody"])[0] == "unknown_label"
    assert rollouts.refused(target=rollouts.versions(shops[0])[0])[0] == "target_below"
    irreversible = rollouts.file("select 1;")
    assert rollouts.refused(on_halt="rollback")[0] == "irreversible"
    breaking = rollouts.file("alter table branches drop column name;", "select 1;")
    code, detail = rollouts.refused()
    assert code == "breaking_change" and "drop-column" in detail
    for made in (irreversible, breaking):
        assert rollouts.withdraw(made)["state"] == "succeeded"


@pytest.mark.parametrize(
    "sql, word",
    [
        ("create table a (a int);", "migrate:up"),
        ("-- migrate:up\ncreate table a (a int);", "migrate:down"),
        ("-- migrate:up transaction:maybe\nselect 1;\n-- migrate:down\n", "transaction:maybe"),
        ("-- migrate:up\ncommit;\n-- migrate:down\n", "transaction"),
        ("-- migrate:up\nselect 'a;\n-- migrate:down\n", "never closed"),
    ],
)
def test_a_malformed_file_is_refused_with_name_and_place(rollouts: Rollouts, sql: str, word: str) -> None:
    told = rollouts.api.post("/api/admin/migrations/files", {"name": "20280101000000_bad.sql", "sql": sql})
    assert told.status == 400 and "20280101000000_bad.sql" in told.json["detail"] and word in told.json["detail"], told


def test_only_an_admin_may_do_any_of_it(stack: Stack, rollouts: Rollouts) -> None:
    for scope in ("signup", "read", "app"):
        caller = Api(rollouts.api.url, stack.settings["tokens"][scope])
        assert caller.post("/api/admin/migrations/run", {}).status == 403
        assert caller.post("/api/admin/migrations/files", {"name": "1_a.sql", "sql": "x"}).status == 403
        assert caller.get("/api/admin/migrations/status").status == 403


def test_a_command_to_a_run_that_has_ended_is_refused(rollouts: Rollouts, shops: list[str]) -> None:
    run = rollouts.completed(strategy="all")
    for command in ("pause", "resume", "promote", "halt", "cancel"):
        done = rollouts.command(run, command)
        assert done["state"] == "rejected" and done["code"] == "wrong_state", done
    assert rollouts.command(str(uuid.uuid4()), "pause")["code"] == "unknown_run"
