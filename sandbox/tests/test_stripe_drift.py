"""Whatever is done to a subscription, its events tell all of it: the last one shows it, and its invoices, as they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from .stripe_client import DAY, Stripe, Tenant

STEPS = 20
CARDS = ("pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired")


class Life:
    """A tenant to which anything may happen."""

    def __init__(self, stripe: Stripe, seed: int) -> None:
        self.stripe = stripe
        self.dice = random.Random(seed)
        self.yearly = stripe.price(299000, "professional_year", recurring={"interval": "year"})["id"]
        self.tenant = Tenant(stripe, self.dice.choice(CARDS), **self.trial_or_not())

    def trial_or_not(self) -> dict[str, Any]:
        return {"trial_period_days": 14} if self.dice.random() < 0.3 else {}

    def ask(self, method: str, path: str, **params: Any) -> None:
        """What is refused is refused; it must not have changed anything either."""
        assert self.stripe.ask(method, f"/v1/{path}", **params).status in (200, 400, 402, 404)

    def update(self, **params: Any) -> None:
        self.ask("POST", f"subscriptions/{self.tenant.id}", **params)

    def change(self) -> None:
        price = self.dice.choice([self.tenant.pro["id"], self.tenant.team["id"], self.yearly])
        item = {"id": self.tenant.item()["id"], "price": price, "quantity": self.dice.randint(1, 3)}
        paying = ("allow_incomplete", "pending_if_incomplete", "error_if_incomplete", "default_incomplete")
        proration = self.dice.choice(["none", "always_invoice", "create_prorations"])
        self.update(items=[item], payment_behavior=self.dice.choice(paying), proration_behavior=proration)

    def card(self) -> None:
        self.tenant.pays_with(self.dice.choice(CARDS))

    def ending(self) -> None:
        moment = int(self.stripe.now()) + self.dice.randint(1, 40) * DAY
        either: list[dict[str, Any]] = [
            {"cancel_at_period_end": True},
            {"cancel_at_period_end": False},
            {"cancel_at": moment},
        ]
        self.update(**self.dice.choice(either))

    def schedule(self) -> None:
        self.ask("POST", "subscription_schedules", from_subscription=self.tenant.id)
        known = self.tenant.now()["schedule"]
        if known is not None:
            (phase, *_) = self.stripe.get(f"subscription_schedules/{known}")["phases"]
            items = [{"price": self.tenant.team["id"]}]
            end = self.dice.choice(["release", "cancel"])
            phases = [{"items": items, "end_date": phase["end_date"]}, {"items": [{"price": self.tenant.pro["id"]}]}]
            self.ask("POST", f"subscription_schedules/{known}", phases=phases, end_behavior=end)

    def release(self) -> None:
        self.ask("POST", f"subscription_schedules/{self.tenant.now()['schedule']}/release")

    def invoice(self) -> None:
        last = self.tenant.now()["latest_invoice"]
        self.ask("POST", f"invoices/{last}/{self.dice.choice(['pay', 'pay', 'void', 'mark_uncollectible'])}")

    def trial(self) -> None:
        self.update(trial_end=self.dice.choice(["now", int(self.stripe.now()) + 5 * DAY]))

    def wait(self) -> None:
        self.stripe.pass_time(days=self.dice.choice([0.05, 1, 4, 20]))

    def live(self) -> None:
        doings: list[Callable[[], None]] = [self.change, self.card, self.ending, self.schedule, self.release]
        doings += [self.invoice, self.trial, self.wait, self.wait, self.wait]
        self.dice.choice(doings)()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_last_event_of_an_object_shows_it_as_it_is(stripe: Stripe, seed: int) -> None:
    life = Life(stripe, seed)
    for _ in range(STEPS):
        life.live()
        told = {event["data"]["object"].get("id"): event["data"]["object"] for event in stripe.events()}
        tenant = life.tenant
        shown = [tenant.now(), stripe.get(f"customers/{tenant.customer}"), *tenant.invoices(limit=5)]
        if tenant.now()["schedule"]:
            shown.append(stripe.get(f"subscription_schedules/{tenant.now()['schedule']}"))
        for document in shown:
            # What has been quiet for thirty days has no event left.
            last = told.get(document["id"], document)
            assert {name: (last.get(name), value) for name, value in document.items() if last.get(name) != value} == {}
