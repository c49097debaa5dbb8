"""Tenants are placed where there is room, and wait where there is none."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import psycopg
import pytest

from deploy.local.postgres import PostgresServer
from deploy.local.stack import Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .faults import forget_tenants
from .invariants import rows
from .service_faults import stopped, told


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", options={"LEASE": SHORT_LEASE})


def use_servers(stack: Stack, *capacities: int) -> None:
    """Restarts the provisioner with as many servers (all the same cluster here) of these capacities."""
    service = stack.services["provisioner-0"]
    assert service.stop()
    first = stack.servers()[0]
    named = [{**first, "name": f"server-{i}", "capacity": capacity} for i, capacity in enumerate(capacities)]
    service.environment["TENANT_SERVERS"] = json.dumps(named)
    service.start()
    service.wait_until_ready()


def open_alerts(api: Api) -> list[str]:
    return [alert["cause"] for alert in api.get("/api/admin/alerts").json["items"]]


def described(name: str, server: PostgresServer, capacity: int) -> dict[str, object]:
    return {
        "name": name, "admin_url": server.superuser_url, "tenant_host": "127.0.0.1", "tenant_port": str(server.port),
        "capacity": capacity,
    }  # fmt: skip


def test_a_server_that_is_away_holds_up_a_signup_for_half_a_minute_and_those_after_it_not_at_all(
    stack: Stack, api: Api, second_server: PostgresServer
) -> None:
    """It cannot be asked whether tenants have lived there before a restore of the catalog."""
    servers = [*stack.servers(), described("away", second_server, 0)]
    with told(stack.services["provisioner-0"], TENANT_SERVERS=json.dumps(servers)):
        second_server.stop()
        first = api.ready_tenant("Unasked Shop")
        second = api.ready_tenant("Unasked And Prompt")
        waited = rows(
            stack,
            "select distinct tenant_id from catalog.tenant_event where type = 'tenant.activity.delayed.v1' "
            f"and data #>> '{{error,code}}' = 'database_away' and tenant_id in ('{first}', '{second}')",
        )
        assert waited == [[first]]
        for tenant in (first, second):
            gone = api.command(tenant, "deprovision", {"confirm": api.tenant(tenant)["slug"]}).json["operation_id"]
            assert api.wait_operation(gone)["state"] == "succeeded"


def test_tenants_spread_over_servers_and_wait_for_room(stack: Stack, api: Api) -> None:
    use_servers(stack, 1, 1)
    first, second = api.ready_tenant("First Placed"), api.ready_tenant("Second Placed")
    placed = rows(stack, "select distinct server from provisioner.database where status = 'live' order by 1")
    assert placed == [["server-0"], ["server-1"]]
    third = api.signup("Third Waiting").json["tenant_id"]
    waiting = eventually(
        lambda: (seen := api.tenant(third)).get("activity", {}).get("error") and seen, 20, "it tells what it waits for"
    )
    assert waiting["activity"]["error"]["code"] == "no_capacity"
    assert waiting["state"] == "provisioning"
    stack.postgres.execute("update catalog.business_clock set ahead = interval '1 hour'", "tenantry")
    stuck = f"tenant-stuck:{third}:provision"
    eventually(lambda: stuck in open_alerts(api), 20, "somebody is told that it does not come forward")
    use_servers(stack, 1, 2)
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    api.wait_state(third, "ready")
    eventually(lambda: stuck not in open_alerts(api), 20, "the alert is over")
    for tenant in (first, second):
        assert api.tenant(tenant)["state"] == "ready"


def unready(stack: Stack) -> list[list[str]]:
    return rows(
        stack,
        "select company, state, reason_code from provisioner.tenant where state not in ('ready', 'deprovisioned')",
    )


@contextlib.contextmanager
def too_busy_to_look(server: PostgresServer) -> Iterator[None]:
    """It takes connections, but nobody can read the marks of its databases."""
    with psycopg.connect(server.superuser_url) as other:
        other.execute("lock table pg_shdescription in access exclusive mode")
        yield


def tried_again(stack: Stack, tenant: str) -> int:
    """How often the tenant's activity was put off because a server did not answer."""
    found = rows(
        stack,
        f"select attempt from provisioner.saga where tenant_id = '{tenant}' and error ->> 'code' = 'statement_timeout'",
    )
    return int(found[0][0]) if found else 0


def test_after_a_restore_a_tenant_is_found_on_the_server_where_it_lived(
    stack: Stack, api: Api, app: Api, second_server: PostgresServer
) -> None:
    """The restored catalog would place it where there is more room now."""
    service = stack.services["provisioner-0"]
    first = PostgresServer(stack.root / "postgres", stack.postgres.port)

    def use(*servers: dict[str, object]) -> None:
        service.environment["TENANT_SERVERS"] = json.dumps(list(servers))

    others = [described("server-0", first, 0), described("server-1", first, 0)]  # where the earlier ones are
    with stopped(service):
        use(*others, described("a", first, 0), described("b", second_server, 100))
    tenant = api.ready_tenant("Homing Shop")
    name = app.get(f"/api/tenants/{tenant}/connection").json["database"]
    second_server.execute("create table treasure (what text); insert into treasure values ('years of sales')", name)
    with too_busy_to_look(second_server):
        with stopped(service):
            forget_tenants(stack)
            use(*others, described("a", first, 1000), described("b", second_server, 100))
        eventually(lambda: tried_again(stack, tenant) >= 2, 30, "the busy server is asked again")
    api.wait_state(tenant, "ready", 40)
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    assert (connection["port"], connection["database"]) == (second_server.port, name)
    assert second_server.execute("select what from treasure", name) == "years of sales"
    assert not rows(stack, f"select 1 from pg_database where datname = '{name}'"), "and none is made elsewhere"
    made = rows(stack, f"select 1 from provisioner.saga where tenant_id = '{tenant}' and kind = 'provision'")
    assert len(made) == 1
    eventually(lambda: not unready(stack), 30, "the others are back too")
    done = api.wait_operation(api.command(tenant, "deprovision", {"confirm": "homing-shop"}).json["operation_id"])
    assert done["state"] == "succeeded"
