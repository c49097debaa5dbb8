"""The Management API behaves as its facts say, on real databases."""

from __future__ import annotations

import hashlib
from typing import Any

import psycopg
import pytest

from .servers import Sandbox, eventually


def find(sandbox: Sandbox, query: str = "", slug: str = "sandbox") -> Any:
    return sandbox.ask("GET", f"/v1/organizations/{slug}/projects?{query}").body


def names(found: Any) -> list[str]:
    return [row["name"] for row in found["projects"]]


def test_a_project_is_a_real_database_of_its_owner_alone(sandbox: Sandbox) -> None:
    first, second = sandbox.project("first", "first-pass"), sandbox.project("second", "second-pass")
    pooler = sandbox.ask("GET", f"/v1/projects/{first}/config/database/pooler").body[0]
    assert (pooler["db_host"], pooler["db_port"], pooler["pool_mode"]) == ("127.0.0.1", 6543, "transaction")
    assert (pooler["db_user"], pooler["db_name"]) == (f"postgres.{first}", f"sb_{first}")
    with sandbox.login(first, "first-pass") as connection:
        connection.execute("create table public.note (id int)")
        flags = "select rolsuper, rolcreaterole from pg_roles where rolname = current_user"
        assert connection.execute(flags).fetchone() == (False, True)
        owner = "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
        assert connection.execute(owner).fetchone() == (f"postgres.{first}",)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        sandbox.login(first, "first-pass", database=f"sb_{second}")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        sandbox.login(first, "second-pass")


def test_a_project_is_unknown_then_coming_up_then_healthy(sandbox: Sandbox) -> None:
    sandbox.control("POST", "settings", {"coming_up_seconds": 3600, "services_lag_seconds": 60})
    created = sandbox.create().body
    ref = created["ref"]
    assert (created["status"], sandbox.status(ref)) == ("UNKNOWN", "COMING_UP")
    assert sandbox.health(ref, "db", "auth") == {"db": "COMING_UP", "auth": "COMING_UP"}
    sandbox.control("POST", "clock", {"advance_seconds": 3601})
    eventually(lambda: sandbox.status(ref) == "ACTIVE_HEALTHY")
    lagging = sandbox.ask("GET", f"/v1/projects/{ref}/health?services=pooler&services=db").body
    assert [row["status"] for row in lagging] == ["UNHEALTHY", "ACTIVE_HEALTHY"]
    assert "not found" in lagging[0]["error"]
    sandbox.control("POST", "clock", {"advance_seconds": 61})
    assert sandbox.health(ref, "pooler", "auth") == {"pooler": "ACTIVE_HEALTHY", "auth": "ACTIVE_HEALTHY"}


@pytest.mark.parametrize("token", [None, "sbp_wrong"])
def test_a_wrong_token_is_refused(sandbox: Sandbox, token: str | None) -> None:
    assert sandbox.ask("GET", "/v1/organizations", token=token).status == 401


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "property colour should not exist"),
        ({"name": None}, "name must be of type string"),
        ({"name": "x" * 257}, "name must be shorter than or equal to 256 characters"),
        (
            {"region_selection": {"type": "specific", "code": "mars-1"}},
            "region_selection.code must be one of",
        ),
        ({"desired_instance_size": "huge"}, "desired_instance_size must be one of"),
        ({"region": "us-east-1", "region_selection": {"type": "smartGroup", "code": "emea"}}, "Only one of"),
    ],
)
def test_a_create_that_does_not_fit_the_schema_is_refused(
    sandbox: Sandbox, change: dict[str, Any], message: str
) -> None:
    answer = sandbox.create(**change)
    assert answer.status == 400 and message in answer.body["message"]


def test_what_is_required_is_named(sandbox: Sandbox) -> None:
    answer = sandbox.ask("POST", "/v1/projects", {"name": "x"})
    assert answer.body == {"message": "db_pass is required; organization_slug is required"}
    ref = sandbox.project()
    assert sandbox.ask("GET", f"/v1/projects/{ref}/health").status == 400
    assert sandbox.ask("GET", "/v1/projects/NOT-A-REF").status == 400


