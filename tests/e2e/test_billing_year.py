"""A year of the sandbox's clock with random customers: billing, Stripe and what tenants may use agree, nobody pays twice, and no
mail is missing, new or told twice. TENANTRY_SEED repeats a year; TENANTRY_LONG=1 is more of them, with more tenants."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Service, Stack

from .billing import Desk, billing_stack
from .billing_model import DAY, PLANS, subscription_of
from .billing_year import Shop, Town
from .client import eventually
from .command import cli

LONG = os.environ.get("TENANTRY_LONG") == "1"
SEEDS = [int(os.environ["TENANTRY_SEED"])] if "TENANTRY_SEED" in os.environ else [1, 2, 3] if LONG else [1]
TENANTS = 30 if LONG else 10


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack(billings=3, STRIPE_CALLS_PER_SECOND="100")


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    made = Desk(stack).selling("month", "year")
    stack.control_sandbox("POST", "settings", {"stripe_rate_limit": 1000})
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_year_of_random_customers_billing_stripe_and_access_agree(desk: Desk, stack: Stack, seed: int) -> None:
    print(f"TENANTRY_SEED={seed}")
    town = Town(desk, stack, seed)
    for quarter in (1, 2, 3, 4):
        live_until(town, town.began + quarter * 365 * DAY // 4)
        check_mails(town)
        check_money(town)
    check_comparisons(town)
    assert town.rows("select cause, detail from catalog.alert") == []
    town.leave()


def live_until(town: Town, end: int) -> None:
    while town.now < end:
        lived = (town.now - town.began) / (180 * DAY)
        while len(town.shops) < min(TENANTS, 3 + TENANTS * lived):  # they come in the first half of the year
            town.settle_in(len(town.shops), is_idle=len(town.shops) % 6 == 5)
        if town.dice.random() < 0.3:
            town.change_shape()
            town.fail_deliveries()
        acting, waiting = (dying(town) for _ in range(2))
        town.act(acting)
        check_tenants(town)
        town.pass_time(town.dice.randint(2 * 86400, 14 * 86400), waiting)
        check_tenants(town)


def dying(town: Town) -> Service | None:
    """Each billing process now and then."""
    found = [service for name, service in town.stack.services.items() if name.startswith("billing")]
    return town.dice.choice(found) if town.dice.random() < 0.15 else None


def check_tenants(town: Town) -> None:
    """What each may use, and what is known of its subscriptions."""
    for shop in town.shops.values():
        last: list[Any] = []

        def agrees(shop: Shop = shop, last: list[Any] = last) -> bool:
            last[:] = differences(town, shop)
            return not last

        try:
            eventually(agrees, 3, f"shop {shop.number} is as the model says")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}; {shop}") from error


def differences(town: Town, shop: Shop) -> list[Any]:
    wanted = shop.expected.state(town.now)
    told = town.app.get(f"/api/tenants/{shop.tenant}/entitlements").json
    bought = town.app.get(f"/api/tenants/{shop.tenant}/billing").json
    known = dict(
        town.rows(
            "select object_id, facts ->> 'status' from billing.object where kind = 'subscription' and tenant_id = %s",
            shop.tenant,
        )
    )
    plan = PLANS[wanted.plan]
    return [
        (what, here, there)
        for what, here, there in (
            ("status", told["subscription"]["status"], wanted.status), ("access", told["access"], wanted.access),
            ("why", told["why"], wanted.why), ("plan", told["plan"], wanted.plan),
            ("modules", told["modules"], plan["modules"]), ("limits", told["limits"], plan["limits"]),
            ("subscription", bought["subscription_id"], wanted.subscription),
            ("subscriptions", known, {key: each["status"] for key, each in shop.told.subscriptions.items()}),
        )
        if here != there
    ]  # fmt: skip


def check_mails(town: Town) -> None:
    """Each once, under the Message-ID that its cause has, or after a kill again, and the same."""
    came: dict[str, set[str]] = {}
    times: Counter[str] = Counter()
    for mail in town.stack.control_sandbox("GET", "mail"):
        shop = next((shop for shop in town.shops.values() if shop.tenant in mail["message_id"]), None)
        if shop is not None and "billing@" in mail["from"]:
            came.setdefault(mail["message_id"], set()).add(mail["subject"] + re.sub(r"https?://\S+", "", mail["text"]))
            times[mail["message_id"]] += 1
    wanted = set().union(*(shop.expected.mails for shop in town.shops.values()))
    maybe = set().union(*(shop.expected.maybe for shop in town.shops.values()))
    assert not wanted - came.keys(), f"missing: {wanted - came.keys()}"
    assert not came.keys() - wanted - maybe, f"nobody expects {came.keys() - wanted - maybe}"
    assert not [key for key, forms in came.items() if len(forms) > 1], "one Message-ID, other words"
    assert sum(times.values()) - len(times) <= town.killed, "more repetitions than kills"
    assert len(wanted) > len(town.shops), "it was a year with mails"


def check_money(town: Town) -> None:
    """Each paid invoice by one charge, each period by one invoice."""
    for shop in town.shops.values():
        paid = [each for each in shop.told.invoices.values() if each["status"] == "paid" and each["amount_paid"] > 0]
        charges = [
            charge
            for customer, tenant in town.customers.items()
            if tenant == shop.tenant
            for charge in town.desk.stripe("charges", "GET", customer=customer, limit=100)["data"]
            if charge["status"] == "succeeded" and not came_too_late(shop, charge)
        ]
        given = sorted(each["amount"] for each in charges)
        assert given == sorted(each["amount_paid"] for each in paid), (shop.number, shop.did)
        periods = Counter(
            (subscription_of(invoice), line["period"]["start"])
            for invoice in shop.told.invoices.values()
            if invoice["status"] == "paid"
            and invoice["billing_reason"] in ("subscription_create", "subscription_cycle")
            for line in invoice["lines"]["data"]
            if line["amount"] > 0
        )
        assert all(count == 1 for count in periods.values()), (shop.did, periods)


def came_too_late(shop: Shop, charge: Any) -> bool:
    """A debit that a bank took days to pay, for a change that was not made by then."""
    invoices = [shop.told.invoices.get(name, {}) for name in shop.told.tried]
    is_debit = charge["payment_method_details"]["type"] == "sepa_debit"
    return is_debit and any(
        each.get("status") == "void" and each["amount_due"] == charge["amount"] for each in invoices
    )


def check_comparisons(town: Town) -> None:
    """With Stripe, and with Kafka."""
    under_way = "select 1 from billing.reconcile_run where ended_at is null"
    eventually(lambda: not town.rows(under_way), 70, "the comparison is over that was made at the beginning")
    last = town.one("select max(run) from billing.reconcile_run")
    assert cli(town.stack, "billing", "reconcile", "--now").returncode == 0
    listed = (
        "select kind, missed, delivered = fresh from billing.reconcile_run where run > %s and listed_at is not null"
    )
    eventually(lambda: len(town.rows(listed, last)) == 2, 30, "all events and subscriptions are read")
    assert {row[1:] for row in town.rows(listed, last)} == {(0, True)}, "nothing was missed, and nothing is different"
    done = town.stack.run_cli("billing", "verify", "--json", admin=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["different"] == 0
