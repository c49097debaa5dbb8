"""What is watched beside a tenant's failure, by the catalog's rules: probes, signals, servers' connections, drift. PostgreSQL and
`tenantry init`; what an inspection finds is what the test says."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from deploy.local.stack import Stack

from .client import eventually
from .rollout_desk import SHOPS, Desk, shop, shops_catalog
from .test_catalog import as_service, one

TWO_WAVES: list[dict[str, Any]] = [{"count": 2}, {"percent": 100}]


@pytest.fixture(scope="module")
def catalog() -> Iterator[Stack]:
    with shops_catalog("probes") as stack:
        yield stack


@pytest.fixture
def desk(catalog: Stack) -> Iterator[Desk]:
    made = Desk(catalog)
    yield made
    made.close()


def begin(desk: Desk, waves: list[dict[str, Any]] = TWO_WAVES, **more: Any) -> str:
    desk.file("4")
    return desk.begin(**{"strategy": "waves", "waves": waves, "soak_ms": 3600000, **more})


def soak(desk: Desk, **more: Any) -> str:
    """A run that soaks after its first wave, whose two tenants have been looked at."""
    run = begin(desk, **more)
    for job in desk.claim():
        desk.end(job)
    desk.advance()
    assert desk.state(run) == "soaking"
    look(desk)
    return run


def look(desk: Desk, found: dict[str, dict[str, Any] | None] | None = None) -> int:
    """As if it were time again."""
    desk.admin.execute("update probe set next_at = '-infinity'")
    desk.advance()
    count = 0
    for _ in range(3):  # attempts
        desk.admin.execute("update inspection set next_at = '-infinity'")
        count += desk.inspect(found)
    desk.advance()
    return count


def waits(desk: Desk, name: str) -> bool:
    """Whether a session that has called the function waits for a lock."""
    sql = "select count(*) > 0 from pg_stat_activity where query ~ %s and wait_event_type = 'Lock'"
    return bool(one(desk.admin, sql, rf"select .*\m{name}\("))


def watched(desk: Desk) -> list[str]:
    return [row[0] for row in desk.admin.execute("select tenant_id::text from probe order by tenant_id").fetchall()]


def halted(desk: Desk, run: str, code: str, words: str) -> None:
    reason = one(desk.admin, "select reason from run where run_id = %s", run)
    assert desk.state(run) == "halted" and reason["code"] == code and words in reason["detail"], reason


def test_a_wave_begins_only_when_its_probes_have_been_looked_at(desk: Desk) -> None:
    run = begin(desk)
    for job in desk.migrator.execute("select to_jsonb(c) from claim_jobs('me', 30000, 100) c").fetchall():
        desk.end(job[0], forecast="passed")
    desk.advance()
    assert desk.state(run) == "forecasting" and len(watched(desk)) == 2
    assert desk.inspect() == 2
    desk.advance()
    assert desk.state(run) == "running"


def test_a_probe_that_cannot_be_reached_holds_its_wave_up_once(desk: Desk) -> None:
    run = begin(desk)
    for job in claim(desk):
        desk.end(job, forecast="passed")
    away = watched(desk)[0]
    assert desk.inspect({away: None}) == 2
    desk.advance()
    assert desk.state(run) == "running"
    desk.admin.execute("update inspection set next_at = now()")
    assert desk.inspect() == 1 and one(desk.admin, "select before from probe where tenant_id = %s", away) != {}


def test_a_soak_in_which_nothing_gets_worse_ends_in_the_next_wave(desk: Desk) -> None:
    run = soak(desk)
    assert look(desk) == 2
    assert desk.state(run) == "soaking"
    desk.admin.execute("update run set soak_until = business_now()")
    desk.advance()
    assert desk.work() == 2 and desk.state(run) == "completed"


def test_a_soak_does_not_end_before_each_probe_has_been_looked_at(desk: Desk) -> None:
    run = begin(desk)
    for job in desk.claim():
        desk.end(job)
    desk.advance()
    desk.admin.execute("update run set soak_until = business_now()")
    desk.advance()
    assert desk.state(run) == "soaking"
    desk.inspect()
    desk.advance()
    assert desk.state(run) in {"forecasting", "running"}


def test_migrators_of_the_release_before_who_look_at_nobody_do_not_hold_a_run_up(desk: Desk) -> None:
    run = begin(desk)
    for job in claim(desk):
        desk.end(job, forecast="passed")
    desk.advance()
    assert desk.state(run) == "forecasting"
    desk.admin.execute("update inspection set next_at = next_at - interval '3 minutes'")
    desk.advance()
    assert desk.state(run) == "running" and watched(desk) == []
    assert (
        one(
            desk.admin, "select count(*) from alert where title = 'a rollout goes on unwatched' and resolved_at is null"
        )
        == 1
    )


def test_a_look_that_one_of_the_new_release_took_before_they_left_does_not_hold_a_run_up_either(desk: Desk) -> None:
    run = begin(desk)
    desk.migrator.execute("select from claim_inspections(100, 100)")
    for job in claim(desk):
        desk.end(job, forecast="passed")
    desk.advance()
    assert desk.state(run) == "forecasting", "whoever took it may still tell"
    desk.admin.execute("update inspection set next_at = next_at - interval '4 minutes'")
    desk.advance()
    assert desk.state(run) == "running" and watched(desk) == []


def test_nobody_is_watched_where_all_migrators_are_of_the_release_before(desk: Desk) -> None:
    desk.admin.execute("update inspector set seen_at = '-infinity'")
    begin(desk)
    assert watched(desk) == []


def test_a_runs_probes_go_before_a_check_of_the_whole_fleet(desk: Desk) -> None:
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    begin(desk)
    first = one(desk.migrator, "select run_id from inspection join claim_inspections(1, 1) using (inspection_id)")
    assert first is not None


def test_a_tenant_that_cannot_be_reached_any_more_halts_the_run(desk: Desk) -> None:
    run = soak(desk)
    away: dict[str, dict[str, Any] | None] = {watched(desk)[0]: None}
    look(desk, away)
    assert desk.state(run) == "soaking"  # it may be back at the next look
    look(desk, away)
    halted(desk, run, "probe_failed", "cannot be reached any more")


def test_a_tenant_that_could_not_be_reached_before_halts_nothing(desk: Desk) -> None:
    run = begin(desk)
    away: dict[str, dict[str, Any] | None] = {watched(desk)[0]: None}
    for _ in range(3):
        desk.admin.execute("update inspection set next_at = '-infinity'")
        desk.inspect(away)
    for job in desk.claim():
        desk.end(job)
    desk.advance()
    look(desk, away)
    look(desk, away)
    assert desk.state(run) == "soaking"


def test_an_index_that_was_valid_halts_the_run(desk: Desk) -> None:
    run = begin(desk)
    sick = {tenant: {"invalid_indexes": ["public.old_ccnew"]} for tenant in watched(desk)}
    desk.inspect({**sick})
    for job in desk.claim():
        desk.end(job)
    desk.advance()
    look(desk, {**sick})
    assert desk.state(run) == "soaking"  # it was invalid before
    look(desk, {watched(desk)[0]: {"invalid_indexes": ["public.old_ccnew", "public.orders_by_day"]}})
    halted(desk, run, "probe_failed", "public.orders_by_day")


def counters(desk: Desk, commits: int, rollbacks: int, deadlocks: int = 0) -> dict[str, dict[str, Any] | None]:
    each = {"commits": commits, "rollbacks": rollbacks, "deadlocks": deadlocks}
    return {tenant: {"counters": each} for tenant in watched(desk)}


def test_more_rollbacks_than_before_halt_the_run(desk: Desk) -> None:
    run = soak(desk)
    look(desk, counters(desk, commits=1040, rollbacks=12))
    assert desk.state(run) == "soaking"  # 2 of 42
    look(desk, counters(desk, commits=1080, rollbacks=30))
    halted(desk, run, "probe_failed", "40 of 200 transactions were rolled back")


def test_a_few_transactions_say_nothing(desk: Desk) -> None:
    run = soak(desk)
    look(desk, counters(desk, commits=1005, rollbacks=20))
    assert desk.state(run) == "soaking"


def test_more_deadlocks_than_before_halt_the_run(desk: Desk) -> None:
    run = soak(desk)
    look(desk, counters(desk, commits=2000, rollbacks=20, deadlocks=2))
    halted(desk, run, "probe_failed", "4 deadlocks")


def test_counters_that_somebody_has_reset_say_nothing(desk: Desk) -> None:
    run = soak(desk)
    look(desk, counters(desk, commits=10, rollbacks=500))
    assert desk.state(run) == "soaking"


def test_deadlocks_of_which_no_transaction_is_counted_yet_halt_the_run_and_not_the_coordinator(desk: Desk) -> None:
    run = soak(desk)
    look(desk, counters(desk, commits=1000, rollbacks=10, deadlocks=3))
    halted(desk, run, "probe_failed", "6 deadlocks in 0 transactions")


def test_a_soak_does_not_wait_for_a_probe_that_has_left_the_fleet(desk: Desk) -> None:
    run = begin(desk)
    for job in desk.claim():
        desk.end(job)
    desk.advance()
    desk.leave(watched(desk)[0])
    look(desk)
    desk.admin.execute("update run set soak_until = business_now()")
    desk.advance()
    assert desk.state(run) in {"forecasting", "running"}


@pytest.mark.parametrize("strange", [{"invalid_indexes": None}, {"versions": None}, {"versions": ["1", None]}])
def test_what_no_migrator_should_tell_of_a_tenant_stops_no_run_and_no_check(
    desk: Desk, strange: dict[str, Any]
) -> None:
    run = soak(desk)
    first, second = watched(desk)
    look(desk, {first: strange})
    assert desk.state(run) == "soaking"
    assert one(desk.admin, "select unreachable from probe where tenant_id = %s", first) == 1
    assert one(desk.admin, "select unreachable from probe where tenant_id = %s", second) == 0
    found = check(desk, {first: strange})
    assert [finding["error"]["code"] for finding in found[first]] == ["unreadable"] and set(found) == {first}


def test_tenants_that_were_alike_and_are_not_any_more_halt_the_run(desk: Desk) -> None:
    run = soak(desk)
    look(desk, {watched(desk)[0]: {"schema": {"digest": "another", "objects": {}}}})
    halted(desk, run, "probe_failed", "the same schema before")


def test_whoever_resumes_has_seen_what_halted_the_run(desk: Desk) -> None:
    run = soak(desk)
    worse = counters(desk, commits=1080, rollbacks=30)
    look(desk, worse)
    assert desk.state(run) == "halted"
    assert desk.command(run, "resume")[0] == "succeeded" and desk.state(run) == "soaking"
    look(desk, worse)
    look(desk, worse)
    assert desk.state(run) == "soaking"
    look(desk, counters(desk, commits=1160, rollbacks=50))
    assert desk.state(run) == "soaking", "as many of a hundred as when they were seen"
    look(desk, counters(desk, commits=1160, rollbacks=180))
    halted(desk, run, "probe_failed", "were rolled back")


def test_what_got_worse_is_taken_back_if_the_run_says_so(desk: Desk) -> None:
    run = soak(desk, on_halt="rollback")
    look(desk, {watched(desk)[0]: {"invalid_indexes": ["public.half"]}})
    desk.work()
    assert desk.state(run) == "rolled_back"


def test_a_pause_does_not_make_a_soak_begin_anew(desk: Desk) -> None:
    run = soak(desk)
    desk.admin.execute("update run set soak_until = soak_until - interval '50 minutes'")
    assert desk.command(run, "pause")[0] == "succeeded"
    assert desk.command(run, "resume")[0] == "succeeded" and desk.state(run) == "soaking"
    assert one(desk.admin, "select soak_until - business_now() between interval '9 min' and interval '11 min' from run")


def test_tenants_tried_again_in_a_pause_are_watched_for_a_whole_soak(desk: Desk) -> None:
    run = begin(desk, max_failure_rate=1)
    good, bad = desk.claim()
    desk.end(good)
    desk.end(bad, "failed", error={"code": "42P07", "class": "permanent", "detail": "it is there already"})
    desk.advance()
    look(desk)
    desk.admin.execute("update run set soak_until = soak_until - interval '50 minutes'")
    for command in ("pause", "retry", "resume"):
        assert desk.command(run, command)[0] == "succeeded"
    for job in desk.claim():
        desk.end(job)
    desk.advance()
    assert desk.state(run) == "soaking"
    assert one(desk.admin, "select soak_until - business_now() > interval '59 minutes' from run")


def test_a_look_that_is_under_way_when_a_run_is_resumed_does_not_make_its_soak_begin_anew(desk: Desk) -> None:
    """For as long as it is, the run is forecasting."""
    run = soak(desk)
    desk.admin.execute(
        "update run set soak_until = soak_until - interval '50 minutes'; update probe set next_at = '-infinity'"
    )
    desk.advance()
    assert desk.command(run, "pause")[0] == "succeeded"
    assert desk.command(run, "resume")[0] == "succeeded" and desk.state(run) == "forecasting"
    assert desk.inspect() == 2
    desk.advance()
    desk.advance()
    assert desk.state(run) == "soaking"
    assert one(desk.admin, "select soak_until - business_now() between interval '9 min' and interval '11 min' from run")


def test_a_soak_and_the_results_of_its_looks_do_not_end_each_other(desk: Desk, catalog: Stack) -> None:
    """Each would have one probe and wait for the other's, and PostgreSQL would end one of them."""
    soak(desk)
    desk.admin.execute("update probe set next_at = '-infinity'")
    desk.advance()
    taken = [
        row[0] for row in desk.migrator.execute("select to_jsonb(c) from claim_inspections(100, 100) c").fetchall()
    ]
    first, second = sorted(taken, key=lambda look: str(look["tenant_id"]))
    for tenant in (
        second["tenant_id"],
        first["tenant_id"],
    ):  # as they lie on the disk, so that they are not read in order
        desk.admin.execute("update probe set next_at = 'infinity' where tenant_id = %s", (tenant,))
        desk.admin.execute("update probe set next_at = '-infinity' where tenant_id = %s", (tenant,))
    desk.admin.execute("analyze probe")
    found = {"versions": ["1"], "invalid_indexes": [], "server_major": 15, "schema": {"digest": "x"}}
    results = [{"inspection_id": look["inspection_id"], "found": found} for look in (first, second)]
    refused: list[str] = []

    def act(sql: str, *params: str) -> None:
        with as_service(catalog, "migrator") as migrator:
            try:
                migrator.execute(sql, params)
            except psycopg.Error as error:
                refused.append(str(error.sqlstate))

    ending = threading.Thread(target=act, args=("select end_inspections(%s)", json.dumps(results)))
    advancing = threading.Thread(target=act, args=("select advance()",))
    with as_service(catalog, "migrator") as holder:
        holder.execute("begin")
        holder.execute("select from inspection where inspection_id = %s for update", (second["inspection_id"],))
        for thread, name in ((ending, "end_inspections"), (advancing, "advance")):
            thread.start()
            eventually(lambda name=name: waits(desk, name), 5, f"{name} waits")
        holder.execute("rollback")
        ending.join()
        advancing.join()
    assert refused == []


