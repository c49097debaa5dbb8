"""The answers have the keys and types of the recorded ones, and fit the OpenAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..supabase.openapi import Document
from .servers import Sandbox

RECORDED = Path(__file__).with_name("recorded")
DOCUMENT = Document()


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def shape(value: Any) -> Any:
    """A value with its types in place of its contents; of a list, the shapes of its items without repeats."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        shapes: list[Any] = []
        for item in value:
            if (found := shape(item)) not in shapes:
                shapes.append(found)
        return shapes
    return type(value).__name__


CASES = [
    ("GET_v1_organizations", "GET", "/v1/organizations", None),
    ("GET_v1_projects", "GET", "/v1/projects", None),
    ("GET_v1_projects_REF", "GET", "/v1/projects/{ref}", None),
    ("GET_v1_projects_REF_api_keys", "GET", "/v1/projects/{ref}/api-keys?reveal=true", None),
    ("GET_v1_projects_REF_api_keys_hidden", "GET", "/v1/projects/{ref}/api-keys", None),
    ("GET_v1_projects_REF_config_database_pooler", "GET", "/v1/projects/{ref}/config/database/pooler", None),
    ("GET_v1_projects_REF_network_restrictions", "GET", "/v1/projects/{ref}/network-restrictions", None),
    (
        "POST_v1_projects_REF_network_restrictions_apply",
        "POST",
        "/v1/projects/{ref}/network-restrictions/apply",
        {"dbAllowedCidrs": ["0.0.0.0/0"], "dbAllowedCidrsV6": []},
    ),
    ("DELETE_v1_projects_REF", "DELETE", "/v1/projects/{ref}", None),
]


@pytest.mark.parametrize(("name", "method", "path", "body"), CASES, ids=[case[0] for case in CASES])
def test_an_answer_has_the_shape_of_the_recorded_one(
    sandbox: Sandbox, name: str, method: str, path: str, body: Any
) -> None:
    ref = sandbox.project()
    answer = sandbox.ask(method, path.format(ref=ref), body)
    wanted = recorded(name)
    assert answer.status == wanted["status"]
    assert shape(answer.body) == shape(wanted["body"])
    assert {header.lower() for header in answer.headers} >= wanted["headers"].keys()
    template = path.split("?")[0]
    assert not list(DOCUMENT.problems(answer.body, DOCUMENT.response_schema(method, template, answer.status)))


def test_a_create_is_answered_as_recorded(sandbox: Sandbox) -> None:
    answer = sandbox.create(region="us-east-1")
    wanted = recorded("POST_v1_projects")
    assert (answer.status, answer.body["status"]) == (wanted["status"], wanted["body"]["status"])
    assert shape(answer.body) == shape(wanted["body"])
    assert "correct-horse" not in answer.text


def test_a_project_that_is_coming_up_cannot_be_deleted_as_recorded(sandbox: Sandbox) -> None:
    sandbox.control("POST", "settings", {"coming_up_seconds": 3600})
    ref = sandbox.create().body["ref"]
    answer = sandbox.ask("DELETE", f"/v1/projects/{ref}")
    wanted = recorded("DELETE_v1_projects_REF_too_early")
    assert (answer.status, answer.body) == (wanted["status"], wanted["body"])


def test_the_hidden_secret_key_shows_its_beginning_only(sandbox: Sandbox) -> None:
    ref = sandbox.project()
    secret = sandbox.ask("GET", f"/v1/projects/{ref}/api-keys").body[3]
    assert secret["api_key"].endswith("·" * 26) and sandbox.keys(ref)["secret"].startswith(secret["prefix"])


@pytest.mark.parametrize(
    ("method", "template", "query", "body"),
    [
        ("GET", "/v1/organizations/{slug}/projects", "", None),
        ("GET", "/v1/organizations/{slug}", "", None),
        ("GET", "/v1/projects/available-regions", "organization_slug=sandbox", None),
        ("GET", "/v1/projects/{ref}/health", "services=db&services=auth&services=rest", None),
        ("GET", "/v1/projects/{ref}/postgrest", "", None),
        ("PATCH", "/v1/projects/{ref}/postgrest", "", {"db_schema": ""}),
        ("GET", "/v1/projects/{ref}/config/auth", "", None),
        ("PATCH", "/v1/projects/{ref}/config/auth", "", {"site_url": "https://app.example.com"}),
        ("PATCH", "/v1/projects/{ref}/database/password", "", {"password": "another-horse"}),
        ("PATCH", "/v1/projects/{ref}/network-restrictions", "", {"add": {"dbAllowedCidrs": ["10.0.0.0/8"]}}),
        ("GET", "/v1/projects/{ref}/restore", "", None),
        ("PATCH", "/v1/projects/{ref}", "", {"name": "renamed"}),
    ],
)
def test_an_answer_fits_the_document(sandbox: Sandbox, method: str, template: str, query: str, body: Any) -> None:
    path = template.format(ref=sandbox.project(), slug="sandbox")
    answer = sandbox.ask(method, f"{path}?{query}", body)
    assert answer.status == 200, answer.text
    assert not list(DOCUMENT.problems(answer.body, DOCUMENT.response_schema(method, template, 200)))
