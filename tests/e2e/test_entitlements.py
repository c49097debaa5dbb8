"""What a tenant may do: by its plan, by what an operator gave it, by how much it uses; asked by its product."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import Answer, Api, eventually
from .command import answered, cli, refused
from .topics import cloudevent, produce

WAIT = "wait=20"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


@pytest.fixture(scope="module")
def tenant(desk: Desk) -> str:
    return desk.tenant_on_trial("Entitled Pharmacy")


def in_hours(hours: float) -> str:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def report(app: Api, tenant: str, at: str, prefer: str = WAIT, **counts: Any) -> Answer:
    return app.post(f"/api/tenants/{tenant}/billing/usage", {"at": at, **counts}, prefer=prefer)


def override(desk: Desk, tenant: str, **given: Any) -> Answer:
    body = {"by": "ada", "reason": "order 4711", **given}
    return desk.api.post(f"/api/tenants/{tenant}/billing/override", body, prefer=WAIT)


def entitlements(app: Api, tenant: str) -> Any:
    answer = app.get(f"/api/tenants/{tenant}/entitlements")
    assert answer.status == 200, answer
    return answer.json


def test_the_product_is_told_what_its_tenant_may_do_and_when_that_has_changed(
    desk: Desk, app: Api, tenant: str
) -> None:
    first = app.get(f"/api/tenants/{tenant}/entitlements")
    told = first.json
    assert (told["plan"], told["access"], told["why"], told["over"]) == ("starter", "full", "trial", [])
    assert told["modules"] == ["inventory", "sales", "purchases"] and told["limits"]["users"] == 5
    assert told["until"] == told["subscription"]["trial_end"] is not None
    assert first.headers["cache-control"] == "max-age=60, stale-if-error=86400"
    again = app.get(f"/api/tenants/{tenant}/entitlements", if_none_match=first.headers["etag"])
    assert (again.status, again.text, again.headers["etag"]) == (304, "", first.headers["etag"])
    assert again.headers["cache-control"] == first.headers["cache-control"]
    assert report(app, tenant, in_hours(-9), users=1).json["state"] == "succeeded"
    changed = app.get(f"/api/tenants/{tenant}/entitlements", if_none_match=first.headers["etag"])
    assert changed.status == 200 and changed.json["usage"]["users"] == 1


def test_who_may_not_ask_is_refused_and_nobody_is_found_for_an_unknown_tenant(
    desk: Desk, app: Api, tenant: str
) -> None:
    assert desk.api.get(f"/api/tenants/{tenant}/entitlements").status == 403
    assert (
        app.post(f"/api/tenants/{tenant}/billing/override", {"by": "x", "reason": "y", "plan": "starter"}).status == 403
    )
    for path in ("entitlements", "billing"):
        assert app.get(f"/api/tenants/{uuid.uuid4()}/{path}").status == 404
        assert app.get(f"/api/tenants/..%2f/{path}").status == 404


def test_an_operator_closes_a_tenant_whatever_it_has_paid(desk: Desk, app: Api, tenant: str) -> None:
    desk.api.done(tenant, "suspend")
    told = entitlements(app, tenant)
    assert (told["access"], told["why"], told["until"]) == ("none", "operator", None)
    desk.api.done(tenant, "resume")
    assert entitlements(app, tenant)["access"] == "full"


def test_what_is_over_a_limit_is_said_and_the_newest_report_counts_whatever_comes_first(app: Api, tenant: str) -> None:
    assert report(app, tenant, in_hours(-1), users=7, branches=1, items=10001).json["state"] == "succeeded"
    over = [{"limit": "items", "used": 10001, "most": 10000}, {"limit": "users", "used": 7, "most": 5}]
    assert entitlements(app, tenant)["over"] == over
    late = report(app, tenant, in_hours(-2), users=1, branches=1, items=1)
    assert (late.json["state"], late.json["code"]) == ("superseded", "newer_usage_known")
    assert entitlements(app, tenant)["over"] == over
    assert report(app, tenant, in_hours(-0.5), users=5, branches=1, items=1).json["state"] == "succeeded"
    assert entitlements(app, tenant)["over"] == []


def test_usage_that_cannot_be_is_refused(app: Api, tenant: str) -> None:
    before = entitlements(app, tenant)
    assert report(app, tenant, in_hours(-1), users=-1).json["field"] == "users"
    assert report(app, tenant, in_hours(-1), users=1.5).json["field"] == "users"
    assert report(app, tenant, in_hours(-1)).json["code"] == "invalid_field"
    assert report(app, tenant, "2026-02-30T00:00:00Z", users=1).json["field"] == "at"
    future = report(app, tenant, in_hours(1), users=1)
    assert (future.status, future.json["code"], future.json["field"]) == (409, "usage_in_the_future", "at")
    assert entitlements(app, tenant) == before


def test_an_override_gives_a_plan_until_its_time_has_come(desk: Desk, app: Api) -> None:
    tenant = desk.api.ready_tenant("Enterprising Pharmacy")
    desk.wait(tenant, status="trial")
    given = override(desk, tenant, plan="enterprise", until=in_hours(48), limits=[{"name": "users", "most": 50}])
    assert given.json["state"] == "succeeded", given
    told = entitlements(app, tenant)
    assert (told["plan"], told["why"]) == ("enterprise", "override")
    assert told["limits"] == {"branches": None, "users": 50, "items": None}
    assert desk.api.tenant(tenant)["limits"] == told["limits"]
    shown = desk.api.get(f"/api/tenants/{tenant}/billing").json
    assert shown["override"] | {"by": "ada", "reason": "order 4711", "plan": "enterprise"} == shown["override"]
    desk.pass_days(3)
    desk.wait(tenant, status="trial", plan="starter")
    told = entitlements(app, tenant)
    assert told["limits"]["users"] == 5 and told["why"] == "trial"


def test_an_override_without_a_plan_keeps_the_plan_and_can_be_taken_back(desk: Desk, app: Api) -> None:
    tenant = desk.api.ready_tenant("Gifted Pharmacy")
    desk.wait(tenant, status="trial")
    assert override(desk, tenant, modules=["inventory", "reports"]).json["state"] == "succeeded"
    assert (told := entitlements(app, tenant))["plan"] == "starter" and told["modules"] == ["inventory", "reports"]
    desk.pass_days(20)  # past its trial, which no longer ends anything
    assert entitlements(app, tenant)["access"] == "full"
    assert override(desk, tenant, remove=True).json["state"] == "succeeded"
    told = entitlements(app, tenant)
    assert (told["access"], told["why"]) == ("none", "trial_ended")


def test_an_override_that_cannot_be_is_refused(desk: Desk, app: Api, tenant: str) -> None:
    before = entitlements(app, tenant)
    for code, given in {
        "plan_unknown": {"plan": "platinum"},
        "until_passed": {"plan": "enterprise", "until": "2020-01-01T00:00:00Z"},
    }.items():
        answer = override(desk, tenant, **given)
        assert (answer.status, answer.json["code"]) == (409, code)
    wrong: list[dict[str, Any]] = [{}, {"remove": True, "plan": "starter"}, {"plan": "starter", "until": "tomorrow"}]
    for each in wrong:
        assert override(desk, tenant, **each).status == 400
    assert entitlements(app, tenant) == before


def test_a_price_that_no_plan_has_keeps_the_plan_and_is_told(desk: Desk, stack: Stack, app: Api) -> None:
    tenant = desk.api.ready_tenant("Odd Pharmacy")
    subscription = desk.subscribe(tenant, "professional")
    desk.wait(tenant, status="active", plan="professional")
    odd = desk.stripe(
        "prices", product_data={"name": "Odd"}, currency="usd", unit_amount=100, recurring={"interval": "month"}
    )["id"]
    item = subscription["items"]["data"][0]["id"]
    desk.stripe(f"subscriptions/{subscription['id']}", items=[{"id": item, "price": odd}])
    cause = f"billing-unknown-price:{tenant}"
    open_alert = "select detail from catalog.alert where cause = %s and resolved_at is null"
    eventually(lambda: desk.sql(open_alert, cause), 20, "the odd price is told")
    assert odd in desk.sql(open_alert, cause)[0]
    assert entitlements(app, tenant)["plan"] == "professional"
    desk.stripe(f"subscriptions/{subscription['id']}", items=[{"id": item, "price": desk.price("starter")}])
    desk.wait(tenant, status="active", plan="starter")
    assert not desk.sql(open_alert, cause)


def test_a_price_made_by_hand_under_a_plans_product_gives_that_plan(desk: Desk, app: Api) -> None:
    tenant = desk.api.ready_tenant("Dealt Pharmacy")
    desk.stripe("products", id="tenantry_enterprise", name="Enterprise")
    deal = desk.stripe(
        "prices", product="tenantry_enterprise", currency="usd", unit_amount=99900, recurring={"interval": "year"}
    )["id"]
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active", plan="starter")
    [item] = subscription["items"]["data"]
    desk.stripe(f"subscriptions/{subscription['id']}", items=[{"id": item["id"], "price": deal}])
    assert desk.wait(tenant, status="active", plan="enterprise")["subscription"]["interval"] == "year"
    assert entitlements(app, tenant)["limits"] == {"branches": None, "users": None, "items": None}
    known = "select 1 from catalog.alert where cause = %s and resolved_at is null"
    assert not desk.sql(known, f"billing-unknown-price:{tenant}")


def test_a_report_before_the_signup_waits_for_it(desk: Desk, stack: Stack, app: Api) -> None:
    tenant = str(uuid.uuid4())
    early = report(app, tenant, in_hours(-1), users=3)
    assert (early.status, early.json["state"], early.json["code"]) == (202, "accepted", "parked")
    assert "url" not in early.json
    data = json.dumps({"tenant_id": tenant, "company": "Early Pharmacy", "email": "a@b.example"}).encode()
    produce(stack.kafka.bootstrap, "tenant.signup.v1", tenant.encode(), data, cloudevent("tenant.signup.requested.v1"))
    assert desk.api.wait_operation(early.json["operation_id"])["state"] == "succeeded"
    assert entitlements(app, tenant)["usage"]["users"] == 3


def test_without_the_catalog_reports_are_taken_and_questions_are_answered_503(
    stack: Stack, app: Api, tenant: str
) -> None:
    stack.postgres.stop()
    try:
        assert app.get(f"/api/tenants/{tenant}/entitlements").status == 503
        assert app.get(f"/api/tenants/{tenant}/billing").status == 503
        taken = report(app, tenant, in_hours(-0.1), prefer="", users=4)
        assert taken.status == 202
    finally:
        stack.postgres.start()
    eventually(lambda: entitlements(app, tenant)["usage"]["users"] == 4, 40, "the report is known")


def test_the_command_shows_and_overrides(stack: Stack, desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Shown Pharmacy")
    desk.wait(tenant, status="trial")
    words = ["billing", "override", tenant, "--plan", "enterprise", "--until", "2099-01-01", "--reason", "a gift"]
    done = stack.run_cli(*words, "--by", "ada")
    assert done.returncode == 0 and "succeeded" in done.stdout, done
    shown = stack.run_cli("billing", "show", tenant)
    assert shown.returncode == 0
    for word in ("enterprise", "a gift", "ada", "2099-01-01T00:00:00Z"):
        assert word in shown.stdout, shown.stdout
    assert answered(stack.run_cli("billing", "show", tenant, "--json"))["plan"] == "enterprise"
    refused(cli(stack, "billing", "override", tenant, "--plan", "nothing", "--reason", "x", "--by", "y"), 4, "nothing")
    refused(stack.run_cli("billing", "override", tenant, "--reason", "x"), 2, "--plan")
    refused(stack.run_cli("billing", "frob"), 2, "show, override, end-duplicate")
    explained = stack.run_cli("explain", tenant)
    assert "command override accepted: a gift" in explained.stdout, explained.stdout
