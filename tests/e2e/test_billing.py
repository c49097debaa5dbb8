"""A tenant's subscription, from its trial to its end, on a real gateway, provisioner, Kafka and the sandbox's Stripe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import eventually


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


def test_a_new_tenant_has_fourteen_days_of_starter_whatever_it_asked_for(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Trial Pharmacy", plan="enterprise")
    told = desk.wait(tenant, status="trial", plan="starter")
    assert told["modules"] == ["inventory", "sales", "purchases"]
    assert told["limits"] == {"branches": 1, "users": 5, "items": 10000}
    eventually(lambda: desk.subscription(tenant)["trial_end"], 20, "it begins once the tenant is ready")


def test_a_trial_that_ends_without_a_plan_suspends_and_a_subscription_brings_all_back(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Late Pharmacy")
    desk.wait(tenant, status="trial")
    desk.pass_days(14.1)
    told = desk.wait(tenant, status="suspended", reason="trial_ended")
    assert told["subscription"]["archive_at"] is not None
    desk.wait_access(tenant, "none")
    assert desk.api.tenant(tenant)["access"]["reason"] == "trial_ended"
    desk.subscribe(tenant, "professional")
    told = desk.wait(tenant, status="active", plan="professional", interval="month")
    assert "reports" in told["modules"] and told["subscription"]["archive_at"] is None
    desk.wait_access(tenant, "full")


def test_a_renewal_that_fails_is_past_due_then_suspended_and_paid_by_a_new_card(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Failing Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active", plan="starter")
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    desk.pass_days(31.2)  # Stripe leaves an invoice open to changes for an hour
    told = desk.wait(tenant, status="past_due", reason="payment_failed")
    assert told["subscription"]["grace_until"] is not None and told["access"]["wanted"] == "full"
    desk.pass_days(7.5)
    desk.wait(tenant, status="suspended", reason="payment_failed")
    desk.wait_access(tenant, "none")
    desk.pay_with(subscription["customer"], "pm_card_visa")
    [invoice] = desk.stripe("invoices", "GET", customer=subscription["customer"], status="open")["data"]
    desk.stripe(f"invoices/{invoice['id']}/pay")
    desk.wait(tenant, status="active")
    desk.wait_access(tenant, "full")


def test_a_cancelled_subscription_lasts_to_its_periods_end(desk: Desk) -> None:
    tenant = desk.api.ready_tenant("Leaving Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
    told = desk.wait(tenant, status="active", cancel_at=desk.subscription(tenant)["period_end"])
    assert told["access"]["wanted"] == "full"
    desk.pass_days(31)
    desk.wait(tenant, status="cancelled")
    desk.wait_access(tenant, "none")