def test_what_is_seen_of_a_probe_after_its_run_has_ended_changes_nothing_that_was_told(desk: Desk) -> None:
    run = soak(desk)
    desk.admin.execute("update probe set next_at = '-infinity'")
    desk.advance()
    assert desk.command(run, "cancel")[0] == "succeeded"
    for _ in range(3):
        desk.admin.execute("update inspection set next_at = '-infinity'")
        desk.inspect({tenant: None for tenant in watched(desk)})
    assert one(desk.admin, "select count(*) from inspection") == 0
    told = one(desk.admin, "select body -> 'probes' from snapshot where key = %s", run)
    assert told == one(desk.admin, "select run_body(r) -> 'probes' from run r") and told["looked_at"] == 2


def test_a_signal_halts_a_run_at_once_and_resume_takes_it_for_seen(desk: Desk) -> None:
    run = begin(desk)
    signal = {"name": "error-rate", "verdict": "halt", "reason": "5 % of logins fail"}
    assert desk.command(run, "signal", **signal)[0] == "succeeded"
    halted(desk, run, "signal", "error-rate: 5 % of logins fail")
    assert desk.command(run, "resume")[0] == "succeeded"
    desk.work()
    assert desk.state(run) == "soaking"


def test_a_signal_before_a_run_begins_keeps_it_from_beginning(desk: Desk) -> None:
    begin(desk)
    queued = desk.begin(queue=True)
    assert desk.command(queued, "signal", name="peak-hours", verdict="halt")[0] == "succeeded"
    first = str(one(desk.admin, "select run_id::text from run where state = 'forecasting'"))
    assert desk.command(first, "cancel")[0] == "succeeded"
    desk.advance()
    halted(desk, queued, "signal", "peak-hours")


