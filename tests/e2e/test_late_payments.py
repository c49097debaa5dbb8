"""Payments that come late: on the ninth day, when the tenant is suspended, and on the thirty-sixth, a day before its archive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import Api
from .test_checkout import CARD, checkout, press
from .test_plan_changes import charges

OPEN_ALERTS = "select cause from catalog.alert where tenant_id = %s and resolved_at is null"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack(billings=2)


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack).selling("month")


def not_paying(desk: Desk, names: list[str]) -> dict[str, Any]:
    """Tenants whose first renewal has just failed, and their subscriptions."""
    made = {}
    for name in names:
        tenant = desk.tenant_on_trial(name)
        made[tenant] = desk.subscribe(tenant)
        desk.wait(tenant, status="active")
        desk.pay_with(made[tenant]["customer"], "pm_card_chargeCustomerFail")
    ends = [
        desk.stripe(f"subscriptions/{each['id']}", "GET")["items"]["data"][0]["current_period_end"]
        for each in made.values()
    ]
    [left] = desk.sql(
        "select max(at) - extract(epoch from catalog.business_now())::float8 from unnest(%s::bigint[]) at", ends
    )
    desk.pass_days((left + 3700) / 86400)
    for tenant in made:
        desk.wait(tenant, status="past_due")
    return made


def subscriptions(desk: Desk, customer: str) -> dict[str, str]:
    found = desk.stripe("subscriptions", "GET", customer=customer, status="all", limit=10)["data"]
    return {each["id"]: each["status"] for each in found}


def test_an_invoice_paid_on_the_ninth_day_brings_all_back_and_is_paid_once(desk: Desk) -> None:
    [(tenant, subscription)] = not_paying(desk, ["Ninth Pharmacy"]).items()
    desk.pass_days(9)
    desk.wait(tenant, status="suspended")
    desk.wait_access(tenant, "none")
    [owed] = desk.stripe("invoices", "GET", customer=subscription["customer"], status="open")["data"]
    assert press(owed["hosted_invoice_url"], action="pay", number=CARD) == 200
    desk.wait(tenant, status="active", grace_until=None, archive_at=None)
    desk.wait_access(tenant, "full")
    desk.pass_days(6)  # past the day on which Stripe would have given up
    assert desk.subscription(tenant)["status"] == "active"
    assert charges(desk, subscription["customer"]) == [9900, 9900]


def test_who_buys_again_on_the_thirty_sixth_day_is_not_archived(desk: Desk, app: Api) -> None:
    [(tenant, subscription)] = not_paying(desk, ["Thirty-Sixth Pharmacy"]).items()
    for days in (8, 7, 15, 6):  # as time passes: suspended, given up by Stripe, told of the archive
        desk.pass_days(days)
    desk.wait(tenant, status="cancelled")
    archive_at = desk.subscription(tenant)["archive_at"]
    assert press(checkout(app, tenant, "professional").json["url"], action="pay", number=CARD) == 303
    desk.wait(tenant, status="active", plan="professional", archive_at=None)
    desk.wait_access(tenant, "full")
    desk.pass_days(10)
    told = desk.api.tenant(tenant)
    assert told["state"] == "ready" and archive_at is not None
    known = subscriptions(desk, subscription["customer"])
    assert sorted(known.values()) == ["active", "canceled"] and known[subscription["id"]] == "canceled"
    assert charges(desk, subscription["customer"]) == [9900, 29900]
    assert desk.sql(OPEN_ALERTS, tenant) == []
