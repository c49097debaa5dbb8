"""The catalog's own rules of rollouts, asked as a migrator asks them: who gets what from a run, and who gives it back. PostgreSQL
and `tenantry init`; the tenants' databases are what the test says they are."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from deploy.local.stack import Stack

from .client import eventually
from .rollout_desk import BASE, SHOPS, Desk, shop, shops_catalog
from .test_catalog import as_service, one


@pytest.fixture(scope="module")
def catalog() -> Iterator[Stack]:
    with shops_catalog("rules") as stack:
        yield stack


@pytest.fixture
def desk(catalog: Stack) -> Iterator[Desk]:
    made = Desk(catalog)
    yield made
    made.close()


def test_a_queued_run_does_not_believe_what_was_known_when_it_was_planned(desk: Desk) -> None:
    desk.file("4")
    first = desk.begin()
    *most, last = desk.claim()
    for job in most:
        desk.end(job)
    queued = desk.begin(queue=True)
    assert sorted(desk.jobs(queued).values()) == ["current"] * len(most) + ["waiting"]
    desk.end(last)
    assert desk.command(first, "halt")[0] == "succeeded"
    assert desk.command(first, "rollback")[0] == "succeeded"
    desk.work()
    assert desk.state(first) == "rolled_back" and desk.state(queued) == "completed"
    assert set(desk.jobs(queued).values()) == {"done"}
    assert all(sorted(has) == [*BASE, "4"] for has in desk.has.values())


def test_a_queued_run_connects_to_nobody_who_got_its_files_meanwhile(desk: Desk) -> None:
    desk.file("4")
    desk.begin()
    queued = desk.begin(queue=True)
    assert desk.work() == SHOPS
    assert desk.state(queued) == "completed" and set(desk.jobs(queued).values()) == {"current"}


def test_who_comes_while_the_last_wave_is_under_way_gets_the_files_too(desk: Desk) -> None:
    desk.leave(shop(1), "provisioning")
    desk.file("4")
    run = desk.begin()
    for job in desk.claim():
        desk.end(job)
    desk.leave(shop(1), "ready")
    desk.work()
    assert desk.state(run) == "completed" and desk.jobs(run)[shop(1)] == "done"
    assert "4" in desk.has[shop(1)]


def test_who_left_the_fleet_and_is_back_gets_the_files_too(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(strategy="waves", waves=[{"count": 1}, {"count": 1}, {"percent": 100}], soak_ms=3600000)
    for job in desk.claim():
        desk.end(job)
    waiting = next(tenant for tenant, state in desk.jobs(run).items() if state == "waiting")
    desk.advance()
    desk.leave(waiting)
    assert desk.command(run, "promote")[0] == "succeeded" and desk.jobs(run)[waiting] == "left"
    desk.leave(waiting, "ready")
    desk.work()
    if desk.state(run) == "soaking":
        assert desk.command(run, "promote")[0] == "succeeded"
    desk.work()
    assert desk.state(run) == "completed" and "4" in desk.has[waiting]


def test_who_leaves_the_fleet_during_a_wave_is_no_failure(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(max_failures=0)
    desk.leave(shop(2))
    claimed = desk.claim()
    assert shop(2) not in [job["tenant_id"] for job in claimed]
    for job in claimed:
        desk.end(job)
    desk.work()
    assert desk.state(run) == "completed" and desk.jobs(run)[shop(2)] == "left"


def test_a_rollback_does_not_wait_for_who_has_left_the_fleet(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    desk.work()
    desk.leave(shop(2), "deprovisioned")
    assert desk.command(run, "rollback")[0] == "succeeded"
    desk.work()
    assert desk.state(run) == "rolled_back" and desk.jobs(run)[shop(2)] == "left"


def test_what_an_attempt_brought_that_was_lost_is_taken_back_too(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(max_failures=10, max_failure_rate=1)
    given_way, dead, cut, sure = desk.claim()
    for job in (given_way, dead, cut):
        desk.apply(job)
    desk.admin.execute("update job set lease_until = now() where job_id = %s", (dead["job_id"],))
    desk.end(given_way, "given_way", unsure=True)
    desk.end(cut, "failed", unsure=True)
    desk.end(sure, "failed", error={"code": "42P07"})
    assert desk.command(run, "rollback")[0] == "succeeded"
    assert desk.work() == 3
    assert desk.state(run) == "rolled_back"
    assert all(sorted(has) == BASE for has in desk.has.values())
    assert desk.jobs(run)[sure["tenant_id"]] == "failed"


def test_a_file_is_not_changed_while_a_tenant_may_have_it(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    job, *others = desk.claim()
    desk.apply(job)
    assert desk.command(run, "cancel")[0] == "succeeded"
    for other in others:
        desk.end(other, "given_way")
    assert desk.file("4", checksum="edited") == ("rejected", "file_applied"), "it is being applied"
    desk.admin.execute("update job set lease_until = now() where job_id = %s", (job["job_id"],))
    desk.advance()
    assert desk.file("4", checksum="edited") == ("rejected", "file_applied")
    assert desk.event("withdraw", {"name": "4_f.sql"}) == ("rejected", "file_applied")
    desk.begin()
    desk.work()
    assert one(desk.admin, "select count(*) from job where in_doubt") == 0


def test_a_retry_of_a_rollback_tries_only_what_it_could_not_take_back(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(max_failures=10, max_failure_rate=1)
    failed, *others = desk.claim()
    desk.end(failed, "failed", error={"code": "42P07"})
    for job in others:
        desk.end(job)
    desk.advance()
    desk.command(run, "rollback")
    stuck, *others = desk.claim()
    desk.end(stuck, "failed", error={"code": "42501"})
    for job in others:
        desk.end(job)
    desk.work()
    assert desk.state(run) == "halted"
    assert desk.command(run, "retry")[0] == "succeeded"
    assert desk.work() == 1 and desk.state(run) == "rolled_back"
    assert desk.jobs(run)[failed["tenant_id"]] == "failed"


def test_what_a_server_lost_of_a_rollback_is_taken_back_once_more(desk: Desk) -> None:
    """It fell back in time, to before the tenant's undo: the run's file is there again."""
    desk.file("4")
    run = desk.begin()
    desk.work()
    desk.command(run, "rollback")
    desk.work()
    assert desk.state(run) == "rolled_back"
    desk.has[shop(2)]["4"] = run
    assert desk.command(run, "rollback")[0] == "succeeded"
    assert desk.state(run) == "rolling_back"
    assert desk.work() == SHOPS and desk.state(run) == "rolled_back"
    assert all(sorted(has) == BASE for has in desk.has.values())
    assert set(desk.jobs(run).values()) == {"undone"}


def test_what_a_server_lost_of_two_rollbacks_is_taken_back_in_their_order(desk: Desk) -> None:
    runs: list[str] = []
    for version in ("4", "5"):
        desk.file(version)
        runs.insert(0, desk.begin())
        desk.work()
    for run in runs:
        assert desk.command(run, "rollback")[0] == "succeeded"
        desk.work()
    later, earlier = runs
    desk.know(shop(2), [*BASE, "4", "5"])  # as a check has found
    desk.has[shop(2)] |= {"4": earlier, "5": later}
    assert desk.command(earlier, "rollback") == ("rejected", "wrong_state")
    for run in runs:
        assert desk.command(run, "rollback")[0] == "succeeded"
        desk.work()
    assert sorted(desk.has[shop(2)]) == BASE


def test_who_had_left_at_the_second_rollback_is_looked_into_at_the_third(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    desk.work()
    for state in ("ready", "archived"):
        desk.leave(shop(2), state)
        assert desk.command(run, "rollback")[0] == "succeeded"
        desk.work()
        assert desk.state(run) == "rolled_back"
    desk.leave(shop(2), "ready")
    desk.has[shop(2)]["4"] = run  # of the time when it was archived
    assert desk.command(run, "rollback")[0] == "succeeded"
    assert desk.work() == SHOPS and sorted(desk.has[shop(2)]) == BASE


def test_what_cannot_be_taken_back_from_who_has_left_keeps_no_earlier_run(desk: Desk) -> None:
    runs: list[str] = []
    for version in ("4", "5"):
        desk.file(version)
        runs.insert(0, desk.begin())
        desk.work()
    desk.leave(shop(2), "deprovisioned")
    for run in runs:
        assert desk.command(run, "rollback")[0] == "succeeded"
        desk.work()
        assert desk.state(run) == "rolled_back" and desk.jobs(run)[shop(2)] == "left"


def test_a_run_whose_file_was_withdrawn_fails_nobody(desk: Desk) -> None:
    """No tenant's ledger could be read."""
    desk.file("4")
    run = desk.begin()
    desk.work()
    desk.command(run, "rollback")
    desk.work()
    assert desk.event("withdraw", {"name": "4_f.sql"})[0] == "succeeded"
    assert desk.command(run, "rollback") == ("rejected", "wrong_state")
    why = "select detail from operation where code = 'wrong_state' order by created_at desc limit 1"
    assert "not registered any more: 4" in one(desk.admin, why)
    desk.file("4")
    assert desk.command(run, "rollback")[0] == "succeeded"


