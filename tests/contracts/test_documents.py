"""The contracts in themselves, and against the sources that they describe. No server needed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from .documents import (
    CONTRACTS,
    REPOSITORY,
    SCHEMAS,
    Validator,
    asyncapi,
    closed_schema,
    complaints,
    document,
    inlined,
    messages,
    openapi,
    operations,
    schema,
    schema_names,
    schema_path,
)


def source(path: str) -> str:
    return (REPOSITORY / path).read_text()


def all_refs(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in all_refs(each)]
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in all_refs(each)]
    return []


@pytest.mark.parametrize("name", schema_names())
def test_every_schema_is_valid_and_says_what_it_is(name: str) -> None:
    written = document(schema_path(name))
    assert written["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert written["$id"].endswith(f"/{name}.schema.json")
    assert written["title"] and written["description"].endswith((".", "?"))
    Validator.check_schema(written)
    Validator.check_schema(schema(name))


@pytest.mark.parametrize("name", [name for name in schema_names() if name != "definitions"])
def test_every_example_is_valid(name: str) -> None:
    examples = document(schema_path(name))["examples"]
    assert examples
    by = schema(name) if name == "cloudevent" else closed_schema(name)
    for example in examples:
        assert not complaints(example, by), example


def test_a_member_that_no_schema_names_is_noticed() -> None:
    for name in schema_names():
        for example in schema(name).get("examples", []) if name != "cloudevent" else []:
            assert complaints({**example, "surplus": 1}, closed_schema(name)), name
            for field, value in example.items():
                if isinstance(value, dict) and schema(name).get("properties", {}).get(field, {}).get("properties"):
                    surplus = {**example, field: {**value, "surplus": 1}}
                    assert complaints(surplus, closed_schema(name)), f"{name}: {field}"


def test_examples_use_every_field() -> None:
    for name in schema_names():
        fields = set(schema(name).get("properties", {}))
        used = {field for example in schema(name).get("examples", []) for field in example}
        assert name == "cloudevent" or fields <= used, f"{name}: no example has {fields - used}"


@pytest.mark.parametrize("name", ["asyncapi.yaml", "openapi.yaml"])
def test_every_reference_leads_somewhere(name: str) -> None:
    path = CONTRACTS / name
    refs = all_refs(document(path))
    assert refs and all(ref.startswith(("#/", "./schemas/")) for ref in refs)
    inlined(document(path), path)  # raises where one does not


def test_every_schema_is_referred_to() -> None:
    referred = set()
    for path in [CONTRACTS / "asyncapi.yaml", CONTRACTS / "openapi.yaml", *SCHEMAS.glob("*.json")]:
        text = path.read_text()
        referred |= {name for name in schema_names() if f"{name}.schema.json" in text and path != schema_path(name)}
    assert referred == set(schema_names())


def test_every_type_that_comes_in_has_its_schema_and_its_topic() -> None:
    table = source("common/contracts/tenant.c").partition("TENANT_CONTRACTS[] = {")[2]
    types = set(re.findall(r'\.type = "([a-z_.0-9]+)"', table))
    types |= {f"tenant.{command}.requested.v1" for command in re.findall(r'COMMAND_CONTRACT\("([a-z_]+)",', table)}
    assert types == set(messages("tenant.signup.v1")) | set(messages("tenant.command.v1"))
    table = source("common/contracts/migration.c").partition("MIGRATION_CONTRACTS[] = {")[2]
    migrations = set(re.findall(r'\.type = "([a-z_.0-9]+)"', table))
    migrations |= {f"migration.{command}.requested.v1" for command in re.findall(r'RUN_COMMAND\("([a-z_]+)",', table)}
    assert migrations == set(messages("tenant.migration.v1"))
    table = source("common/contracts/billing.c").partition("BILLING_CONTRACTS[] = {")[2]
    billing = set(re.findall(r'BILLING_CONTRACT\("([a-z_.0-9]+)"', table))
    assert billing == set(messages("billing.command.v1"))
    types |= migrations | billing
    assert types <= set(schema_names())
    for each in types:
        assert document(schema_path(each))["additionalProperties"] is False, f"{each} takes unknown fields"


def catalog_sql() -> str:
    return "".join(path.read_text() for path in sorted((REPOSITORY / "migrations" / "catalog").glob("*.sql")))


def test_every_type_that_goes_out_has_its_schema() -> None:
    named = set(re.findall(r"'(tenant\.[a-z_.]+\.v1)'", catalog_sql()))
    types = named - {"tenant.signup.requested.v1", "tenant.status.v1"}  # taken in; a topic of snapshots
    assert types == set(messages("tenant.events.v1"))
    assert types | {"tenant.status.v1"} <= set(schema_names())


def test_the_topics_are_those_that_init_makes() -> None:
    table = source("cli/topics.c").partition("TOPICS[] = {")[2].partition("};")[0]
    made = {}
    constants: dict[str, str] = dict(re.findall(r'#define (\w+) +"(\d+)"', source("cli/topics.c")))
    for row in re.findall(r"\{(.+?)\}", table, re.DOTALL):
        members: dict[str, str] = dict(re.findall(r'\.(\w+) = "?([^",\s]+)"?', row))
        wanted: dict[str, Any] = {"cleanup.policy": [members["policy"]]}
        if "retention_ms" in members:
            wanted["retention.ms"] = int(constants[members["retention_ms"]])
        if "max_bytes" in members:
            wanted["max.message.bytes"] = int(constants.get(members["max_bytes"], members["max_bytes"]))
        made[members["name"]] = wanted
    for topic in re.findall(r"catalog\.add_snapshot_topic\('([^']+)'", catalog_sql()):
        made[topic] = {"cleanup.policy": ["compact"]}
    told = {
        channel["address"]: channel["bindings"]["kafka"]["topicConfiguration"]
        for channel in asyncapi()["channels"].values()
    }
    assert told == made
    guide = source("docs/events.md")
    for name in made:
        assert f"| `{name}` |" in guide, f"docs/events.md has no row for {name}"


def test_the_guide_names_every_type() -> None:
    guide = source("docs/events.md")
    topics = [channel["address"] for channel in asyncapi()["channels"].values()]
    for topic in [topic for topic in topics if not topic.endswith(".dlq")]:
        for each in messages(topic):
            assert f"`{each}`" in guide, f"docs/events.md does not name {each}"


def routes() -> dict[tuple[str, str], set[str]]:
    """(METHOD, path) -> the scopes of which one is needed; none where everybody may."""
    table = source("services/gateway/routes.c").partition("GATEWAY_ROUTES[] = {")[2]
    found = {}
    for method, path, scopes in re.findall(r'ROUTE\("(\w+)", "([^"]+)", ([A-Z_ |]+)', table):
        found[method, path] = {scope.strip().removeprefix("SCOPE_").lower() for scope in scopes.split("|")} - {"none"}
    for path in re.findall(r'\bCOMMAND\("([^"]+)"', table):
        found["POST", f"/api/tenants/{{id}}/{path}"] = {"admin"}
    for path in re.findall(r'\bFILE_COMMAND\("([^"]+)"', table):
        found["POST", path] = {"admin"}
    for command in re.findall(r'\bRUN_COMMAND\("([^"]+)"', table):
        found["POST", f"/api/admin/migrations/runs/{{id}}/{command}"] = {"admin"}
    return found


def test_the_routes_and_their_scopes_are_those_of_the_gateway() -> None:
    told = {
        key: {scope for way in operation["security"] for scope in way.get("bearer", [])}
        for key, operation in operations().items()
    }
    assert told == routes()


def queries() -> dict[str, dict[str, list[str]]]:
    """Path -> what its query may hold -> the choices, none where any text will do."""
    code = source("services/gateway/routes.c")
    words = dict(re.findall(r'#define (\w+) +"([^"]+)"', code))
    tables = {
        name: {field: words[choices].split("|") if choices else [] for field, choices in fields}
        for name, body in re.findall(r"struct http_parameter (\w+)\[\] = \{(.*?)\};", code, re.DOTALL)
        if (fields := re.findall(r'\{ \.name = "(\w+)"(?:, \.choices = (\w+))? \}', body))
    }
    rows = re.findall(r'ROUTE\("\w+", "([^"]+)"((?:(?!ROUTE|COMMAND).)*)', code, re.DOTALL)
    return {path: tables[found[1]] for path, rest in rows if (found := re.search(r"\.query = (\w+)", rest))}


def test_queries_are_those_of_the_gateway() -> None:
    told = {}
    for (_, path), operation in operations().items():
        fields = {each["name"]: each["schema"] for each in operation.get("parameters", []) if each["in"] == "query"}
        if fields:
            told[path] = {name: by.get("enum", []) for name, by in fields.items()}
    assert told == queries() and told


def test_every_operation_has_a_name_of_its_own_and_says_which_scope_it_needs() -> None:
    names = [operation["operationId"] for operation in operations().values()]
    assert len(names) == len(set(names))
    for (method, path), operation in operations().items():
        for way in operation["security"]:
            for scope in way.get("bearer", []):
                assert f"`{scope}`" in operation["description"], f"{method} {path} does not name its scope {scope}"
        assert [each["name"] for each in operation["parameters"] if each["in"] == "path"] == re.findall(
            r"\{(\w+)\}", path
        )


def test_both_documents_are_of_the_versions_they_say() -> None:
    assert openapi()["openapi"] == "3.1.0" and asyncapi()["asyncapi"] == "3.0.0"
    for name in ("asyncapi.yaml", "openapi.yaml"):
        assert yaml.safe_load((CONTRACTS / name).read_text())["info"]["license"]["name"] == "Apache-2.0"
