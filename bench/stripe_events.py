"""Stripe's events for the benchmark: with the fields and the size that they have in life."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

from deploy.local.fleet import tenant_number
from deploy.local.stack import REPOSITORY
from tests.e2e.stripe_life import DAY, MONTH, Life, Object

BYTES = 4096
ABOUT_BYTES = 3800  # of the object in an event, so that the whole has about 4 KiB
RECORDED = REPOSITORY / "sandbox" / "tests" / "recorded" / "stripe" / "objects"

# What the recorded objects have of everything at once, and no tenant's has.
UNUSUAL = {
    "pause_collection", "pending_update", "billing_schedules", "transfer_data", "pending_invoice_item_interval",
    "next_pending_invoice_item_invoice", "last_finalization_error", "from_invoice", "trial_start", "subscription",
}  # fmt: skip
WORDS = "Tablets, ointments and what else a chain of pharmacies along the river sells, counts and orders again. "

# What bench/webhook.h replaces.
NUMBER = "0" * 16
SECOND = 1111111111


@cache
def _recorded(kind: str) -> Object:
    path = RECORDED / f"{kind}.json"
    fields: Object = json.loads(path.read_text())
    return {name: value for name, value in fields.items() if name not in UNUSUAL}


def _fill(text: str, missing: int) -> str:
    return text + (WORDS * (missing // len(WORDS) + 1))[: max(0, missing)]


def complete(about: Object) -> None:
    """Gives an object the fields that Stripe's have, and a description that makes it as long as they are. Twins share
    their object, so that it is done once."""
    if "description" in about:
        return
    for name, value in _recorded(about["object"]).items():
        about.setdefault(name, value)
    about["description"] = ""
    about["description"] = _fill("", ABOUT_BYTES - len(json.dumps(about)))


def as_delivered(event: Object) -> bytes:
    complete(event["data"]["object"])
    return json.dumps(event).encode()


def two_months(number: int, run: str) -> list[Object]:
    """Of a tenant: paid at once, a renewal that fails twice and is paid within the days of grace, a cancellation that is
    still to come."""
    life = Life(tenant=tenant_number(number), number=f"{run}{number}", start=int(time.time()) - 35 * DAY)
    cancelled = life.end()[0]
    cancelled["created"] = life.start + 34 * DAY
    return [*life.first_payment(), *_late_renewal(life, 1), cancelled]


def a_year(number: int, run: str) -> list[Object]:
    """Of a tenant: the first payment and eleven renewals, of which the sixth fails at first, of each twentieth tenant."""
    life = Life(tenant=tenant_number(number), number=f"{run}{number}", start=int(time.time()) - 345 * DAY)
    events = life.first_payment()
    for month in range(1, 12):
        fails = month == 6 and number % 20 == 0
        events += _late_renewal(life, month) if fails else _renewal(life, month)
    return events


def _late_renewal(life: Life, month: int) -> list[Object]:
    at = life.start + month * MONTH
    due, name = at + 3600, f"month{month}"
    return [
        life.event("invoice.payment_failed", due, life.invoice(name, "open", at, 1)),
        life.event("customer.subscription.updated", due, life.subscription("past_due", start=at)),
        life.event("invoice.payment_failed", due + DAY, life.invoice(name, "open", at, 2)),
        life.event("invoice.payment_succeeded", due + 3 * DAY, life.invoice(name, "paid", at, 3)),
        life.event("customer.subscription.updated", due + 3 * DAY, life.subscription("active", start=at)),
    ]


def _renewal(life: Life, month: int) -> list[Object]:
    at = life.start + month * MONTH
    paid = life.invoice(f"month{month}", "paid", at, amount_paid=9900)
    return [
        life.event("customer.subscription.updated", at, life.subscription("active", start=at)),
        life.event("invoice.payment_succeeded", at + 3600, paid),
        life.event("invoice.paid", at + 3600, paid),
    ]


def webhook_body() -> str:
    """One of exactly 4 KiB, which the generator makes another one each time."""
    life = Life(tenant="00000000-0000-4000-8000-000000000001", number=NUMBER, start=SECOND)
    event: dict[str, Any] = life.event("customer.subscription.updated", SECOND, life.subscription("active"))
    complete(event["data"]["object"])
    about = event["data"]["object"]
    about["description"] = _fill(about["description"], BYTES - len(json.dumps(event)))
    body = json.dumps(event)
    if len(body) != BYTES:
        raise RuntimeError(f"the event is {len(body)} bytes long")
    return body
