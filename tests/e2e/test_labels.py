"""Labels: set by a signup or a command, over HTTP, Kafka and the command line; seen in snapshots, lists and the history."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from deploy.local.stack import Service, Stack

from .client import Answer, Api, eventually
from .command import answered, refused
from .invariants import rows
from .topics import cloudevent, latest, produce, read_all

NOBODY = "00000000-0000-4000-8000-000000000000"
FULL = [f"l{number:02}" for number in range(20)]


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> str:
    api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    return api.ready_tenant("Label Shop", labels=["eu", "canary", "eu"])


def labels(api: Api, tenant: str) -> list[str]:
    found: list[str] = api.tenant(tenant)["labels"]
    return found


def change(api: Api, tenant: str, **body: Any) -> Answer:
    return api.command(tenant, "labels", body, prefer="wait=20")


def set_labels(api: Api, tenant: str, *wanted: str) -> None:
    """Whatever it had before."""
    had = labels(api, tenant)
    add, remove = [each for each in wanted if each not in had], [each for each in had if each not in wanted]
    if add or remove:
        assert change(api, tenant, add=add, remove=remove).json["state"] == "succeeded"
    assert labels(api, tenant) == sorted(wanted)


def send(stack: Stack, tenant: str, data: dict[str, Any], **headers: str) -> str:
    """A command from another system; its id."""
    event = cloudevent("tenant.label.requested.v1", **headers)
    produce(stack.kafka.bootstrap, "tenant.command.v1", tenant.encode(), json.dumps(data).encode(), event)
    return event["ce_id"]


def told(stack: Stack, event_type: str, cause: str) -> list[dict[str, Any]]:
    """Data of the events of this type that an event with that id led to."""
    seen = [each.json for each in read_all(stack.kafka.bootstrap, "tenant.events.v1")
            if each.headers["ce_type"].decode() == event_type]  # fmt: skip
    return [data for data in seen if cause in (data.get("caused_by"), data.get("event_id"))]


def published(stack: Stack) -> bool:
    sql = "select 1 from catalog.tenant_status where published_version < version union all " \
          "select 1 from catalog.tenant_event where not published"  # fmt: skip
    return rows(stack, sql) == []


def test_a_signup_sets_labels_each_once_and_in_order(stack: Stack, api: Api, tenant: str) -> None:
    set_labels(api, tenant, "canary", "eu")
    first = api.tenant(tenant)["history"][-1]
    assert first["type"] == "tenant.requested.v1" and first["data"]["labels"] == ["canary", "eu"]
    plain = api.ready_tenant("Plain Shop")
    assert labels(api, plain) == []


def test_a_command_changes_labels_and_tells_what_changed(stack: Stack, api: Api, tenant: str) -> None:
    set_labels(api, tenant, "canary", "eu")
    before = api.tenant(tenant)["version"]
    done = change(api, tenant, add=["wave-1", "canary"], remove=["eu", "us"], reason="next rollout")
    assert (done.status, done.json["state"]) == (200, "succeeded")
    operation = api.operation(done.json["operation_id"])
    assert (operation["kind"], operation["state"]) == ("label", "succeeded") and operation["finished_at"]
    after = api.tenant(tenant)
    assert after["labels"] == ["canary", "wave-1"] and after["version"] > before
    eventually(lambda: published(stack), 20, "it is published")
    (event,) = told(stack, "tenant.labelled.v1", done.json["operation_id"])
    assert (event["added"], event["removed"]) == (["wave-1"], ["eu"])
    assert (event["reason"], event["source"], event["version"]) == (
        "next rollout",
        "/tenantry/gateway",
        after["version"],
    )
    assert latest(read_all(stack.kafka.bootstrap, "tenant.status.v1"))[tenant]["labels"] == ["canary", "wave-1"]


def test_what_is_so_already_changes_nothing_and_tells_nobody(stack: Stack, api: Api, tenant: str) -> None:
    set_labels(api, tenant, "canary")
    before = api.tenant(tenant)
    done = change(api, tenant, add=["canary"], remove=["eu"])
    assert done.json["state"] == "succeeded"
    after = api.tenant(tenant)
    assert (after["version"], len(after["history"])) == (before["version"], len(before["history"]))


def test_the_same_event_twice_is_taken_once(stack: Stack, api: Api, tenant: str) -> None:
    set_labels(api, tenant)
    event = send(stack, tenant, {"add": ["twice"]})
    assert api.wait_operation(event)["state"] == "succeeded"
    assert change(api, tenant, remove=["twice"]).status == 200
    assert send(stack, tenant, {"add": ["twice"]}, ce_id=event) == event
    assert change(api, tenant, add=["after"]).status == 200, "of the same key, and so taken later"
    assert labels(api, tenant) == ["after"]
    eventually(lambda: published(stack), 20, "it is published")
    assert len(told(stack, "tenant.labelled.v1", event)) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "add"),
        ({"add": []}, "add"),
        ({"add": [], "remove": []}, "add"),
        ({"reason": "why"}, "add"),
        ({"add": "canary"}, "add"),
        ({"add": {"canary": True}}, "add"),
        ({"add": None}, "add"),
        ({"add": [None]}, "add"),
        ({"add": [["canary"]]}, "add"),
        ({"add": [""]}, "add"),
        ({"add": ["Canary"]}, "add"),
        ({"add": ["+canary"]}, "add"),
        ({"add": ["a b"]}, "add"),
        ({"add": ["x" * 41]}, "add"),
        ({"add": [*FULL, "one-more"]}, "add"),
        ({"remove": ["é"]}, "remove"),
        ({"remove": [*FULL, "one-more"]}, "remove"),
        ({"add": ["a", "b"], "remove": ["c", "b"]}, "remove"),
        ({"add": ["a"], "labels": ["b"]}, "labels"),
        ({"add": ["a"], "reason": ""}, "reason"),
    ],
)
def test_a_bad_command_is_refused_with_the_field_named(api: Api, tenant: str, body: Any, field: str) -> None:
    before = api.tenant(tenant)["version"]
    answer = api.command(tenant, "labels", body)
    assert (answer.status, answer.json["code"], answer.json["field"]) == (400, "invalid_field", field)
    assert api.tenant(tenant)["version"] == before


@pytest.mark.parametrize("data", [{"add": []}, {"add": ["a"], "remove": ["a"]}, {"remove": ["A"]}])
def test_a_bad_event_is_answered_and_kept_as_a_dead_letter(stack: Stack, api: Api, tenant: str, data: Any) -> None:
    field = next(reversed(data))
    event = send(stack, tenant, data)
    (rejected,) = eventually(lambda: told(stack, "tenant.request.rejected.v1", event), 20, "the event is refused")
    assert (rejected["code"], rejected["field"]) == ("invalid_field", field)
    assert rows(stack, f"select 1 from catalog.dead_letter where field = '{field}' and code = 'invalid_field'")


@pytest.mark.parametrize("wrong", [["Canary"], "canary", [*FULL, "one-more"], [1], {}])
def test_a_signup_with_bad_labels_is_refused_with_the_field_named(api: Api, wrong: Any) -> None:
    answer = api.signup("Bad Labels", labels=wrong)
    assert (answer.status, answer.json["code"], answer.json["field"]) == (400, "invalid_field", "labels")


def test_a_tenant_has_at_most_twenty_labels(stack: Stack, api: Api, tenant: str) -> None:
    set_labels(api, tenant, *FULL)
    answer = change(api, tenant, add=["one-more"])
    assert (answer.status, answer.json["code"], answer.json["field"]) == (409, "too_many_labels", "add")
    eventually(lambda: published(stack), 20, "it is published")
    (rejected,) = told(stack, "tenant.request.rejected.v1", answer.json["operation_id"])
    assert (rejected["code"], rejected["field"]) == ("too_many_labels", "add")
    assert labels(api, tenant) == FULL
    assert change(api, tenant, add=["one-more"], remove=["l00"]).json["state"] == "succeeded", "one goes, one comes"
    assert labels(api, tenant) == [*FULL[1:], "one-more"]
    assert change(api, tenant, remove=FULL).json["state"] == "succeeded", "as many as one command may name"
    assert labels(api, tenant) == ["one-more"]


@pytest.fixture(scope="module")
def public(stack: Stack) -> Api:
    gateway: Service = stack.start_service("gateway", 1, PUBLIC_SIGNUP="1")
    return Api(gateway.url, None)


def test_the_public_may_not_set_labels(stack: Stack, api: Api, public: Api) -> None:
    for value in (["canary"], []):
        answer = public.signup("Public Shop", labels=value)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (400, "invalid_field", "labels")
    taken = public.signup("Public Shop")
    assert taken.status == 202
    assert api.wait_state(taken.json["tenant_id"], "ready")["labels"] == []
    with_token = Api(public.url, stack.settings["tokens"]["signup"]).signup("Token Shop", labels=["canary"])
    assert with_token.status == 202, "the same gateway, but not the public"
    assert api.wait_state(with_token.json["tenant_id"], "ready")["labels"] == ["canary"]
    assert Api(public.url, stack.settings["tokens"]["signup"]).command(NOBODY, "labels", {"add": ["x"]}).status == 403


def test_only_a_signup_labelled_staging_gets_that_subdomain(api: Api) -> None:
    for value in ([], ["canary"], ["staging-2"]):
        answer = api.signup("Staging", subdomain="staging", labels=value, prefer="wait=20")
        assert (answer.status, answer.json["code"], answer.json["field"]) == (409, "slug_taken", "subdomain")
    for reserved in ("www", "test", "admin"):
        answer = api.signup("Staging", subdomain=reserved, labels=["staging", reserved], prefer="wait=20")
        assert answer.json["code"] == "slug_taken", reserved
    derived = api.ready_tenant("Staging", labels=["staging"])
    assert api.tenant(derived)["slug"] == "staging-2", "it did not ask for the name"
    staging = api.ready_tenant("Staging", subdomain="staging", labels=["staging"])
    assert api.tenant(staging)["slug"] == "staging"
    again = api.signup("Staging", subdomain="staging", labels=["staging"], prefer="wait=20")
    assert again.json["code"] == "slug_taken", "somebody has it"
    set_labels(api, staging)
    assert api.tenant(staging)["slug"] == "staging", "it stays"


def test_the_list_shows_who_has_a_label(api: Api, tenant: str) -> None:
    set_labels(api, tenant, "listed", "eu")
    others = [api.ready_tenant(f"Listed {number}", labels=["listed"]) for number in range(2)]

    def listed(query: str) -> list[str]:
        answer = api.get(f"/api/tenants?{query}")
        assert answer.status == 200, answer
        return [each["tenant_id"] for each in answer.json["tenants"]]

    assert listed("label=listed") == [tenant, *others]
    assert listed("label=listed&sort=-created_at&state=ready") == [*reversed(others), tenant]
    assert listed("label=list") == listed("label=l.sted") == []
    page = api.get("/api/tenants?label=listed&limit=2").json
    assert listed(f"label=listed&limit=2&cursor={page['next_cursor']}") == others[1:]
    assert all("listed" in each["labels"] for each in page["tenants"])
    for wrong in ("", "A", "a,b", "x" * 41, "%25"):
        answer = api.get(f"/api/tenants?label={wrong}")
        assert (answer.status, answer.json["field"]) == (400, "label"), wrong


def test_a_command_before_its_signup_waits_for_it(stack: Stack, api: Api) -> None:
    early = str(uuid.uuid4())
    event = send(stack, early, {"add": ["early"], "remove": ["eu"]})
    eventually(lambda: api.operation(event).get("code") == "parked", 20, "it is parked")
    data = {"company": "Early Shop", "email": "e@early.test", "labels": ["eu", "late"]}
    produce(
        stack.kafka.bootstrap, "tenant.signup.v1", early.encode(), json.dumps(data).encode(),
        cloudevent("tenant.signup.requested.v1"),
    )  # fmt: skip
    assert api.wait_operation(event)["state"] == "succeeded"
    assert api.wait_state(early, "ready")["labels"] == ["early", "late"]


def test_labels_change_in_attention_and_when_archived_but_not_of_who_is_gone(stack: Stack, api: Api, app: Api) -> None:
    shop = api.ready_tenant("Stuck Shop", labels=["eu"])
    database = app.get(f"/api/tenants/{shop}/connection").json["database"]
    stack.postgres.execute("update tenantry.identity set generation = generation + 1", database)
    assert api.command(shop, "archive").status == 202
    assert api.wait_state(shop, "attention")["reason"]["code"] == "wrong_identity"
    assert change(api, shop, add=["stuck"]).json["state"] == "succeeded"
    after = api.tenant(shop)
    assert (after["state"], after["labels"]) == ("attention", ["eu", "stuck"]), "and nothing is retried"
    stack.postgres.execute("update tenantry.identity set generation = generation - 1", database)
    assert api.command(shop, "retry").status == 202
    api.wait_state(shop, "archived")
    assert change(api, shop, add=["cold"], remove=["eu"]).json["state"] == "succeeded"
    assert api.tenant(shop)["labels"] == ["cold", "stuck"]
    gone = api.command(shop, "deprovision", {"confirm": "stuck-shop"}).json["operation_id"]
    assert api.wait_operation(gone)["state"] == "succeeded"
    answer = change(api, shop, add=["late"])
    assert (answer.status, answer.json["code"]) == (409, "tenant_gone")
    assert api.get("/api/tenants?label=cold").json["tenants"] == []


# The command line.


def test_the_command_adds_and_removes_labels(stack: Stack, api: Api, tenant: str) -> None:
    set_labels(api, tenant, "eu")
    done = stack.run_cli("label", "label-shop", "+canary", "-eu", "--reason", "by phone", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["state", "succeeded"]
    assert labels(api, tenant) == ["canary"]
    shown = stack.run_cli("tenant", "label-shop").stdout
    assert "labels        canary\n" in shown and "labels +canary -eu: by phone" in shown
    explained = stack.run_cli("explain", "label-shop").stdout
    assert "because of the labels in the command, it lacked those with + and had those with -" in explained
    assert "=> operation label: succeeded" in explained
    found = answered(stack.run_cli("label", tenant[:13], "-canary", "--wait", "--json"))
    assert found["operation"]["kind"] == "label" and labels(api, tenant) == []
    assert "labels " not in stack.run_cli("tenant", "label-shop").stdout.partition("last events")[0]


def test_every_label_can_be_named_on_the_command_line(stack: Stack, api: Api, tenant: str) -> None:
    """Also those that look like options."""
    odd = ["-", "-x", "h", "help", "json", "o", "ojson", "old", "wait", "x"]
    set_labels(api, tenant, *odd)
    for words in (["-x", "-old", "-ojson", "-json", "-wait", "-help"], ["--", "-o", "-h", "--", "--x"]):
        assert stack.run_cli("label", "label-shop", "--wait", *words).returncode == 0, words
    assert labels(api, tenant) == []
    assert answered(stack.run_cli("label", "label-shop", "-old", "--wait", "-o", "json"))["operation"]
    assert stack.run_cli("label", "-h").stdout == stack.run_cli("label", "--help").stdout != ""
    set_labels(api, tenant)


def test_a_wrong_call_of_label_says_what_is_wrong(stack: Stack, api: Api, tenant: str) -> None:
    before = api.tenant(tenant)["version"]
    refused(stack.run_cli("label"), 2, "name the tenant first")
    refused(stack.run_cli("label", "+canary"), 2, "name the tenant first")
    refused(stack.run_cli("label", "label-shop"), 2, "name a label")
    refused(stack.run_cli("label", "label-shop", "canary"), 2, "+ before it")
    refused(stack.run_cli("label", "label-shop", "+"), 2, "+ before it")
    refused(stack.run_cli("label", "label-shop", "+a", "--colour"), 2, "unknown option --colour")
    refused(stack.run_cli("label", "label-shop", "+Canary"), 4, "add must be 1 to 40 of a-z")
    refused(stack.run_cli("label", "label-shop", "+a", "-a"), 4, "a is in add and in remove")
    refused(stack.run_cli("label", "no-such-shop", "+a"), 3, "no-such-shop")
    assert api.tenant(tenant)["version"] == before


def test_the_commands_that_sign_up_and_list_know_labels(stack: Stack, api: Api) -> None:
    words = ["signup", "--company", "Cli Labels", "--email", "c@l.test", "--label", "cli", "--label=eu", "--wait"]
    assert stack.run_cli(*words).returncode == 0
    listed = stack.run_cli("tenants", "--label", "cli", "-o", "wide").stdout.splitlines()
    assert len(listed) == 2 and "LABELS" in listed[0] and "cli, eu" in listed[1]
    assert stack.run_cli("tenants", "--label=cli", "-o", "name").stdout.split() == ["cli-labels"]
    (only,) = answered(stack.run_cli("tenants", "--label", "cli", "--json"))["tenants"]
    assert only["labels"] == ["cli", "eu"]
    refused(stack.run_cli("tenants", "--label", "Cli"), 4, "a label is 1 to 40")
    refused(stack.run_cli("signup", "--company", "X", "--email", "x@x.test", "--label", "X"), 4, "labels must be")
    assert "plan starter, labels cli eu" in stack.run_cli("explain", "cli-labels").stdout
    completion = stack.run_cli("completion", "bash").stdout
    assert "    label) words='--reason --wait --json --help'" in completion
