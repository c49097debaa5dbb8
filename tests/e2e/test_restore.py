"""Backups come back: proved by restoring one, beside the tenant's database, in its place, and archived tenants to life; with
workers that die at every step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows
from .service_faults import armed, died_of_sigkill, told


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = {"LEASE": SHORT_LEASE, "JANITOR_INTERVAL": "1s", "ROTATION_OVERLAP": "1s"}
    yield from make_stack("postgres", whole_product=True, options=options, keep_memberships=True)


def failed(api: Api, tenant: str, command: str, **body: Any) -> str:
    """Its code."""
    answer = api.command(tenant, command, body)
    assert answer.status == 202, answer
    ended = api.wait_operation(answer.json["operation_id"])
    assert ended["state"] in ("failed", "rejected"), ended
    return str(ended["code"])


def connect(connection: dict[str, Any], database: str | None = None) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=connection["host"], port=connection["port"], dbname=database or connection["database"],
        user=connection["user"], password=connection["password"], autocommit=True,
    )  # fmt: skip


def is_open(connection: dict[str, Any]) -> bool:
    try:
        connect(connection).close()
    except psycopg.OperationalError:
        return False
    return True


class Shop:
    """A tenant whose product has written something, backed it up, and written more."""

    def __init__(self, stack: Stack, api: Api, app: Api, company: str) -> None:
        self.stack, self.api, self.app = stack, api, app
        self.tenant = api.ready_tenant(company)
        self.slug = str(api.tenant(self.tenant)["slug"])
        self.database = str(self.connection["database"])
        self.owner(f"create table orders (n int primary key); revoke delete on orders from {self.database}_app")
        self.order(1)
        api.done(self.tenant, "backup")
        self.order(2)

    @property
    def connection(self) -> dict[str, Any]:
        return dict(self.app.get(f"/api/tenants/{self.tenant}/connection").json)

    def owner(self, sql: str) -> None:
        self.stack.postgres.execute(f"set role {self.database}_owner; {sql}", self.database)

    def order(self, number: int) -> None:
        """As the product does, with its own login; a large object of its own besides."""
        with connect(self.connection) as session:
            session.execute("insert into orders values (%s)", (number,))
            session.execute("select lo_from_bytea(%s, 'scan')", (7000 + number,))

    def orders(self, database: str | None = None) -> list[int]:
        with connect(self.connection, database) as session:
            return [n for (n,) in session.execute("select n from orders order by n")]

    def databases(self) -> list[str]:
        stem = self.database.rsplit("_", 1)[0]
        found = rows(self.stack, f"select datname from pg_database where datname like '{stem}%' order by 1")
        return [name for (name,) in found]

    def logins(self) -> int:
        return len(rows(self.stack, f"select 1 from pg_roles where rolname like '{self.database}%'"))


@pytest.fixture
def shop(stack: Stack, api: Api, app: Api, request: pytest.FixtureRequest) -> Shop:
    return Shop(stack, api, app, str(getattr(request, "param", request.node.name))[:60])


def test_a_backup_is_proved_by_restoring_it_and_nothing_is_left_of_it(shop: Shop, api: Api) -> None:
    assert api.tenant(shop.tenant)["backups"][0]["proved_at"] is None
    restored = api.done(shop.tenant, "restore", mode="check")["result"]["restored"]
    assert restored["database"] is None and restored["tables"] > 1, "orders, and what the product's migrations made"
    assert restored["schema_version"] == api.tenant(shop.tenant)["schema"]["version"]
    assert api.tenant(shop.tenant)["backups"][0]["proved_at"] is not None
    assert shop.databases() == [shop.database] and shop.orders() == [1, 2]


def test_beside_its_database_a_backup_can_be_looked_at_with_the_tenants_own_login(
    stack: Stack, shop: Shop, api: Api
) -> None:
    restored = api.done(shop.tenant, "restore", mode="beside")["result"]["restored"]
    copy = restored["database"]
    assert shop.databases() == sorted([shop.database, copy])
    assert shop.orders(copy) == [1] and shop.orders() == [1, 2]
    seen = eventually(
        lambda: [i for i in api.get("/api/admin/inventory").json["items"] if i["name"] == copy], 20, "seen"
    )
    assert seen[0]["verdict"] == "ours" and seen[0]["tenant_id"] == shop.tenant
    api.done(shop.tenant, "archive")
    assert shop.databases() == [] and shop.logins() == 0, "what is beside goes with the tenant"


def test_at_most_three_stand_beside(stack: Stack, shop: Shop, api: Api) -> None:
    for _ in range(3):
        api.done(shop.tenant, "restore", mode="beside")
    assert failed(api, shop.tenant, "restore", mode="beside") == "too_many_copies"
    copies = shop.databases()[1:]
    stack.postgres.execute(f"drop database {copies[0]}")
    api.done(shop.tenant, "restore", mode="beside")
    api.done(shop.tenant, "deprovision", confirm=shop.slug)
    assert shop.databases() == [] and shop.logins() == 0


def test_in_place_the_tenant_has_what_the_backup_had_and_its_login_works_as_before(
    stack: Stack, shop: Shop, api: Api
) -> None:
    before = shop.connection
    session = connect(before)
    api.done(shop.tenant, "restore", mode="in_place", confirm=shop.slug)
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")  # it was in the database that is gone
    assert shop.connection == before and shop.orders() == [1]
    shop.order(3)
    with connect(before) as session:
        assert session.execute("select lo_get(7001)").fetchone() == (b"scan",), "what the app made is the app's again"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("delete from orders")  # a migration had taken that right away
    assert shop.databases() == [shop.database]
    for command in ("rotate-credentials", "suspend", "resume", "backup"):
        api.done(shop.tenant, command)
    assert api.tenant(shop.tenant)["state"] == "ready"


def test_a_fence_of_the_past_does_not_come_back_with_the_backup(stack: Stack, shop: Shop, api: Api) -> None:
    api.done(shop.tenant, "suspend")
    api.done(shop.tenant, "resume")
    fence = "select fence from tenantry.fence"
    before = int(stack.postgres.execute(fence, shop.database))
    api.done(shop.tenant, "restore", mode="in_place", confirm=shop.slug)
    assert int(stack.postgres.execute(fence, shop.database)) > before


def test_a_suspended_tenant_is_suspended_after_a_restore_in_place(shop: Shop, api: Api) -> None:
    connection = shop.connection
    api.done(shop.tenant, "suspend")
    api.done(shop.tenant, "restore", mode="in_place", confirm=shop.slug)
    assert not is_open(connection)
    api.done(shop.tenant, "resume")
    assert shop.orders() == [1]


def test_an_archived_tenant_comes_back_to_life(stack: Stack, shop: Shop, api: Api) -> None:
    api.done(shop.tenant, "rotate-credentials")  # the app's other login
    api.done(shop.tenant, "archive")
    assert shop.databases() == [] and shop.logins() == 0
    assert failed(api, shop.tenant, "restore", mode="beside") == "tenant_archived"
    api.done(shop.tenant, "restore", mode="check")
    assert api.tenant(shop.tenant)["state"] == "archived"
    assert shop.databases() == [] and shop.logins() == 0, "a check leaves nothing"
    api.done(shop.tenant, "restore", mode="in_place")
    assert api.tenant(shop.tenant)["state"] == "ready"
    assert shop.orders() == [1, 2], "the archive was the newest"
    shop.order(3)
    for command in ("rotate-credentials", "suspend", "resume", "backup", "archive"):
        api.done(shop.tenant, command)
    api.done(shop.tenant, "deprovision", confirm=shop.slug)


def test_a_restore_brings_back_for_good_whom_billing_had_archived(stack: Stack, shop: Shop, api: Api) -> None:
    def want(wanted: str, cause: str) -> str:
        with psycopg.connect(stack.catalog_url("billing"), autocommit=True) as billing:
            asked = billing.execute(
                "select catalog.want_lifecycle(%s, %s, 'its subscription', %s)", (shop.tenant, wanted, cause)
            ).fetchone()
        assert asked is not None
        return str(asked[0])

    assert want("archived", "ended") == "archived"
    api.wait_state(shop.tenant, "archived", 60)
    assert shop.databases() == [] and shop.logins() == 0
    api.done(shop.tenant, "restore", mode="in_place")
    assert want("archived", "ended") == "live", "the restore was an answer to that"
    shop.order(3)
    assert shop.orders() == [1, 2, 3] and api.tenant(shop.tenant)["state"] == "ready"
    done = stack.run_cli("explain", shop.tenant)
    assert "billing wants it archived, and the strictest wish is archived: its subscription" in done.stdout, done
    assert "billing wants it live, and the strictest wish is live: restored" in done.stdout
    assert want("archived", "ended once more") == "archived"
    api.wait_state(shop.tenant, "archived", 60)


def test_an_archive_whose_database_is_gone_is_ended_by_a_retry(stack: Stack, shop: Shop, api: Api) -> None:
    """As if it had failed between the database and its logins: there is nothing to close any more."""
    stack.postgres.execute("update tenantry.identity set generation = generation + 1", shop.database)
    api.command(shop.tenant, "archive")
    assert api.wait_state(shop.tenant, "attention")["reason"]["code"] == "wrong_identity"
    rows(
        stack,
        f"update provisioner.saga set step = 'drop' where tenant_id = '{shop.tenant}' and kind = 'archive' returning 1",
    )
    stack.postgres.execute(f"drop database {shop.database} with (force)")
    api.done(shop.tenant, "retry")
    assert api.tenant(shop.tenant)["state"] == "archived" and shop.logins() == 0


def test_a_database_that_was_lost_comes_back_with_its_logins(stack: Stack, shop: Shop, api: Api) -> None:
    stack.postgres.execute(f"drop database {shop.database} with (force)")
    for role in ("app_a", "app", "owner"):
        stack.postgres.execute(f"drop role {shop.database}_{role}")
    api.command(shop.tenant, "suspend")
    assert api.wait_state(shop.tenant, "attention")["reason"]["code"] == "database_lost"
    api.done(shop.tenant, "restore", mode="in_place", confirm=shop.slug)
    assert api.wait_state(shop.tenant, "ready")
    api.done(shop.tenant, "resume")
    assert shop.orders() == [1]


def test_what_cannot_be_is_refused_by_name(shop: Shop, api: Api) -> None:
    tenant = shop.tenant
    assert api.command(tenant, "restore", {"mode": "sideways"}).json["code"] == "invalid_field"
    assert api.command(tenant, "restore", {}).json["code"] == "invalid_field"
    assert failed(api, tenant, "restore", mode="in_place") == "not_confirmed"
    wrong = api.command(tenant, "restore", {"mode": "in_place", "confirm": "somebody-else"})
    assert wrong.status == 409 and wrong.json["code"] == "not_confirmed"
    assert failed(api, tenant, "restore", mode="check", backup="another.backup") == "no_backup"
    never = api.ready_tenant("Never Backed Up")
    assert failed(api, never, "restore", mode="check") == "no_backup"
    assert shop.orders() == [1, 2]


def newest_file(stack: Stack, tenant: str) -> Path:
    return max((stack.root / "archive" / tenant).glob("*.backup"), key=lambda path: path.stat().st_mtime_ns)


def test_a_damaged_backup_fails_its_check_with_an_alert_and_the_tenant_works_on(
    stack: Stack, shop: Shop, api: Api
) -> None:
    path = newest_file(stack, shop.tenant)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    for mode in ("check", "in_place"):
        confirm = {"confirm": shop.slug} if mode == "in_place" else {}
        assert failed(api, shop.tenant, "restore", mode=mode, **confirm) == "archive_damaged"
    alerts = {alert["cause"] for alert in api.get("/api/admin/alerts").json["items"]}
    assert f"tenant-restore:{shop.tenant}" in alerts
    assert shop.databases() == [shop.database] and shop.orders() == [1, 2]
    path.unlink()
    assert failed(api, shop.tenant, "restore", mode="check") == "backup_missing"
    path.write_bytes(whole)
    api.done(shop.tenant, "restore", mode="check")
    alerts = {alert["cause"] for alert in api.get("/api/admin/alerts").json["items"]}
    assert f"tenant-restore:{shop.tenant}" not in alerts


def test_a_backup_that_the_server_refuses_leaves_the_tenant_as_it_was(stack: Stack, shop: Shop, api: Api) -> None:
    stack.postgres.execute("create role outsider")
    stack.postgres.execute("create table theirs (n int); alter table theirs owner to outsider", shop.database)
    stack.postgres.execute(f"grant select on theirs to {shop.database}_owner", shop.database)
    api.done(shop.tenant, "backup")
    stack.postgres.execute("drop owned by outsider", shop.database)
    stack.postgres.execute("drop role outsider")
    operation = api.command(shop.tenant, "restore", {"mode": "in_place", "confirm": shop.slug}).json["operation_id"]
    ended = api.wait_operation(operation)
    assert (ended["state"], ended["code"]) == ("failed", "restore_failed") and "does not exist" in ended["detail"]
    assert shop.databases() == [shop.database] and shop.orders() == [1, 2]
    assert api.tenant(shop.tenant)["state"] == "ready" and api.tenant(shop.tenant)["access"]["applied"] == "full"


def test_a_newer_pg_restores_limits_that_the_server_does_not_know_hinder_nothing(
    stack: Stack, shop: Shop, api: Api, tmp_path: Path
) -> None:
    """As pg_restore 17 against a server of 15: it first sets transaction_timeout. The setting is put in where pg_restore
    writes its script, and psql is asked to run that as pg_restore runs it: its complaint is PostgreSQL's own."""
    tmp_path.chmod(0o755)
    program = tmp_path / "pg_restore"
    program.write_text(NEWER_PG_RESTORE)
    program.chmod(0o755)
    with told(stack.services["provisioner-0"], PATH=f"{tmp_path}:{os.environ['PATH']}"):
        api.done(shop.tenant, "restore", mode="in_place", confirm=shop.slug)
    complaints = (tmp_path / "complaints").read_text().count("unrecognized configuration parameter")
    is_known = rows(stack, "select 1 from pg_settings where name = 'transaction_timeout'")  # by a server of 17
    assert complaints == (0 if is_known else 1)
    assert shop.orders() == [1]


