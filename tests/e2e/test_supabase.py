"""The supabase driver on the sandbox: what the provider does wrong, a tenant must not notice."""

from __future__ import annotations

import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from deploy.local.ports import reserve_port
from deploy.local.stack import Stack

from .client import Answer, Api, eventually
from .invariants import rows
from .mails import words
from .rollouts import Rollouts
from .sandbox_control import fault, projects_of, users_of
from .service_faults import started, stopped, told


@pytest.fixture(scope="module")
def stack(supabase_stack: Stack) -> Stack:
    return supabase_stack


def test_a_signup_becomes_a_project_with_schema_admin_and_login(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Supa Shop", email="Ada@Supa.test")
    assert len(projects_of(stack, tenant)) == 1
    connection = app.get(f"/api/tenants/{tenant}/connection").json
    with psycopg.connect(
        host=connection["host"], port=connection["port"], dbname=connection["database"], user=connection["user"],
        password=connection["password"],
    ) as database:  # fmt: skip
        assert database.execute("select count(*) from public.branches").fetchone() == (0,)
    assert [user["email"] for user in users_of(stack, projects_of(stack, tenant)[0]["ref"])] == ["ada@supa.test"]


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
        ("POST", "^/v1/projects$", {"kind": "delay", "seconds": 2, "when": "after"}),
        ("GET", "^/v1/projects/[a-z]+$", {"kind": "rate_limit", "reset": 1, "retry_after": 1}),
        ("GET", "^/v1/projects/[a-z]+$", {"kind": "status", "code": 200, "body": {"id": "no status"}}),
        ("GET", "^/v1/organizations/", {"kind": "list_order", "order": "reverse"}),
        ("GET", "/health", {"kind": "unhealthy"}),
        ("GET", "/health", {"kind": "status", "code": 200, "text": "<html>a proxy's page</html>"}),
        ("POST", "/admin/users$", {"kind": "status", "code": 500, "body": {"msg": "oops"}}),
        ("POST", "/admin/users$", {"kind": "hang"}),
        ("PATCH", "/config/auth$", {"kind": "cut_after"}),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else value,
)
def test_a_fault_of_the_provider_is_lived_through(
    stack: Stack, api: Api, method: str, path: str, what: dict[str, Any]
) -> None:
    with fault(stack, method, path, what):
        tenant = api.signup(f"Fault {method} {what['kind']} Shop", email="one@fault.test").json["tenant_id"]
        api.wait_state(tenant, "ready", 60)
    (project,) = projects_of(stack, tenant)
    assert [user["email"] for user in users_of(stack, project["ref"])] == ["one@fault.test"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "no"}, "no"),
        ({"message": ["db_pass must be a string", "name is too long"]}, "db_pass must be a string; name is too long"),
        ({"error": "invalid_request", "error_description": "no such organization"}, "no such organization"),
        ({"error": {"name": "BadRequestException", "message": "the region is closed"}}, "the region is closed"),
        ({"error": "bad_request"}, "bad_request"),
        ({"message": []}, "no message"),
    ],
    ids=["message", "list", "description", "object", "code", "nothing"],
)
def test_what_only_a_person_can_mend_waits_for_one_with_the_providers_words(
    stack: Stack, api: Api, body: dict[str, Any], words: str
) -> None:
    with fault(stack, "POST", "^/v1/projects$", {"kind": "status", "code": 400, "body": body}, 100):
        tenant = api.signup(f"Refused {words[:9]} Shop").json["tenant_id"]
        reason = api.wait_state(tenant, "attention", 40)["reason"]
        assert reason["code"] == "provider_refused"
        assert reason["detail"].endswith(f"(400): {words}"), reason
    assert projects_of(stack, tenant) == []
    api.command(tenant, "retry")
    api.wait_state(tenant, "ready", 40)
    assert len(projects_of(stack, tenant)) == 1


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [(401, "provider_auth", "supabase-token"), (403, "provider_forbidden", "supabase-rights")],
)
def test_a_token_that_is_refused_undoes_nothing_and_deletes_nothing_when_it_is_renewed(
    stack: Stack, api: Api, code: int, reason: str, cause: str
) -> None:
    """Everybody waits, under one alert: a project that was made already goes on when the token is good again."""
    refused = {"kind": "status", "code": code, "body": {"message": "Unauthorized"}}
    with fault(stack, "GET", "/api-keys", refused, 1000, applied=2):
        tenants = [api.signup(f"Token {code} Shop {n}").json["tenant_id"] for n in range(2)]
        for tenant in tenants:
            eventually(lambda t=tenant: error_of(api, t) == reason, 40, "it says what it waits for")  # type: ignore[misc]
        made = [projects_of(stack, tenant) for tenant in tenants]
        assert [len(each) for each in made] == [1, 1]
        eventually(lambda: f"held:provisioner:{cause}" in open_causes(api), 20, "somebody is told")
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    for tenant in tenants:
        api.wait_state(tenant, "ready", 60)
    assert [[p["ref"] for p in projects_of(stack, t)] for t in tenants] == [[p["ref"] for p in each] for each in made]
    eventually(lambda: f"held:provisioner:{cause}" not in open_causes(api), 20, "the alert is over")


