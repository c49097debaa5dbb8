"""The API's subscriptions: created, changed, cancelled and resumed on request."""

from __future__ import annotations

import copy

from .api import Call, Endpoint
from .changes import PENDABLE, Changes, interval_of
from .errors import invalid, missing
from .forms import LISTING, boolean, choice, hash_of, list_of, merged, metadata, moment, natural, text
from .ids import new_id
from .lifecycle import TERMINAL, Lifecycle, item_of, set_period
from .payment_methods import of_customer
from .work import Document, Work

ITEM = {"id": text, "price": text, "quantity": natural, "metadata": metadata, "deleted": boolean}
BEHAVIORS = ("allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")
STATUSES = (
    "active",
    "canceled",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)
TRIAL_SETTINGS = hash_of(
    {"end_behavior": hash_of({"missing_payment_method": choice("cancel", "create_invoice", "pause")})}
)
COMMON = {
    "cancel_at": moment,
    "cancel_at_period_end": boolean,
    "cancellation_details": hash_of({"comment": text, "feedback": text}),
    "default_payment_method": text,
    "description": text,
    "items": list_of(hash_of(ITEM)),
    "metadata": metadata,
    "payment_behavior": choice(*BEHAVIORS),
    "proration_behavior": choice("create_prorations", "always_invoice", "none"),
    "trial_end": moment,
    "trial_settings": TRIAL_SETTINGS,
}
CREATE = {**COMMON, "customer": text, "trial_period_days": natural}
UPDATE = {**COMMON, "proration_date": natural}
LIST = {**LISTING, "customer": text, "price": text, "status": choice(*STATUSES, "all", "ended")}
CANCEL = {"cancellation_details": hash_of({"comment": text, "feedback": text})}
BLANK: Document = {
    "application": None,
    "application_fee_percent": None,
    "automatic_tax": {"enabled": False, "liability": None, "disabled_reason": None},
    "billing_cycle_anchor_config": None,
    "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}},
    "billing_schedules": [],
    "billing_thresholds": None,
    "cancel_at": None,
    "cancel_at_period_end": False,
    "canceled_at": None,
    "cancellation_details": {"comment": None, "feedback": None, "reason": None},
    "collection_method": "charge_automatically",
    "customer_account": None,
    "days_until_due": None,
    "default_payment_method": None,
    "default_source": None,
    "default_tax_rates": [],
    "description": None,
    "discounts": [],
    "ended_at": None,
    "invoice_settings": {
        "account_tax_ids": None,
        "issuer": {"type": "self"},
        "custom_fields": None,
        "description": None,
        "footer": None,
    },
    "latest_invoice": None,
    "managed_payments": None,
    "metadata": {},
    "next_pending_invoice_item_invoice": None,
    "on_behalf_of": None,
    "pause_collection": None,
    "payment_settings": {
        "payment_method_options": None,
        "payment_method_types": None,
        "save_default_payment_method": None,
    },
    "pending_invoice_item_interval": None,
    "pending_setup_intent": None,
    "pending_update": None,
    "schedule": None,
    "status": "incomplete",
    "test_clock": None,
    "transfer_data": None,
    "trial_end": None,
    "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    "trial_start": None,
}


