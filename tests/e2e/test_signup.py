"""The life of a signup through the gateway and straight through Kafka."""

from __future__ import annotations

import subprocess
import uuid

import psycopg
import pytest

from deploy.local.demo import how_to_read_mails
from deploy.local.stack import Stack

from .client import Api, eventually
from .secrets_of import tenant_passwords
from .topics import cloudevent, produce


@pytest.fixture(scope="module")
def stack(whole_stack: Stack) -> Stack:
    return whole_stack


def test_a_signup_becomes_a_ready_tenant_with_its_schema(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Acme Pharmacy", name="Ada")
    seen = api.tenant(tenant)
    assert seen["slug"] == "acme-pharmacy"
    assert seen["access"] == {"wanted": "full", "applied": "full", "reason": None}
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    with psycopg.connect(
        host=connection["host"], port=connection["port"], dbname=connection["database"], user=connection["user"],
        password=connection["password"],
    ) as database:  # fmt: skip
        tables = {row[0] for row in database.execute("select tablename from pg_tables where schemaname = 'public'")}
    assert {"branches", "products", "sales"} <= tables


def test_the_demo_tells_how_to_read_the_invitations(stack: Stack, api: Api) -> None:
    api.ready_tenant("Readers & Co", name="Ada")
    words = how_to_read_mails(str(stack.root / "mail"))

    def shown() -> str:
        return subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=20).stdout

    told = eventually(lambda: "Readers & Co is ready for you." in (text := shown()) and text, 20, "the invitation")
    assert "Hello Ada," in told and "/invite/" in told and "<p>" not in told


def test_no_tenants_login_opens_another_tenants_database(stack: Stack, api: Api, app: Api) -> None:
    first, second = api.ready_tenant("First Shop"), api.ready_tenant("Second Shop")
    mine = app.get(f"/api/tenants/{first}/connection").json
    theirs = app.get(f"/api/tenants/{second}/connection").json
    owner = f"{mine['database']}_owner"
    passwords = tenant_passwords(stack)
    logins = {mine["user"]: mine["password"], owner: passwords[f"owner_password 1 of {first}"].decode()}
    for role in ("gateway", "provisioner", "migrator", "billing"):  # whoever owns one of our services' passwords
        logins[f"tenantry_{role}"] = stack.settings["passwords"][role]
    for user, password in logins.items():
        for database in (theirs["database"], "tenantry"):
            if user.startswith("tenantry_") and database == "tenantry":
                continue
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(
                    host=mine["host"], port=mine["port"], dbname=database, user=user, password=password
                ).close()


