"""The lines of invoices: a period of an item, and what a change in the middle of one gives back and asks for."""

from __future__ import annotations

from typing import Any

from .ids import new_id
from .work import Document


def amount_of(item: Document) -> int:
    return int((item["price"]["unit_amount"] or 0) * item["quantity"])


def line(
    subscription: Document, item: Document, amount: int, start: int, end: int, text: str, proration: bool = False
) -> Document:
    price = item["price"]
    return {
        "id": new_id("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": text,
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": dict(subscription["metadata"]),
        "parent": {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": {"credited_items": None},
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
        },
        "period": {"start": start, "end": end},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price["id"], "product": price["product"]},
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": item["quantity"],
        "quantity_decimal": str(item["quantity"]),
        "subtotal": amount,
        "taxes": [],
        # Shown whole in the old shape.
        "_price": dict(price),
    }


def period_lines(subscription: Document, items: list[Document], start: int, end: int) -> list[Document]:
    return [
        line(subscription, item, amount_of(item), start, end, f"{item['quantity']} × {item['price']['product']}")
        for item in items
    ]


def trial_lines(subscription: Document, start: int, end: int) -> list[Document]:
    return [
        line(subscription, item, 0, start, end, f"Trial period for {item['price']['product']}")
        for item in subscription["items"]["data"]
    ]


def share(amount: int, start: int, end: int, at: int) -> int:
    """What is left of an amount for a period at a moment of it, to the nearest cent."""
    left, whole = end - at, end - start
    return (2 * amount * left + whole) // (2 * whole)


def prorations(subscription: Document, after: list[Document], at: int, resets: bool) -> list[Document]:
    """The unused time of each item that changes or goes, and the rest of the period of each that changes or comes.
    Where the period begins anew, the new items are not in it: they are billed whole."""
    before = {item["id"]: item for item in subscription["items"]["data"]}
    now = {item["id"]: item for item in after}
    made = []
    for item_id, item in before.items():
        if not resets and item_id in now and terms(now[item_id]) == terms(item):
            continue
        start, end = item["current_period_start"], item["current_period_end"]
        text = f"Unused time on {item['quantity']} × {item['price']['product']}"
        made.append(line(subscription, item, -share(amount_of(item), start, end, at), at, end, text, True))
    period = next(iter(before.values()))
    start, end = period["current_period_start"], period["current_period_end"]
    for item_id, item in now.items():
        if resets or (item_id in before and terms(before[item_id]) == terms(item)):
            continue
        text = f"Remaining time on {item['quantity']} × {item['price']['product']}"
        made.append(line(subscription, item, share(amount_of(item), start, end, at), at, end, text, True))
    return made


def terms(item: Document) -> tuple[Any, int]:
    return item["price"]["id"], item["quantity"]
