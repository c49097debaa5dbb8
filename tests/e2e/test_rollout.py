"""Rollouts: registered files come to the whole fleet, in waves, and are taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import REPOSITORY, Stack

from .client import Api, eventually
from .command import cli, refused
from .conftest import make_stack
from .invariants import rows
from .rollouts import Rollouts

PRODUCT = sorted(path.name.partition("_")[0] for path in (REPOSITORY / "migrations" / "tenant").glob("*.sql"))


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", whole_product=True, migrators=2, keep_memberships=True)


@pytest.fixture(scope="module")
def rollouts(stack: Stack) -> Rollouts:
    return Rollouts(stack)


@pytest.fixture(scope="module")
def shops(stack: Stack) -> list[str]:
    api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    return [api.ready_tenant(f"Shop {number}") for number in range(5)]


def test_the_directory_is_registered_at_start_and_new_tenants_get_it(rollouts: Rollouts, shops: list[str]) -> None:
    files = rollouts.api.get("/api/admin/migrations/files").json["files"]
    assert [file["version"] for file in files] == PRODUCT
    assert all(file["registered_by"] == "TENANT_MIGRATIONS" and file["reversible"] for file in files)
    assert all(rollouts.versions(shop) == PRODUCT for shop in shops)


def test_a_registered_file_waits_for_a_run_and_then_new_tenants_get_it(rollouts: Rollouts, shops: list[str]) -> None:
    version = rollouts.file("create table colour (name text primary key);", "drop table colour;")
    early = rollouts.api.ready_tenant("Early Shop")
    assert rollouts.versions(early) == PRODUCT, "what nobody has is not given to new tenants"
    run = rollouts.completed(strategy="all")
    for shop in [*shops, early]:
        assert rollouts.versions(shop) == [*PRODUCT, version]
        schema = rollouts.api.tenant(shop)["schema"]
        assert (schema["version"], schema["state"], schema["run"]) == (version, "current", run)
    late = rollouts.api.ready_tenant("Late Shop")
    assert rollouts.versions(late) == [*PRODUCT, version]
    assert {job["state"] for job in rollouts.tenants(run)} == {"done"}


def test_a_run_that_everybody_has_touches_nobody(rollouts: Rollouts, shops: list[str]) -> None:
    run = rollouts.completed(strategy="all")
    assert {job["state"] for job in rollouts.tenants(run)} == {"current"}


def test_the_tenants_of_a_run_come_page_by_page_each_once_in_their_order(rollouts: Rollouts, shops: list[str]) -> None:
    run = rollouts.completed(strategy="all")
    # As if more had been in it, and had left: with places of one digit, of two and of three.
    rows(
        rollouts.stack,
        "insert into migrator.job (run_id, tenant_id, wave, place, state) "
        f"select '{run}', gen_random_uuid(), 1, n, 'left' from generate_series(90, 120) n",
    )
    in_order = rows(rollouts.stack, f"select tenant_id from migrator.job where run_id = '{run}' order by place")
    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = rollouts.api.get(f"/api/admin/migrations/runs/{run}/tenants?limit=4{cursor and f'&cursor={cursor}'}")
        assert page.status == 200, page
        listed += [job["tenant_id"] for job in page.json["tenants"]]
        cursor = page.json["next_cursor"]
    rows(rollouts.stack, f"delete from migrator.job where run_id = '{run}' and place >= 90 returning 1")
    assert listed == [row[0] for row in in_order]


def test_waves_are_promoted_when_their_soak_is_over_and_end_with_all(rollouts: Rollouts, shops: list[str]) -> None:
    version = rollouts.file("create table size (name text primary key);", "drop table size;")
    run = rollouts.begin(soak="1h")
    soaking = rollouts.wait(run, "soaking")
    assert soaking["wave"] == 1 and soaking["waves"] == 3 and soaking["states"]["done"] == 1
    assert rollouts.command(run, "promote")["state"] == "succeeded"
    rollouts.wait(run, "soaking")
    rollouts.advance_clock("2h")
    ended = rollouts.wait(run, "completed")
    assert ended["states"] == {"done": ended["tenants"]}
    assert all(version in rollouts.versions(shop) for shop in shops)


def test_what_would_fail_is_foreseen_and_touches_nobody(rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.query(shops[1], "create table foreseen (a int)")
    first = rollouts.file("create table before_it (a int);", "drop table before_it;")
    second = rollouts.file(
        "alter table before_it add column b int; create table foreseen (a int);", "drop table foreseen;"
    )
    before = {shop: rollouts.versions(shop) for shop in shops}
    dry = rollouts.run(rollouts.completed(dry_run=True))
    assert dry["reason"]["code"] == "dry_run" and dry["reason"]["detail"].startswith("1 of ")
    assert [(each["code"], each["count"]) for each in dry["failures"]] == [("42P07", 1)]
    assert dry["forecast"] == {"failed": 1, "passed": dry["tenants"] - 1} and dry["states"] == {"tried": dry["tenants"]}
    run = rollouts.begin(strategy="all")
    halted = rollouts.wait(run, "halted")
    assert halted["reason"]["code"] == "forecast_failed" and halted["states"] == {"waiting": halted["tenants"]}
    assert {shop: rollouts.versions(shop) for shop in shops} == before
    rollouts.query(shops[1], "drop table foreseen")
    assert rollouts.command(run, "resume")["state"] == "succeeded"
    rollouts.wait(run, "completed")
    assert all(rollouts.versions(shop) == [*before[shop], first, second] for shop in shops)


def test_failures_halt_a_run_and_the_failed_can_be_retried(rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.query(shops[0], "create table taken (a int)")
    version = rollouts.file("create table taken (a int);", "drop table taken;")
    run = rollouts.begin(strategy="all", max_failures=0)
    assert rollouts.wait(run, "halted")["reason"]["code"] == "forecast_failed"
    assert rollouts.command(run, "resume")["state"] == "succeeded", "an operator may go on all the same"
    eventually(lambda: rollouts.run(run)["states"].get("failed"), 30, "it fails as was foreseen")
    halted = rollouts.wait(run, "halted")
    assert halted["reason"]["code"] == "too_many_failures"
    assert [(each["code"], each["count"]) for each in halted["failures"]] == [("42P07", 1)]
    assert "taken" in halted["failures"][0]["example"]
    [failed] = rollouts.tenants(run, "?state=failed")
    assert failed["tenant_id"] == shops[0] and failed["error"]["code"] == "42P07"
    assert rollouts.api.tenant(shops[0])["schema"]["state"] == "failed"
    assert rollouts.api.tenant(shops[0])["state"] == "ready", "the tenant works as before"
    rollouts.query(shops[0], "drop table taken")
    assert rollouts.command(run, "retry")["state"] == "succeeded"
    rollouts.wait(run, "completed")
    assert all(version in rollouts.versions(shop) for shop in shops)


def test_what_was_done_by_hand_is_only_noted(rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.query(shops[3], "create table by_hand (a int)")
    version = rollouts.file("create table by_hand (a int);", "drop table by_hand;")
    run = rollouts.begin(strategy="all", max_failure_rate=1)
    assert rollouts.wait(run, "completed")["states"]["failed"] == 1
    assert (
        rollouts.api.post(f"/api/admin/migrations/runs/{run}/mark", {"tenant_id": shops[3]}).json["field"] == "reason"
    )
    done = rollouts.command(run, "mark", tenant_id=shops[3], reason="the table was there already")
    assert done["state"] == "succeeded"
    assert "failed" not in rollouts.wait(run, "completed")["states"], rollouts.tenants(run, "?state=failed")
    assert version in rollouts.versions(shops[3])
    [job] = [job for job in rollouts.tenants(run) if job["tenant_id"] == shops[3]]
    assert job["marked"] == {"by": "/tenantry/gateway", "reason": "the table was there already"}


def test_a_rollback_takes_back_exactly_what_the_run_brought(rollouts: Rollouts, shops: list[str]) -> None:
    before = {shop: rollouts.versions(shop) for shop in shops}
    one = rollouts.file("create table one (a int);", "drop table one;")
    two = rollouts.file("create table two (a int);", "drop table two;")
    run = rollouts.completed(strategy="all")
    assert all(rollouts.versions(shop) == [*before[shop], one, two] for shop in shops)
    assert rollouts.command(run, "rollback")["state"] == "succeeded"
    ended = rollouts.wait(run, "rolled_back")
    assert ended["states"] == {"undone": ended["tenants"]}
    assert {shop: rollouts.versions(shop) for shop in shops} == before
    late = rollouts.api.ready_tenant("After Rollback")
    assert rollouts.versions(late) == before[shops[0]]
    for version in (one, two):
        assert rollouts.withdraw(version)["state"] == "succeeded"
    assert rollouts.withdraw(one)["code"] == "unknown_file"
    assert rollouts.withdraw(rollouts.versions(late)[-1])["code"] == "file_applied"


def test_a_file_is_registered_as_it_lies_there_and_withdrawn_by_its_own_name(stack: Stack, tmp_path: Path) -> None:
    path, verify = tmp_path / "20990101000000_late.sql", tmp_path / "20990101000000_late.verify"
    path.write_text("-- migrate:up\ncreate table late (a int);\n-- migrate:down\ndrop table late;\n")
    verify.write_text("select true")
    shown = "select coalesce(verify, 'none') from migrator.file where version = '20990101000000'"
    for place in (path, tmp_path, path):
        assert cli(stack, "migrate", "register", str(place)).stdout == f"{path.name}: registered\n"
        assert rows(stack, shown) == [["select true"]]
    verify.unlink()
    for outcome in ("registered", "unchanged"):
        assert cli(stack, "migrate", "register", str(path)).stdout == f"{path.name}: {outcome}\n"
        assert rows(stack, shown) == [["none"]]
    other = str(tmp_path / "20990101000000_other.sql")
    refused(cli(stack, "migrate", "withdraw", other), 1, f"the file with this version is {path.name}")
    refused(cli(stack, "migrate", "withdraw", "late"), 2, "by its version, or by its name")
    assert cli(stack, "migrate", "withdraw", str(path)).stdout == f"{path.name}: withdrawn\n"


def test_by_policy_staging_comes_first(rollouts: Rollouts, shops: list[str]) -> None:
    version = rollouts.file("create table staged (a int);", "drop table staged;")
    code, detail = rollouts.refused(require_staging=True)
    assert code == "staging_first" and f"{version}_made.sql" in detail, "nobody is labelled staging"
    labelled = rollouts.api.post(f"/api/tenants/{shops[2]}/labels", {"add": ["staging"]})
    assert rollouts.api.wait_operation(labelled.json["operation_id"])["state"] == "succeeded"
    assert rollouts.refused(require_staging=True)[0] == "staging_first"
    rollouts.completed(tenants=[shops[2]], strategy="all", require_staging=True)
    assert version in rollouts.versions(shops[2]) and version not in rollouts.versions(shops[0])
    run = rollouts.completed(strategy="all", require_staging=True)
    assert {job["state"] for job in rollouts.tenants(run) if job["tenant_id"] == shops[2]} == {"current"}


def test_a_tenant_born_during_a_run_gets_its_files_too(rollouts: Rollouts, shops: list[str]) -> None:
    version = rollouts.file("select pg_sleep(0.3); create table born (a int);", "drop table born;")
    run = rollouts.begin(strategy="all", concurrency=1)
    rollouts.wait(run, "running")
    born = rollouts.api.ready_tenant("Born During")
    ended = rollouts.wait(run, "completed", "halted", seconds=60)
    assert ended["state"] == "completed", ended
    assert version in rollouts.versions(born)
    assert born in {job["tenant_id"] for job in rollouts.tenants(run)}


def test_a_rollback_leaves_what_a_tenant_was_born_with(rollouts: Rollouts, shops: list[str]) -> None:
    before = rollouts.versions(shops[0])
    version = rollouts.file("create table of_run (a int);", "drop table of_run;")
    run = rollouts.begin(soak="1h")
    rollouts.wait(run, "soaking")
    born = rollouts.api.ready_tenant("Born Meanwhile")
    for _ in range(2):
        rollouts.command(run, "promote")
        rollouts.wait(run, "soaking", "completed")
    rollouts.wait(run, "completed")
    assert rollouts.versions(born) == [*before, version]
    [joined] = [job for job in rollouts.tenants(run) if job["tenant_id"] == born]
    assert joined["brought"] == [version]
    assert rollouts.command(run, "rollback")["state"] == "succeeded"
    rollouts.wait(run, "rolled_back")
    assert rollouts.versions(born) == before, "its first schema is not the run's"
    assert rollouts.withdraw(version)["state"] == "succeeded"


def test_a_rollback_leaves_what_the_run_before_it_brought(rollouts: Rollouts, shops: list[str]) -> None:
    before = rollouts.versions(shops[0])
    one = rollouts.file("create table of_first (a int);", "drop table of_first;")
    two = rollouts.file("create table of_second (a int);", "drop table of_second;")
    first = rollouts.begin(target=one, soak="1h")
    second = rollouts.begin(target=two, strategy="all", queue=True)
    rollouts.wait(first, "soaking")
    for _ in range(2):
        rollouts.command(first, "promote")
        rollouts.wait(first, "soaking", "completed")
    rollouts.wait(second, "completed")
    for run, left in ((second, [*before, one]), (first, before)):
        assert rollouts.command(run, "rollback")["state"] == "succeeded"
        rollouts.wait(run, "rolled_back")
        assert all(rollouts.versions(shop) == left for shop in shops)
    assert rollouts.withdraw(two)["state"] == rollouts.withdraw(one)["state"] == "succeeded"