def test_a_tenants_login_has_no_more_rights_than_it_needs(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Modest Shop")
    mine = app.get(f"/api/tenants/{tenant}/connection").json
    with psycopg.connect(
        host=mine["host"], port=mine["port"], dbname=mine["database"], user=mine["user"], password=mine["password"],
        autocommit=True,
    ) as database:  # fmt: skip
        for forbidden in (
            "create table mine (a int)", "create schema mine", "drop table branches", "truncate branches",
            "create role mine", "create database mine", "select * from tenantry.fence",
            "delete from schema_migrations",
            "update tenantry.identity set generation = 2", "alter role current_user superuser",
            "create extension dblink",
            "copy branches to '/tmp/x'", "select pg_read_file('/etc/passwd')", f"set role {mine['database']}_owner",
        ):  # fmt: skip
            with pytest.raises(psycopg.Error) as refused:
                database.execute(forbidden)  # type: ignore[arg-type]
            assert refused.value.sqlstate in ("42501", "0LP01"), f"{forbidden}: {refused.value}"
        database.execute("insert into roles (code, name) values ('tester', 'Tester')")


def test_each_service_may_write_only_what_is_its_own(stack: Stack) -> None:
    attempts = {
        "gateway": [
            "update provisioner.tenant set state = 'ready'", "select * from provisioner.secret",
            "insert into catalog.access_wanted values (gen_random_uuid(), 'operator', 'none', null)",
            "select catalog.raise_alert('x', null, 'x', 'x')", "delete from catalog.tenant_event",
        ],
        "billing": [
            "update provisioner.tenant set state = 'ready'", "select * from provisioner.secret",
            "insert into catalog.access_wanted values (gen_random_uuid(), 'operator', 'none', null)",
            "insert into catalog.lifecycle_wanted values (gen_random_uuid(), 'billing', 'live')",
            "update catalog.lifecycle_wanted set wanted = 'live'", "delete from catalog.tenant_event",
        ],
        "migrator": [
            "update provisioner.tenant set state = 'ready'", "delete from catalog.operation",
            "select catalog.want_lifecycle(gen_random_uuid(), 'live', null, null)",
        ],
        "provisioner": [
            "insert into catalog.access_wanted values (gen_random_uuid(), 'billing', 'none', null)",
            "delete from catalog.tenant_event", "update catalog.tenant_status set version = 0",
        ],
    }  # fmt: skip
    for role, statements in attempts.items():
        with psycopg.connect(stack.catalog_url(role), autocommit=True) as catalog:
            for statement in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    catalog.execute(statement)  # type: ignore[arg-type]
            lease = catalog.execute("select catalog.take_lease('a test', 'a stranger', 100000000000)").fetchone()
            assert (lease == (None,)) == (role == "gateway"), "a gateway leads in nothing but publishing"
            catalog.execute("select catalog.drop_lease('a test', 'a stranger')")


def test_a_signup_produced_straight_to_kafka_is_worth_as_much(stack: Stack, api: Api) -> None:
    tenant = str(uuid.uuid4())
    produce(
        stack.kafka.bootstrap, "tenant.signup.v1", tenant.encode(),
        b'{"company": "Direct Chemist", "email": "d@chemist.test"}', cloudevent("tenant.signup.requested.v1"),
    )  # fmt: skip
    assert api.wait_state(tenant, "ready")["slug"] == "direct-chemist"


def test_the_same_idempotency_key_gives_one_tenant_and_another_body_a_conflict(api: Api) -> None:
    first = api.signup("Key Shop", idempotency_key="k-1")
    again = api.signup("Key Shop", idempotency_key="k-1")
    other = api.signup("Other Shop", idempotency_key="k-1")
    assert first.status == again.status == 202 and first.json == again.json
    assert other.status == 409 and other.json["code"] == "idempotency_key_reused"
    api.wait_state(first.json["tenant_id"], "ready")


def test_waiting_is_told_the_outcome(api: Api) -> None:
    done = api.signup("Patient Shop", prefer="wait=20")
    assert done.status == 200 and done.json["state"] == "succeeded"
    taken = api.signup("Late Shop", subdomain="patient-shop", prefer="wait=20")
    assert taken.status == 409 and taken.json["code"] == "slug_taken"


def test_suspending_closes_the_database_and_resuming_opens_it(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Sleepy Shop")
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    secret = {"user": connection["user"], "password": connection["password"], "dbname": connection["database"]}
    where = {"host": connection["host"], "port": connection["port"]}
    held = psycopg.connect(**where, **secret)
    operation = api.command(tenant, "suspend", {"reason": "unpaid"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert api.tenant(tenant)["access"] == {"wanted": "none", "applied": "none", "reason": "unpaid"}
    try:
        held.execute("select 1")
        raise AssertionError("the session lived on")
    except psycopg.OperationalError:
        pass
    assert app.get(f"/api/tenants/{tenant}/connection").status == 409
    operation = api.command(tenant, "resume").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    psycopg.connect(**where, **secret).close()


def test_rotation_lets_the_old_login_work_for_a_while(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Turning Shop")
    old = app.get(f"/api/tenants/{tenant}/connection").json
    operation = api.command(tenant, "rotate-credentials").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    new = app.get(f"/api/tenants/{tenant}/connection").json
    assert new["user"] != old["user"] and new["password"] != old["password"]
    for each in (old, new):
        psycopg.connect(
            host=each["host"], port=each["port"], dbname=each["database"], user=each["user"], password=each["password"]
        ).close()


def test_backup_archive_and_deprovision(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Leaving Shop")
    operation = api.command(tenant, "backup").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert api.tenant(tenant)["backup"]["at"] is not None
    operation = api.command(tenant, "archive").json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert api.tenant(tenant)["state"] == "archived"
    assert sorted(path.suffix for path in (stack.root / "archive" / tenant).iterdir()) == [".archive", ".backup"]
    refused = api.command(tenant, "deprovision", {"confirm": "something"}, prefer="wait=20")
    assert refused.status == 409 and refused.json["code"] == "not_confirmed"
    operation = api.command(tenant, "deprovision", {"confirm": "leaving-shop"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    eventually(lambda: api.tenant(tenant)["state"] == "deprovisioned", 10, "it is gone")


def test_deprovisioning_drops_a_live_tenant(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Gone Shop")
    operation = api.command(tenant, "deprovision", {"confirm": "gone-shop"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
