"""Subscriptions live by the clock: they begin, are renewed, change, fall behind, recover and end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .servers import Sandbox
from .stripe_client import DAY, PRO, Stripe, Tenant

REFERENCE = Path(__file__).with_name("recorded") / "stripe"


def test_a_subscription_that_is_paid_is_active_and_tells_its_life(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    shown = tenant.now(expand=["latest_invoice"])
    invoice = shown["latest_invoice"]
    assert (shown["status"], invoice["status"], invoice["amount_paid"]) == ("active", "paid", PRO)
    assert invoice["parent"]["subscription_details"] == {"metadata": {"tenant_id": "t1"}, "subscription": tenant.id}
    (line,) = invoice["lines"]["data"]
    assert line["pricing"]["price_details"]["price"] == tenant.pro["id"]
    assert 28 * DAY <= tenant.item()["current_period_end"] - tenant.item()["current_period_start"] <= 31 * DAY
    told = [event for event in stripe.events() if event["type"].startswith(("customer.subscription", "invoice."))]
    assert [event["type"] for event in told] == [
        "invoice.created",
        "customer.subscription.created",
        "invoice.finalized",
        "customer.subscription.updated",
        "invoice.payment_succeeded",
        "invoice.paid",
    ]
    assert told[1]["data"]["object"]["status"] == "incomplete"
    assert told[3]["data"]["previous_attributes"] == {"status": "incomplete"}
    (payment,) = stripe.get("invoice_payments", invoice=invoice["id"])["data"]
    intent = stripe.get(f"payment_intents/{payment['payment']['payment_intent']}", expand=["latest_charge"])
    assert (intent["status"], intent["latest_charge"]["paid"]) == ("succeeded", True)


def test_objects_have_the_fields_of_the_official_examples(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    shown = {"subscription": tenant.now(), "invoice": tenant.invoices()[0], "subscription_item": tenant.item()}
    shown["invoice_payment"] = stripe.get("invoice_payments")["data"][0]
    # The examples still show both of what one version has here and another there.
    elsewhere = {"invoice": {"subscription"}, "subscription_item": {"plan"}}
    for kind, document in shown.items():
        official = set(json.loads((REFERENCE / "objects" / f"{kind}.json").read_text()))
        assert official - set(document) == elsewhere.get(kind, set()), kind
    assert set(official_line()) - set(tenant.invoices()[0]["lines"]["data"][0]) == {"subscription"}


def official_line() -> Any:
    return json.loads((REFERENCE / "objects" / "invoice.json").read_text())["lines"]["data"][0]


def test_the_old_version_has_the_period_on_the_subscription(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    old = {"Stripe-Version": "2020-03-02"}
    shown = stripe.call("GET", f"/v1/subscriptions/{tenant.id}", old)
    assert shown["current_period_end"] == tenant.item()["current_period_end"]
    assert "current_period_end" not in shown["items"]["data"][0]
    invoice = stripe.call("GET", f"/v1/invoices/{shown['latest_invoice']}", old)
    assert invoice["subscription"] == tenant.id and "parent" not in invoice
    assert invoice["lines"]["data"][0]["price"]["id"] == tenant.pro["id"]
    assert "current_period_end" not in tenant.now()
    for name, document in (("subscription_created", shown), ("invoice_paid", invoice)):
        official = json.loads((REFERENCE / "legacy_events" / f"{name}.json").read_text())["data"]["object"]
        assert set(official) <= set(document), name
    line = json.loads((REFERENCE / "legacy_events" / "invoice_paid.json").read_text())["data"]["object"]["lines"][
        "data"
    ][0]
    assert set(line) <= set(invoice["lines"]["data"][0])
    assert set(line["price"]) <= set(invoice["lines"]["data"][0]["price"])
    assert set(line["plan"]) <= set(shown["plan"])
    assert shown["items"]["data"][0]["plan"] == shown["plan"]


def test_a_period_follows_a_period_with_an_hour_of_draft(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    first = tenant.item()
    stripe.pass_time(days=24.5)
    assert stripe.types(type="invoice.upcoming") == ["invoice.upcoming"]
    (upcoming,) = stripe.events(type="invoice.upcoming")
    assert "id" not in upcoming["data"]["object"] and upcoming["data"]["object"]["amount_due"] == PRO
    tenant.to_period_end(1)
    assert [invoice["status"] for invoice in tenant.invoices()] == ["paid", "draft"]
    assert tenant.item()["current_period_start"] == first["current_period_end"]
    stripe.pass_time(seconds=3601)
    second = tenant.invoices()[1]
    assert (second["status"], second["billing_reason"], second["number"][-5:]) == (
        "paid",
        "subscription_cycle",
        "-0002",
    )
    assert second["created"] == first["current_period_end"]


def test_a_leap_of_the_clock_lives_through_every_period_at_its_own_time(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    stripe.pass_time(days=367)
    invoices = stripe.get("invoices", subscription=tenant.id, limit=100)["data"]
    assert len(invoices) == 13 and len({invoice["created"] // DAY for invoice in invoices}) == 13


def test_a_declined_first_payment_leaves_it_incomplete_until_it_is_paid_or_expires(stripe: Stripe) -> None:
    tenant, late = Tenant(stripe, "pm_card_chargeCustomerFail"), None
    assert tenant.status() == "incomplete"
    (invoice,) = tenant.invoices()
    assert stripe.refused("POST", f"invoices/{invoice['id']}/pay") == (402, "card_error", "card_declined")
    tenant.pays_with("pm_card_visa")
    assert stripe.post(f"invoices/{invoice['id']}/pay")["attempt_count"] == 3 and tenant.status() == "active"
    late = stripe.post("subscriptions", customer=stripe.customer(None)["id"], items=[{"price": tenant.pro["id"]}])
    stripe.pass_time(days=1)
    expired = stripe.get(f"subscriptions/{late['id']}", expand=["latest_invoice"])
    assert (expired["status"], expired["latest_invoice"]["status"]) == ("incomplete_expired", "void")


def test_an_error_was_wanted_and_nothing_is_left(stripe: Stripe) -> None:
    price, customer = stripe.price()["id"], stripe.customer("pm_card_chargeCustomerFail")["id"]
    wanted = {"customer": customer, "items": [{"price": price}], "payment_behavior": "error_if_incomplete"}
    key = {"Idempotency-Key": "k"}
    for _ in range(2):
        assert stripe.refused("POST", "subscriptions", key, **wanted) == (402, "card_error", "card_declined")
    assert stripe.get("subscriptions", status="all")["data"] == stripe.get("invoices")["data"] == []


def test_a_card_that_needs_its_owner_asks_for_action(stripe: Stripe) -> None:
    tenant = Tenant(stripe, "pm_card_authenticationRequired")
    assert tenant.status() == "incomplete"
    assert "invoice.payment_action_required" in stripe.types()
    path = f"invoices/{tenant.invoices()[0]['id']}/pay"
    assert stripe.refused("POST", path)[2] == "invoice_payment_intent_requires_action"


def test_who_does_not_pay_is_tried_again_for_two_weeks_and_then_cancelled(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.pays_with("pm_card_chargeCustomerFail")
    tenant.to_period_end(3700)
    assert tenant.status() == "past_due"
    created = tenant.invoices()[1]["created"]
    assert tenant.invoices()[1]["next_payment_attempt"] == created + 3600 + 3 * DAY
    stripe.pass_time(days=13)
    assert tenant.status() == "past_due"
    stripe.pass_time(days=1)
    assert tenant.status() == "canceled" and tenant.now()["cancellation_details"]["reason"] == "payment_failed"
    failed = stripe.events(type="invoice.payment_failed")
    assert [(event["created"] - created - 3600) // DAY for event in failed] == [0, 3, 8, 14]
    assert [event["data"]["object"]["attempt_count"] for event in failed] == [1, 2, 3, 4]
    assert failed[3]["data"]["object"]["next_payment_attempt"] is None


@pytest.mark.parametrize("after", ["unpaid", "past_due"])
def test_the_account_says_what_follows_the_last_attempt_and_who_pays_then_is_active(
    stripe: Stripe, sandbox: Sandbox, after: str
) -> None:
    sandbox.control("POST", "settings", {"stripe_after_retries": after})
    tenant = Tenant(stripe)
    tenant.pays_with("pm_card_chargeCustomerFail")
    tenant.to_period_end(15 * DAY)
    assert tenant.status() == after
    tenant.pays_with("pm_card_visa")
    stripe.post(f"invoices/{tenant.now()['latest_invoice']}/pay")
    assert tenant.status() == "active"


def test_a_debit_is_paid_or_not_days_later(stripe: Stripe) -> None:
    for iban, status in (("DE89370400440532013000", "active"), ("DE62370400440532013001", "past_due")):
        customer = stripe.customer(None)["id"]
        method = stripe.post("payment_methods", type="sepa_debit", sepa_debit={"iban": iban})["id"]
        stripe.post(f"payment_methods/{method}/attach", customer=customer)
        price = stripe.price(key=f"plan_{status}")["id"]
        made = stripe.post("subscriptions", customer=customer, items=[{"price": price}], default_payment_method=method)
        assert made["status"] == "active"
        assert stripe.get(f"invoices/{made['latest_invoice']}")["status"] == "open"
        stripe.pass_time(days=5, seconds=1)
        assert stripe.get(f"subscriptions/{made['id']}")["status"] == status


def test_a_trial_is_announced_and_ends_in_a_bill(stripe: Stripe) -> None:
    tenant = Tenant(stripe, trial_period_days=14)
    assert (tenant.status(), tenant.invoices()[0]["total"]) == ("trialing", 0)
    stripe.pass_time(days=11, seconds=1)
    (soon,) = stripe.events(type="customer.subscription.trial_will_end")
    assert soon["created"] == tenant.now()["trial_end"] - 3 * DAY
    stripe.pass_time(days=3, seconds=3601)
    assert (tenant.status(), tenant.invoices()[1]["amount_paid"]) == ("active", PRO)


@pytest.mark.parametrize(
    ("then", "status"), [("cancel", "canceled"), ("pause", "paused"), ("create_invoice", "past_due")]
)
def test_a_trial_without_a_card_ends_as_was_said(stripe: Stripe, then: str, status: str) -> None:
    settings = {"end_behavior": {"missing_payment_method": then}}
    tenant = Tenant(stripe, None, trial_period_days=14, trial_settings=settings)
    stripe.pass_time(days=14, seconds=3700)
    assert tenant.status() == status
    if then == "pause":
        tenant.pays_with("pm_card_visa")
        assert stripe.post(f"subscriptions/{tenant.id}/resume")["status"] == "active"
        kinds = stripe.types(types=["customer.subscription.paused", "customer.subscription.resumed"])
        assert kinds == ["customer.subscription.paused", "customer.subscription.resumed"]


def test_a_cancellation_is_at_once_at_the_end_of_the_period_or_at_a_moment(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    assert stripe.delete(f"subscriptions/{tenant.id}")["status"] == "canceled"
    assert stripe.refused("DELETE", f"subscriptions/{tenant.id}")[0] == 404
    leaving = Tenant(stripe)
    shown = leaving.change(cancel_at_period_end=True)
    assert (shown["cancel_at"], shown["cancel_at_period_end"]) == (leaving.item()["current_period_end"], True)
    assert leaving.change(cancel_at_period_end=False)["cancel_at"] is None
    leaving.change(cancel_at_period_end=True)
    dated = Tenant(stripe)
    soon = int(stripe.now()) + 3 * DAY
    assert dated.change(cancel_at=soon)["cancel_at_period_end"] is False
    stripe.pass_time(days=4)
    assert (leaving.status(), dated.status(), dated.now()["ended_at"]) == ("active", "canceled", soon)
    leaving.to_period_end(1)
    assert leaving.status() == "canceled" and len(leaving.invoices()) == 1
    deleted = stripe.events(type="customer.subscription.deleted")
    assert [event["data"]["object"]["id"] for event in deleted][-2:] == [dated.id, leaving.id]


def test_a_deleted_customer_has_no_subscription_left(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    stripe.delete(f"customers/{tenant.customer}")
    assert tenant.status() == "canceled"
    assert stripe.get("subscriptions")["data"] == []
    assert [row["id"] for row in stripe.get("subscriptions", status="all")["data"]] == [tenant.id]


def test_a_test_clock_moves_its_own_customers_only(stripe: Stripe) -> None:
    start = 1_700_000_000
    clock = stripe.post("test_helpers/test_clocks", frozen_time=start, name="a year of one tenant")
    official = set(json.loads((REFERENCE / "objects" / "test_helpers.test_clock.json").read_text()))
    assert official <= set(clock)
    price, ordinary = stripe.price()["id"], Tenant(stripe)
    customer = stripe.post("customers", test_clock=clock["id"], payment_method="pm_card_visa")
    (method,) = stripe.get(f"customers/{customer['id']}/payment_methods")["data"]
    told = {"customer": customer["id"], "items": [{"price": price}], "default_payment_method": method["id"]}
    made = stripe.post("subscriptions", **told)
    assert (made["created"], made["test_clock"], made["status"]) == (start, clock["id"], "active")
    stripe.pass_time(days=40)
    assert len(stripe.get("invoices", subscription=made["id"])["data"]) == 1
    later = start + 370 * DAY
    path = f"test_helpers/test_clocks/{clock['id']}"
    assert stripe.post(path + "/advance", frozen_time=later)["status"] == "advancing"
    ready = stripe.get(path)
    assert (ready["status"], ready["frozen_time"]) == ("ready", later)
    invoices = stripe.get("invoices", subscription=made["id"], limit=100)["data"]
    assert len(invoices) == 13 and {invoice["status"] for invoice in invoices} == {"paid"}
    assert max(invoice["created"] for invoice in invoices) < later
    assert len(ordinary.invoices()) == 2
    assert stripe.refused("POST", path + "/advance", frozen_time=start)[0] == 400
    assert "test_helpers.test_clock.ready" in stripe.types(type="test_helpers.*")
    assert stripe.delete(path)["deleted"] is True
    assert stripe.get(f"customers/{customer['id']}")["deleted"] is True