def test_a_name_is_unique_in_an_organization_until_its_project_is_deleted(sandbox: Sandbox) -> None:
    ref = sandbox.project("acme")
    again = sandbox.create("acme")
    message = 'Project with name "acme" already exists in your organization.'
    assert (again.status, again.body) == (409, {"message": message})
    assert sandbox.ask("DELETE", f"/v1/projects/{ref}").status == 200
    assert sandbox.create("acme").status == 201


def test_an_organization_that_is_full_refuses(sandbox: Sandbox) -> None:
    sandbox.control("PUT", "organizations/small", {"plan": "free"})
    assert [sandbox.create(name, organization_slug="small").status for name in "abc"] == [201, 201, 400]
    assert "2 project limit" in sandbox.create("d", organization_slug="small").body["message"]


def test_find_searches_by_substring_in_pages_and_shows_branches(sandbox: Sandbox) -> None:
    refs = [sandbox.create(name).body["ref"] for name in ("tn-1", "tn-10", "tn-2", "other")]
    assert names(find(sandbox, "search=tn-1")) == ["tn-1", "tn-10"]
    assert names(find(sandbox, "search=tn-&limit=2&offset=2")) == ["tn-2"]
    past = find(sandbox, "search=tn-&limit=2&offset=4")
    assert past == {"projects": [], "pagination": {"count": 3, "limit": 2, "offset": 4}}
    sandbox.control("POST", "branches", {"ref": refs[0], "name": "tn-1"})
    assert [row["is_branch"] for row in find(sandbox, "search=tn-1")["projects"]] == [False, True, False]
    assert sandbox.ask("GET", "/v1/organizations/sandbox/projects?limit=101").status == 400


def test_a_deleted_project_is_gone_with_its_database_and_roles(sandbox: Sandbox) -> None:
    ref = sandbox.project("acme", "pass-word")
    with sandbox.login(ref, "pass-word") as connection:
        connection.execute(f"create role app_{ref} login")
        connection.execute(f"grant connect on database sb_{ref} to app_{ref}")
    assert sandbox.ask("DELETE", f"/v1/projects/{ref}").status == 200
    with pytest.raises(psycopg.OperationalError):
        sandbox.login(ref, "pass-word")
    gone = sandbox.ask("GET", f"/v1/projects/{ref}")
    assert (gone.status, gone.body) == (404, {"message": "Project not found"})
    assert sandbox.ask("DELETE", f"/v1/projects/{ref}").status == 404
    eventually(lambda: sandbox.control("GET", "projects")[0]["database_dropped"])
    left = "select count(*) from pg_roles where rolname like %s"
    assert sandbox.cluster.scalar(left, f"%{ref}") == 0
    assert sandbox.cluster.scalar("select 1 from pg_database where datname = %s", f"sb_{ref}") is None


def test_a_new_password_replaces_the_old_one(sandbox: Sandbox) -> None:
    ref = sandbox.project("acme", "old-pass")
    answer = sandbox.ask("PATCH", f"/v1/projects/{ref}/database/password", {"password": "new-pass"})
    assert answer.status == 200
    sandbox.login(ref, "new-pass").close()
    with pytest.raises(psycopg.OperationalError):
        sandbox.login(ref, "old-pass")


def test_closing_the_data_api_is_remembered_and_can_be_seen(sandbox: Sandbox) -> None:
    ref = sandbox.project()
    assert sandbox.ask("GET", f"/rest/{ref}/v1/").status == 200
    before = sandbox.ask("GET", f"/v1/projects/{ref}/postgrest").body["db_schema"]
    assert sandbox.ask("PATCH", f"/v1/projects/{ref}/postgrest", {"db_schema": ""}).body["db_schema"] == ""
    assert sandbox.ask("GET", f"/v1/projects/{ref}/postgrest").body["db_schema"] == ""
    assert sandbox.ask("GET", f"/rest/{ref}/v1/").status == 404
    sandbox.ask("PATCH", f"/v1/projects/{ref}/postgrest", {"db_schema": before})
    assert sandbox.ask("GET", f"/rest/{ref}/v1/").status == 200


