"""Ids as Stripe makes them: a prefix that names the kind, then letters and digits that mean nothing."""

from __future__ import annotations

import random
import string

PREFIX = {
    "billing_portal.configuration": "bpc",
    "billing_portal.session": "bps",
    "charge": "ch",
    "checkout.session": "cs_test",
    "customer": "cus",
    "dispute": "du",
    "event": "evt",
    "invoice": "in",
    "invoice_payment": "inpay",
    "invoiceitem": "ii",
    "line_item": "il",
    "payment_intent": "pi",
    "payment_method": "pm",
    "price": "price",
    "product": "prod",
    "refund": "re",
    "subscription": "sub",
    "subscription_item": "si",
    "subscription_schedule": "sub_sched",
    "test_helpers.test_clock": "clock",
    "webhook_endpoint": "we",
}
LETTERS = string.ascii_letters + string.digits
DICE = random.SystemRandom()


def letters(count: int) -> str:
    return "".join(DICE.choices(LETTERS, k=count))


def new_id(kind: str) -> str:
    return f"{PREFIX[kind]}_{letters(58 if kind == 'checkout.session' else 24)}"


def kind_of(object_id: str) -> str | None:
    """The kind of object an id names by its prefix."""
    prefix = object_id.rpartition("_")[0]
    return next((kind for kind, known in PREFIX.items() if known == prefix), None)
