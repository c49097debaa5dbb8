"""What Stripe did not tell, or told wrongly, is found and mended: on a real stack and the sandbox's Stripe."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack

from .billing import EVENT_TYPES, Desk, billing_stack
from .client import Api, eventually
from .command import answered, cli
from .faults import dump_catalog, restore_catalog
from .sandbox_control import fault
from .service_faults import armed, stopped, told
from .stripe import Stripe
from .stripe_life import DAY, START, Life
from .test_checkout import CARD, ask, checkout, press

LONG = os.environ.get("TENANTRY_LONG") == "1"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack(RECONCILE_INTERVAL="2s", RECONCILE_SUBSCRIPTIONS="2s")


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


def alerts(stack: Stack) -> dict[str, Any]:
    return {alert["cause"]: alert for alert in answered(cli(stack, "alerts", "--json"))["items"]}


def wait_alert(stack: Stack, cause: str) -> Any:
    return eventually(lambda: alerts(stack).get(cause), 60, f"there is an alert {cause}")


def wait_no_alert(stack: Stack, cause: str) -> None:
    eventually(lambda: cause not in alerts(stack), 60, f"the alert {cause} is over")


def facts_of(desk: Desk, tenant: str) -> list[Any]:
    """What billing knows of the tenant, and what it concludes."""
    rows = "select jsonb_build_array(kind, object_id, is_deleted, first_failure, facts) from billing.object"
    return [
        desk.sql(f"{rows} where tenant_id = %s order by kind, object_id", tenant),
        desk.sql("select jsonb_build_array(access, subscription) from billing.tenant where tenant_id = %s", tenant),
    ]


ASKED = ("Buying", "Growing", "Staying", "Leaving")


def everything_of(desk: Desk, app: Api, tenant: str) -> list[Any]:
    """What billing knows, what its product is told, and what is at Stripe."""
    customer = app.get(f"/api/tenants/{tenant}/billing").json["customer_id"]
    subscriptions = desk.stripe("subscriptions", "GET", customer=customer, status="all", limit=100)["data"]
    charges = desk.stripe("charges", "GET", customer=customer, limit=100)["data"]
    return [
        facts_of(desk, tenant)[1],
        app.get(f"/api/tenants/{tenant}/entitlements").json,
        [(each["id"], each["status"], each["cancel_at"]) for each in subscriptions],
        sorted(each["amount"] for each in charges),
    ]


def billing_mails(stack: Stack, tenant: str) -> list[Any]:
    mails = stack.control_sandbox("GET", "mail")
    return [mail for mail in mails if "billing@" in mail["from"] and f"/billing/{tenant}." in mail["text"]]


def drift_of(desk: Desk, subscription: str) -> set[str]:
    return set(desk.sql("select class from billing.drift where object_id = %s", subscription))


def wait_for_runs(desk: Desk) -> None:
    """Both comparisons have begun, and ended, since."""
    begun = int(desk.sql("select coalesce(max(run), 0) from billing.reconcile_run")[0])
    ended = "select count(distinct kind) from billing.reconcile_run where run > %s and ended_at is not null"
    eventually(lambda: desk.sql(ended, begun) == [2], 60, "Stripe was compared with")


def test_what_the_endpoint_is_not_given_was_not_missed(desk: Desk, stack: Stack) -> None:
    """Stripe's list has each step of each payment."""
    tenant = desk.tenant_on_trial("Quiet Pharmacy")
    desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.wait_for_deliveries()
    listed = {event["type"] for event in desk.stripe("events", "GET", limit=100)["data"]}
    assert listed - set(EVENT_TYPES), "there are such"
    missed = stack.services["billing-0"].metrics()["tenantry_billing_missed_events_total"]
    for _ in range(2):
        wait_for_runs(desk)
    assert stack.services["billing-0"].metrics()["tenantry_billing_missed_events_total"] == missed
    assert set(desk.sql("select distinct type from billing.event")) <= set(EVENT_TYPES)