def test_only_a_free_project_can_be_paused_and_restored(sandbox: Sandbox) -> None:
    assert sandbox.ask("POST", f"/v1/projects/{sandbox.project()}/pause").status == 400
    sandbox.control("PUT", "organizations/small", {"plan": "free"})
    ref = sandbox.project("idle", "pass-word", organization_slug="small")
    assert sandbox.ask("POST", f"/v1/projects/{ref}/pause").status == 200
    eventually(lambda: sandbox.status(ref) == "INACTIVE")
    with pytest.raises(psycopg.OperationalError):
        sandbox.login(ref, "pass-word")
    assert sandbox.ask("POST", f"/v1/projects/{ref}/restore").status == 200
    eventually(lambda: sandbox.status(ref) == "ACTIVE_HEALTHY")
    sandbox.login(ref, "pass-word").close()


def test_network_restrictions_are_kept_and_patched(sandbox: Sandbox) -> None:
    path = f"/v1/projects/{sandbox.project()}/network-restrictions"
    sandbox.ask("POST", f"{path}/apply", {"dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": []})
    change = {"add": {"dbAllowedCidrs": ["192.0.2.0/24"]}, "remove": {"dbAllowedCidrs": ["10.0.0.0/8"]}}
    patched = sandbox.ask("PATCH", path, change).body["config"]
    assert patched == {"dbAllowedCidrs": [{"address": "192.0.2.0/24", "type": "v4"}]}
    assert sandbox.ask("GET", path).body["config"]["dbAllowedCidrs"] == ["192.0.2.0/24"]


def test_the_rate_limit_refuses_until_its_window_is_over(sandbox: Sandbox) -> None:
    sandbox.control("POST", "settings", {"rate_limit": 3})
    statuses = [sandbox.ask("GET", "/v1/organizations").status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = sandbox.ask("GET", "/v1/organizations")
    assert refused.headers["X-RateLimit-Limit"] == "3" and refused.headers["X-RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["X-RateLimit-Reset"]) <= 60
    assert sandbox.ask("GET", "/v1/projects").status == 200
    sandbox.control("POST", "clock", {"advance_seconds": 60})
    assert sandbox.ask("GET", "/v1/organizations").headers["X-RateLimit-Remaining"] == "2"
    assert sandbox.control("GET", "stats")["limited"] == 2


def test_the_log_of_requests_holds_no_password(sandbox: Sandbox) -> None:
    sandbox.create("acme", "very-secret")
    (entry,) = sandbox.control("GET", "requests?path=%5E/v1/projects$")
    assert (entry["method"], entry["template"], entry["status"]) == ("POST", "/v1/projects", 201)
    assert entry["body"]["db_pass"] == "sha256:" + hashlib.sha256(b"very-secret").hexdigest()
    assert sandbox.control("GET", f"requests?since={entry['id']}") == []


def test_a_lazy_database_is_made_when_its_pooler_is_read(cluster: Any) -> None:
    sandbox = Sandbox(cluster, "--no-databases", "--coming-up-seconds", "0", "--state-database", "sandbox_lazy")
    try:
        ref = sandbox.project("lazy", "pass-word")
        exists = "select count(*) from pg_database where datname = %s"
        assert cluster.scalar(exists, f"sb_{ref}") == 0
        sandbox.ask("PATCH", f"/v1/projects/{ref}/database/password", {"password": "new-pass"})
        pooler = sandbox.ask("GET", f"/v1/projects/{ref}/config/database/pooler").body[0]
        assert pooler["db_name"] == f"sb_{ref}"
        sandbox.login(ref, "new-pass").close()
        sandbox.control("POST", "reset")
        assert cluster.scalar(exists, f"sb_{ref}") == 0
    finally:
        sandbox.stop()
