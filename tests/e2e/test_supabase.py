"""The supabase driver on the sandbox: what the provider does wrong, a tenant must not notice."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .invariants import rows


@pytest.fixture(scope="module")
def stack(supabase_stack: Stack) -> Stack:
    return supabase_stack


def control(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """Calls the sandbox's own interface."""
    request = urllib.request.Request(
        f"{stack.sandbox_url}/_sandbox/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        text = response.read().decode()
    return json.loads(text) if text else None


@contextmanager
def fault(stack: Stack, method: str, path: str, what: dict[str, Any], times: int = 1, **more: Any) -> Iterator[None]:
    """While it lasts, the provider fails these calls so many times."""
    rule = {"match": {"method": method, "path": path}, "times": times, "fault": what, **more}
    made = control(stack, "POST", "faults", rule)
    try:
        yield
    finally:
        control(stack, "DELETE", f"faults/{made['id']}")


def projects_of(stack: Stack, tenant: str) -> list[dict[str, Any]]:
    """The tenant's projects that exist now."""
    found = control(stack, "GET", "projects")
    listed = found["projects"] if isinstance(found, dict) else found
    return [p for p in listed if tenant.replace("-", "") in p["name"] and p["status"] not in ("REMOVED", "GOING_DOWN")]


def test_a_signup_becomes_a_project_with_schema_admin_and_login(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Supa Shop", email="Ada@Supa.test")
    assert len(projects_of(stack, tenant)) == 1
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    with psycopg.connect(
        host=connection["host"], port=connection["port"], dbname=connection["database"], user=connection["user"],
        password=connection["password"],
    ) as database:  # fmt: skip
        assert database.execute("select count(*) from public.branches").fetchone() == (0,)
    users = control(stack, "GET", f"users?ref={projects_of(stack, tenant)[0]['ref']}")
    listed = users["users"] if isinstance(users, dict) else users
    assert [user["email"] for user in listed] == ["ada@supa.test"]


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("POST", "^/v1/projects$", {"kind": "cut_after"}),
        ("POST", "^/v1/projects$", {"kind": "cut"}),
        ("POST", "^/v1/projects$", {"kind": "status", "code": 500, "body": {"message": "oops"}}),
        ("GET", "^/v1/organizations/", {"kind": "status", "code": 503, "body": {"message": "down"}}),
        ("GET", "/health", {"kind": "status", "code": 500, "body": {"message": "oops"}}),
        ("GET", "/api-keys", {"kind": "cut"}),
        ("GET", "/pooler", {"kind": "status", "code": 404, "body": {"message": "not found"}}),
        ("POST", "/admin/users$", {"kind": "cut_after"}),
        ("PATCH", "/postgrest$", {"kind": "cut_after"}),
    ],
)
def test_a_fault_of_the_provider_is_lived_through(
    stack: Stack, api: Api, method: str, path: str, what: dict[str, Any]
) -> None:
    with fault(stack, method, path, what):
        tenant = api.signup(f"Fault {method} {what['kind']} Shop").json["tenant_id"]
        api.wait_state(tenant, "ready", 40)
    assert len(projects_of(stack, tenant)) == 1


def test_a_list_that_lags_makes_no_second_project(stack: Stack, api: Api) -> None:
    with (
        fault(stack, "POST", "^/v1/projects$", {"kind": "cut_after"}),
        fault(stack, "GET", "^/v1/organizations/", {"kind": "lagging_list", "seconds": 4}, times=50),
    ):
        tenant = api.signup("Lagging Shop").json["tenant_id"]
        api.wait_state(tenant, "ready", 60)
    assert len(projects_of(stack, tenant)) == 1


def test_a_full_region_is_left_for_another_of_its_group(stack: Stack, api: Api) -> None:
    with fault(stack, "POST", "^/v1/projects$", {"kind": "capacity", "region": "eu-west-1"}, times=100):
        tenant = api.signup("Full Shop", region="eu-west-1").json["tenant_id"]
        ready = api.wait_state(tenant, "ready", 40)
    assert ready["region"].startswith("eu-") and ready["region"] != "eu-west-1"