class Subscriptions:
    def __init__(self, lifecycle: Lifecycle, changes: Changes) -> None:
        self._lifecycle = lifecycle
        self._changes = changes

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/subscriptions/{id}"
        return [
            Endpoint("POST", "/v1/subscriptions", self.create, CREATE, ["customer", "items"]),
            Endpoint("GET", "/v1/subscriptions", self.list_all, LIST),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one, self.update, UPDATE),
            Endpoint("DELETE", one, self.cancel, CANCEL),
            Endpoint("POST", one + "/resume", self.resume, {"billing_cycle_anchor": choice("now", "unchanged")}),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        params = call.params
        customer = await work.alive("customer", params["customer"], "customer", 400)
        return await self.new(work, customer, params)

    async def new(self, work: Work, customer: Document, params: Document) -> Document:
        """A subscription begins; as a checkout begins one, too."""
        subscription = work.add("subscription", {**BLANK, "customer": customer["id"]})
        subscription["test_clock"] = customer["test_clock"]
        subscription.update(start_date=work.at, billing_cycle_anchor=work.at)
        url = f"/v1/subscription_items?subscription={subscription['id']}"
        subscription["items"] = {"object": "list", "data": [], "has_more": False, "total_count": 0, "url": url}
        items = await new_items(work, subscription, params["items"], "items")
        subscription["items"].update(data=items, total_count=len(items))
        subscription["currency"] = customer["currency"] = items[0]["price"]["currency"]
        trial_end = params.get("trial_end")
        if params.get("trial_period_days"):
            trial_end = work.at + params["trial_period_days"] * 86400
        if trial_end not in (None, "now"):
            if trial_end <= work.at:
                raise invalid("Invalid timestamp: trial_end must be in the future.", "trial_end")
            subscription.update(trial_start=work.at, trial_end=trial_end, billing_cycle_anchor=trial_end)
        await self._take(work, customer, subscription, params)
        await self._lifecycle.start(work, subscription, params.get("payment_behavior", "allow_incomplete"))
        self._cancellation(work, subscription, params)
        work.tell("customer.subscription.updated", subscription)
        return subscription

    async def _take(self, work: Work, customer: Document, subscription: Document, params: Document) -> None:
        if "metadata" in params:
            subscription["metadata"] = merged(subscription["metadata"], params["metadata"])
        if "default_payment_method" in params:
            wanted = params["default_payment_method"]
            if wanted is not None:
                wanted = (await of_customer(work, customer, wanted, "default_payment_method"))["id"]
            subscription["default_payment_method"] = wanted
        if "description" in params:
            subscription["description"] = params["description"]
        if params.get("trial_settings"):
            subscription["trial_settings"] = params["trial_settings"]
        if params.get("cancellation_details"):
            subscription["cancellation_details"].update(params["cancellation_details"])

    def _cancellation(self, work: Work, subscription: Document, params: Document) -> None:
        """Sets or takes back the end of a subscription: its period's, or a moment."""
        if "cancel_at" not in params and "cancel_at_period_end" not in params:
            return
        if params.get("cancel_at") is not None and params.get("cancel_at_period_end"):
            raise invalid("You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
        if subscription["schedule"] is not None:
            message = (
                "The subscription is managed by the subscription schedule "
                f"`{subscription['schedule']}`, and updating any cancelation behavior directly is not allowed. "
                "Please update the schedule instead."
            )
            raise invalid(message)
        end = item_of(subscription)["current_period_end"]
        at_period_end = bool(params.get("cancel_at_period_end"))
        at = end if at_period_end else params.get("cancel_at")
        if at is not None and at <= work.at:
            raise invalid("Invalid timestamp: cancel_at must be in the future.", "cancel_at")
        end_subscription_at(work, subscription, at, at_period_end)

    async def list_all(self, work: Work, call: Call) -> Document:
        """Without a status, those that have not been cancelled."""
        params, status = call.params, call.params.get("status")
        like: Document = {"customer": params.get("customer"), "status": status}
        if status in (None, "all", "ended"):
            like["status"] = None
        if status is None:
            params.update(_field="status", _any=[each for each in STATUSES if each != "canceled"])
        if status == "ended":
            params.update(_field="status", _any=list(TERMINAL))
        if params.get("price"):
            like["items"] = {"data": [{"price": {"id": params["price"]}}]}
        return await work.page("subscription", "/v1/subscriptions", params, **like)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get("subscription", call.ids["id"])

    async def update(self, work: Work, call: Call) -> Document:
        subscription, params = await self._alive(work, call), call.params
        if params.get("payment_behavior") == "pending_if_incomplete" and (odd := set(params) - PENDABLE):
            message = "When `payment_behavior` is `pending_if_incomplete`, you can't update "
            raise invalid(message + ", ".join(f"`{name}`" for name in sorted(odd)), sorted(odd)[0])
        customer = await work.get("customer", subscription["customer"])
        await self._take(work, customer, subscription, params)
        self._cancellation(work, subscription, params)
        if params.get("trial_end") is not None:
            await self._move_trial(work, subscription, params["trial_end"])
        if params.get("items"):
            items = await new_items(work, subscription, params["items"], "items")
            await self._changes.apply(work, subscription, items, params)
        work.tell("customer.subscription.updated", subscription)
        return subscription

    async def _move_trial(self, work: Work, subscription: Document, end: int | str) -> None:
        if end == "now":
            await self.end_trial(work, subscription)
            return
        if int(end) <= work.at:
            raise invalid("Invalid timestamp: trial_end must be in the future.", "trial_end")
        subscription.update(trial_end=end, billing_cycle_anchor=end, status="trialing")
        subscription["trial_start"] = subscription["trial_start"] or work.at
        set_period(work, subscription, item_of(subscription)["current_period_start"], int(end))
        work.due(subscription, "trial_will_end", max(work.at, int(end) - 3 * 86400))

    async def end_trial(self, work: Work, subscription: Document) -> None:
        """The first period that is paid begins at once, if it is still tried."""
        if subscription["status"] == "trialing":
            subscription.update(trial_end=work.at, billing_cycle_anchor=work.at)
            await self._lifecycle.renew(work, subscription)

    async def cancel(self, work: Work, call: Call) -> Document:
        subscription = await self._alive(work, call)
        subscription["cancellation_details"].update(call.params.get("cancellation_details") or {})
        await self._lifecycle.end(work, subscription, "cancellation_requested")
        return subscription

    async def resume(self, work: Work, call: Call) -> Document:
        subscription = await self._alive(work, call)
        if subscription["status"] != "paused":
            raise invalid("Subscription is not paused and so cannot be resumed.")
        subscription["billing_cycle_anchor"] = work.at
        await self._lifecycle.renew(work, subscription)
        work.tell("customer.subscription.resumed", subscription)
        return subscription

    async def _alive(self, work: Work, call: Call) -> Document:
        subscription = await work.get("subscription", call.ids["id"])
        if subscription["status"] in TERMINAL:
            raise missing("subscription", subscription["id"])
        return subscription

    async def bury(self, work: Work, customer: Document) -> None:
        """With a deleted customer its subscriptions end."""
        for subscription in await work.find("subscription", customer=customer["id"]):
            if subscription["status"] not in TERMINAL:
                await self._lifecycle.end(work, subscription, "cancellation_requested")


def end_subscription_at(work: Work, subscription: Document, at: int | None, at_period_end: bool) -> None:
    subscription.update(cancel_at=at, cancel_at_period_end=at_period_end, _portal_cancel=False)
    subscription["canceled_at"] = None if at is None else work.at
    reason = None if at is None else "cancellation_requested"
    subscription["cancellation_details"]["reason"] = reason
    work.due(subscription, "cancel", None if at_period_end else at)


async def new_items(work: Work, subscription: Document, wanted: list[Document], where: str) -> list[Document]:
    """A subscription's items after a change: one that is named is changed or taken away, the others are added."""
    items = copy.deepcopy(subscription["items"]["data"])
    period = dict(current_period_start=work.at, current_period_end=work.at)
    if items:
        period = {name: items[0][name] for name in period}
    for number, each in enumerate(wanted):
        name = f"{where}[{number}]"
        if each.get("id"):
            item = next((known for known in items if known["id"] == each["id"]), None)
            if item is None:
                raise missing("subscription_item", each["id"], f"{name}[id]", 400)
            if each.get("deleted"):
                items.remove(item)
                continue
        elif each.get("price"):
            blank: Document = {
                "billing_thresholds": None,
                "discounts": [],
                "metadata": {},
                "tax_rates": [],
                "quantity": 1,
            }
            own = {"id": new_id("subscription_item"), "object": "subscription_item", "created": work.at}
            item = {**own, **blank, **period, "subscription": subscription["id"]}
            items.append(item)
        else:
            raise invalid(f"Missing required param: {name}[price].", f"{name}[price]", code="parameter_missing")
        if each.get("price"):
            item["price"] = await recurring_price(work, each["price"], f"{name}[price]")
        item["quantity"] = each.get("quantity", item["quantity"])
        item["metadata"] = merged(item["metadata"], each.get("metadata", {}))
    check(items, where)
    return items


async def recurring_price(work: Work, price_id: str, where: str) -> Document:
    price = await work.get("price", price_id, where, 400)
    if not price["active"]:
        message = "The price specified is inactive. This field only accepts active prices."
        raise invalid(message, where)
    if price["recurring"] is None:
        message = (
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`."
        )
        raise invalid(message, where)
    return copy.deepcopy(price)


def check(items: list[Document], where: str) -> None:
    if not items:
        raise invalid("A subscription must have at least one active item.", where)
    prices = [item["price"]["id"] for item in items]
    if len(set(prices)) < len(prices):
        raise invalid("Subscription items cannot have the same price twice.", where)
    if len({interval_of([item]) for item in items}) > 1 or len({item["price"]["currency"] for item in items}) > 1:
        raise invalid("All prices on a subscription must have the same interval and currency.", where)
