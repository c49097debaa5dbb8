"""Tenants' databases that somebody has changed by hand, looked into for real: `tenantry drift`, and the probes of a rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .command import cli
from .conftest import make_stack
from .invariants import rows
from .rollouts import Rollouts
from .service_faults import armed, died_of_sigkill


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", whole_product=True, migrators=1)


@pytest.fixture(scope="module")
def rollouts(stack: Stack) -> Rollouts:
    return Rollouts(stack)


@pytest.fixture(scope="module")
def shops(stack: Stack) -> list[str]:
    api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    return [api.ready_tenant(f"Shop {number}") for number in range(4)]


def drift(stack: Stack, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what was found of each tenant by kind."""
    done = cli(stack, "drift", *words, "-o", "json")
    assert done.returncode in {0, 1}, done.stderr
    told = json.loads(done.stdout)
    found = told["tenants"]
    assert told["check"]["state"] == "ended" and told["check"]["drifted"] == len(found)
    return done.returncode, {item["tenant_id"]: {f["kind"]: f for f in item["findings"]} for item in found}


def test_before_the_first_check_there_is_none_to_show(stack: Stack, rollouts: Rollouts) -> None:
    told = rollouts.api.get("/api/admin/migrations/drift")
    assert (told.status, told.json["code"]) == (404, "not_found")
    assert cli(stack, "drift", "--last").returncode == 3


def test_a_check_of_nobody_is_refused_instead_of_never_ending(rollouts: Rollouts) -> None:
    for nobody in ("labels", "tenants"):
        told = rollouts.api.post("/api/admin/migrations/drift", {nobody: []})
        assert (told.status, told.json["field"]) == (400, nobody)


def test_tenants_as_they_were_made_have_not_drifted(stack: Stack, shops: list[str]) -> None:
    assert drift(stack, "--schema") == (0, {})
    fingerprints = rows(stack, "select count(*), count(distinct fingerprint_id) from migrator.tenant")
    assert fingerprints == [["4", "1"]]