def test_a_good_signal_takes_back_what_was_said_under_its_name(desk: Desk) -> None:
    begin(desk)
    queued = desk.begin(queue=True)
    for verdict in ("halt", "good"):
        assert desk.command(queued, "signal", name="peak-hours", verdict=verdict)[0] == "succeeded"
    body = one(desk.admin, "select run_body(r) from run r where run_id = %s", queued)
    assert [(signal["name"], signal["verdict"]) for signal in body["signals"]] == [("peak-hours", "good")]


def test_a_run_keeps_the_signals_of_twenty_names(desk: Desk) -> None:
    run = begin(desk)
    for number in range(20):
        assert desk.command(run, "signal", name=f"probe-{number}", verdict="good")[0] == "succeeded"
    assert desk.command(run, "signal", name="one-more", verdict="good") == ("rejected", "too_many_signals")
    assert desk.command(run, "signal", name="probe-7", verdict="good")[0] == "succeeded"


def test_no_signal_is_taken_for_a_run_that_has_ended(desk: Desk) -> None:
    run = begin(desk)
    desk.command(run, "cancel")
    assert desk.command(run, "signal", name="late", verdict="halt") == ("rejected", "wrong_state")


# Forecasts.


@pytest.mark.parametrize(("forecast", "tried"), [("sample", SHOPS), ("all", SHOPS), ("none", 0)])
def test_a_run_says_of_how_many_its_forecast_is(desk: Desk, forecast: str, tried: int) -> None:
    desk.file("4")
    run = desk.begin(forecast=forecast)
    taken = desk.migrator.execute("select task from claim_jobs('me', 30000, 100)").fetchall()
    assert [task for (task,) in taken].count("forecasting") == tried
    assert desk.state(run) == ("forecasting" if tried else "running")