NEWER_PG_RESTORE = """#!/bin/sh
# What pg_restore 17 does first; psql says what the server says of it.
here=$(dirname "$0")
while [ $# -gt 0 ]; do
    case $1 in
        --host) export PGHOST=$2; shift ;;
        --port) export PGPORT=$2; shift ;;
        --username) export PGUSER=$2; shift ;;
        --dbname) export PGDATABASE=$2; shift ;;
    esac
    shift
done
said=$(psql -XqAtc 'SET transaction_timeout = 0;' 2>&1)
echo "$said" >> "$here/complaints"
chmod 666 "$here/complaints"
echo 'pg_restore: while INITIALIZING:' >&2
echo "pg_restore: error: could not execute query: $said" >&2
echo 'Command was: SET transaction_timeout = 0;' >&2
echo >&2
/usr/bin/pg_restore --dbname "$PGDATABASE" || exit $?
echo 'pg_restore: warning: errors ignored on restore: 1' >&2
exit 1
"""


@contextmanager
def hanging_pg_restore(stack: Stack, folder: Path) -> Iterator[Path]:
    """The provisioner finds a pg_restore that says it has begun and does nothing more."""
    folder.chmod(0o755)
    program, begun = folder / "pg_restore", folder / "begun"
    program.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 600\n")
    program.chmod(0o755)
    with told(stack.services["provisioner-0"], PATH=f"{folder}:{os.environ['PATH']}"):
        yield begun


