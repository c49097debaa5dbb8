"""Configurations of the customer portal: what a customer may do there, and between which prices a subscription may change."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .api import Call, Endpoint
from .errors import invalid
from .forms import LISTING, boolean, choice, hash_of, list_of, merged, metadata, text
from .lines import amount_of
from .work import Document, Work, copied

KIND = "billing_portal.configuration"
MOST_PRODUCTS = 10
REASONS = (
    "customer_service", "low_quality", "missing_features", "other", "switched_service", "too_complex", "too_expensive",
    "unused",
)  # fmt: skip
CONDITION = hash_of({"type": choice("decreasing_item_amount", "shortening_interval")}, ["type"])
DAYS = {"day": Fraction(1), "week": Fraction(7), "month": Fraction(365, 12), "year": Fraction(365)}
PRODUCTS = "features.subscription_update.products"
FEATURES = hash_of(
    {
        "customer_update": hash_of(
            {
                "allowed_updates": list_of(choice("address", "email", "name", "phone", "shipping", "tax_id")),
                "enabled": boolean,
            }
        ),
        "invoice_history": hash_of({"enabled": boolean}, ["enabled"]),
        "payment_method_update": hash_of({"enabled": boolean}, ["enabled"]),
        "subscription_cancel": hash_of(
            {
                "cancellation_reason": hash_of({"enabled": boolean, "options": list_of(choice(*REASONS))}, ["enabled"]),
                "enabled": boolean,
                "mode": choice("at_period_end"),
                "proration_behavior": choice("none"),
            }
        ),
        "subscription_update": hash_of(
            {
                "default_allowed_updates": list_of(choice("price", "promotion_code", "quantity")),
                "enabled": boolean,
                "products": list_of(hash_of({"prices": list_of(text), "product": text}, ["prices", "product"])),
                "proration_behavior": choice("always_invoice", "create_prorations", "none"),
                "schedule_at_period_end": hash_of({"conditions": list_of(CONDITION)}),
                "trial_update_behavior": choice("continue_trial", "end_trial"),
            }
        ),
    }
)
OF_CONFIGURATION = {
    "business_profile": hash_of({"headline": text, "privacy_policy_url": text, "terms_of_service_url": text}),
    "default_return_url": text,
    "features": FEATURES,
    "login_page": hash_of({"enabled": boolean}, ["enabled"]),
    "metadata": metadata,
    "name": text,
}
BLANK: Document = {
    "active": True,
    "application": None,
    "business_profile": {"headline": None, "privacy_policy_url": None, "terms_of_service_url": None},
    "default_return_url": None,
    "features": {
        "customer_update": {"allowed_updates": [], "enabled": False},
        "invoice_history": {"enabled": False},
        "payment_method_update": {"enabled": False},
        "subscription_cancel": {
            "cancellation_reason": {"enabled": False, "options": []},
            "enabled": False,
            "mode": "at_period_end",
            "proration_behavior": "none",
        },
        # `_products` is shown to who asks to have it expanded.
        "subscription_update": {
            "default_allowed_updates": [],
            "enabled": False,
            "proration_behavior": "none",
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
            "_products": [],
        },
    },
    "is_default": False,
    "login_page": {"enabled": False, "url": None},
    "metadata": {},
    "name": None,
}


class PortalConfigurations:
    def endpoints(self) -> list[Endpoint]:
        base, one = "/v1/billing_portal/configurations", "/v1/billing_portal/configurations/{id}"
        listing = {**LISTING, "active": boolean, "is_default": boolean}
        return [
            Endpoint("POST", base, self.create, OF_CONFIGURATION, ["features"]),
            Endpoint("GET", base, self.list_all, listing),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one, self.update, {**OF_CONFIGURATION, "active": boolean}),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        configuration = work.add(KIND, {**copied(BLANK), "updated": work.at})
        await take(work, configuration, call.params)
        work.tell(f"{KIND}.created", shown(configuration, False))
        return shown(configuration, asked(call))

    async def list_all(self, work: Work, call: Call) -> Document:
        like = {name: call.params.get(name) for name in ("active", "is_default")}
        page = await work.page(KIND, "/v1/billing_portal/configurations", call.params, **like)
        return {**page, "data": [shown(each, asked(call, "data.")) for each in page["data"]]}

    async def get(self, work: Work, call: Call) -> Document:
        return shown(await work.get(KIND, call.ids["id"]), asked(call))

    async def update(self, work: Work, call: Call) -> Document:
        configuration = await work.get(KIND, call.ids["id"])
        await take(work, configuration, call.params)
        configuration["updated"] = work.at
        work.tell(f"{KIND}.updated", shown(configuration, False))
        return shown(configuration, asked(call))


def asked(call: Call, before: str = "") -> bool:
    return f"{before}{PRODUCTS}" in call.params.get("expand", [])


def shown(configuration: Document, products: bool) -> Document:
    """The products stand there only for who has them expanded."""
    whole = copied(configuration)
    if products:
        update = whole["features"]["subscription_update"]
        update["products"] = update["_products"]
    return whole


def allows(features: Document | None, what: str) -> bool:
    """Of a session's configuration; None: it has none, and is not limited."""
    return features is None or bool(features[what]["enabled"])


