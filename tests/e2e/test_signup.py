"""The life of a signup through the gateway and straight through Kafka."""

from __future__ import annotations

import uuid

import psycopg

from deploy.local.stack import Stack

from .client import Api, eventually
from .topics import cloudevent, produce


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


def test_no_tenants_login_opens_another_tenants_database(stack: Stack, api: Api, app: Api) -> None:
    first, second = api.ready_tenant("First Shop"), api.ready_tenant("Second Shop")
    mine = app.get(f"/api/tenants/{first}/connection").json
    theirs = app.get(f"/api/tenants/{second}/connection").json
    for database in (theirs["database"], "tenantry"):
        try:
            psycopg.connect(
                host=mine["host"], port=mine["port"], dbname=database, user=mine["user"], password=mine["password"]
            ).close()
        except psycopg.OperationalError as refused:
            assert "permission denied" in str(refused) or "not currently accepting" in str(refused)
        else:
            raise AssertionError(f"{mine['user']} got into {database}")


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