@pytest.mark.parametrize(("limit", "state"), [(1, "running"), (0, "forecasting")])
def test_who_does_not_answer_holds_up_only_a_run_that_may_not_do_without_him(
    desk: Desk, limit: int, state: str
) -> None:
    desk.file("4")
    run = desk.begin(max_failures=limit, max_failure_rate=1)
    slow, *others = claim(desk)
    for job in others:
        desk.end(job, forecast="passed")
    desk.advance()
    assert desk.state(run) == state
    desk.end(slow, forecast="failed", error={"code": "connect_timeout"})
    desk.advance()
    assert desk.state(run) == ("running" if limit else "halted")
    assert len(claim(desk)) == (SHOPS if limit else 0), "he is tried all the same"


def test_whose_rehearsal_could_not_begin_is_not_awaited_either(desk: Desk) -> None:
    desk.admin.execute(
        "insert into tenant_claim (tenant_id, kind, holder) values (%s, 'backup', gen_random_uuid())", (shop(1),)
    )
    desk.file("4")
    run = desk.begin(max_failures=1, max_failure_rate=1)
    for job in claim(desk):
        desk.end(job, forecast="passed")
    desk.advance()
    assert desk.state(run) == "running"
    assert one(desk.admin, "select forecast from job where tenant_id = %s", shop(1)) == "skipped"
    desk.admin.execute("delete from tenant_claim; update job set next_at = now()")
    assert desk.work() == SHOPS and desk.state(run) == "completed"


