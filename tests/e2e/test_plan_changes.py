"""A subscription that changes: dearer at once, cheaper when its period ends, cancelled and taken back, ended with its tenant."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import Answer, Api, eventually
from .service_faults import armed, frozen_in_failpoint, start, told
from .test_checkout import CARD, ask, checkout, customers, press, sessions

DEBIT = "DE89370400440532013000"
OPEN_ALERT = "select detail from catalog.alert where cause = %s and resolved_at is null"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack).selling("month", "year")


def subscriber(desk: Desk, name: str, plan: str = "starter", **more: Any) -> tuple[str, Any]:
    tenant = desk.tenant_on_trial(name)
    made = desk.subscribe(tenant, plan, **more)
    desk.wait(tenant, status="active", plan=plan)
    return tenant, made


def change(app: Api, tenant: str, plan: str, interval: str = "month", what: str = "change-plan", **more: Any) -> Answer:
    return ask(app, tenant, what, plan=plan, interval=interval, **more)


def outcome(answer: Answer) -> str:
    assert answer.status == 200 and answer.json["state"] == "succeeded", answer
    return str(answer.json["result"]["outcome"])


def charges(desk: Desk, customer: str) -> list[int]:
    found = desk.stripe("charges", "GET", customer=customer, limit=100)["data"]
    return sorted(each["amount"] for each in found if each["paid"])


def test_an_upgrade_is_at_once_and_costs_what_its_preview_said(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Growing Pharmacy")
    desk.pass_days(10)
    shown = change(app, tenant, "professional", what="preview").json["result"]
    assert shown["when"] == "now" and 0 < shown["amount_due"] < 20000 and shown["lines"]
    desk.pass_days(0.5)
    answer = change(app, tenant, "professional", proration_date=shown["proration_date"])
    assert outcome(answer) == "changed" and answer.json["url"] is None
    assert desk.subscription(tenant)["plan"] == "professional"  # known before Stripe's events are
    assert charges(desk, subscription["customer"]) == sorted([9900, shown["amount_due"]])


def test_while_the_trial_goes_on_at_stripe_any_change_is_made_at_once(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Hesitant Pharmacy")
    assert press(checkout(app, tenant, "professional").json["url"], action="pay", number=CARD) == 303
    desk.wait(tenant, status="trial", plan="professional")
    assert outcome(change(app, tenant, "starter")) == "changed"
    told = desk.wait(tenant, status="trial", plan="starter")
    assert told["subscription"]["pending"] is None
    assert outcome(change(app, tenant, "professional")) == "changed"
    desk.wait(tenant, status="trial", plan="professional")
    assert charges(desk, customers(desk, tenant)[0]["id"]) == []


def test_an_upgrade_cannot_be_dated_to_when_it_costs_nothing(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Clever Pharmacy")
    told = desk.stripe(f"subscriptions/{subscription['id']}", "GET")
    period = told["items"]["data"][0]
    for date in (period["current_period_end"], period["current_period_start"] - 3600):
        assert change(app, tenant, "professional", proration_date=date).json["code"] == "preview_too_old"
    assert charges(desk, subscription["customer"]) == [9900]


def test_from_month_to_year_is_at_once_and_back_is_at_the_years_end(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Yearly Pharmacy", "professional")
    assert outcome(change(app, tenant, "starter", "year")) == "changed"
    desk.wait(tenant, plan="starter", interval="year")
    answer = change(app, tenant, "professional", "month")
    assert outcome(answer) == "planned"
    pending = desk.subscription(tenant)["pending"]
    assert (pending["plan"], pending["interval"]) == ("professional", "month")
    assert pending["at"] == desk.subscription(tenant)["period_end"]


def test_an_upgrade_that_is_not_paid_leaves_the_plan_and_begins_no_grace(desk: Desk, app: Api) -> None:
    """Declined and tried thrice: one charge, once the card is good."""
    tenant, subscription = subscriber(desk, "Declined Pharmacy")
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    pages = []
    for _ in range(3):
        answer = change(app, tenant, "professional")
        assert outcome(answer) == "payment_needed"
        pages.append(answer.json["url"])
        told = desk.subscription(tenant)
        assert (told["status"], told["plan"], told["grace_until"]) == ("active", "starter", None)
    assert len(set(pages)) == 3
    invoices = desk.stripe("invoices", "GET", customer=subscription["customer"], limit=100)["data"]
    assert sorted(each["status"] for each in invoices) == ["open", "paid", "void", "void"]
    desk.pay_with(subscription["customer"], "pm_card_visa")
    assert outcome(change(app, tenant, "professional")) == "changed"
    desk.wait(tenant, plan="professional", status="active")
    assert len(charges(desk, subscription["customer"])) == 2


def test_the_invoice_of_a_change_that_was_made_is_left_to_the_bank_that_takes_days_to_pay_it(
    desk: Desk, app: Api
) -> None:
    tenant, subscription = subscriber(desk, "Patient Debtor")
    portal = ask(app, tenant, "portal").json["url"]
    assert press(portal, action="method", number=DEBIT) == 303
    assert press(portal, action="change", subscription=subscription["id"], price=desk.price("professional")) == 303
    desk.wait(tenant, plan="professional", status="active")
    assert outcome(change(app, tenant, "starter")) == "planned"
    desk.pass_days(5.1)
    invoices = desk.stripe("invoices", "GET", customer=subscription["customer"], limit=10)["data"]
    assert {each["status"] for each in invoices} == {"paid"}, invoices
    assert charges(desk, subscription["customer"]) == sorted(each["amount_paid"] for each in invoices)


def test_an_upgrade_that_needs_its_owner_is_paid_on_the_invoices_page(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Careful Pharmacy")
    desk.pay_with(subscription["customer"], "pm_card_authenticationRequired")
    answer = change(app, tenant, "professional")
    assert outcome(answer) == "payment_needed" and desk.subscription(tenant)["plan"] == "starter"
    assert press(answer.json["url"], action="pay", number=CARD) == 200
    desk.wait(tenant, plan="professional", status="active")


def test_who_has_not_paid_pays_first_and_then_changes(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Owing Pharmacy")
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    desk.pass_days(31.2)
    desk.wait(tenant, status="past_due")
    assert change(app, tenant, "professional").json["code"] == "payment_due"
    desk.pass_days(7.5)
    desk.wait(tenant, status="suspended")
    assert change(app, tenant, "professional").json["code"] == "payment_due"
    assert checkout(app, tenant).json["code"] == "already_subscribed"
    before = len(charges(desk, subscription["customer"]))
    desk.pay_with(subscription["customer"], "pm_card_visa")  # which pays what is open
    desk.wait(tenant, status="active")
    assert outcome(change(app, tenant, "professional")) == "changed"
    assert len(charges(desk, subscription["customer"])) == before + 2


def test_a_downgrade_waits_for_the_periods_end_and_can_be_taken_back_or_replaced(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Shrinking Pharmacy", "professional")
    assert outcome(change(app, tenant, "starter")) == "planned"
    told = desk.subscription(tenant)
    assert (told["plan"], told["pending"]["plan"]) == ("professional", "starter")
    shown = app.get(f"/api/tenants/{tenant}/billing").json
    assert shown["next"] == {"what": "change", "at": told["period_end"]}
    assert outcome(change(app, tenant, "professional")) == "kept"
    assert desk.wait(tenant, pending=None)["subscription"]["plan"] == "professional"
    assert outcome(change(app, tenant, "starter")) == "planned"
    assert outcome(change(app, tenant, "starter")) == "planned"
    assert outcome(ask(app, tenant, "resume")) == "goes_on"
    desk.wait(tenant, pending=None)
    assert outcome(change(app, tenant, "starter")) == "planned"
    desk.pass_days(31.2)
    desk.wait(tenant, plan="starter", status="active", pending=None)


def test_a_planned_change_keeps_how_many_there_are(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Many Pharmacies", "professional")
    [item] = subscription["items"]["data"]
    desk.stripe(
        f"subscriptions/{subscription['id']}",
        items=[{"id": item["id"], "quantity": 3}],
        proration_behavior="none",
    )
    assert outcome(change(app, tenant, "starter")) == "planned"

    def quantity() -> int:
        return int(desk.stripe(f"subscriptions/{subscription['id']}", "GET")["items"]["data"][0]["quantity"])

    assert quantity() == 3 and len(charges(desk, subscription["customer"])) == 1
    desk.pass_days(31.2)
    desk.wait(tenant, plan="starter", status="active", pending=None)
    assert quantity() == 3


def test_a_downgrade_below_what_is_used_is_refused_and_what_is_over_at_the_switch_is_said(desk: Desk, app: Api) -> None:
    tenant, _ = subscriber(desk, "Crowded Pharmacy", "professional")
    path = f"/api/tenants/{tenant}/billing/usage"
    app.post(path, {"at": "2026-01-01T00:00:00Z", "users": 7, "branches": 1}, prefer="wait=20")
    answer = change(app, tenant, "starter")
    assert (answer.status, answer.json["code"]) == (409, "usage_over_limits")
    assert answer.json["blockers"] == [{"limit": "users", "used": 7, "most": 5}]
    assert change(app, tenant, "starter", what="preview").json["result"]["blockers"] == answer.json["blockers"]
    app.post(path, {"at": "2026-01-02T00:00:00Z", "users": 5, "branches": 1}, prefer="wait=20")
    assert outcome(change(app, tenant, "starter")) == "planned"
    app.post(path, {"at": "2026-01-03T00:00:00Z", "users": 8, "branches": 1}, prefer="wait=20")
    assert app.get(f"/api/tenants/{tenant}/entitlements").json["over"] == []
    desk.pass_days(31.2)
    desk.wait(tenant, plan="starter", status="active")
    over = app.get(f"/api/tenants/{tenant}/entitlements").json["over"]
    assert over == [{"limit": "users", "used": 8, "most": 5}]


def test_a_cancelled_subscription_ends_with_its_period_and_can_be_resumed(desk: Desk, app: Api) -> None:
    tenant, _ = subscriber(desk, "Undecided Pharmacy", "professional")
    assert outcome(change(app, tenant, "starter")) == "planned"
    answer = ask(app, tenant, "cancel", reason="too dear")
    assert outcome(answer) == "ends"
    told = desk.subscription(tenant)
    assert told["cancel_at"] == told["period_end"] and told["pending"] is None
    assert app.get(f"/api/tenants/{tenant}/entitlements").json["until"] == told["cancel_at"]
    assert change(app, tenant, "starter").json["code"] == "ends_already"
    assert outcome(ask(app, tenant, "cancel")) == "ends"
    assert outcome(ask(app, tenant, "resume")) == "goes_on"
    assert desk.subscription(tenant)["cancel_at"] is None
    assert outcome(ask(app, tenant, "resume")) == "goes_on"
    portal = ask(app, tenant, "portal").json["url"]
    [subscription] = desk.stripe(
        "subscriptions", "GET", limit=100, customer=app.get(f"/api/tenants/{tenant}/billing").json["customer_id"]
    )["data"]
    assert press(portal, action="cancel", subscription=subscription["id"]) == 303
    desk.wait(tenant, cancel_at=told["period_end"])
    assert outcome(ask(app, tenant, "resume")) == "goes_on"
    assert desk.subscription(tenant)["cancel_at"] is None


def test_who_has_no_subscription_has_nothing_to_change(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Free Pharmacy")
    for what in ("cancel", "resume"):
        assert ask(app, tenant, what).json["code"] == "not_subscribed"
    assert change(app, tenant, "professional").json["code"] == "not_subscribed"
    assert change(app, tenant, "professional", what="preview").json["code"] == "not_subscribed"


def test_an_archived_tenants_subscription_and_page_end_at_once(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Closing Pharmacy")
    desk.api.done(tenant, "archive")
    eventually(
        lambda: desk.stripe(f"subscriptions/{subscription['id']}", "GET")["status"] == "canceled", 30, "it has ended"
    )
    assert checkout(app, tenant).json["code"] == "tenant_archived"
    waiting = desk.tenant_on_trial("Closing Window")
    assert checkout(app, waiting).status == 200
    desk.api.done(waiting, "archive")
    eventually(lambda: not sessions(desk, waiting), 30, "its page is closed")


def test_of_two_tenants_with_one_customer_only_the_archived_ones_subscription_ends(desk: Desk, app: Api) -> None:
    """Sold by hand, to who has two."""
    first, subscription = subscriber(desk, "North Pharmacy")
    second = desk.tenant_on_trial("South Pharmacy")
    items = [{"price": desk.price("starter")}]
    other = desk.stripe("subscriptions", customer=subscription["customer"], items=items, metadata={"tenant_id": second})
    desk.wait(second, status="active")
    assert outcome(change(app, second, "professional")) == "changed"
    desk.wait(second, plan="professional")
    assert desk.subscription(first)["plan"] == "starter"
    desk.api.done(first, "archive")
    eventually(
        lambda: desk.stripe(f"subscriptions/{subscription['id']}", "GET")["status"] == "canceled", 30, "it has ended"
    )
    assert desk.stripe(f"subscriptions/{other['id']}", "GET")["status"] == "active"
    assert desk.subscription(second)["status"] == "active"


def test_a_page_that_is_paid_while_its_tenant_is_archived_leaves_no_subscription(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Racing Ghost")
    page = checkout(app, tenant).json["url"]
    archived = desk.api.command(tenant, "archive").json["operation_id"]
    press(page, action="pay", number=CARD)  # it is closed by now, or not yet
    assert desk.api.wait_operation(archived)["state"] == "succeeded"
    [customer] = customers(desk, tenant)

    def ended() -> bool:
        found = desk.stripe("subscriptions", "GET", customer=customer["id"], status="all", limit=10)["data"]
        return not sessions(desk, tenant) and {each["status"] for each in found} <= {"canceled"}

    eventually(ended, 40, "nothing is left at Stripe")


def test_who_was_restored_before_the_end_of_its_subscription_was_asked_for_keeps_it(
    desk: Desk, app: Api, stack: Stack
) -> None:
    tenant, subscription = subscriber(desk, "Returning Pharmacy")
    with armed(stack.services["billing-0"], "billing_before_call=stop"):
        start(stack.services["billing-0"])
        desk.api.done(tenant, "archive")
        with frozen_in_failpoint(stack.services["billing-0"]):
            desk.api.done(tenant, "restore", mode="in_place")
            leased = "select 1 from billing.saga where tenant_id = %s and lease_until > clock_timestamp()"
            eventually(lambda: not desk.sql(leased, tenant), 20, "it is another's turn")
        left = "select kind from billing.request where tenant_id = %s"
        eventually(lambda: not desk.sql(left, tenant), 60, "nothing is asked for any more")
    assert desk.stripe(f"subscriptions/{subscription['id']}", "GET")["status"] == "active"
    desk.wait(tenant, status="active")
    desk.wait_access(tenant, "full")


def test_the_subscription_of_another_tenant_with_the_same_customer_is_left_alone(desk: Desk, app: Api) -> None:
    tenant, mine = subscriber(desk, "Sharing Pharmacy")
    other = desk.tenant_on_trial("Shared Pharmacy")
    theirs = desk.stripe(
        "subscriptions", customer=mine["customer"], items=[{"price": desk.price("professional")}],
        metadata={"tenant_id": other},
    )  # fmt: skip
    desk.wait(other, status="active", plan="professional")
    assert outcome(ask(app, tenant, "cancel")) == "ends"
    desk.api.done(tenant, "archive")

    def status(subscription: Any) -> str:
        return str(desk.stripe(f"subscriptions/{subscription['id']}", "GET")["status"])

    eventually(lambda: status(mine) == "canceled", 30, "its own has ended")
    left = "select kind from billing.request where tenant_id = %s"
    eventually(lambda: not desk.sql(left, tenant), 30, "nothing is asked for any more")
    assert status(theirs) == "active" and desk.subscription(other)["cancel_at"] is None


def test_money_for_an_archived_tenant_is_told(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Paying Ghost")
    desk.api.done(tenant, "archive")
    eventually(
        lambda: desk.stripe(f"subscriptions/{subscription['id']}", "GET")["status"] == "canceled", 30, "it has ended"
    )
    desk.stripe(
        "subscriptions", customer=subscription["customer"], items=[{"price": desk.price("starter")}],
        metadata={"tenant_id": tenant},
    )  # fmt: skip
    eventually(lambda: desk.sql(OPEN_ALERT, f"billing-late-money:{tenant}"), 30, "the money is told")

    def ended() -> bool:
        found = desk.stripe("subscriptions", "GET", customer=subscription["customer"], status="all", limit=10)["data"]
        return {each["status"] for each in found} == {"canceled"}

    eventually(ended, 30, "the new one is ended, too")


def test_of_two_subscriptions_the_later_is_ended_and_refunded_by_command(desk: Desk, app: Api, stack: Stack) -> None:
    tenant, first = subscriber(desk, "Double Pharmacy")
    desk.pass_days(0.1)
    second = desk.stripe(
        "subscriptions", customer=first["customer"], items=[{"price": desk.price("professional")}],
        metadata={"tenant_id": tenant},
    )  # fmt: skip
    cause = f"billing-duplicate:{tenant}"
    eventually(lambda: desk.sql(OPEN_ALERT, cause), 30, "it is told")
    assert f"tenantry billing end-duplicate {tenant}" in desk.sql(OPEN_ALERT, cause)[0]
    done = stack.run_cli("billing", "end-duplicate", tenant)
    assert done.returncode == 0, done.stderr
    assert desk.stripe(f"subscriptions/{second['id']}", "GET")["status"] == "canceled"
    refunds = desk.stripe("refunds", "GET", limit=10)["data"]
    assert [each["amount"] for each in refunds] == [29900]
    assert desk.subscription(tenant)["plan"] == "starter"
    assert not desk.sql(OPEN_ALERT, cause)
    again = stack.run_cli("billing", "end-duplicate", tenant)
    assert again.returncode == 4 and len(desk.stripe("refunds", "GET", limit=10)["data"]) == 1


def test_a_checkout_takes_tax_and_codes_and_the_portal_is_ones_own_where_that_is_configured(
    desk: Desk, app: Api, stack: Stack
) -> None:
    features = {"invoice_history": {"enabled": True}}
    portal = desk.stripe("billing_portal/configurations", features=features)["id"]
    tenant = desk.tenant_on_trial("Taxed Pharmacy")
    with told(
        stack.services["billing-0"],
        CHECKOUT_TAX="1", CHECKOUT_PROMOTION_CODES="1", STRIPE_PORTAL_CONFIGURATION=portal,
    ):  # fmt: skip
        page = checkout(app, tenant).json["url"]
        [session] = sessions(desk, tenant)
        assert session["allow_promotion_codes"] and session["automatic_tax"]["enabled"]
        assert session["tax_id_collection"]["enabled"]
        assert press(page, action="pay", number=CARD) == 303
        desk.wait(tenant, status="trial", interval="month")
        assert ask(app, tenant, "portal").status == 200
    opened = stack.control_sandbox("GET", "requests?path=/v1/billing_portal/sessions&method=POST")
    mine = [each["body"] for each in opened if each["body"]["customer"] == session["customer"]]
    assert [each["configuration"] for each in mine] == [portal]


def test_portal_and_changes_at_once_end_in_one_subscription(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Busy Pharmacy")
    portal = ask(app, tenant, "portal").json["url"]
    answers: list[Answer] = []
    wanted = [("professional", "month"), ("starter", "month"), ("professional", "year")]
    threads = [
        threading.Thread(
            target=lambda plan=plan, interval=interval: answers.append(change(app, tenant, plan, interval))
        )
        for plan, interval in wanted
    ]
    for thread in threads:
        thread.start()
    press(portal, action="cancel", subscription=subscription["id"])
    press(portal, action="keep", subscription=subscription["id"])
    for thread in threads:
        thread.join()
    assert all(answer.status in (200, 409) for answer in answers), answers
    found = desk.stripe("subscriptions", "GET", customer=subscription["customer"], status="all", limit=10)["data"]
    assert [each["id"] for each in found] == [subscription["id"]]
    desk.wait_for_deliveries()
    assert desk.subscription(tenant)["plan"] == (
        "starter" if found[0]["items"]["data"][0]["price"]["id"] == desk.price("starter") else "professional"
    )