def offers(features: Document | None, price_id: Any) -> bool:
    """Whether a subscription may be changed to this price."""
    if features is None:
        return True
    products = features["subscription_update"]["_products"]
    changeable = "price" in features["subscription_update"]["default_allowed_updates"]
    return changeable and any(price_id in product["prices"] for product in products)


def waits(features: Document, before: Document, after: Document) -> bool:
    """Whether a change of an item is for the end of its period. A longer interval that is cheaper in the long run counts as
    cheaper, too; a shorter one only if it is the same product in the same quantity."""
    conditions = features["subscription_update"]["schedule_at_period_end"]["conditions"]
    types = {condition["type"] for condition in conditions}
    is_same = (before["price"]["product"], before["quantity"]) == (after["price"]["product"], after["quantity"])
    is_cheaper = amount_of(after) / days_of(after) < amount_of(before) / days_of(before)
    is_shorter = is_same and days_of(after) < days_of(before)
    return (is_cheaper and "decreasing_item_amount" in types) or (is_shorter and "shortening_interval" in types)


def days_of(item: Document) -> Fraction:
    recurring = item["price"]["recurring"]
    return DAYS[recurring["interval"]] * int(recurring["interval_count"])


async def take(work: Work, configuration: Document, params: Document) -> None:
    """Sets what was given, feature by feature; what a change leaves out stays."""
    for name in ("active", "default_return_url", "name"):
        if name in params:
            configuration[name] = params[name]
    for name in ("business_profile", "login_page"):
        configuration[name] |= params.get(name) or {}
    configuration["metadata"] = merged(configuration["metadata"], params.get("metadata", {}))
    for name, feature in (params.get("features") or {}).items():
        feature = dict(feature or {})
        if "products" in feature:
            feature["_products"] = await products_of(work, feature.pop("products"))
        if "schedule_at_period_end" in feature:
            feature["schedule_at_period_end"] = {"conditions": [], **(feature["schedule_at_period_end"] or {})}
        configuration["features"][name] |= feature
    update = configuration["features"]["subscription_update"]
    if update["enabled"] and not (update["_products"] and update["default_allowed_updates"]):
        missing = "products" if not update["_products"] else "default_allowed_updates"
        where = f"features[subscription_update][{missing}]"
        raise invalid(f"Missing required param: {where}.", where, code="parameter_missing")


async def products_of(work: Work, wanted: list[Any]) -> list[Document]:
    """Each with prices of its own, in use and recurring."""
    where = "features[subscription_update][products]"
    if len(wanted) > MOST_PRODUCTS:
        raise invalid(f"You can only specify up to {MOST_PRODUCTS} products.", where)
    made: list[Document] = []
    for number, each in enumerate(wanted):
        product = await work.alive("product", each["product"], f"{where}[{number}][product]", 400)
        for price_id in each["prices"]:
            price = await work.get("price", price_id, f"{where}[{number}][prices]", 400)
            if price["product"] != product["id"]:
                raise invalid(f"The price {price_id} is not one of {product['id']}.", f"{where}[{number}][prices]")
            if not price["active"] or price["type"] != "recurring":
                raise invalid(f"The price {price_id} is not active, or not recurring.", f"{where}[{number}][prices]")
        made.append(
            {
                "adjustable_quantity": {"enabled": False, "maximum": None, "minimum": 0},
                "prices": each["prices"],
                "product": product["id"],
            }
        )
    return made