def test_a_full_quota_waits_instead_of_failing(stack: Stack, api: Api) -> None:
    with fault(stack, "POST", "^/v1/projects$", {"kind": "quota"}, times=100):
        tenant = api.signup("Quota Shop").json["tenant_id"]
        waiting = eventually(
            lambda: (seen := api.tenant(tenant)).get("activity", {}).get("error") and seen, 20, "the quota is told"
        )
        assert waiting["state"] == "provisioning"
        assert waiting["activity"]["error"]["code"] == "provider_quota"
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    api.wait_state(tenant, "ready", 40)


def test_a_project_that_never_comes_up_is_replaced_and_the_stuck_one_deleted(stack: Stack, api: Api) -> None:
    with fault(stack, "POST", "^/v1/projects$", {"kind": "stuck"}, times=1):
        tenant = api.signup("Stuck Shop").json["tenant_id"]
        eventually(lambda: (api.tenant(tenant).get("activity") or {}).get("step") == "await_ready", 20, "it waits")
        move_clock(stack, "16 minutes")
        api.wait_state(tenant, "ready", 60)
    eventually(lambda: len(projects_of(stack, tenant)) == 1, 60, "the stuck project is gone")
    statuses = rows(
        stack, f"select generation, status from provisioner.database where tenant_id = '{tenant}' order by 1"
    )
    assert [status for _, status in statuses] == ["deleted", "live"]


def move_clock(stack: Stack, ahead: str) -> None:
    stack.postgres.execute(f"update catalog.business_clock set ahead = ahead + interval '{ahead}'", "tenantry")


def test_suspending_closes_database_data_api_and_login(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Closing Shop")
    ref = projects_of(stack, tenant)[0]["ref"]
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    where = {
        "host": connection["host"], "port": connection["port"], "dbname": connection["database"],
        "user": connection["user"], "password": connection["password"],
    }  # fmt: skip
    psycopg.connect(**where).close()
    assert api.wait_operation(api.command(tenant, "suspend").json["operation_id"])["state"] == "succeeded"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**where)
    assert data_api_is_open(stack, ref) is False
    assert api.wait_operation(api.command(tenant, "resume").json["operation_id"])["state"] == "succeeded"
    psycopg.connect(**where).close()
    assert data_api_is_open(stack, ref) is True


def data_api_is_open(stack: Stack, ref: str) -> bool:
    try:
        with urllib.request.urlopen(f"{stack.sandbox_url}/rest/{ref}/v1/", timeout=10) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False


def test_rotation_backup_and_deprovision_work_on_a_project(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Whole Life Shop")
    old = app.get(f"/api/tenants/{tenant}/connection").json
    assert api.wait_operation(api.command(tenant, "rotate-credentials").json["operation_id"])["state"] == "succeeded"
    new = app.get(f"/api/tenants/{tenant}/connection").json
    for each in (old, new):
        psycopg.connect(
            host=each["host"], port=each["port"], dbname=each["database"], user=each["user"], password=each["password"]
        ).close()
    assert api.wait_operation(api.command(tenant, "backup").json["operation_id"])["state"] == "succeeded"
    operation = api.command(tenant, "deprovision", {"confirm": "whole-life-shop"}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"
    assert projects_of(stack, tenant) == []


def test_the_invitation_leads_to_the_providers_own_link(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Inviting Shop", email="ivy@inviting.test")
    link = invitation_for(stack, tenant)
    page = Api(stack.services["gateway-0"].url, None)
    assert page.get(f"/invite/{link}").status == 200
    answer = page.call("POST", f"/invite/{link}", raw=b"", content_type="application/x-www-form-urlencoded")
    assert answer.status == 303, answer
    assert "/auth/" in answer.headers["location"] and "verify" in answer.headers["location"]


def invitation_for(stack: Stack, tenant: str) -> str:
    """The newest link in the mails written for the tenant."""
    import base64
    import re

    mails = sorted((stack.root / "mail").glob(f"invite-{tenant}-*.eml"))
    body = mails[-1].read_text().split("\n\n", 1)[1]
    text = base64.b64decode(body).decode()
    found = re.search(r"/invite/(\S+)", text)
    assert found is not None
    return found.group(1)