def test_a_second_rollback_leaves_what_a_later_run_brought(desk: Desk) -> None:
    desk.file("4")
    first = desk.begin()
    desk.work()
    desk.command(first, "rollback")
    desk.work()
    second = desk.begin()
    desk.work()
    assert desk.command(first, "rollback") == ("rejected", "wrong_state")
    desk.command(second, "rollback")
    desk.work()
    assert desk.command(first, "rollback")[0] == "succeeded"


def test_a_run_can_be_taken_back_when_those_after_it_are(desk: Desk) -> None:
    desk.file("4")
    first = desk.begin()
    desk.work()
    desk.file("5")
    second = desk.begin()
    jobs = desk.claim()
    for job in jobs[1:]:
        desk.end(job)
    assert desk.command(second, "cancel")[0] == "succeeded"
    assert desk.command(first, "rollback") == ("rejected", "wrong_state"), "the second one has brought something"
    desk.end(jobs[0])
    assert desk.command(second, "rollback")[0] == "succeeded"
    desk.work()
    assert desk.state(second) == "rolled_back"
    assert desk.command(first, "rollback")[0] == "succeeded"
    desk.work()
    assert desk.state(first) == "rolled_back" and all(sorted(has) == BASE for has in desk.has.values())


def test_new_tenants_do_not_get_what_is_being_taken_back(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    desk.work()
    desk.admin.execute("update provisioner.tenant set schema_version = '4' where tenant_id = %s", (shop(1),))
    assert one(desk.migrator, "select wanted_versions()") == [*BASE, "4"]
    assert desk.command(run, "rollback")[0] == "succeeded"
    assert one(desk.migrator, "select wanted_versions()") == BASE
    desk.work()
    assert desk.state(run) == "rolled_back"
    assert one(desk.migrator, "select wanted_versions()") == BASE, "though a ready tenant was born with it"


def test_whose_ledger_nobody_has_read_yet_has_what_the_provisioner_gave_him(desk: Desk) -> None:
    """As all have after an upgrade from a release without migrators."""
    for number in range(SHOPS):
        desk.know(shop(number + 1), None)
    assert desk.file("2", checksum="edited") == ("rejected", "file_applied")
    assert desk.event("withdraw", {"name": "3_f.sql"}) == ("rejected", "file_applied")
    assert desk.event("run", {"run_id": str(uuid.uuid4()), "target": "2"}) == ("rejected", "target_below")


def test_only_what_somebody_lacks_is_judged_and_told_in_a_plan(desk: Desk) -> None:
    findings = [{"line": 1, "rule": "drop-column", "breaking": True, "allowed": False}]
    desk.admin.execute("update file set findings = %s, reversible = false where version = '2'", (json.dumps(findings),))
    desk.know(shop(1), None)
    desk.file("4")
    desk.begin(on_halt="rollback")
    plan = one(desk.admin, "select result from operation where kind = 'migrate' order by finished_at desc limit 1")
    assert [file["version"] for file in plan["files"]] == ["4"]


def test_who_has_left_the_fleet_stands_in_nobodys_way(desk: Desk) -> None:
    desk.file("5")
    desk.know(shop(1), [*BASE, "5"])
    desk.leave(shop(1), "deprovisioned")
    assert desk.file("4") == ("succeeded", None)
    desk.begin()


def test_new_tenants_do_not_get_a_register_that_is_not_complete(desk: Desk) -> None:
    desk.admin.execute("update provisioner.tenant set schema_version = '9' where tenant_id = %s", (shop(1),))
    assert one(desk.admin, "select wanted_versions()") is None
    assert one(desk.migrator, "select wanted from catalog.migration_register(null)") is None
    desk.file("9")
    assert one(desk.admin, "select wanted_versions()") == [*BASE, "9"]


def test_a_directory_is_registered_as_a_whole(desk: Desk) -> None:
    facts = {"checksum": "x", "sql": "select 1", "transaction": True, "reversible": True}
    files = [{"version": version, "name": f"{version}_f.sql", **facts} for version in ("1", "4", "5")]
    refused = desk.migrator.execute("select * from register_at_start(%s)", (json.dumps(files),)).fetchall()
    assert [name for name, _ in refused] == ["1_f.sql"] and "has been applied to" in refused[0][1]
    assert one(desk.admin, "select count(*) from file") == 5
    assert one(desk.admin, "select count(*) from alert where cause = 'migration-file:1' and resolved_at is null") == 1


def test_two_migrators_share_the_concurrency_of_a_run(desk: Desk, catalog: Stack) -> None:
    desk.file("4")
    desk.begin(concurrency=1)
    desk.migrator.execute("begin")
    assert len(desk.claim()) == 1
    with as_service(catalog, "migrator") as other:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("select claim_jobs('other', 30000, 10)")
        desk.migrator.execute("commit")
        assert other.execute("select claim_jobs('other', 30000, 10)").fetchall() == []


def test_claims_give_way_to_a_provisioner_that_takes_the_same_tenants(desk: Desk, catalog: Stack) -> None:
    """Each would wait for what the other has, and PostgreSQL would end one of them, perhaps the provisioner's."""
    desk.file("4")
    run = desk.begin()
    last = one(desk.admin, "select tenant_id::text from job where run_id = %s order by place desc limit 1", run)
    first = one(desk.admin, "select tenant_id::text from job where run_id = %s order by place limit 1", run)
    refused: list[str] = []

    def claim() -> None:
        try:
            desk.claim()
        except psycopg.errors.OperationalError as error:
            refused.append(str(error.sqlstate))

    with as_service(catalog) as provisioner:
        provisioner.execute("begin")
        take = "select claim_take(%s, 'backup', %s)"
        assert one(provisioner, take, last, str(uuid.uuid4()))
        claiming = threading.Thread(target=claim)
        claiming.start()
        waits = "select count(*) from pg_stat_activity where query like '%%claim_jobs%%' and wait_event_type = 'Lock'"
        eventually(lambda: one(desk.admin, waits) > 0, 5, "the migrator waits")
        assert one(provisioner, take, first, str(uuid.uuid4())), "it has it without being ended"
        claiming.join()
        provisioner.execute("rollback")
    assert refused == ["55P03"]
    assert len(desk.claim()) == SHOPS


def test_what_is_too_old_is_forgotten_by_the_migrator_too(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    desk.work()
    desk.admin.execute("insert into inbox values ('/old', '1', 'x', now() - interval '31 days')")
    desk.admin.execute("update run set ended_at = now() - interval '401 days'")
    assert one(desk.migrator, "select prune()") == 1 + SHOPS
    assert desk.jobs(run) == {} and one(desk.admin, "select count(*) from inbox") == 0
    shown = one(desk.admin, "select item from gateway.migration_run where run_id = %s", run)
    assert shown["states"] == {"done": SHOPS}, "how it ended is still known"
    assert desk.command(run, "rollback") == ("rejected", "wrong_state"), "nobody knows any more of whom"


def test_a_cancelled_run_tells_how_its_last_jobs_ended(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    first, *others = desk.claim()
    desk.command(run, "cancel")
    for job in (first, *others):
        desk.end(job)
    shown = one(desk.admin, "select item from gateway.migration_run where run_id = %s", run)
    assert shown["states"] == {"done": SHOPS}


def test_a_run_that_is_cancelled_while_its_jobs_end_tells_so_later(desk: Desk, catalog: Stack) -> None:
    desk.file("4")
    run = desk.begin()
    jobs = desk.claim()
    event = {"id": str(uuid.uuid4()), "source": "/test", "type": "migration.cancel.requested.v1", "body_hash": "x"}
    desk.migrator.execute("begin")
    for job in jobs:
        desk.end(job)
    with as_service(catalog, "migrator") as other:
        other.execute("select accept_event(%s, %s)", (json.dumps(event), json.dumps({"run_id": run})))
    desk.migrator.execute("commit")
    desk.migrator.execute("select prune()")
    assert one(desk.admin, "select body -> 'states' from snapshot where key = %s", run) == {"done": SHOPS}


def test_nobody_waits_for_a_run_that_was_cancelled(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin()
    given_way, tried, dead, *_ = desk.claim()
    desk.command(run, "cancel")
    desk.end(given_way, "given_way")
    desk.end(tried, "retry", error={"code": "55P03"})
    desk.admin.execute("update job set lease_until = now() where state = 'applying'")
    desk.advance()
    assert set(desk.jobs(run).values()) == {"left"}
    assert one(desk.admin, "select body -> 'states' from snapshot where key = %s", run) == {"left": SHOPS}
    desk.apply(dead)
    assert desk.command(run, "rollback")[0] == "succeeded"
    assert desk.work() == SHOPS - 2 and sorted(desk.has[dead["tenant_id"]]) == BASE


def test_what_was_done_by_hand_and_lost_is_not_taken_for_done_again(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(
        strategy="waves", waves=[{"count": 1}, {"percent": 100}], soak_ms=3600000, max_failures=9, max_failure_rate=1
    )
    [job] = desk.claim()
    desk.end(job, "failed", error={"code": "42P07"})
    desk.advance()
    assert desk.command(run, "mark", tenant_id=job["tenant_id"], reason="by hand")[0] == "succeeded"
    [again] = desk.claim()
    assert again["marked"]
    desk.end(again)
    desk.advance()
    desk.know(job["tenant_id"], BASE)  # as a check has found after its server has fallen back
    assert desk.command(run, "promote")[0] == "succeeded"
    assert [x["marked"] for x in desk.claim() if x["tenant_id"] == job["tenant_id"]] == [False]