def test_each_thing_done_by_hand_is_named(stack: Stack, rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.query(shops[0], "create table public.extra (id int); create index extra_id on public.extra (id)")
    rollouts.query(shops[1], "create function public.f() returns int language sql as 'select 1'")
    code, found = drift(stack, "--schema")
    assert code == 1 and set(found) == {shops[0], shops[1]}
    assert set(found[shops[0]]["schema"]["extra"]) == {
        "table public.extra",
        "column public.extra.id",
        "index public.extra_id",
    }
    assert found[shops[1]]["schema"]["extra"] == ["function public.f()"]
    assert found[shops[1]]["schema"]["alike"] == 2 and found[shops[1]]["schema"]["of"] == 4
    rollouts.query(shops[0], "drop table public.extra")
    rollouts.query(shops[1], "drop function public.f()")
    assert drift(stack, "--schema") == (0, {})


def test_the_ledger_that_somebody_changed_is_followed(stack: Stack, rollouts: Rollouts, shops: list[str]) -> None:
    version = rollouts.file("create table by_hand (id int)", "drop table by_hand")
    rollouts.completed(strategy="all")
    rollouts.query(shops[2], f"delete from public.schema_migrations where version = '{version}'")
    rollouts.query(shops[2], "drop table by_hand")
    code, found = drift(stack, "--tenants", shops[2])
    assert code == 1 and found == {shops[2]: {"ledger": {"kind": "ledger", "missing": [version], "extra": []}}}
    assert rollouts.api.tenant(shops[2])["schema"]["version"] != version
    explained = cli(stack, "explain", shops[2]).stdout
    assert "a check for drift finds" in explained and "because the ledger in its database decides" in explained
    alerts = rollouts.api.get("/api/admin/alerts").json["items"]
    assert "schema-drift" in {alert["cause"] for alert in alerts}
    run = rollouts.completed(strategy="all")
    assert [job["tenant_id"] for job in rollouts.tenants(run) if job["state"] == "done"] == [shops[2]]
    assert drift(stack, "--schema") == (0, {})
    alerts = rollouts.api.get("/api/admin/alerts").json["items"]
    assert "schema-drift" not in {alert["cause"] for alert in alerts}


def test_people_read_a_line_for_each(stack: Stack, rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.query(shops[3], "insert into public.schema_migrations (version) values ('19990101')")
    done = cli(stack, "drift")
    assert done.returncode == 1
    slug = rollouts.api.tenant(shops[3])["slug"]
    assert f"{slug}" in done.stdout and "no file has the version 19990101" in done.stdout, done.stdout
    rollouts.query(shops[3], "delete from public.schema_migrations where version = '19990101'")
    assert cli(stack, "drift").returncode == 1  # it is put right with this one
    assert cli(stack, "drift").returncode == 0
    assert cli(stack, "drift", "--last").returncode == 0


def test_a_tenant_whose_functions_shadow_ours_is_read_all_the_same(
    stack: Stack, rollouts: Rollouts, shops: list[str]
) -> None:
    rollouts.query(
        shops[0],
        "create schema trap; create function trap.format(text, name, name) returns text language sql as $$select 'x'$$; "
        "create function trap.md5(text) returns text language sql as $$select 'y'$$;",
    )
    database = rollouts.database_of(shops[0])
    rollouts.query(shops[0], f'alter database "{database}" set search_path = trap, pg_catalog, public')
    _, found = drift(stack, "--schema")
    assert set(found) <= {shops[0]} and "unreachable" not in found.get(shops[0], {})
    rollouts.query(shops[0], f'alter database "{database}" reset search_path')
    rollouts.query(shops[0], "drop schema trap cascade")
    assert drift(stack, "--schema") == (0, {})


def test_no_function_of_a_tenants_tells_how_many_connections_its_server_has(
    stack: Stack, rollouts: Rollouts, shops: list[str]
) -> None:
    database = rollouts.database_of(shops[0])
    rollouts.query(
        shops[0],
        "create schema trap; create function trap.current_setting(text) returns text language sql as "
        "$$select case when $1 = 'max_connections' then '2147483647' else '3' end$$; grant usage on schema trap to public",
    )
    rollouts.query(shops[0], f'alter database "{database}" set search_path = public, trap, pg_catalog')
    rollouts.file("create table counted (id int)", "drop table counted")
    rollouts.completed(strategy="all", tenants=[shops[0]])
    told = [int(known) for [known] in rows(stack, "select connections from migrator.server")]
    rollouts.query(shops[0], f'alter database "{database}" reset search_path')
    rollouts.query(shops[0], "drop schema trap cascade")
    most = int(rollouts.query(shops[0], "show max_connections")[0][0])
    assert len(told) == 1 and 0 < told[0] < most
    rollouts.completed(strategy="all")


AS_OWNER = (
    "do $$ begin execute format('set role %I', (select datdba::regrole::text from pg_database "
    "where datname = current_database())); end $$; "
)
MINE = AS_OWNER + "alter table public.schema_migrations rename to mine; "
VIEW = "create view public.schema_migrations as select v as version from public.theirs() v"
TRICKS = {
    "unreadable": MINE + "create function public.theirs() returns setof text language plpgsql as $$ begin "
    "perform set_config('client_encoding', 'LATIN1', false); return next 'caf\u00e9'; end $$; " + VIEW,
    "unreadable, since it has no end": MINE
    + "create view public.schema_migrations as select repeat('x', 10000) as version from generate_series(1, 60000)",
    "wrong_identity": AS_OWNER + "alter table tenantry.identity alter tenant_id drop not null; "
    "update tenantry.identity set tenant_id = null",
}
UNDO = (
    "drop view if exists public.schema_migrations; drop function if exists public.theirs(); "
    "alter table if exists public.mine rename to schema_migrations"
)


@pytest.mark.parametrize("trick", TRICKS)
def test_what_an_owner_makes_of_a_database_harms_the_check_of_no_other(
    stack: Stack, rollouts: Rollouts, shops: list[str], trick: str
) -> None:
    rollouts.query(shops[0], TRICKS[trick])
    rollouts.query(shops[3], "insert into public.schema_migrations (version) values ('19990101')")
    code, found = drift(stack, "--schema")
    assert code == 1 and set(found) == {shops[0], shops[3]}
    assert found[shops[0]]["unreachable"]["error"]["code"] == trick.split(",")[0], found
    assert "unknown_version" in found[shops[3]]
    rollouts.query(shops[3], "delete from public.schema_migrations where version = '19990101'")
    rollouts.query(
        shops[0], UNDO if trick != "wrong_identity" else f"update tenantry.identity set tenant_id = '{shops[0]}'"
    )
    drift(stack, "--schema")
    assert drift(stack, "--schema") == (0, {})


@pytest.mark.parametrize("point", ["inspection_after_claim", "inspection_before_result"])
def test_a_migrator_that_dies_while_it_looks_is_followed_by_another(
    stack: Stack, rollouts: Rollouts, shops: list[str], point: str
) -> None:
    with armed(stack.services["migrator-0"], f"{point}=crash"):
        asked = rollouts.api.post("/api/admin/migrations/drift", {})
        assert asked.status == 202 and died_of_sigkill(stack.services["migrator-0"])
    rows(stack, "update migrator.inspection set next_at = now()")  # as if their minute were over
    done = rollouts.api.wait_operation(asked.json["operation_id"])
    assert (done["state"], done["result"]["drifted"]) == ("succeeded", 0)


@pytest.mark.parametrize("archived", [False, True])
def test_a_tenant_restored_from_an_old_backup_gets_what_it_missed(
    stack: Stack, rollouts: Rollouts, shops: list[str], archived: bool
) -> None:
    shop, slug = shops[1], rollouts.api.tenant(shops[1])["slug"]
    rollouts.api.done(shop, "archive" if archived else "backup")
    version = rollouts.file(f"create table missed_{archived} (id int)".lower(), f"drop table missed_{archived}".lower())
    rollouts.completed(strategy="all")
    rollouts.api.done(shop, "restore", mode="in_place", confirm=slug)
    eventually(lambda: version in rollouts.versions(shop), 30, "it has been brought forward")
    eventually(lambda: rollouts.api.tenant(shop)["schema"]["version"] == version, 10, "and its snapshot says so")
    assert drift(stack, "--schema") == (0, {})


def test_an_index_that_becomes_invalid_in_a_soak_halts_the_run(rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.file("create table watched (id int)", "drop table watched")
    run = rollouts.begin(strategy="waves", waves=[{"percent": 50}, {"percent": 100}], soak="10m")
    rollouts.wait(run, "soaking")
    first = next(job["tenant_id"] for job in rollouts.tenants(run) if job["wave"] == 1)
    rollouts.query(first, "insert into watched values (1), (1)")
    with pytest.raises(Exception, match="could not create unique index"):
        rollouts.query(first, "create unique index concurrently watched_once on watched (id)")
    rollouts.advance_clock("1m")
    halted = rollouts.wait(run, "halted", seconds=90)
    assert halted["reason"]["code"] == "probe_failed" and "watched_once" in halted["reason"]["detail"]
    rollouts.command(run, "rollback")
    rollouts.wait(run, "rolled_back")


def test_monitoring_halts_a_run_by_http_and_by_command(stack: Stack, rollouts: Rollouts, shops: list[str]) -> None:
    rollouts.file("create table signalled (id int)", "drop table signalled")
    run = rollouts.begin(strategy="waves", waves=[{"percent": 50}, {"percent": 100}], soak="10m")
    rollouts.wait(run, "soaking")
    said = {"name": "error-rate", "verdict": "halt", "reason": "5 % of logins fail"}
    told = rollouts.api.post(f"/api/admin/migrations/runs/{run}/signals", said)
    assert told.status == 202, told
    halted = rollouts.wait(run, "halted")
    assert halted["reason"] == {"code": "signal", "detail": "error-rate: 5 % of logins fail"}
    rollouts.command(run, "resume")
    assert rollouts.run(run)["signals"] == []
    done = cli(stack, "migrate", "signal", run, "latency", "halt", "--reason", "p99 is 3 s")
    assert done.returncode == 0, done.stderr
    eventually(lambda: rollouts.run(run)["state"] == "halted", 10, "the run halts")
    shown = cli(stack, "migrate", "status", run).stdout
    assert "signal latency: halt: p99 is 3 s" in shown and "watches 2 tenants: " in shown, shown
    rollouts.command(run, "rollback")
    rollouts.wait(run, "rolled_back")
    assert "watches" not in cli(stack, "migrate", "status", run).stdout


def test_monitoring_halts_whatever_run_is_at_work_with_a_token_that_does_nothing_else(
    rollouts: Rollouts, monitoring: Api, shops: list[str]
) -> None:
    """It need not know the run, and hears at once what became of its signal: it may look up neither."""
    path, said = "/api/admin/migrations/runs/active/signals", {"name": "error-rate", "verdict": "halt"}
    nobody = monitoring.post(path, said)
    assert (nobody.status, nobody.json["detail"]) == (404, "no run is at work")
    rollouts.file("create table told (id int)", "drop table told")
    run = rollouts.begin(strategy="waves", waves=[{"percent": 50}, {"percent": 100}], soak="10m")
    rollouts.wait(run, "soaking")
    waits = rollouts.begin(queue=True)
    told = monitoring.call("POST", path, said, idempotency_key="the first alert", prefer="wait=20")
    assert (told.status, told.json["state"], told.json["run_id"]) == (200, "succeeded", run), told
    assert rollouts.wait(run, "halted")["reason"]["code"] == "signal" and rollouts.run(waits)["state"] == "queued"
    again = monitoring.call("POST", path, said, idempotency_key="the first alert")
    assert again.json["operation_id"] == told.json["operation_id"]
    problem = monitoring.call("POST", path, {**said, "run_id": run})
    assert (problem.status, problem.json["field"]) == (400, "run_id")
    for forbidden in (monitoring.get(f"/api/admin/migrations/runs/{run}"), monitoring.get(told.json["status_url"]),
                      monitoring.post(f"/api/admin/migrations/runs/{run}/resume")):  # fmt: skip
        assert (forbidden.status, forbidden.json["code"]) == (403, "wrong_scope")
    mended = monitoring.call(
        "POST", f"/api/admin/migrations/runs/{run}/signals", {**said, "verdict": "good"}, prefer="wait=20"
    )
    assert mended.json["state"] == "succeeded" and rollouts.run(run)["signals"][0]["verdict"] == "good"
    rollouts.command(waits, "cancel")
    rollouts.command(run, "rollback")
    rollouts.wait(run, "rolled_back")
    assert monitoring.post(path, said).status == 404