def test_a_dry_run_hears_of_all(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(dry_run=True, max_failures=10, max_failure_rate=1)
    slow, *others = claim(desk)
    for job in others:
        desk.end(job, forecast="passed")
    desk.advance()
    assert desk.state(run) == "forecasting"
    desk.end(slow, forecast="passed")
    desk.advance()
    assert desk.state(run) == "completed"


@pytest.mark.parametrize("ended", ["in the pause", "after it"])
def test_a_dry_run_that_was_paused_applies_nothing_either(desk: Desk, ended: str) -> None:
    desk.file("4")
    run = desk.begin(dry_run=True)
    jobs = claim(desk)
    assert desk.command(run, "pause")[0] == "succeeded"
    for job in jobs if ended == "in the pause" else []:
        desk.end(job, forecast="passed")
    assert desk.command(run, "resume")[0] == "succeeded"
    for job in jobs if ended == "after it" else []:
        desk.end(job, forecast="passed")
    desk.advance()
    assert claim(desk) == []
    assert desk.state(run) == "completed" and one(desk.admin, "select reason ->> 'code' from run") == "dry_run"


@pytest.mark.parametrize("ended", ["in the pause", "after it"])
def test_a_pause_does_not_pass_over_what_would_fail(desk: Desk, ended: str) -> None:
    desk.file("4")
    run = desk.begin(max_failures=0)
    jobs = claim(desk)
    desk.command(run, "pause")
    for job in jobs if ended == "in the pause" else []:
        desk.end(job, forecast="failed", error={"code": "42P07"})
    desk.command(run, "resume")
    for job in jobs if ended == "after it" else []:
        desk.end(job, forecast="failed", error={"code": "42P07"})
    desk.advance()
    halted(desk, run, "forecast_failed", f"{SHOPS} of {SHOPS}")


def test_who_has_seen_what_would_fail_is_not_halted_by_it_again(desk: Desk) -> None:
    run = begin(desk, max_failures=0)
    for job in claim(desk):
        desk.end(job, forecast="failed", error={"code": "42P07"})
    desk.inspect({watched(desk)[0]: None})
    desk.advance()
    assert desk.state(run) == "halted"
    for command in ("resume", "pause", "resume"):
        assert desk.command(run, command)[0] == "succeeded"
    assert desk.state(run) == "running" and len(claim(desk)) == 2


def test_a_second_wave_is_judged_anew(desk: Desk) -> None:
    run = begin(desk, max_failures=0, soak_ms=0)
    for job in claim(desk):
        desk.end(job, forecast="failed", error={"code": "42P07"})
    desk.advance()
    desk.command(run, "resume")
    for job in claim(desk):
        desk.end(job)
    desk.advance()
    jobs = claim(desk)
    desk.command(run, "pause")
    for job in jobs:
        desk.end(job, forecast="failed", error={"code": "42P07"})
    desk.command(run, "resume")
    halted(desk, run, "forecast_failed", "2 of 2")


def test_a_retry_does_not_pass_over_a_forecast(desk: Desk) -> None:
    run = begin(desk, max_failures=1, max_failure_rate=0.5)
    first, second = claim(desk)
    desk.end(first, forecast="failed", error={"code": "42P07"})
    desk.end(second, forecast="passed")
    desk.inspect()
    desk.advance()
    failed, done = sorted(desk.claim(), key=lambda job: str(job["tenant_id"]) != first["tenant_id"])
    desk.end(failed, "failed", error={"code": "42P07"})
    desk.end(done)
    desk.advance()
    look(desk)
    assert desk.command(run, "promote")[0] == "succeeded"
    jobs = claim(desk)
    assert desk.command(run, "retry")[0] == "succeeded" and desk.state(run) == "forecasting"
    assert claim(desk) == []
    desk.end(jobs[0], forecast="failed", error={"code": "42P07"})
    desk.end(jobs[1], forecast="passed")
    desk.advance()
    assert desk.state(run) == "running", "one of two, beside the one who is tried again"
    assert len(claim(desk)) == 3


def test_who_was_not_awaited_is_not_rehearsed_after_a_pause(desk: Desk) -> None:
    """If he fails, all who are left would."""
    desk.file("4")
    run = desk.begin(max_failures=1, max_failure_rate=0.5)
    slow, *others = claim(desk)
    for job in others:
        desk.end(job, forecast="passed")
    desk.advance()
    for job in claim(desk):
        desk.end(job)
    desk.end(slow, "retry", error={"code": "08006"})
    for command in ("pause", "resume"):
        assert desk.command(run, command)[0] == "succeeded"
    assert {job["task"] for job in claim(desk)} == {"applying"}


def test_a_canary_is_chosen_or_labelled(desk: Desk) -> None:
    desk.file("4")
    run = desk.begin(strategy="canary", canary=shop(3))
    assert one(desk.admin, "select tenant_id::text from job where run_id = %s and wave = 1", run) == shop(3)
    nobody = str(uuid.uuid4())
    chosen = {"strategy": "canary", "canary": nobody, "queue": True}
    assert desk.event("run", {"run_id": str(uuid.uuid4()), **chosen}) == ("rejected", "unknown_tenant")
    chosen |= {"canary": shop(1), "tenants": [shop(2)]}
    assert desk.event("run", {"run_id": str(uuid.uuid4()), **chosen}) == ("rejected", "unknown_tenant")


# Connections.


def room(desk: Desk) -> int | None:
    row = desk.admin.execute("select room from server_room").fetchone()
    return row[0] if row else None


def claim(desk: Desk) -> list[dict[str, Any]]:
    return [
        row[0] for row in desk.migrator.execute("select to_jsonb(c) from claim_jobs('me', 30000, 100) c").fetchall()
    ]


@pytest.fixture
def on_a_server(desk: Desk) -> Iterator[None]:
    desk.admin.execute("update provisioner.database set server = 'one'")
    yield
    desk.admin.execute("delete from server; update provisioner.database set server = null")


@pytest.mark.usefixtures("on_a_server")
def test_a_fifth_of_a_servers_connections_is_left_to_applications(desk: Desk) -> None:
    desk.file("4")
    desk.begin(forecast="none")
    first, *others = claim(desk)
    for job in others:
        desk.end(job, "retry")
    desk.end(first, connections=3)
    assert room(desk) == 2
    assert len(claim(desk)) == 2 and room(desk) == 0 and claim(desk) == []


@pytest.mark.usefixtures("on_a_server")
def test_a_server_that_refuses_a_connection_gets_half_as_many_and_slowly_more(desk: Desk) -> None:
    desk.file("4")
    desk.begin(forecast="none")
    jobs = claim(desk)
    assert len(jobs) == SHOPS
    full = {"code": "too_many_connections", "class": "busy", "detail": "sorry, too many clients already"}
    for job in jobs:  # those that were on their way together count once
        desk.end(job, "retry", error=full)
    assert room(desk) == SHOPS // 2
    desk.admin.execute("update server set refused_at = refused_at - interval '2 seconds'")
    assert room(desk) == SHOPS // 2 + 1
    desk.admin.execute("update server set refused_at = refused_at - interval '10 minutes'")
    assert room(desk) == 80


@pytest.mark.usefixtures("on_a_server")
def test_tenants_elsewhere_do_not_wait_for_a_full_server(desk: Desk) -> None:
    desk.admin.execute("update provisioner.database set server = 'two' where tenant_id = %s", (shop(SHOPS),))
    desk.admin.execute("insert into server (server, connections, slots) values ('one', 1, 0)")
    desk.file("4")
    desk.begin(forecast="none")
    taken = [job["tenant_id"] for job in claim(desk)]
    assert len(taken) == 2 and shop(SHOPS) in taken
    assert claim(desk) == []


@pytest.mark.usefixtures("on_a_server")
def test_a_check_for_drift_leaves_a_run_one_connection(desk: Desk) -> None:
    desk.admin.execute("insert into server (server, connections, slots) values ('one', 5, 0)")
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    desk.migrator.execute("select from claim_inspections(8, 8)")
    assert room(desk) == 1
    desk.file("4")
    desk.begin(forecast="none")
    assert len(claim(desk)) == 1 and claim(desk) == []


@pytest.mark.usefixtures("on_a_server")
def test_a_check_for_drift_leaves_a_fifth_of_a_servers_connections_too(desk: Desk) -> None:
    desk.admin.execute("insert into server (server, connections, slots) values ('one', 3, 0)")
    desk.admin.execute("update provisioner.database set server = 'two' where tenant_id = %s", (shop(SHOPS),))
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    looks = desk.migrator.execute("select tenant_id::text from claim_inspections(8, 8)").fetchall()
    assert len(looks) == 3 and (shop(SHOPS),) in looks, "two at the full server, and the other one"
    assert desk.migrator.execute("select from claim_inspections(8, 8)").fetchall() == []
    desk.admin.execute("update inspection set next_at = 'infinity' where attempts = 0")
    desk.admin.execute("update inspection set next_at = '-infinity' where attempts > 0")
    assert desk.inspect() == 3, "what nobody told the end of takes no room"


@pytest.mark.usefixtures("on_a_server")
def test_two_migrators_do_not_both_take_what_a_server_has_left_for_a_check(desk: Desk, catalog: Stack) -> None:
    desk.admin.execute("insert into server (server, connections, slots) values ('one', 3, 0)")
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    take = "select count(*) from claim_inspections(2, 2)"
    taken: list[int] = []
    with as_service(catalog, "migrator") as other:
        second = threading.Thread(target=lambda: taken.append(one(other, take)))
        desk.migrator.execute("begin")
        assert one(desk.migrator, take) == 2
        second.start()
        eventually(lambda: taken or waits(desk, "claim_inspections"), 5, "the second waits")
        desk.migrator.execute("commit")
        second.join()
    assert taken == [0]


@pytest.mark.usefixtures("on_a_server")
def test_probes_of_a_full_server_are_looked_into_one_after_the_other(desk: Desk) -> None:
    desk.admin.execute("insert into server (server, connections, slots) values ('one', 1, 0)")
    begin(desk)
    assert len(claim(desk)) == 1 and room(desk) == 0
    take = "select inspection_id from claim_inspections(8, 8)"
    for _ in watched(desk):
        [[look]] = desk.migrator.execute(take).fetchall()
        assert desk.migrator.execute(take).fetchall() == []
        error = {"code": "unreachable"}
        desk.admin.execute("update inspection set attempts = 3 where inspection_id = %s", (look,))
        desk.migrator.execute(
            "select end_inspections(%s)", (json.dumps([{"inspection_id": str(look), "error": error}]),)
        )


def test_a_check_for_drift_leaves_places_for_what_a_wave_waits_for(desk: Desk) -> None:
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    begin(desk)
    looks = desk.migrator.execute("select urgent from claim_inspections(8, 1)").fetchall()
    assert sorted(looks) == [(False,), (True,), (True,)]
    assert desk.migrator.execute("select from claim_inspections(8, 0)").fetchall() == []
    assert len(desk.migrator.execute("select from claim_inspections(8, 8)").fetchall()) == SHOPS - 1


@pytest.mark.usefixtures("on_a_server")
def test_what_provisioners_do_on_a_server_counts(desk: Desk) -> None:
    desk.admin.execute("insert into server (server, connections, slots) values ('one', 5, 0)")
    desk.admin.execute(
        "insert into provisioner.saga (tenant_id, kind, step, owner, lease_until) "
        "values (%s, 'backup', 'dump', 'somebody', now() + interval '1 minute')",
        (shop(1),),
    )
    assert room(desk) == 3
    desk.admin.execute("delete from provisioner.saga")
    assert room(desk) == 4


# Drift.


def check(desk: Desk, found: dict[str, dict[str, Any] | None] | None = None, **wanted: Any) -> dict[str, list[Any]]:
    """A check to its end; returns what was found of each tenant."""
    number = str(uuid.uuid4())
    assert desk.event("drift", {"check_id": number, **wanted})[0] == "accepted"
    for _ in range(3):
        desk.admin.execute("update inspection set next_at = '-infinity'")
        desk.inspect(found)
    assert one(desk.admin, "select state from drift_check where check_id = %s", number) == "ended"
    rows = desk.admin.execute("select tenant_id::text, findings from drift").fetchall()
    return {tenant: findings for tenant, findings in rows}


def result(desk: Desk) -> dict[str, Any]:
    sql = "select result from operation where kind = 'drift' order by created_at desc limit 1"
    return dict(one(desk.admin, sql))


def test_a_fleet_that_is_as_the_catalog_says_has_not_drifted(desk: Desk) -> None:
    assert check(desk, schema=True) == {}
    assert result(desk)["drifted"] == 0 and result(desk)["tenants"] == SHOPS


def test_the_catalog_follows_a_tenants_own_ledger(desk: Desk) -> None:
    desk.has[shop(2)] = {"1": "", "2": ""}
    assert check(desk) == {shop(2): [{"kind": "ledger", "missing": ["3"], "extra": []}]}
    assert result(desk)["findings"] == {"ledger": 1}
    sql = "select versions from ledger join tenant using (ledger_id) where tenant_id = %s"
    assert one(desk.admin, sql, shop(2)) == ["1", "2"]
    sql = "select data ->> 'versions' from tenant_event where type = 'tenant.ledger.corrected.v1'"
    assert json.loads(str(one(desk.admin, sql))) == ["1", "2"]
    assert one(desk.admin, "select count(*) from alert where cause = 'schema-drift' and resolved_at is null") == 1
    assert check(desk) == {}
    assert one(desk.admin, "select count(*) from alert where cause = 'schema-drift' and resolved_at is null") == 0


def test_a_run_brings_what_a_check_found_missing(desk: Desk) -> None:
    desk.has[shop(2)] = {"1": "", "2": ""}
    check(desk)
    desk.begin(out_of_order=True)
    assert desk.work() == 1 and sorted(desk.has[shop(2)]) == ["1", "2", "3"]


def test_a_ledger_with_a_hole_stops_only_runs_that_are_for_its_tenant(desk: Desk) -> None:
    desk.has[shop(2)] = {"1": "", "3": ""}
    check(desk)
    assert desk.event("run", {"run_id": str(uuid.uuid4()), "tenants": [shop(1)]})[0] == "succeeded"
    assert desk.event("run", {"run_id": str(uuid.uuid4()), "queue": True}) == ("rejected", "out_of_order")
    slug = one(desk.admin, "select slug from provisioner.tenant where tenant_id = %s", shop(2))
    assert slug in one(
        desk.admin, "select detail from operation where code = 'out_of_order' order by created_at desc limit 1"
    )


def test_a_version_that_no_file_has_is_told(desk: Desk) -> None:
    desk.has[shop(1)]["99"] = ""
    assert {finding["kind"] for finding in check(desk)[shop(1)]} == {"ledger", "unknown_version"}


def test_whoever_differs_from_most_with_the_same_files_is_told_in_what(desk: Desk) -> None:
    usual = {"digest": "usual", "objects": {"table public.a": "1", "column public.a.id": "2"}}
    other = {"digest": "other", "objects": {"table public.a": "1", "column public.a.id": "9", "index public.i": "3"}}
    found: dict[str, dict[str, Any] | None] = {shop(number + 1): {"schema": usual} for number in range(SHOPS)}
    found[shop(3)] = {"schema": other}
    differs = {"missing": [], "extra": ["index public.i"], "changed": ["column public.a.id"]}
    assert check(desk, found, schema=True) == {
        shop(3): [{"kind": "schema", "alike": SHOPS - 1, "of": SHOPS, **differs}]
    }
    assert check(desk, found, schema=True, tenants=[shop(3)])[shop(3)][0]["alike"] == SHOPS - 1


def test_objects_that_are_too_many_to_keep_are_not_told_as_missing(desk: Desk) -> None:
    usual = {"digest": "usual", "objects": {"table public.a": "1"}}
    found: dict[str, dict[str, Any] | None] = {shop(number + 1): {"schema": usual} for number in range(SHOPS)}
    found[shop(3)] = {"schema": {"digest": "huge", "objects": None}}
    [differs] = check(desk, found, schema=True)[shop(3)]
    assert [differs[name] for name in ("missing", "extra", "changed")] == [None, None, None]


def test_schemas_of_other_files_or_another_postgresql_are_not_compared(desk: Desk) -> None:
    desk.know(shop(1), ["1", "2"])
    found: dict[str, dict[str, Any] | None] = {
        shop(2): {"schema": {"digest": "seventeen", "objects": {}}, "server_major": 17}
    }
    assert check(desk, found, schema=True) == {}


def test_objects_that_the_catalog_has_are_not_sent_again(desk: Desk) -> None:
    check(desk, schema=True)
    desk.event("drift", {"check_id": str(uuid.uuid4()), "schema": True})
    known = one(desk.migrator, "select known from claim_inspections(1, 1)")
    assert "1-2-3" in known


def test_a_tenant_that_cannot_be_reached_is_a_finding_and_no_end(desk: Desk) -> None:
    found = check(desk, {shop(4): None})
    assert [finding["kind"] for finding in found[shop(4)]] == ["unreachable"]
    assert found[shop(4)][0]["error"]["code"] == "connect_failed"


def test_a_ledger_that_was_read_before_a_run_changed_it_is_read_again(desk: Desk) -> None:
    number = str(uuid.uuid4())
    desk.event("drift", {"check_id": number, "tenants": [shop(1)]})
    taken = desk.migrator.execute("select inspection_id::text from claim_inspections(1, 1)").fetchone()
    assert taken is not None
    old = {"versions": ["1", "2", "3"], "invalid_indexes": [], "server_major": 15}
    desk.file("4")
    desk.begin(tenants=[shop(1)])
    desk.work()
    desk.migrator.execute("select end_inspections(%s)", (json.dumps([{"inspection_id": taken[0], "found": old}]),))
    sql = "select newest from ledger join tenant using (ledger_id) where tenant_id = %s"
    assert one(desk.admin, sql, shop(1)) == "4"
    desk.admin.execute("update inspection set next_at = '-infinity'")
    desk.inspect()
    assert one(desk.admin, "select count(*) from drift") == 0


def test_what_a_frozen_migrator_read_before_a_run_does_not_count_though_another_looks_after_it(desk: Desk) -> None:
    desk.event("drift", {"check_id": str(uuid.uuid4()), "tenants": [shop(1)]})
    taken = one(desk.migrator, "select to_jsonb(c) from claim_inspections(1, 1) c")
    old = {"versions": ["1", "2", "3"], "invalid_indexes": [], "server_major": 15}
    desk.file("4")
    desk.begin(tenants=[shop(1)])
    desk.work()
    desk.admin.execute("update inspection set next_at = '-infinity'")
    assert one(desk.migrator, "select count(*) from claim_inspections(1, 1)") == 1
    late = {"inspection_id": taken["inspection_id"], "changed_at": taken["changed_at"], "found": old}
    desk.migrator.execute("select end_inspections(%s)", (json.dumps([late]),))
    sql = "select newest from ledger join tenant using (ledger_id) where tenant_id = %s"
    assert one(desk.admin, sql, shop(1)) == "4"
    assert one(desk.admin, "select count(*) from drift") == 0


def test_who_is_busy_for_long_is_told_and_does_not_keep_the_check_open(desk: Desk) -> None:
    desk.admin.execute(
        "insert into tenant_claim (tenant_id, kind, holder) values (%s, 'restore', gen_random_uuid())", (shop(1),)
    )
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    for _ in range(70):
        desk.admin.execute("update inspection set next_at = '-infinity'")
        desk.inspect()
    assert one(desk.admin, "select state from drift_check") == "ended"
    assert one(desk.admin, "select findings from drift") == [{"kind": "busy", "activity": "restore"}]


def test_who_has_left_the_fleet_is_not_waited_for(desk: Desk) -> None:
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    desk.leave(shop(1))
    desk.inspect({shop(1): None})
    assert one(desk.admin, "select state from drift_check") == "ended"


def test_a_second_check_takes_the_place_of_the_first(desk: Desk) -> None:
    first = str(uuid.uuid4())
    desk.event("drift", {"check_id": first})
    assert desk.event("drift", {"check_id": first}) == ("rejected", "check_exists")
    check(desk)
    states = desk.admin.execute("select state from operation where kind = 'drift' and state <> 'rejected'").fetchall()
    assert sorted({state for (state,) in states}) == ["succeeded", "superseded"]


@pytest.mark.parametrize("one_before", [True, False])
def test_of_two_checks_that_are_asked_for_at_once_the_second_takes_the_place_of_the_first(
    desk: Desk, catalog: Stack, one_before: bool
) -> None:
    if one_before:
        desk.event("drift", {"check_id": str(uuid.uuid4())})
    events = [{"id": str(uuid.uuid4()), "source": "/test", "type": "migration.drift.requested.v1"} for _ in range(2)]
    refused: list[str] = []

    def ask(migrator: psycopg.Connection[Any], event: dict[str, str]) -> None:
        try:
            accept = "select accept_event(%s, %s)"
            migrator.execute(accept, (json.dumps({**event, "body_hash": "x"}), json.dumps({"check_id": event["id"]})))
        except psycopg.Error as error:
            refused.append(str(error.sqlstate))

    with as_service(catalog, "migrator") as other:
        second = threading.Thread(target=ask, args=(other, events[1]))
        desk.migrator.execute("begin")
        ask(desk.migrator, events[0])
        second.start()
        eventually(lambda: waits(desk, "accept_event"), 5, "the second waits")
        desk.migrator.execute("commit")
        second.join()
    assert refused == []
    state = "select state from operation where operation_id = %s"
    assert [one(desk.admin, state, event["id"]) for event in events] == ["superseded", "accepted"]


def test_results_that_wait_for_a_new_check_hold_the_new_one(desk: Desk, catalog: Stack) -> None:
    """Those that did not would have some of its tenants, and wait for it in the end."""
    desk.event("drift", {"check_id": str(uuid.uuid4())})
    check_id = str(uuid.uuid4())
    event = {"id": check_id, "source": "/test", "type": "migration.drift.requested.v1", "body_hash": "x"}
    desk.migrator.execute("begin")
    desk.migrator.execute("select accept_event(%s, %s)", (json.dumps(event), json.dumps({"check_id": check_id})))
    with as_service(catalog, "migrator") as other:
        other.execute("begin")
        waiting = threading.Thread(target=other.execute, args=("select lock_drift_check()",))
        waiting.start()
        eventually(lambda: waits(desk, "lock_drift_check"), 5, "it waits")
        desk.migrator.execute("commit")
        waiting.join()
        free = "select check_id from drift_check for update skip locked"
        assert desk.migrator.execute(free).fetchall() == []
        other.execute("rollback")
        assert len(desk.migrator.execute(free).fetchall()) == 1


def test_an_inspection_of_which_nobody_tells_the_end_ends_all_the_same(desk: Desk) -> None:
    desk.event("drift", {"check_id": str(uuid.uuid4()), "tenants": [shop(1)]})
    for _ in range(11):
        desk.admin.execute("update inspection set next_at = '-infinity'")
        desk.migrator.execute("select from claim_inspections(10, 10)")
    assert one(desk.admin, "select state from drift_check") == "ended"
    assert one(desk.admin, "select findings -> 0 -> 'error' ->> 'code' from drift") == "lost"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [({"tenants": [str(uuid.uuid4())]}, "unknown_tenant"), ({"labels": ["nobody-has-it"]}, "unknown_label")],
)
def test_a_check_of_nobody_is_refused(desk: Desk, wanted: dict[str, Any], code: str) -> None:
    assert desk.event("drift", {"check_id": str(uuid.uuid4()), **wanted}) == ("rejected", code)


