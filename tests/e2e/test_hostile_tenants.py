"""What a tenant can do by its own login, on a server that it shares with others: it does not stay where it was shut out, and
nothing waits for it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from deploy.local.stack import SANITIZERS, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows
from .service_faults import stopped

Session = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    options = {"LEASE": SHORT_LEASE, "ROTATION_OVERLAP": "1s", "JANITOR_INTERVAL": "1s"}
    yield from make_stack("postgres", options=options)


@dataclass
class Tenant:
    """One with its product's login, as the product's backend was told it."""

    stack: Stack
    api: Api
    app: Api
    id: str

    def __post_init__(self) -> None:
        told = self.app.get(f"/api/tenants/{self.id}/connection").json
        self.database, self.user, self.password = told["database"], told["user"], told["password"]

    def connect(self, database: str | None = None, options: str = "") -> Session:
        return psycopg.connect(
            host="127.0.0.1", port=self.stack.postgres.port, dbname=database or self.database, user=self.user,
            password=self.password, options=options, autocommit=True,
        )  # fmt: skip

    def gets_in(self, database: str | None = None) -> bool:
        try:
            self.connect(database).close()
        except psycopg.OperationalError:
            return False
        return True

    def succeeds(self, command: str, body: Any = None) -> None:
        answer = self.api.command(self.id, command, body)
        assert answer.status == 202, answer
        ended = self.api.wait_operation(answer.json["operation_id"])
        assert ended["state"] == "succeeded", ended

    def deprovisioned(self) -> None:
        self.succeeds("deprovision", {"confirm": self.api.tenant(self.id)["slug"]})

    def inside(self) -> str:
        """Sessions in its database but its owner's and the admin's, also those that are only coming in."""
        return self.stack.postgres.execute(
            "select count(*) from (select a.pid from pg_stat_activity a where a.datname = :'name' "
            "and a.usename not in (:'name' || '_owner', 'postgres') "
            "union select l.pid from pg_locks l join pg_database d on d.oid = l.objid "
            "where l.locktype = 'object' and l.classid = 'pg_database'::regclass and d.datname = :'name' "
            "and l.pid not in (select pid from pg_stat_activity)) s",
            name=self.database,
        )


@pytest.fixture
def sign_up(stack: Stack, api: Api, app: Api) -> Any:
    return lambda company: Tenant(stack, api, app, api.ready_tenant(company))


def is_alive(session: Session) -> bool:
    try:
        session.execute("select 1")
    except psycopg.Error:
        return False
    return True


def sneaks_in(tenant: Tenant) -> Future[Session]:
    """A session that is past all checks and sleeps before anybody can see it."""
    outcome: Future[Session] = Future()

    def connect() -> None:
        try:
            outcome.set_result(tenant.connect(options="-c post_auth_delay=600"))
        except psycopg.OperationalError as error:
            outcome.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    eventually(lambda: tenant.inside() == "1", 20, "the session sleeps")
    return outcome


def came_to_nothing(sleeper: Future[Session]) -> bool:
    """Its client may hear that it is in before it hears that it was ended."""
    return sleeper.exception(60) is not None or not is_alive(sleeper.result())


def test_a_session_that_sleeps_at_the_door_does_not_outlive_a_suspension(sign_up: Any) -> None:
    tenant = sign_up("Sleeper Shop")
    sleeper = sneaks_in(tenant)
    tenant.succeeds("suspend")
    assert tenant.inside() == "0"
    assert came_to_nothing(sleeper)
    assert not tenant.gets_in()
    tenant.succeeds("resume")
    assert tenant.gets_in()


def test_a_session_that_sleeps_at_the_door_does_not_outlive_its_login(sign_up: Any, app: Api) -> None:
    tenant = sign_up("Stolen Shop")
    sleeper = sneaks_in(tenant)
    tenant.succeeds("rotate-credentials")
    assert came_to_nothing(sleeper)
    eventually(lambda: not tenant.gets_in(), 20, "the old login ends")
    renewed = Tenant(tenant.stack, tenant.api, app, tenant.id)
    assert renewed.user != tenant.user and renewed.gets_in()


def test_nothing_waits_for_a_tenant_that_holds_its_own_roles_row(sign_up: Any) -> None:
    tenant = sign_up("Holding Shop")
    for command in ("suspend", "archive", "deprovision"):
        if command == "archive":
            tenant.succeeds("resume")
        session = tenant.connect() if command != "deprovision" else None
        if session is not None:
            session.execute(f"begin; alter role {tenant.user} password 'mine'")
        if command == "deprovision":
            tenant.deprovisioned()
        else:
            tenant.succeeds(command)
        assert session is None or not is_alive(session)
        assert not tenant.gets_in()


def test_a_stolen_login_ends_though_its_holder_keeps_its_row_locked(sign_up: Any) -> None:
    tenant = sign_up("Locked Shop")
    session = tenant.connect()
    session.execute(f"begin; alter role {tenant.user} password 'mine'")
    tenant.succeeds("rotate-credentials")
    eventually(lambda: not is_alive(session), 30, "the session of the old login ends")
    eventually(lambda: not tenant.gets_in(), 20, "the old login ends")


def test_the_stored_password_works_after_a_resume_whatever_the_tenant_made_of_its_own(sign_up: Any) -> None:
    tenant = sign_up("Own Word Shop")
    with tenant.connect() as session:
        session.execute(f"alter role {tenant.user} password 'mine'")
    assert not tenant.gets_in()
    tenant.succeeds("suspend")
    tenant.succeeds("resume")
    assert tenant.gets_in()


def state_of(stack: Stack, operation: str) -> str | None:
    found = rows(stack, f"select state from catalog.operation where operation_id = '{operation}'")
    return str(found[0][0]) if found else None


def opens_or_closes(stack: Stack, tenant: Tenant) -> bool:
    found = rows(stack, "select 1 from provisioner.saga where kind = 'access' and status = 'running' "
                 f"and tenant_id = '{tenant.id}'")  # fmt: skip
    return found != []


def test_a_suspension_is_not_told_while_an_earlier_resume_is_on_its_way(stack: Stack, sign_up: Any, api: Api) -> None:
    tenant = sign_up("Wavering Shop")
    tenant.succeeds("suspend")
    with psycopg.connect(stack.postgres.superuser_url) as operator:
        operator.execute(f"alter role {tenant.user} connection limit 20")
        assert api.command(tenant.id, "resume").status == 202
        eventually(lambda: opens_or_closes(stack, tenant), 20, "the tenant is being opened")
        suspension = api.command(tenant.id, "suspend").json["operation_id"]
        assert eventually(lambda: state_of(stack, suspension), 20, "the command is taken") == "accepted"
        operator.rollback()
    assert api.wait_operation(suspension)["state"] == "succeeded"
    assert not opens_or_closes(stack, tenant) and not tenant.gets_in()
    assert api.tenant(tenant.id)["access"]["applied"] == "none"


@dataclass
class Accomplices:
    """Two tenants, of which one lets the other into its database: up to PostgreSQL 14 a role may grant itself, and what was
    granted comes along when a server is upgraded. A newer one has to be told by its superuser."""

    stack: Stack

    host: Tenant
    guest: Tenant

    def let_in(self) -> None:
        host, guest = self.host.user, self.guest.user
        self.stack.postgres.execute(f"grant {host} to {guest} with admin option granted by {host}")


@pytest.fixture
def accomplices(stack: Stack, sign_up: Any) -> Accomplices:
    if int(stack.postgres.execute("show server_version_num")) >= 160000:
        pytest.skip("from PostgreSQL 16 on no grant is taken that its grantor could not make")
    return Accomplices(stack, sign_up("Host Shop"), sign_up("Guest Shop"))


def test_whom_a_tenant_let_into_its_database_is_out_after_a_suspension(stack: Stack, accomplices: Accomplices) -> None:
    host, guest = accomplices.host, accomplices.guest
    with stopped(stack.services["provisioner-0"]):
        accomplices.let_in()
        session = guest.connect(host.database)
        command = host.api.command(host.id, "suspend").json["operation_id"]
    assert host.api.wait_operation(command)["state"] == "succeeded"
    assert not is_alive(session)
    assert not guest.gets_in(host.database)
    host.succeeds("resume")
    assert not guest.gets_in(host.database)
    assert host.gets_in() and guest.gets_in()


def test_whom_a_tenant_let_into_its_database_is_out_after_a_rotation(stack: Stack, accomplices: Accomplices) -> None:
    host, guest = accomplices.host, accomplices.guest
    with stopped(stack.services["provisioner-0"]):
        accomplices.let_in()
        session = guest.connect(host.database)
        command = host.api.command(host.id, "rotate-credentials").json["operation_id"]
    assert host.api.wait_operation(command)["state"] == "succeeded"
    eventually(lambda: not is_alive(session), 30, "the guest's session ends")
    assert not guest.gets_in(host.database)


def test_an_accomplice_cannot_hold_up_a_suspension_by_the_login_it_was_given(
    stack: Stack, accomplices: Accomplices
) -> None:
    """By a session in its own database, which nobody has a reason to end but this."""
    host, guest = accomplices.host, accomplices.guest
    with stopped(stack.services["provisioner-0"]):
        accomplices.let_in()
        session = guest.connect()
        session.execute(f"begin; set role {host.user}; alter role {host.user} password 'mine'")
        command = host.api.command(host.id, "suspend").json["operation_id"]
    assert host.api.wait_operation(command)["state"] == "succeeded"
    assert not is_alive(session)
    assert guest.gets_in()


def test_what_a_tenant_granted_of_its_login_is_taken_away_without_a_command(accomplices: Accomplices) -> None:
    host, guest = accomplices.host, accomplices.guest
    accomplices.let_in()
    eventually(lambda: not guest.gets_in(host.database), 20, "the guest is out")


def backup_of(tenant: Tenant) -> str:
    """The newest backup as SQL, with all that is in it."""
    tenant.succeeds("backup")
    path = max((tenant.stack.root / "archive" / tenant.id).glob("*.backup"), key=lambda file: file.stat().st_mtime)
    whole = subprocess.run(
        [str(tenant.stack.build / "tenantry"), "archive", "cat", str(path)],
        env={"PATH": os.environ["PATH"], **SANITIZERS, **tenant.stack.operator_environment()}, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    return subprocess.run(
        ["pg_restore", "--file=-"], input=whole.stdout, capture_output=True, timeout=60, check=True
    ).stdout.decode()


FORCED = """
set role {owner};
create table doc (id int primary key, org int, body text);
insert into doc values (1, 1, 'a row behind the policy');
alter table doc enable row level security;
alter table doc force row level security;
create policy p on doc using (org = nullif(current_setting('app.org', true), '')::int);
"""


def test_rows_behind_forced_row_level_security_are_in_the_backup(stack: Stack, sign_up: Any) -> None:
    tenant = sign_up("Forced Shop")
    stack.postgres.execute(FORCED.format(owner=f"{tenant.database}_owner"), tenant.database)
    assert "a row behind the policy" in backup_of(tenant)
    tenant.succeeds("archive")


def test_a_schema_that_belongs_to_another_role_is_in_the_backup(stack: Stack, sign_up: Any) -> None:
    tenant = sign_up("Audited Shop")
    stack.postgres.execute(
        "create role auditor; create schema audit authorization auditor; "
        "set role auditor; create table audit.entry (what text); insert into audit.entry values ('an audited deed')",
        tenant.database,
    )
    assert "an audited deed" in backup_of(tenant)
    tenant.succeeds("archive")
    stack.postgres.execute("drop role auditor")


def test_a_large_object_that_its_owner_may_not_read_is_in_the_backup(sign_up: Any) -> None:
    tenant = sign_up("Withheld Shop")
    with tenant.connect() as session:
        found = session.execute("select lo_from_bytea(0, 'kept from everybody')").fetchone()
        assert found is not None
        session.execute(f"revoke all on large object {found[0]} from {tenant.user}")
    assert b"kept from everybody".hex() in backup_of(tenant)
    tenant.succeeds("archive")


def roles_of(tenant: Tenant) -> list[str]:
    return [f"{tenant.database}_{part}" for part in ("owner", "app", "app_a")]


def test_what_others_granted_to_a_tenants_roles_does_not_keep_them(stack: Stack, sign_up: Any) -> None:
    generous, late, tenant = sign_up("Generous Shop"), sign_up("Late Shop"), sign_up("Beloved Shop")
    grants = "; ".join(f"grant select on large object {{0}} to {role}" for role in roles_of(tenant))
    session, open_one = generous.connect(), late.connect()
    open_one.execute("begin")
    for one in (session, open_one):
        found = one.execute("select lo_create(0)").fetchone()
        assert found is not None
        one.execute(grants.format(found[0]))
    tenant.deprovisioned()
    assert is_alive(session) and not is_alive(open_one)
    left = stack.postgres.execute(
        "select count(*) from pg_roles where rolname like :'name' || '%'", name=tenant.database
    )
    assert left == "0"


def test_another_tenants_setting_for_a_database_does_not_keep_it(stack: Stack, sign_up: Any) -> None:
    """In an open transaction: it holds a lock on the database."""
    other, tenant = sign_up("Meddling Shop"), sign_up("Meddled Shop")
    session = other.connect()
    session.execute(f"begin; alter role {other.user} in database {tenant.database} set work_mem = '1MB'")
    tenant.deprovisioned()
    assert not is_alive(session) and other.gets_in()


def error_of(tenant: Tenant) -> str:
    activity = tenant.api.tenant(tenant.id).get("activity") or {}
    return str((activity.get("error") or {}).get("code"))


def test_tenants_that_hold_locks_do_not_hold_up_the_backups_of_others(sign_up: Any, api: Api) -> None:
    """As many as there are places for backups."""
    holders = [sign_up(f"Lock Shop {number}") for number in range(4)]
    tenant = sign_up("Patient Shop")
    sessions = [holder.connect() for holder in holders]
    for holder, session in zip(holders, sessions, strict=True):
        session.execute("begin; lock table branches in access exclusive mode")
        assert api.command(holder.id, "backup").status == 202
    for holder in holders:
        eventually(
            lambda h=holder: (h.api.tenant(h.id).get("activity") or {}).get("kind") == "backup", 20, "it is begun"
        )
    tenant.succeeds("backup")
    for holder, session in zip(holders, sessions, strict=True):
        eventually(lambda h=holder: error_of(h) == "dump_locked", 30, "the error says what it waits for")
        assert is_alive(session)
        holder.deprovisioned()
