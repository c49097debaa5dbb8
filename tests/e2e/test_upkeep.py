"""What a fleet needs over the years: rotation with its overlap, backups that give way, the janitor, alerts, and tenants
that were changed by hand."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.ports import reserve_port
from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows
from .service_faults import armed, died_of_sigkill, told
from .slowness import pulse_of, stalling_disk


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = {"LEASE": SHORT_LEASE, "ROTATION_OVERLAP": "3s", "JANITOR_INTERVAL": "1s"}
    yield from make_stack("postgres", options=options, keep_memberships=True)


def sign_up(api: Api, *companies: str) -> list[str]:
    """All at once; returns the tenants when they are ready."""
    tenants = [str(api.signup(company).json["tenant_id"]) for company in companies]
    for tenant in tenants:
        api.wait_state(tenant, "ready")
    return tenants


def done(api: Api, tenant: str, command: str, body: Any = None, seconds: float = 30) -> None:
    operation = api.command(tenant, command, body).json["operation_id"]
    ended = api.wait_operation(operation, seconds)
    assert ended["state"] == "succeeded", ended


def parts_of(connection: dict[str, Any]) -> dict[str, Any]:
    return {
        "host": connection["host"], "port": connection["port"], "dbname": connection["database"],
        "user": connection["user"], "password": connection["password"],
    }  # fmt: skip


def is_open(connection: dict[str, Any]) -> bool:
    try:
        psycopg.connect(**parts_of(connection)).close()
    except psycopg.OperationalError:
        return False
    return True


def inventory(api: Api, name: str) -> tuple[str, str]:
    """Verdict and detail of one database in the janitor's last report."""
    found = [item for item in api.get("/api/admin/inventory").json["items"] if item["name"] == name]
    return (found[0]["verdict"], found[0]["detail"]) if found else ("", "")


def open_alerts(api: Api) -> dict[str, dict[str, Any]]:
    return {alert["cause"]: alert for alert in api.get("/api/admin/alerts").json["items"]}