def test_what_was_not_delivered_is_found_in_stripes_list(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Missed Pharmacy")
    desk.wait(tenant, status="trial")
    with desk.endpoint_disabled():
        subscription = desk.subscribe(tenant)
        desk.wait(tenant, status="active", plan="starter")
        wait_alert(stack, "billing-deliveries")
        desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
        desk.wait(tenant, cancel_at=desk.subscription(tenant)["period_end"])
    desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=False)
    desk.wait(tenant, cancel_at=None)
    wait_no_alert(stack, "billing-deliveries")
    assert stack.services["billing-0"].metrics()["tenantry_billing_missed_events_total"] >= 2


def test_what_was_found_and_is_delivered_after_all_is_a_duplicate_in_whatever_shape(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Twice Pharmacy")
    with desk.endpoint_disabled():
        subscription = desk.subscribe(tenant)
        desk.wait(tenant, status="active")
        wait_for_runs(desk)
    about = "select event_id from billing.event where object_id = %s and is_found order by event_id"
    found = desk.sql(about, subscription["id"])
    assert found, "they were found in the list"
    before = facts_of(desk, tenant)
    [seen] = [event for event in desk.events_at_stripe() if event["id"] == found[0]]
    shown = {**seen, "api_version": "2020-03-02", "data": {"object": {**seen["data"]["object"], "tax_percent": None}}}
    hook = Stripe(desk.api, desk.endpoint["secret"])
    assert hook.deliver(shown).status == 200
    eventually(lambda: desk.sql("select 1 from billing.inbox where event_id = %s", found[0]), 20, "it is taken")
    for event in found[1:]:
        stack.control_sandbox("POST", f"stripe/deliveries/{event}")
    assert facts_of(desk, tenant) == before
    assert answered(cli(stack, "dlq", "list", "--json"))["items"] == []
    assert desk.sql(about, subscription["id"]) == found


def test_stripe_that_is_away_or_slow_or_wants_less_is_asked_again(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Patient Pharmacy")
    with desk.endpoint_disabled():
        with (
            fault(stack, "GET", "^/v1/events$", {"kind": "rate_limit", "retry_after": 2}),
            fault(stack, "GET", "^/v1/events$", {"kind": "status", "code": 503}),
            fault(stack, "GET", "^/v1/events$", {"kind": "cut_after"}),
            fault(stack, "GET", "^/v1/events$", {"kind": "delay", "seconds": 3, "when": "after"}),
        ):
            subscription = desk.subscribe(tenant)
            desk.wait(tenant, 90, status="active", plan="starter")
            wait_for_runs(desk)
        with desk.stripe_away():
            error = "select error from billing.reconcile_run where error is not null and ended_at is null"
            eventually(lambda: desk.sql(error), 60, "Stripe is missed")
        desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
        desk.wait(tenant, 90, cancel_at=desk.subscription(tenant)["period_end"])


def test_a_catalog_restored_to_an_hour_ago_ends_the_same(desk: Desk, stack: Stack, tmp_path: Path) -> None:
    """Some of what was lost was delivered and is in Kafka; some had been found in the list and is nowhere but there."""
    tenant = desk.api.ready_tenant("Restored Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active", plan="starter")
    desk.wait_for_deliveries()
    dump_catalog(stack, tmp_path / "catalog")
    with desk.endpoint_disabled():
        desk.stripe(f"subscriptions/{subscription['id']}", metadata={"tenant_id": tenant, "note": "unheard"})
        [item] = subscription["items"]["data"]
        desk.stripe(
            f"subscriptions/{subscription['id']}", items=[{"id": item["id"], "price": desk.price("professional")}]
        )
        desk.wait(tenant, plan="professional")
    desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
    desk.wait(tenant, plan="professional", cancel_at=desk.subscription(tenant)["period_end"])
    desk.wait_for_deliveries()
    before = facts_of(desk, tenant)
    restore_catalog(stack, tmp_path / "catalog")
    eventually(lambda: facts_of(desk, tenant) == before, 90, "the same is known again")


def test_what_was_asked_for_and_mailed_since_a_restored_catalog_is_not_done_twice(
    desk: Desk, stack: Stack, app: Api, tmp_path: Path
) -> None:
    """Its commands are read again; what somebody did at Stripe after them stays done."""
    buying, growing, staying, leaving = (desk.tenant_on_trial(f"{name} Again") for name in ASKED)
    subscribed = {tenant: desk.subscribe(tenant) for tenant in (growing, staying, leaving)}
    desk.price("professional")
    for tenant in subscribed:
        desk.wait(tenant, status="active")
    over = "update billing.tenant set ready_at = ready_at - interval '15 days' where tenant_id = %s returning 1"
    desk.sql(over, leaving)
    desk.wait_for_deliveries()
    dump_catalog(stack, tmp_path / "catalog")
    page = checkout(app, buying, "professional").json["url"]
    assert press(page, action="pay", number=CARD) == 303
    grown = ask(app, growing, "change-plan", plan="professional", interval="month")
    assert grown.json["result"]["outcome"] == "changed", grown
    [item] = desk.stripe(f"subscriptions/{subscribed[growing]['id']}", "GET")["items"]["data"]
    smaller = [{"id": item["id"], "price": desk.price("starter")}]
    desk.stripe(f"subscriptions/{subscribed[growing]['id']}", items=smaller, proration_behavior="none")
    assert ask(app, staying, "cancel").json["result"]["outcome"] == "ends"
    portal = ask(app, staying, "portal").json["url"]
    assert press(portal, action="keep", subscription=subscribed[staying]["id"]) == 303
    desk.stripe(f"subscriptions/{subscribed[leaving]['id']}", "DELETE")
    desk.wait(buying, status="trial", plan="professional", interval="month")
    desk.wait(growing, status="active", plan="starter")
    desk.wait(staying, status="active", cancel_at=None)
    desk.wait(leaving, status="cancelled")
    [mail] = eventually(lambda: billing_mails(stack, leaving), 30, "who has left is told")
    desk.wait_for_deliveries()
    before = [everything_of(desk, app, tenant) for tenant in (buying, growing, staying, leaving)]
    restore_catalog(stack, tmp_path / "catalog")
    repeated = "select event_id from billing.inbox where event_id = %s"
    eventually(lambda: desk.sql(repeated, grown.json["operation_id"]), 60, "its commands are read again")
    assert desk.api.wait_operation(grown.json["operation_id"], 60)["state"] == "succeeded"
    eventually(lambda: not desk.sql("select 1 from billing.request"), 60, "all is done that was asked for")
    eventually(lambda: len(billing_mails(stack, leaving)) == 2, 60, "it may be told again")
    for tenant, known in zip((buying, growing, staying, leaving), before, strict=True):
        try:
            eventually(lambda t=tenant, k=known: facts_of(desk, t)[1] == k[0], 4, "the same is known again")
        except AssertionError as error:
            raise AssertionError(f"{error}: {known[0]} {facts_of(desk, tenant)[1]}") from error
        assert everything_of(desk, app, tenant) == known
    assert {each["message_id"] for each in billing_mails(stack, leaving)} == {mail["message_id"]}


WRONG = {
    "status": 'facts = facts || \'{"status": "past_due"}\'',
    "price": "facts = jsonb_set(facts, '{prices,0,price}', '\"price_other\"')",
    "period": "facts = facts || '{\"period_end\": 1900000000}'",
    "cancellation": "facts = facts || '{\"cancel_at\": 1900000000}'",
}


@pytest.mark.parametrize("kind", [*WRONG, "missing_here", "ended_here"])
def test_a_subscription_that_is_different_at_stripe_is_mended(desk: Desk, stack: Stack, kind: str) -> None:
    tenant = desk.api.ready_tenant(f"Drift {kind.replace('_', ' ')}")
    subscription = desk.subscribe(tenant)["id"]
    desk.wait(tenant, status="active", plan="starter")
    desk.wait_for_deliveries()
    wait_for_runs(desk)
    before = facts_of(desk, tenant)
    desk.sql("delete from billing.drift where object_id = %s returning 1", subscription)
    where = "where kind = 'subscription' and object_id = %s returning 1"
    if kind == "missing_here":
        desk.sql(f"delete from billing.object {where}", subscription)
    elif kind == "ended_here":
        ended = 'is_terminal = true, seen = seen + 86400, facts = facts || \'{"status": "canceled"}\''
        desk.sql(f"update billing.object set {ended} {where}", subscription)
    else:
        desk.sql(f"update billing.object set digest = 'other', {WRONG[kind]} {where}", subscription)
    wanted = "status" if kind == "ended_here" else kind
    eventually(lambda: wanted in drift_of(desk, subscription), 60, "the drift is recorded")
    eventually(lambda: facts_of(desk, tenant) == before, 60, "and mended")
    shown = answered(cli(stack, "billing", "reconcile", "--json"))
    [recorded] = [d for d in shown["drift"] if d["object_id"] == subscription and d["class"] == wanted]
    assert recorded["tenant_id"] == tenant and recorded["after"]["status"] == "active"
    wait_no_alert(stack, "billing-drift")


def test_a_subscription_that_stripe_does_not_have_is_told_and_left_as_it_is(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Ghost Pharmacy")
    desk.wait(tenant, status="trial")
    life = Life(tenant=tenant, number="ghost")
    begun = life.event(
        "customer.subscription.created", int(life.subscription("active")["created"]), life.subscription("active")
    )
    assert Stripe(desk.api, desk.endpoint["secret"]).deliver(begun).status == 200
    desk.wait(tenant, status="active")
    eventually(lambda: drift_of(desk, "sub_ghost") == {"missing_there"}, 60, "it is missed at Stripe")
    assert "missing there" in wait_alert(stack, "billing-drift")["detail"]
    assert desk.subscription(tenant)["status"] == "active", "a wrong key must not suspend anybody"
    gone = life.event("customer.subscription.deleted", START + DAY, life.subscription("canceled", ended_at=START + DAY))
    assert Stripe(desk.api, desk.endpoint["secret"]).deliver(gone).status == 200
    desk.wait(tenant, status="trial")
    wait_no_alert(stack, "billing-drift")


def test_a_tenant_that_pays_twice_is_told_with_both_subscriptions(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Double Pharmacy")
    first = desk.subscribe(tenant)["id"]
    second = desk.subscribe(tenant, "professional")["id"]
    alert = wait_alert(stack, f"billing-duplicate:{tenant}")
    assert first in alert["detail"] and second in alert["detail"] and alert["tenant_id"] == tenant
    desk.stripe(f"subscriptions/{second}", "DELETE")
    wait_no_alert(stack, f"billing-duplicate:{tenant}")


def test_a_payment_that_is_nobodys_is_told_until_somebody_says_whose_it_is(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Owner Pharmacy")
    customer = desk.stripe("customers", email="who@acme.test")["id"]
    desk.pay_with(customer, "pm_card_visa")
    subscription = desk.stripe("subscriptions", customer=customer, items=[{"price": desk.price("starter")}])
    invoice = subscription["latest_invoice"]
    assert customer in wait_alert(stack, f"billing-orphan:{subscription['id']}")["detail"]
    assert "99" in wait_alert(stack, f"billing-orphan:{invoice}")["detail"]
    desk.stripe(f"customers/{customer}", metadata={"tenant_id": tenant})
    desk.wait(tenant, status="active", plan="starter")
    wait_no_alert(stack, f"billing-orphan:{subscription['id']}")
    wait_no_alert(stack, f"billing-orphan:{invoice}")


@pytest.mark.skipif(not LONG, reason="more than a page of events takes minutes: TENANTRY_LONG=1")
def test_a_process_that_dies_at_a_page_is_followed_by_one_that_goes_on_there(desk: Desk, stack: Stack) -> None:
    billing = stack.services["billing-0"]
    tenant = desk.api.ready_tenant("Page Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    with desk.endpoint_disabled():
        stack.control_sandbox("POST", "settings", {"stripe_rate_limit": 1000})
        for number in range(101):  # more than a page
            note = {"tenant_id": tenant, "note": str(number)}
            desk.stripe(f"subscriptions/{subscription['id']}", metadata=note)
        stack.control_sandbox("POST", "settings", {"stripe_rate_limit": 25})
        with told(billing, RECONCILE_INTERVAL="1h", RECONCILE_SUBSCRIPTIONS="1h"):
            later = "select count(*) from billing.reconcile where due_at > clock_timestamp() + interval '30 minutes'"
            eventually(lambda: desk.sql(later) == [2], 60, "the next ones are an hour away")
        with armed(billing, "billing_before_reconciled=crash@2"):
            assert cli(stack, "billing", "reconcile", "--now").returncode == 0
            eventually(lambda: not billing.process.running, 30, "it died")
        begun = desk.sql("select max(run) from billing.reconcile_run where ended_at is null")
        assert begun != [None]
        desk.sql("update billing.reconcile set due_at = clock_timestamp() returning 1")  # as its time passes
        eventually(
            lambda: desk.sql("select run from billing.reconcile_run where run = %s and ended_at is not null", *begun),
            60, "the same run ends",
        )  # fmt: skip


def verify(stack: Stack, code: int) -> Any:
    done = stack.run_cli("billing", "verify", "--json", admin=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_every_state_is_what_the_events_in_kafka_make_of_it(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Rebuilt Pharmacy")
    subscription = desk.subscribe(tenant)["id"]
    desk.wait(tenant, status="active")
    desk.wait_for_deliveries()
    shown = verify(stack, 0)
    assert shown["messages"] > 10 and shown["unreadable"] == 0 and shown["whole"] and shown["different"] == 0
    before = facts_of(desk, tenant)
    with stopped(stack.services["billing-0"]):
        wrong = 'update billing.object set facts = facts || \'{"status": "unpaid"}\' where object_id = %s returning 1'
        desk.sql(wrong, subscription)
        shown = verify(stack, 1)
        mine = {each["id"]: each for each in shown["differences"] if each["tenant_id"] == tenant}
        assert mine.keys() == {subscription, tenant}, "the object, and what it means for its tenant"
        assert mine[subscription]["verdict"] == mine[tenant]["verdict"] == "different"
        assert mine[subscription]["here"]["status"] == "unpaid" and mine[subscription]["rebuilt"]["status"] == "active"
        table = stack.run_cli("billing", "verify", admin=True)
        assert table.returncode == 1 and subscription in table.stdout and "2 states are not" in table.stderr
    eventually(lambda: facts_of(desk, tenant) == before, 60, "it is mended")
    assert desk.sql("select nspname from pg_namespace where nspname like 'billing_verify%%'") == []


def test_what_was_never_delivered_is_told_and_is_no_difference(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Listed Pharmacy")
    with desk.endpoint_disabled():
        subscription = desk.subscribe(tenant)["id"]
        desk.wait(tenant, status="active")
        wait_for_runs(desk)
    mine = {each["id"]: each["verdict"] for each in verify(stack, 0)["differences"] if each["tenant_id"] == tenant}
    assert subscription in mine and "listed" in mine.values() and set(mine.values()) <= {"listed", "asked"}


def forecast(stack: Stack, tenant: str) -> Any:
    return answered(cli(stack, "billing", "forecast", tenant, "--json"))


def days(told: Any) -> list[tuple[int, str, str, str]]:
    """How many days ahead what changes, to which status and access."""
    began = datetime.fromisoformat(told["at"])
    return [
        ((datetime.fromisoformat(row["at"]) - began).days, row["change"], row["status"], row["access"])
        for row in told["changes"]
    ]


def test_what_becomes_of_a_tenant_is_told_in_advance(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Foretold Pharmacy")
    desk.wait(tenant, status="trial")
    eventually(lambda: desk.subscription(tenant)["trial_end"], 30, "its trial has begun")
    told_of_trial = forecast(stack, tenant)
    assert days(told_of_trial) == [(13, "status", "suspended", "none"), (43, "archive", "archived", "none")]
    assert told_of_trial["now"]["status"] == "trial" and told_of_trial["changes"][0]["reason"] == "trial_ended"
    subscription = desk.subscribe(tenant)["id"]
    desk.wait(tenant, status="active")
    [(day, *renewal)] = days(forecast(stack, tenant))
    assert renewal == ["renewal", "active", "full"] and 26 < day < 32
    desk.stripe(f"subscriptions/{subscription}", cancel_at_period_end=True)
    desk.wait(tenant, cancel_at=desk.subscription(tenant)["period_end"])
    [(day, *end)] = days(forecast(stack, tenant))
    assert end == ["status", "cancelled", "none"] and 26 < day < 32
    shown = cli(stack, "billing", "forecast", "foretold-pharmacy")
    assert shown.returncode == 0 and "cancelled" in shown.stdout and "now" in shown.stdout
    assert cli(stack, "billing", "forecast", "nobody-pharmacy").returncode == 3


def test_a_change_of_plan_that_waits_is_told_in_advance(desk: Desk, stack: Stack, app: Api) -> None:
    tenant = desk.tenant_on_trial("Planned Pharmacy")
    desk.price("starter")
    desk.subscribe(tenant, "professional")
    desk.wait(tenant, status="active", plan="professional")
    assert ask(app, tenant, "change-plan", plan="starter", interval="month").json["result"]["outcome"] == "planned"
    changes = forecast(stack, tenant)["changes"]
    end = desk.subscription(tenant)["pending"]["at"]
    assert [(row["change"], row["plan"], row["at"]) for row in changes[:2]] == [
        ("plan", "starter", end),
        ("renewal", "starter", end),
    ]


def test_who_is_no_more_and_still_pays_is_told_until_it_has_ended(desk: Desk, stack: Stack) -> None:
    tenant = desk.tenant_on_trial("Alive Pharmacy")
    subscription = desk.subscribe(tenant)["id"]
    slug = desk.wait(tenant, status="active")["slug"]
    path = f"/v1/subscriptions/{subscription}$"
    with fault(stack, "DELETE", path, {"kind": "status", "code": 503}, times=1000):
        desk.api.done(tenant, "deprovision", confirm=slug)
        alert = wait_alert(stack, f"billing-alive:{subscription}")
        assert alert["tenant_id"] == tenant and "active" in alert["detail"]
    wait_no_alert(stack, f"billing-alive:{subscription}")
    assert desk.stripe(f"subscriptions/{subscription}", "GET")["status"] == "canceled"


def test_explain_tells_what_at_stripe_a_subscription_follows_from(desk: Desk, stack: Stack) -> None:
    tenant = desk.api.ready_tenant("Explained Pharmacy")
    desk.wait(tenant, status="trial")
    assert "of the trial and a live subscription" in cli(stack, "explain", tenant).stdout
    subscription = desk.subscribe(tenant)["id"]
    desk.wait(tenant, status="active")
    billing = answered(cli(stack, "explain", tenant, "--json"))["billing"]
    assert billing["subscription_id"] == subscription and "oldest active one" in billing["rule"]
    assert billing["event"]["type"].startswith("customer.subscription.")
    shown = cli(stack, "explain", "explained-pharmacy").stdout
    assert "subscription trial, plan starter -> active, plan starter" in shown
    assert f"by {subscription}" in shown and billing["event"]["event_id"] in shown and "next: renewal" in shown
