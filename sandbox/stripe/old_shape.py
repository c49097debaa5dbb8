"""Objects as the versions before 2025-03-31 show them: the period on the subscription, the subscription on the invoice."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def plan_of(price: Document) -> Document:
    """A price as the plan it once was."""
    recurring = price["recurring"]
    same = (
        "id",
        "active",
        "billing_scheme",
        "created",
        "currency",
        "livemode",
        "metadata",
        "nickname",
        "product",
        "tiers_mode",
    )
    return {
        **{name: price[name] for name in same},
        "object": "plan",
        "aggregate_usage": None,
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "tiers": None,
        "transform_usage": None,
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    }


def old_subscription(shown: Document, _: Document) -> None:
    """Of an event's previous attributes, too: what is not there is left out."""
    items = (shown.get("items") or {}).get("data") or []
    for name in ("current_period_start", "current_period_end"):
        known = [item.pop(name) for item in items if name in item]
        if known:
            shown[name] = max(known)
    for item in items:
        item["plan"] = plan_of(item["price"])
    if "id" in shown:
        alone = items[0] if len(items) == 1 else {}
        shown.update(discount=None, plan=alone.get("plan"), quantity=alone.get("quantity"), tax_percent=None)


def old_invoice(shown: Document, document: Document) -> None:
    if "parent" in shown:
        parent = shown.pop("parent") or {}
        shown["subscription"] = (parent.get("subscription_details") or {}).get("subscription")
    if "status" in shown:
        shown["paid"] = shown["status"] == "paid"
    if "id" in shown:
        shown.update(payment_intent=document["_intent"], charge=document["_charge"], paid_out_of_band=False)
        shown.update(application_fee_amount=None, discount=None, quote=None, tax=None, tax_percent=None)
        shown.update(total_tax_amounts=[], transfer_data=None)


def old_line(shown: Document, document: Document) -> None:
    for name in ("parent", "pricing", "taxes", "pretax_credit_amounts", "quantity_decimal"):
        shown.pop(name)
    about = document["parent"]["subscription_item_details"]
    shown.update(plan=plan_of(document["_price"]), price=dict(document["_price"]), type="subscription")
    shown.update({name: about[name] for name in ("proration", "subscription", "subscription_item")})
    shown.update(tax_amounts=[], tax_rates=[])


OLD_SHAPE = {"subscription": old_subscription, "invoice": old_invoice, "line_item": old_line}