def test_after_a_rotation_both_logins_work_until_the_overlap_is_over(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Rotating Shop")
    old = app.get(f"/api/tenants/{tenant}/connection").json
    session = psycopg.connect(**parts_of(old))
    done(api, tenant, "rotate-credentials")
    new = app.get(f"/api/tenants/{tenant}/connection").json
    assert new["user"] != old["user"] and new["password"] != old["password"]
    assert is_open(old) and is_open(new), "both work for a while"
    eventually(lambda: not is_open(old), 20, "the old login ends with the overlap")
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")  # its session too
    assert is_open(new)
    stored = f"select generation from provisioner.secret where tenant_id = '{tenant}' and field = 'app_password'"
    eventually(lambda: rows(stack, stored) == [["2"]], 20, "the old password is forgotten")


def test_a_second_rotation_waits_for_the_first_ones_overlap(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Hasty Shop")
    first = app.get(f"/api/tenants/{tenant}/connection").json
    done(api, tenant, "rotate-credentials")
    second = app.get(f"/api/tenants/{tenant}/connection").json
    operation = api.command(tenant, "rotate-credentials").json["operation_id"]
    ends = rows(stack, f"select old_login_ends_at > clock_timestamp() from provisioner.tenant "
                f"where tenant_id = '{tenant}'")  # fmt: skip
    assert ends == [["t"]] and is_open(first), "the first one's old login still works"
    assert api.wait_operation(operation, 20)["state"] == "succeeded"
    third = app.get(f"/api/tenants/{tenant}/connection").json
    assert not is_open(first) and is_open(second) and is_open(third)


def test_a_suspension_during_the_overlap_closes_both_logins(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Overlapping Shop")
    old = app.get(f"/api/tenants/{tenant}/connection").json
    done(api, tenant, "rotate-credentials")
    new = app.get(f"/api/tenants/{tenant}/connection").json
    done(api, tenant, "suspend")
    assert not is_open(old) and not is_open(new)
    done(api, tenant, "resume")
    assert is_open(new)


@contextmanager
def hanging_pg_dump(stack: Stack, folder: Path) -> Iterator[Path]:
    """The provisioner finds a pg_dump that says it has begun and does nothing more."""
    program, begun = folder / "pg_dump", folder / "begun"
    program.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 600\n")
    program.chmod(0o755)
    with told(stack.services["provisioner-0"], PATH=f"{folder}:{os.environ['PATH']}"):
        yield begun


@pytest.mark.parametrize("urgent", ["suspend", "deprovision"])
def test_a_backup_under_way_gives_way(stack: Stack, api: Api, tmp_path: Path, urgent: str) -> None:
    tenant = api.ready_tenant(f"Patient {urgent}")
    tmp_path.chmod(0o755)
    with hanging_pg_dump(stack, tmp_path) as begun:
        backup = api.command(tenant, "backup").json["operation_id"]
        eventually(begun.exists, 20, "the dump has begun")
        done(api, tenant, urgent, {"confirm": api.tenant(tenant)["slug"]} if urgent == "deprovision" else None, 20)
    ended = api.wait_operation(backup, 60)["state"]
    assert ended == ("succeeded" if urgent == "suspend" else "superseded"), (
        "the backup is made afterwards, if it can be"
    )
    assert not list((stack.root / "archive" / tenant).glob("*.partial")), "what was begun is cleared away"


def test_a_queue_of_backups_holds_up_no_suspension_and_no_signup(stack: Stack, api: Api, tmp_path: Path) -> None:
    tenants = sign_up(api, *[f"Queued {number}" for number in range(10)])  # more than there are workers
    tmp_path.chmod(0o755)
    with hanging_pg_dump(stack, tmp_path) as begun:
        for tenant in tenants:
            api.command(tenant, "backup")
        eventually(begun.exists, 20, "dumps have begun")
        suspensions = [api.command(tenant, "suspend").json["operation_id"] for tenant in tenants]
        for suspension in suspensions:
            assert api.wait_operation(suspension, 20)["state"] == "succeeded"
        done(api, tenants[0], "resume", seconds=20)
        api.ready_tenant("Quick Shop")
    eventually(
        lambda: not rows(
            stack, "select 1 from provisioner.tenant where state = 'ready' and backup_done < backup_wanted"
        ),
        60,
        "all backups are made afterwards",
    )  # fmt: skip


def test_a_disk_that_stalls_for_twenty_seconds_holds_up_its_own_backup_and_nothing_else(
    stack: Stack, api: Api, tmp_path: Path
) -> None:
    provisioner = stack.services["provisioner-0"]
    slow, quick = sign_up(api, "Slow Disk Shop", "Quick Desk Shop")
    with stalling_disk(provisioner, tmp_path, 20) as armed, pulse_of(provisioner) as pulse:
        armed.touch()
        backup = api.command(slow, "backup").json["operation_id"]
        eventually(lambda: not armed.exists(), 20, "the disk stalls")
        began = time.monotonic()
        done(api, quick, "suspend", seconds=3)
        done(api, quick, "resume", seconds=3)
        api.ready_tenant("New Desk Shop")
        took = time.monotonic() - began
        assert api.operation(backup)["state"] == "accepted", "the disk had not stalled for long enough"
        assert api.wait_operation(backup, 30)["state"] == "succeeded"
        lost = provisioner.metrics()["tenantry_sagas_lost_total"]
    assert took < 15, f"what had nothing to do with the disk took {took:.1f} s"
    assert pulse.answers > 50 and pulse.slowest < 3, f"its health was told after {pulse.slowest:.1f} s"
    assert lost == 0, "the lease was lost"
    assert rows(stack, f"select count(*) from provisioner.backup where tenant_id = '{slow}'") == [["1"]]


def test_a_service_with_a_disk_that_hangs_ends_in_time_and_the_backup_is_made_afterwards(
    stack: Stack, api: Api, tmp_path: Path
) -> None:
    provisioner = stack.services["provisioner-0"]
    tenant = api.ready_tenant("Hanging Disk Shop")
    with stalling_disk(provisioner, tmp_path, 600) as armed:
        armed.touch()
        backup = api.command(tenant, "backup").json["operation_id"]
        eventually(lambda: not armed.exists(), 20, "the disk hangs")
        began = time.monotonic()
        assert provisioner.stop(20), "it did not end by itself"
        took = time.monotonic() - began
        assert took < 9 + 2, f"it took {took:.1f} s to end"  # nine by its own deadlines; two for a crowded machine
    assert api.wait_operation(backup, 60)["state"] == "succeeded"
    assert not list((stack.root / "archive" / tenant).glob("*.partial")), "what was begun is cleared away"


def test_what_the_app_makes_itself_is_in_the_backup(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Large Shop")
    for _ in range(2):
        connection = app.get(f"/api/tenants/{tenant}/connection").json
        with psycopg.connect(**parts_of(connection)) as database:
            database.execute("select lo_from_bytea(0, 'a scanned prescription')")
        done(api, tenant, "backup")
        done(api, tenant, "rotate-credentials")


def test_a_tenant_whose_database_was_dropped_by_hand_is_a_ghost_and_can_be_deprovisioned(
    stack: Stack, api: Api
) -> None:
    tenant = api.ready_tenant("Ghostly Shop")
    name = f"tn_{tenant.replace('-', '')}_g1"
    eventually(lambda: inventory(api, name)[0] == "ours", 20, "the janitor has seen it")
    stack.postgres.execute(f"drop database {name} with (force)")
    eventually(lambda: inventory(api, name)[0] == "ghost", 20, "the janitor misses it")
    eventually(lambda: "inventory:postgres:local" in open_alerts(api), 20, "somebody is told")
    done(api, tenant, "deprovision", {"confirm": "ghostly-shop"})
    assert not rows(stack, f"select rolname from pg_roles where starts_with(rolname, '{name}')")
    eventually(lambda: "inventory:postgres:local" not in open_alerts(api), 20, "the alert is over")


def test_the_inventory_comes_in_pages_with_what_is_not_in_order_first(stack: Stack, api: Api) -> None:
    """Of a provider that nobody looks at here: its rows stay as they are."""
    made = ", ".join(f"('supabase', '', 'paged-{n}', '{'orphan' if n % 3 else 'ours'}')" for n in range(7))
    stack.postgres.execute(f"insert into provisioner.inventory (driver, server, name, verdict) values {made}", CATALOG)
    try:
        seen, cursor = [], ""
        while cursor is not None:
            page = api.get(f"/api/admin/inventory?limit=2{cursor and '&cursor=' + cursor}").json
            assert len(page["items"]) <= 2
            seen += [(item["verdict"], item["name"]) for item in page["items"] if item["driver"] == "supabase"]
            cursor = page["next_cursor"]
        assert seen == [("orphan", f"paged-{n}") for n in (1, 2, 4, 5)] + [("ours", f"paged-{n}") for n in (0, 3, 6)]
        for query in ("limit=0", "limit=501", "limit=x", "cursor=x", "cursor=WzFd", "cursor=" + "A" * 1200):
            assert api.get(f"/api/admin/inventory?{query}").status == 400, query
    finally:
        stack.postgres.execute("delete from provisioner.inventory where driver = 'supabase'", CATALOG)


def test_a_database_whose_removal_was_interrupted_is_removed(stack: Stack, api: Api) -> None:
    """PostgreSQL lets nobody in any more, not even to prove whose it is; its row and its mark are still there."""
    tenant = api.ready_tenant("Halfway Shop")
    name = f"tn_{tenant.replace('-', '')}_g1"
    stack.postgres.execute(f"update pg_database set datconnlimit = -2 where datname = '{name}'")
    done(api, tenant, "deprovision", {"confirm": "halfway-shop"})
    assert not rows(stack, f"select rolname from pg_roles where starts_with(rolname, '{name}')")
    assert not rows(stack, f"select datname from pg_database where datname = '{name}'")


def test_a_database_that_no_tenant_knows_is_an_orphan(stack: Stack, api: Api) -> None:
    stack.postgres.execute("create database tn_0123456789abcdef0123456789abcdef_g1")
    eventually(lambda: inventory(api, "tn_0123456789abcdef0123456789abcdef_g1")[0] == "orphan", 20, "it is seen")
    stack.postgres.execute("drop database tn_0123456789abcdef0123456789abcdef_g1")
    eventually(lambda: inventory(api, "tn_0123456789abcdef0123456789abcdef_g1")[0] == "", 20, "it is gone")


def archive(api: Api) -> dict[str, Any]:
    """The janitor's last look at the archive directory; what is not in order by its file's name."""
    seen = api.get("/api/admin/inventory").json["archive"]
    return {**seen, "files": {file["name"].split("/")[1]: file for file in seen["files"]}}


def verdict_of(api: Api, name: str) -> str:
    return str(archive(api)["files"].get(name, {}).get("verdict", ""))


def test_a_dump_whose_worker_died_before_it_was_recorded_is_an_orphan_and_goes_when_it_is_a_day_old(
    stack: Stack, api: Api
) -> None:
    provisioner = stack.services["provisioner-0"]
    tenant = api.ready_tenant("Dying Shop")
    folder = stack.root / "archive" / tenant
    with armed(provisioner, "backup_after_list=crash"):
        backup = api.command(tenant, "backup").json["operation_id"]
        assert died_of_sigkill(provisioner)
        died = [path.name for path in folder.iterdir()]
    assert api.wait_operation(backup, 60)["state"] == "succeeded"
    assert len(died) == 1 and len(list(folder.iterdir())) == 2, "its successor made another"
    eventually(lambda: verdict_of(api, died[0]) == "orphan", 20, "the janitor sees it")
    kept = next(path.name for path in folder.iterdir() if path.name not in died)
    assert verdict_of(api, kept) == "" and archive(api)["known"] >= 1
    assert "inventory:archive" not in open_alerts(api), "it ends by itself"
    long_ago = time.time() - 2 * 86400
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    eventually(lambda: not (folder / died[0]).exists(), 20, "the janitor removes it")
    eventually(lambda: verdict_of(api, died[0]) == "", 20, "and forgets it")
    assert (folder / kept).exists(), "what was recorded stays"


def test_archive_files_that_nobody_knows_or_that_are_missing_are_told_and_left_alone(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Untidy Shop")
    for _ in range(2):
        done(api, tenant, "backup")
    folder = stack.root / "archive" / tenant
    older, newer = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    long_ago = time.time() - 30 * 86400
    strangers = [
        "by hand.dump",
        "0190a1b2-0000-7000-8000-000000000000-17.backup",
        "0190a1b2-0000-7000-8000-000000000000-17.backup.partial",
    ]
    for name in strangers:
        (folder / name).write_text("not ours")
        os.utime(folder / name, (long_ago, long_ago))
    (stack.root / "archive" / "lost+found").mkdir()
    for name in strangers:
        eventually(lambda name=name: verdict_of(api, name) == "orphan", 20, f"{name} is seen")
    eventually(lambda: "inventory:archive" in open_alerts(api), 20, "somebody is told")
    shown = stack.run_cli("inventory").stdout
    assert "3 orphan" in shown and "by hand.dump" in shown and "not a name that we give" in shown
    older.unlink()
    seen = archive(api)["seen_at"]
    eventually(lambda: archive(api)["seen_at"] > seen, 20, "the janitor has looked again")
    assert verdict_of(api, older.name) == "", "old ones may be cleared away while a newer one is there"
    newer.rename(folder.parent / "elsewhere")
    eventually(lambda: verdict_of(api, newer.name) == "missing", 60, "the janitor misses the newest one")
    (folder.parent / "elsewhere").rename(newer)
    eventually(lambda: verdict_of(api, newer.name) == "", 20, "it is back")
    assert all((folder / name).exists() for name in strangers), "they are left to whoever put them there"
    for name in strangers:
        (folder / name).unlink()
    (folder.parent / "lost+found").rmdir()
    eventually(lambda: "inventory:archive" not in open_alerts(api), 20, "the alert is over")


def a_quarter_of_a_minute_goes_by(stack: Stack, *tenants: str) -> None:
    """So long the janitor gives them after a change, for its look may be older than that."""
    ids = ", ".join(f"'{tenant}'" for tenant in tenants)
    stack.postgres.execute(
        f"update catalog.tenant_status set changed_at = changed_at - interval '15 s' where tenant_id in ({ids})",
        CATALOG,
    )


def test_a_door_that_somebody_opened_or_shut_is_drift(stack: Stack, api: Api) -> None:
    suspended, ready = sign_up(api, "Drifting Shop", "Locked Out Shop")
    opened, shut = (f"tn_{tenant.replace('-', '')}_g1" for tenant in (suspended, ready))
    done(api, suspended, "suspend")
    stack.postgres.execute(f"alter role {opened}_app_a login; revoke connect on database {shut} from {shut}_app")
    a_quarter_of_a_minute_goes_by(stack, suspended, ready)
    for name, word in ((opened, "open"), (shut, "may not connect")):
        verdict = eventually(
            lambda n=name: (seen := inventory(api, n))[0] == "drift" and seen, 40, "the janitor sees it"
        )
        assert word in verdict[1]
    stack.postgres.execute(f"alter role {opened}_app_a nologin; grant connect on database {shut} to {shut}_app")
    for name in (opened, shut):
        eventually(lambda n=name: inventory(api, n)[0] == "ours", 20, "all is well again")


def test_retrying_twice_never_replaces_a_tenants_database(stack: Stack, api: Api) -> None:
    """A suspension that failed left the tenant in attention; what was asked for meanwhile failed as well."""
    tenant = api.ready_tenant("Stubborn Shop")
    stack.postgres.execute(
        f"select provisioner.set_state('{tenant}', 'attention', 'test', 'by hand') "
        "from set_config('search_path', 'provisioner,durable,catalog', false)",
        CATALOG,
    )
    for _ in range(2):
        assert api.wait_operation(api.command(tenant, "retry").json["operation_id"])["state"] == "succeeded"
        assert api.wait_state(tenant, "ready")["state"] == "ready"
    assert rows(stack, f"select generation from provisioner.tenant where tenant_id = '{tenant}'") == [["1"]]


class Webhook(http.server.BaseHTTPRequestHandler):
    """Remembers what is posted."""

    posted: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        self.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_dead_alert_channel_holds_up_no_other_and_floods_none(stack: Stack, api: Api) -> None:
    port = reserve_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with told(
            stack.services["provisioner-0"], ALERT_WEBHOOK=f"http://127.0.0.1:{port}/", ALERT_MAIL="not an address"
        ):
            # The process before had it, and it runs on for a quarter of a minute.
            stack.postgres.execute("update catalog.lease set until = now() where name = 'alerter'", CATALOG)
            for number in range(3):
                stack.postgres.execute(
                    f"select catalog.raise_alert('test:{number}', null, 'a test', 'as asked')", CATALOG
                )

            def told_of(number: int) -> int:
                return sum(1 for each in Webhook.posted if each["cause"] == f"test:{number}")

            eventually(lambda: all(told_of(number) for number in range(3)), 30, "the webhook has all three")
            failures = eventually(
                lambda: [row for row in rows(stack, "select failures from catalog.alert where cause like 'test:%'")
                         if int(row[0]) >= 2], 40, "the mails were tried again",
            )  # fmt: skip
            assert failures
            assert [told_of(number) for number in range(3)] == [1, 1, 1], "and the webhook was left in peace"
    finally:
        server.shutdown()
        stack.postgres.execute("update catalog.alert set resolved_at = now() where cause like 'test:%'", CATALOG)