def test_a_plan_shows_so_much_sql_as_a_person_reads(desk: Desk) -> None:
    for number in range(40):
        desk.file(f"5{number:02}", sql="-" * 16000)
    desk.begin()
    files = one(
        desk.admin, "select result -> 'files' from operation where kind = 'migrate' order by created_at desc limit 1"
    )
    shown = [file["sql"] is not None for file in files]
    assert len(files) == 40 and shown == sorted(shown, reverse=True) and sum(shown) == 16


def test_a_check_of_many_tenants_that_differ_alike_ends_in_time() -> None:
    """The catalog gives it ten seconds; those who differ in the same way are compared once."""
    objects = "select jsonb_object_agg('table public.t' || i, md5((i * k)::text)) from generate_series(1, 4000) i"
    with shops_catalog("alike", 2000) as stack:
        desk = Desk(stack)
        desk.admin.execute(
            f"insert into fingerprint (digest, objects) select 'alike-' || k, ({objects}) from generate_series(1, 2) k"
        )
        desk.admin.execute(
            "insert into tenant (tenant_id, ledger_id, fingerprint_id, fingerprint_of, server_major, fingerprinted_at) "
            "select tenant_id, ledger_id, fingerprint_id, ledger_id, 15, now() + interval '1 hour' from ("
            "select tenant_id, 'alike-' || 1 + (row_number() over () % 4 = 0)::int as digest from provisioner.fleet) t "
            "join fingerprint using (digest) cross join (select min(ledger_id) as ledger_id from ledger) l "
            "on conflict (tenant_id) do nothing"
        )
        desk.event("drift", {"check_id": str(uuid.uuid4()), "schema": True})
        desk.admin.execute("delete from inspection")
        desk.migrator.execute("set statement_timeout = '3s'")
        desk.migrator.execute("select end_drift_check()")
        findings = desk.admin.execute("select findings -> 0 from drift").fetchall()
        assert len(findings) > 490
        assert {len(finding["changed"]) for (finding,) in findings} == {50}
        desk.close()


def test_a_first_run_for_many_tenants_is_planned_though_its_table_was_empty_until_then() -> None:
    """Sessions keep the plans that they made for an empty table: with these, each job would be compared with each other."""
    tenants = 3000
    with shops_catalog("many", tenants) as stack:
        desk = Desk(stack)
        desk.admin.execute("vacuum analyze job")
        desk.advance()
        desk.file("4")
        desk.begin()
        desk.migrator.execute("select pg_stat_force_next_flush()")
        read = one(desk.admin, "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'job'")
        assert read < tenants * 50, "each job a few times"
        desk.close()