def test_a_restore_under_way_gives_way_to_a_suspension_and_is_made_afterwards(
    stack: Stack, shop: Shop, api: Api, tmp_path: Path
) -> None:
    connection = shop.connection
    with hanging_pg_restore(stack, tmp_path) as begun:
        operation = api.command(shop.tenant, "restore", {"mode": "check"}).json["operation_id"]
        eventually(begun.exists, 20, "the restore has begun")
        api.done(shop.tenant, "suspend")
        assert not is_open(connection)
    assert api.wait_operation(operation, 60)["state"] == "succeeded"
    assert shop.databases() == [shop.database]


@pytest.fixture(scope="module")
def patient(stack: Stack) -> Shop:
    """One for all crashes: each restore brings it back to its one backup."""
    gateway, tokens = stack.services["gateway-0"].url, stack.settings["tokens"]
    return Shop(stack, Api(gateway, tokens["admin"]), Api(gateway, tokens["app"]), "Patient Shop")


PLACES = [
    "restore_before_load", "restore_after_load", "restore_before_swap", "restore_after_swap", "restore_after_drop",
    "saga_before_step@4", "saga_before_step@7", "saga_before_step@8",  # close, open, clear
]  # fmt: skip


@pytest.mark.parametrize("failpoint", PLACES)
def test_a_restore_in_place_survives_kill_at(stack: Stack, patient: Shop, api: Api, failpoint: str) -> None:
    name, _, passes = failpoint.partition("@")
    patient.order(10 + PLACES.index(failpoint))
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, f"{name}=crash" + (f"@{passes}" if passes else "")):
        asked = api.command(patient.tenant, "restore", {"mode": "in_place", "confirm": patient.slug})
        assert died_of_sigkill(provisioner)
    assert api.wait_operation(asked.json["operation_id"], 60)["state"] == "succeeded"
    assert patient.databases() == [patient.database] and patient.orders() == [1]