def test_a_service_key_that_is_refused_is_read_again_and_named(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Rekeyed Shop")
    before = service_key_of(stack, tenant)
    refused = {"kind": "status", "code": 401, "body": {"message": "Invalid API key"}}
    with fault(stack, "PUT", "/admin/users/", refused, 1000, applied=2):
        operation = api.command(tenant, "suspend").json["operation_id"]
        eventually(lambda: error_of(api, tenant) == "service_key_refused", 30, "it names the right secret")
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    assert api.wait_operation(operation, 40)["state"] == "succeeded"
    assert service_key_of(stack, tenant) != before, "what was read again is stored"
    with (
        fault(stack, "PUT", "/admin/users/", refused, 1),
        fault(stack, "GET", "/api-keys", {"kind": "delay", "seconds": 0.1}),
    ):
        assert api.wait_operation(api.command(tenant, "resume").json["operation_id"], 20)["state"] == "succeeded"


def test_new_keys_at_the_provider_are_read_again_without_anybody(stack: Stack, api: Api) -> None:
    """The real keys, changed for real: the former ones are refused from then on."""
    tenant = api.ready_tenant("New Keys Shop", email="nia@keys.test")
    (project,) = projects_of(stack, tenant)
    before = service_key_of(stack, tenant)
    stack.control_sandbox("PATCH", f"projects/{project['ref']}", {"new_keys": True})
    done = api.wait_operation(api.command(tenant, "suspend").json["operation_id"], 30)
    assert done["state"] == "succeeded", done
    assert users_of(stack, project["ref"])[0]["banned_until"] is not None
    assert service_key_of(stack, tenant) != before
    refused = stack.control_sandbox("GET", f"requests?path=/auth/{project['ref']}/&method=PUT")
    assert [each["status"] for each in refused][-2:] == [401, 200], "once with the old key, once with the new one"


def way_of(stack: Stack, tenant: str) -> list[list[str]]:
    return rows(
        stack, f"select host, owner_login from provisioner.database where tenant_id = '{tenant}' and status = 'live'"
    )


def test_a_pooler_that_has_moved_is_found_again(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Moved Pooler Shop")
    before = way_of(stack, tenant)
    stack.postgres.execute(  # as it was before the provider moved it
        f"update provisioner.database set host = '127.0.0.99' where tenant_id = '{tenant}'", "tenantry"
    )
    done = api.wait_operation(api.command(tenant, "suspend").json["operation_id"], 30)
    assert done["state"] == "succeeded", done
    assert way_of(stack, tenant) == before
    assert api.wait_operation(api.command(tenant, "resume").json["operation_id"])["state"] == "succeeded"
    assert opens(app.get(f"/api/tenants/{tenant}/connection").json)


def ask_provider(stack: Stack, method: str, path: str) -> int:
    """As an operator at the provider's own dashboard."""
    token = {"Authorization": "Bearer sbp_sandbox"}
    request = urllib.request.Request(f"{stack.sandbox_url}{path}", method=method, headers=token)
    with urllib.request.urlopen(request, timeout=20) as response:
        return int(response.status)


def status_of(stack: Stack, ref: str) -> str:
    return str(next(each["status"] for each in stack.control_sandbox("GET", "projects") if each["ref"] == ref))


def test_a_paused_project_is_called_so_and_can_be_deleted(stack: Stack, api: Api) -> None:
    tenants = {name: api.ready_tenant(name) for name in ("Paused Shop", "Woken Shop")}
    refs = {name: projects_of(stack, tenant)[0]["ref"] for name, tenant in tenants.items()}
    stack.control_sandbox("PUT", "organizations/sandbox", {"plan": "free", "max_projects": 1000})
    try:
        for ref in refs.values():
            assert ask_provider(stack, "POST", f"/v1/projects/{ref}/pause") == 200
            eventually(lambda r=ref: status_of(stack, r) == "INACTIVE", 20, "it is paused")  # type: ignore[misc]
        suspended = api.command(tenants["Woken Shop"], "suspend").json["operation_id"]
        eventually(lambda: error_of(api, tenants["Woken Shop"]) == "project_paused", 30, "it says why it waits")
        gone = api.command(tenants["Paused Shop"], "deprovision", {"confirm": "paused-shop"}).json["operation_id"]
        assert api.wait_operation(gone, 40)["state"] == "succeeded"
        assert projects_of(stack, tenants["Paused Shop"]) == []
        assert ask_provider(stack, "POST", f"/v1/projects/{refs['Woken Shop']}/restore") == 200
        eventually(lambda: status_of(stack, refs["Woken Shop"]) == "ACTIVE_HEALTHY", 20, "it is back")
        stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
        assert api.wait_operation(suspended, 60)["state"] == "succeeded"
    finally:
        stack.control_sandbox("PUT", "organizations/sandbox", {"plan": "pro"})


def test_a_project_that_somebody_deleted_does_not_stand_in_the_way_of_its_tenants_end(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Deleted Elsewhere")
    (project,) = projects_of(stack, tenant)
    assert ask_provider(stack, "DELETE", f"/v1/projects/{project['ref']}") == 200
    gone = api.command(tenant, "deprovision", {"confirm": "deleted-elsewhere"}).json["operation_id"]
    assert api.wait_operation(gone, 40)["state"] == "succeeded"


def test_a_login_that_is_refused_after_it_was_set_anew_does_not_end_a_new_project(stack: Stack, api: Api) -> None:
    """The provider takes the new password, and its pooler goes on with another one for a while."""
    accepted = {"kind": "status", "code": 200, "body": {"message": "Successfully updated password"}}
    with fault(stack, "PATCH", "/database/password$", accepted):
        with fault(stack, "GET", "/health", {"kind": "unhealthy"}, 1000):
            tenant = api.signup("Slow Pooler Shop").json["tenant_id"]
            (project,) = eventually(lambda: projects_of(stack, tenant), 30, "the project is made")
            owner = project["owner_login"]
            asked = f"requests?path=/v1/projects/{project['ref']}/health"
            eventually(lambda: stack.control_sandbox("GET", asked), 30, "its database is there, and it is waited for")
            kept = stack.postgres.execute(f"select rolpassword from pg_authid where rolname = '{owner}'").strip()
            stack.postgres.execute(f"alter role \"{owner}\" password 'another'")
        eventually(lambda: error_of(api, tenant) == "login_refused", 60, "it is refused again, and waits")
    stack.postgres.execute(f"alter role \"{owner}\" password '{kept}'")
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    api.wait_state(tenant, "ready", 60)
    assert [each["ref"] for each in projects_of(stack, tenant)] == [project["ref"]], "the same project"


@pytest.mark.parametrize(
    ("what", "word"),
    [
        (
            {"kind": "status", "code": 401, "body": {"message": "Unauthorized"}},
            "Supabase refuses our token (401): Unauthorized",
        ),
        (
            {"kind": "status", "code": 403, "body": {"message": "Forbidden"}},
            "lacks the right to do this (403): Forbidden",
        ),
        ({"kind": "rate_limit", "reset": 2, "retry_after": 2}, "Supabase limits our requests to find"),
    ],
    ids=["401", "403", "429"],
)
def test_an_inventory_that_is_refused_is_told_in_the_providers_words(
    stack: Stack, api: Api, what: dict[str, Any], word: str
) -> None:
    log = stack.services["provisioner-0"].log_path
    before = log.read_text().count(word)
    with fault(stack, "GET", "^/v1/organizations/[^/]+/projects", what, 1000):
        eventually(lambda: log.read_text().count(word) > before, 30, "it says why it sees nothing")
        if what["kind"] == "status":
            eventually(lambda: "inventory:supabase:" in open_causes(api), 20, "somebody is told")
        else:
            blocked = "select 1 from catalog.rate_budget where name = 'supabase:find' and blocked_until > now()"
            eventually(lambda: rows(stack, blocked), 20, "nobody asks for a while")
    if what["kind"] == "status":
        eventually(lambda: "inventory:supabase:" not in open_causes(api), 40, "the alert is over")


def service_key_of(stack: Stack, tenant: str) -> list[list[str]]:
    return rows(stack, f"select sealed from provisioner.secret where tenant_id = '{tenant}' and field = 'service_key'")


def error_of(api: Api, tenant: str) -> str | None:
    return ((api.tenant(tenant).get("activity") or {}).get("error") or {}).get("code")


def open_causes(api: Api) -> set[str]:
    return {alert["cause"] for alert in api.get("/api/admin/alerts").json["items"]}


@pytest.mark.parametrize("faulty", [("GET", "/postgrest$"), ("PATCH", "/postgrest$"), ("PUT", "/admin/users/")])
def test_a_suspension_is_only_told_when_all_three_ways_in_are_closed(
    stack: Stack, api: Api, faulty: tuple[str, str]
) -> None:
    """The answer lost, or one that says nothing: neither counts as closed."""
    tenant = api.ready_tenant(f"Careful {faulty[0]} Shop")
    (project,) = projects_of(stack, tenant)
    what = {"kind": "status", "code": 200, "body": {}} if faulty[0] == "GET" else {"kind": "cut_after"}
    with fault(stack, faulty[0], faulty[1], what):
        assert api.wait_operation(api.command(tenant, "suspend").json["operation_id"], 40)["state"] == "succeeded"
    assert data_api_is_open(stack, project["ref"]) is False
    (user,) = users_of(stack, project["ref"])
    assert user["banned_until"] is not None


def test_an_outage_of_the_provider_replaces_no_project(stack: Stack, api: Api) -> None:
    with fault(
        stack, "GET", "^/v1/projects/[a-z]+$", {"kind": "status", "code": 503, "body": {"message": "down"}}, 1000
    ):
        tenant = api.signup("Outage Shop").json["tenant_id"]
        eventually(lambda: (api.tenant(tenant).get("activity") or {}).get("error"), 20, "it meets the outage")
        move_clock(stack, "16 minutes")
        stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
        eventually(
            lambda: rows(stack, f"select 1 from provisioner.saga where tenant_id = '{tenant}' and attempt > 2"),
            30, "it has tried again",
        )  # fmt: skip
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    api.wait_state(tenant, "ready", 60)
    assert rows(stack, f"select generation from provisioner.tenant where tenant_id = '{tenant}'") == [["1"]]


def test_a_project_that_was_there_before_is_adopted_and_never_deleted(stack: Stack, api: Api) -> None:
    """The catalog was restored to the day before the signup; then the project does not get healthy."""
    tenant = api.ready_tenant("Remembered Shop")
    (project,) = projects_of(stack, tenant)
    with stopped(stack.services["provisioner-0"]):
        for table in ("saga", "backup", "secret", "database", "slug"):
            stack.postgres.execute(f"delete from provisioner.{table} where tenant_id = '{tenant}'", "tenantry")
        stack.postgres.execute(
            f"delete from provisioner.tenant where tenant_id = '{tenant}'; "
            "delete from provisioner.inbox where event_id in (select operation_id::text from catalog.operation "
            f"where tenant_id = '{tenant}'); delete from catalog.operation where tenant_id = '{tenant}'; "
            f"delete from catalog.tenant_event where tenant_id = '{tenant}'; "
            f"delete from catalog.tenant_status where tenant_id = '{tenant}'; "
            "delete from provisioner.consumer_offset", "tenantry",
        )  # fmt: skip
        stack.control_sandbox("PATCH", f"projects/{project['ref']}", {"status": "INACTIVE"})
    waiting = eventually(
        lambda: (seen := api.tenant(tenant)).get("activity", {}).get("error") and seen, 30, "it says what it waits for"
    )
    assert waiting["activity"]["error"]["code"] == "project_not_healthy"
    assert [each["ref"] for each in projects_of(stack, tenant)] == [project["ref"]]
    stack.control_sandbox("PATCH", f"projects/{project['ref']}", {"status": None})
    stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
    api.wait_state(tenant, "ready", 60)
    assert [each["ref"] for each in projects_of(stack, tenant)] == [project["ref"]]


def test_a_rotation_ends_the_old_login_after_the_overlap(stack: Stack, api: Api, app: Api) -> None:
    with told(stack.services["provisioner-0"], ROTATION_OVERLAP="2s"):
        tenant = api.ready_tenant("Overlap Shop")
        old = app.get(f"/api/tenants/{tenant}/connection").json
        assert (
            api.wait_operation(api.command(tenant, "rotate-credentials").json["operation_id"])["state"] == "succeeded"
        )
        new = app.get(f"/api/tenants/{tenant}/connection").json
        eventually(lambda: not opens(old), 30, "the old login has ended")
    assert opens(new)


def opens(connection: dict[str, Any]) -> bool:
    try:
        psycopg.connect(
            host=connection["host"],
            port=connection["port"],
            dbname=connection["database"],
            user=connection["user"],
            password=connection["password"],
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def test_the_invitation_goes_by_smtp_and_waits_for_a_mail_server_that_is_away(stack: Stack, api: Api) -> None:
    provisioner = stack.services["provisioner-0"]
    nobody = reserve_port()
    with told(provisioner, SMTP_URL=f"smtp://127.0.0.1:{nobody}"):
        tenant = api.ready_tenant("Mailed Shop", email="mia@mailed.test")
        waiting = eventually(
            lambda: (seen := api.tenant(tenant)).get("activity") and seen["activity"].get("error") and seen,
            40,
            "the mail cannot go",
        )
        assert waiting["activity"]["kind"] == "invite" and waiting["activity"]["error"]["code"] == "mail_not_sent"
        with told(provisioner, SMTP_URL=f"smtp://127.0.0.1:{stack.smtp_port}"):
            stack.postgres.execute("update provisioner.saga set next_at = now() where status = 'running'", "tenantry")
            eventually(lambda: stack.control_sandbox("GET", "mail?to=mia@mailed.test"), 40, "the mail follows")
            resent = api.command(tenant, "resend-invite").json["operation_id"]
            assert api.wait_operation(resent)["state"] == "succeeded"
    mails = stack.control_sandbox("GET", "mail?to=mia@mailed.test")
    assert len({mail["message_id"] for mail in mails}) == 2, "the invitation, and the one sent again"
    assert all(f"/invite/{tenant}." in mail["text"] for mail in mails)
    page = Api(stack.services["gateway-0"].url, None)
    links = [re.search(r"/invite/(\S+)", mail["text"]) for mail in mails]
    answers = [page.call("POST", f"/invite/{link.group(1)}", raw=b"", content_type="application/x-www-form-urlencoded")
               for link in links if link is not None]  # fmt: skip
    assert sorted(answer.status for answer in answers) == [303, 410], "only the newest link works"


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
    location = urlsplit(answer.headers["location"])
    assert location.path.startswith("/auth/") and location.path.endswith("/verify")
    slug = api.tenant(tenant)["slug"]
    assert parse_qs(location.query)["redirect_to"] == [f"https://{slug}.example.com"], "not to the project's default"


def test_clicks_without_end_make_neither_operations_nor_secrets_without_end(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Clicking Shop", email="cleo@clicking.test")
    path = f"/invite/{invitation_for(stack, tenant)}"
    page = Api(stack.services["gateway-0"].url, None)

    def click(timeout: float = 60) -> Answer:
        kind = "application/x-www-form-urlencoded"
        return page.call("POST", path, raw=b"", content_type=kind, timeout=timeout)

    assert click().status == click().status == 303
    with stopped(stack.services["provisioner-0"]), ThreadPoolExecutor(18) as many:
        gone = list(many.map(lambda _: click(timeout=2), range(18)))  # they go before a link is made
        assert {answer.status for answer in gone} == {0}
        refused = click()
        assert refused.status == 429 and refused.headers["content-type"].startswith("text/html"), refused
        assert 0 < int(refused.headers["retry-after"]) <= 180
        assert page.get(path).status == 200  # to look costs nothing
    asked = f"select count(*) from catalog.operation where tenant_id = '{tenant}' and kind = 'invite_link'"
    open_ones = asked + " and state = 'accepted'"
    eventually(
        lambda: rows(stack, asked) == [["20"]] and rows(stack, open_ones) == [["0"]], 30, "all clicks are dealt with"
    )
    kept = f"select generation from provisioner.secret where tenant_id = '{tenant}' and field = 'invite_link'"
    assert rows(stack, kept) == rows(stack, f"select link_made from provisioner.tenant where tenant_id = '{tenant}'")


def invitation_for(stack: Stack, tenant: str) -> str:
    """The newest link in the mails written for the tenant."""
    mails = eventually(
        lambda: sorted((stack.root / "mail").glob(f"invite-{tenant}-*.eml")), 20, "the invitation is written"
    )
    found = re.search(r"/invite/(\S+)", words(mails[-1]))
    assert found is not None
    return found.group(1)


def test_a_run_brings_files_to_projects_also_to_one_that_was_suspended_and_one_that_wakes_up_meanwhile(
    stack: Stack, api: Api
) -> None:
    rollouts = Rollouts(stack, api)
    open_one, suspended, paused = tenants = [api.ready_tenant(f"Rolled Out {number}") for number in range(3)]
    assert api.wait_operation(api.command(suspended, "suspend").json["operation_id"])["state"] == "succeeded"
    ref = projects_of(stack, paused)[0]["ref"]
    before = {tenant: rollouts.versions(tenant) for tenant in (open_one, suspended)}
    stack.control_sandbox("PUT", "organizations/sandbox", {"plan": "free", "max_projects": 1000})
    try:
        with started(stack.service("migrator")):
            one = rollouts.file("create table of_projects (a int);", "drop table of_projects;")
            two = rollouts.file(
                "create index concurrently of_projects_a on of_projects (a);", "drop index concurrently of_projects_a;",
                options=" transaction:false",
            )  # fmt: skip
            assert ask_provider(stack, "POST", f"/v1/projects/{ref}/pause") == 200
            eventually(lambda: status_of(stack, ref) == "INACTIVE", 20, "it is paused")
            run = rollouts.begin(strategy="all", tenants=tenants, max_failure_rate=1)
            eventually(
                lambda: {job["tenant_id"]: job["state"] for job in rollouts.tenants(run)}
                | {paused: rollouts.tenants(run, "?code=53300") != []}
                == {open_one: "done", suspended: "done", paused: True},
                60, "the others have it, and the one that sleeps is tried again",
            )  # fmt: skip
            assert ask_provider(stack, "POST", f"/v1/projects/{ref}/restore") == 200
            assert rollouts.wait(run, "completed", "halted", seconds=90)["states"] == {"done": 3}
            for tenant in (open_one, suspended):
                assert rollouts.versions(tenant) == [*before[tenant], one, two]
            assert rollouts.command(run, "rollback")["state"] == "succeeded"
            assert rollouts.wait(run, "rolled_back", "halted")["states"] == {"undone": 3}
            assert {tenant: rollouts.versions(tenant) for tenant in before} == before
    finally:
        stack.control_sandbox("PUT", "organizations/sandbox", {"plan": "pro"})


def test_who_stops_while_the_provider_says_nothing_leaves_nothing_behind(stack: Stack) -> None:
    """The janitor's question is still on its way then: LeakSanitizer looks when the process has ended."""
    provisioner = stack.services["provisioner-0"]
    with fault(stack, "GET", "^/v1/organizations/.*/projects", {"kind": "hang"}):
        eventually(
            lambda: any(rule["applied"] for rule in stack.control_sandbox("GET", "faults")), 60, "the janitor has asked"
        )
        provisioner.stop()
        assert provisioner.process.returncode == 0
    provisioner.start()
    provisioner.wait_until_ready()
