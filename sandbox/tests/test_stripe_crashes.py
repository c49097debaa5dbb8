"""Killed at any instruction and started again, the sandbox's Stripe has done each thing once or not at all."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator

import pytest

from .servers import Cluster, Sandbox, eventually
from .stripe_client import DAY, Stripe
from .webhook_receiver import Receiver

TENANTS, KILLS = 6, 4
STATE = "sandbox_crashes"
BROKEN = (OSError, http.client.HTTPException)


@pytest.fixture
def own(cluster: Cluster) -> Iterator[Stripe]:
    started = Sandbox(cluster, "--state-database", STATE, "--stripe-rate-limit", "5000")
    yield Stripe(started)
    started.kill()


def until_answered(stripe: Stripe, path: str, key: str, **params: object) -> str:
    """Asks as a client does that loses its answers: again, under the same key."""

    def asked() -> str:
        try:
            return str(stripe.call("POST", f"/v1/{path}", {"Idempotency-Key": key}, **params)["id"])  # type: ignore[arg-type]
        except (*BROKEN, AssertionError):
            return ""

    return eventually(asked, 40)


def test_kills_among_requests_leave_one_of_each_and_every_event_arrives(own: Stripe) -> None:
    dice, receiver = random.Random(7), Receiver()
    try:
        own.post(
            "webhook_endpoints", url=receiver.url, enabled_events=["customer.subscription.created", "invoice.paid"]
        )
        price = own.price()["id"]
        made: dict[str, str] = {}

        def sell(tenant: str) -> None:
            customer = until_answered(own, "customers", f"customer-{tenant}", payment_method="pm_card_visa")
            (method,) = eventually(lambda: methods_of(own, customer))
            told = {"customer": customer, "items": [{"price": price}], "default_payment_method": method}
            made[tenant] = until_answered(own, "subscriptions", f"subscription-{tenant}", **told)

        sellers = [threading.Thread(target=sell, args=(str(number),)) for number in range(TENANTS)]
        for seller in sellers:
            seller.start()
        for written in sorted(dice.sample(range(5, 20 * TENANTS), KILLS)):
            eventually(lambda written=written: objects(own) >= written)  # type: ignore[misc]
            own.sandbox.kill()
            own.sandbox.start()
        for seller in sellers:
            seller.join()
        assert len(own.get("customers", limit=100)["data"]) == TENANTS
        subscriptions = own.get("subscriptions", limit=100)["data"]
        assert {row["id"] for row in subscriptions} == set(made.values())
        assert {row["status"] for row in subscriptions} == {"active"}
        told = own.events(types=["customer.subscription.created", "invoice.paid"])
        assert len(told) == 2 * TENANTS
        # What a kill has cut off is a failed attempt to nobody, and is made again at once or when it is due.
        own.pass_time(days=1)
        eventually(lambda: {event["id"] for event in told} <= {event["id"] for event in receiver.events()})
        own.sandbox.control("POST", "clock", {"advance_seconds": 32 * DAY})
        own.sandbox.kill()
        own.sandbox.start()
        assert len(own.get("invoices", limit=100, status="paid")["data"]) == 2 * TENANTS
    finally:
        receiver.stop()


def objects(stripe: Stripe) -> int:
    return int(stripe.sandbox.cluster.scalar("select count(*) from stripe_object", database=STATE))


def methods_of(stripe: Stripe, customer: str) -> list[str]:
    try:
        return [row["id"] for row in stripe.get(f"customers/{customer}/payment_methods")["data"]]
    except (*BROKEN, AssertionError):
        return []
