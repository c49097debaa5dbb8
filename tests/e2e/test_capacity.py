"""Tenants are placed where there is room, and wait where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .conftest import make_stack
from .invariants import rows


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres")


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


def test_tenants_spread_over_servers_and_wait_for_room(stack: Stack, api: Api) -> None:
    use_servers(stack, 1, 1)
    first, second = api.ready_tenant("First Placed"), api.ready_tenant("Second Placed")
    placed = rows(stack, "select distinct server from provisioner.database order by 1")
    assert placed == [["server-0"], ["server-1"]]
    third = api.signup("Third Waiting").json["tenant_id"]
    waiting = eventually(
        lambda: (seen := api.tenant(third)).get("activity", {}).get("error") and seen, 20, "it tells what it waits for"
    )
    assert waiting["activity"]["error"]["code"] == "no_capacity"
    assert waiting["state"] == "provisioning"
    stack.postgres.execute("update catalog.business_clock set ahead = interval '1 hour'", "tenantry")
    stuck = f"tenant-stuck:{third}"
    eventually(lambda: stuck in open_alerts(api), 20, "somebody is told that it does not come forward")
    use_servers(stack, 1, 2)
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    api.wait_state(third, "ready")
    eventually(lambda: stuck not in open_alerts(api), 20, "the alert is over")
    for tenant in (first, second):
        assert api.tenant(tenant)["state"] == "ready"