@pytest.mark.parametrize("failpoint", ["restore_after_load", "restore_after_swap"])
def test_an_archived_tenant_comes_back_whatever_dies_at(stack: Stack, shop: Shop, api: Api, failpoint: str) -> None:
    api.done(shop.tenant, "archive")
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, f"{failpoint}=crash"):
        operation = api.command(shop.tenant, "restore", {"mode": "in_place"}).json["operation_id"]
        assert died_of_sigkill(provisioner)
    assert api.wait_operation(operation, 60)["state"] == "succeeded"
    assert shop.databases() == [shop.database] and shop.orders() == [1, 2]


def test_a_deprovisioning_ends_a_restore_and_takes_everything(
    stack: Stack, shop: Shop, api: Api, tmp_path: Path
) -> None:
    api.done(shop.tenant, "archive")
    with hanging_pg_restore(stack, tmp_path) as begun:
        operation = api.command(shop.tenant, "restore", {"mode": "in_place"}).json["operation_id"]
        eventually(begun.exists, 20, "the restore has begun")
        api.done(shop.tenant, "deprovision", confirm=shop.slug)
    assert api.wait_operation(operation)["state"] == "superseded"
    assert shop.databases() == [] and shop.logins() == 0


def test_a_swap_that_the_server_refuses_puts_the_tenants_database_back(stack: Stack, shop: Shop, api: Api) -> None:
    """Somebody has the name that the old database would get."""
    stem = shop.database.rsplit("_", 1)[0]
    stack.postgres.execute(f"create database {stem}_r1_old")
    try:
        assert failed(api, shop.tenant, "restore", mode="in_place", confirm=shop.slug) == "42P04"
        assert api.wait_state(shop.tenant, "ready")["access"]["applied"] == "full"
        assert shop.orders() == [1, 2] and is_open(shop.connection)
    finally:
        stack.postgres.execute(f"drop database {stem}_r1_old")
    api.done(shop.tenant, "restore", mode="in_place", confirm=shop.slug)
    assert shop.orders() == [1]


