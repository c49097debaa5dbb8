"""What Stripe tells of one tenant's life: objects and events in the shape of today and in that of before 2025-03-31."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

TENANT = "8a1f0c5e-3b7d-4f0a-9a52-6d2e6f1c0001"
START = 1760000000
DAY = 86400
MONTH = 30 * DAY

Object = dict[str, Any]


@dataclass
class Life:
    """Makes one tenant's objects. `old`: in the older shape. `named`: they say whose they are."""

    tenant: str = TENANT
    number: str = "1"
    old: bool = False
    named: bool = True
    start: int = START
    made: int = field(default=0)

    @property
    def metadata(self) -> dict[str, str]:
        return {"tenant_id": self.tenant} if self.named else {}

    def price(self, key: str, amount: int, period: str = "month") -> Object:
        return {
            "id": f"price_{key}", "object": "price", "lookup_key": f"tenantry_{key}_{period}", "unit_amount": amount,
            "currency": "usd", "recurring": {"interval": period, "interval_count": 1}, "metadata": {"plan": key},
            "product": f"prod_{key}",
        }  # fmt: skip

    def subscription(self, status: str, plan: str = "starter", start: int | None = None, **more: Any) -> Object:
        start = self.start if start is None else start
        amount = {"starter": 9900, "professional": 29900}.get(plan, 100)
        period = {"current_period_start": start, "current_period_end": start + MONTH}
        item = {
            "id": f"si_{self.number}",
            "object": "subscription_item",
            "quantity": 1,
            "price": self.price(plan, amount),
        }
        return {
            "id": f"sub_{self.number}", "object": "subscription", "customer": f"cus_{self.number}", "status": status,
            "created": self.start, "start_date": self.start, "cancel_at": None, "cancel_at_period_end": False, "ended_at": None,
            "canceled_at": None, "trial_end": None, "schedule": None, "metadata": self.metadata, "latest_invoice": None,
            "items": {"object": "list", "data": [item if self.old else {**item, **period}]},
            **(period if self.old else {}), **more,
        }  # fmt: skip

    def invoice(self, name: str, status: str, created: int | None = None, attempts: int = 1, **more: Any) -> Object:
        created = self.start if created is None else created
        about = {"subscription": f"sub_{self.number}", "metadata": self.metadata}
        return {
            "id": f"in_{self.number}_{name}", "object": "invoice", "customer": f"cus_{self.number}", "status": status,
            "created": created, "attempt_count": attempts, "amount_due": 9900, "amount_paid": 0, "currency": "usd",
            "billing_reason": "subscription_cycle", "hosted_invoice_url": "https://invoice.stripe.test/i/secret",
            "status_transitions": {"finalized_at": created, "paid_at": None},
            **({"subscription": about["subscription"], "subscription_details": {"metadata": self.metadata}} if self.old
               else {"parent": {"type": "subscription_details", "subscription_details": about}}), **more,
        }  # fmt: skip

    def event(self, kind: str, created: int, about: Object, **more: Any) -> Object:
        self.made += 1
        return {
            "id": f"evt_{self.number}_{self.made}", "object": "event", "type": kind, "created": created,
            "api_version": "2020-03-02" if self.old else "2026-07-29.dahlia", "livemode": False, "pending_webhooks": 1,
            "data": {"object": about}, **more,
        }  # fmt: skip

    def first_payment(self) -> list[Object]:
        """All within one second, but for the end of the checkout."""
        paid = self.invoice("first", "paid", billing_reason="subscription_create", amount_paid=9900)
        return [
            self.event("customer.subscription.created", self.start, self.subscription("incomplete")),
            self.event("customer.subscription.updated", self.start, self.subscription("active")),
            self.event("invoice.payment_succeeded", self.start, paid),
            self.event("invoice.paid", self.start, paid),
            self.event("checkout.session.completed", self.start + 1, self.session()),
        ]

    def session(self) -> Object:
        return {
            "id": f"cs_{self.number}", "object": "checkout.session", "customer": f"cus_{self.number}",
            "subscription": f"sub_{self.number}", "client_reference_id": self.tenant if self.named else None,
            "status": "complete", "payment_status": "paid", "mode": "subscription", "metadata": {},
        }  # fmt: skip

    def failed_renewal(self, at: int | None = None) -> list[Object]:
        """A renewal that fails twice and is paid on its ninth day: it came to be suspended in between."""
        at = self.start + MONTH if at is None else at
        due = at + 3600
        return [
            self.event("invoice.payment_failed", due, self.invoice("second", "open", at, 1)),
            self.event("customer.subscription.updated", due, self.subscription("past_due", start=at)),
            self.event("invoice.payment_failed", due + 3 * DAY, self.invoice("second", "open", at, 2)),
            self.event("invoice.payment_succeeded", due + 9 * DAY, self.invoice("second", "paid", at, 3)),
            self.event("customer.subscription.updated", due + 9 * DAY, self.subscription("active", start=at)),
        ]

    def end(self, at: int | None = None) -> list[Object]:
        at = self.start + 2 * MONTH if at is None else at
        gone = self.subscription("canceled", start=at - MONTH, ended_at=at, canceled_at=at - DAY)
        until = self.subscription("active", start=at - MONTH, cancel_at=at, cancel_at_period_end=self.old)
        return [
            self.event("customer.subscription.updated", at - DAY, until),
            self.event("customer.subscription.deleted", at, gone),
        ]


def read_events(build: Any, events: list[Object]) -> list[Object]:
    """As billing's program reads them."""
    text = "".join(json.dumps(event) + "\n" for event in events)
    done = subprocess.run(
        [build / "tests" / "read-stripe-events"], input=text, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