def test_the_janitor_takes_a_sample_of_the_backups_in_turns(stack: Stack, shop: Shop, api: Api, app: Api) -> None:
    """Whoever was not tried for the longest time comes first."""
    other = Shop(stack, api, app, "Another Sample")
    rows(
        stack,
        f"update provisioner.backup set tried_at = now() where tenant_id not in ('{shop.tenant}', '{other.tenant}')",
    )
    sampled = (
        "select tenant_id from provisioner.restore where sampled and outcome = 'done' order by finished_at limit 3"
    )
    with told(stack.services["provisioner-0"], ARCHIVE_CHECK_INTERVAL="1s"):
        eventually(lambda: len(rows(stack, sampled)) == 3, 20, "three samples were taken")
    first, second, third = (tenant for (tenant,) in rows(stack, sampled))
    assert (first, second) == (shop.tenant, other.tenant) and third not in (first, second)
    assert api.tenant(shop.tenant)["backups"][0]["proved_at"] is not None
    assert shop.databases() == [shop.database] and shop.orders() == [1, 2]


def test_the_command_line_restores_and_says_where(stack: Stack, shop: Shop, api: Api) -> None:
    def cli(*arguments: str) -> Any:
        return stack.run_cli("archive", *arguments)

    checked = cli("check", shop.slug, "--restore", "--wait")
    assert checked.returncode == 0 and "schema" in checked.stdout, checked.stderr
    unconfirmed = cli("restore", shop.slug)
    assert unconfirmed.returncode == 2 and "--confirm" in unconfirmed.stderr
    assert cli("restore", shop.slug, "--confirm", "other").returncode == 4
    backup = newest_file(stack, shop.tenant)
    beside = cli("restore", shop.slug, "--beside", "--backup", str(backup), "--wait", "--json")
    restored = json.loads(beside.stdout)["operation"]["result"]["restored"]
    assert restored["backup"] == backup.name and shop.orders(restored["database"]) == [1]
    stack.postgres.execute(f"drop database {restored['database']}")
    assert cli("restore", shop.slug, "--confirm", shop.slug, "--wait").returncode == 0
    assert shop.orders() == [1]
