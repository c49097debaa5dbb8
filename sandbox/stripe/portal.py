"""The customer portal: a page on which a customer cancels, comes back, changes the plan, the card, and pays what is open."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from aiohttp import web

from .api import Call, Endpoint
from .changes import Changes
from .errors import StripeError, invalid
from .forms import text
from .ids import letters
from .ledger import Ledger
from .lifecycle import TERMINAL, item_of
from .pages import button, hidden, methods, money, page, plan, wrong
from .paying import chosen, form_of
from .portal_configurations import KIND, allows, offers, waits
from .schedules import Schedules, planned
from .settings import StripeSettings
from .subscriptions import Subscriptions, end_subscription_at, new_items
from .work import Document, Work

CREATE = {"configuration": text, "customer": text, "locale": text, "return_url": text}
ADDRESS = "/p/session/{secret}"
# What a session has that names none: it allows everything.
DEFAULT = "bpc_sandbox"


class Portal:
    def __init__(
        self,
        settings: StripeSettings,
        ledger: Ledger,
        changes: Changes,
        schedules: Schedules,
        subscriptions: Subscriptions,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._changes = changes
        self._schedules = schedules
        self._subscriptions = subscriptions

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("POST", "/v1/billing_portal/sessions", self.create, CREATE, ["customer"])]

    def routes(self) -> list[web.RouteDef]:
        return [web.get(ADDRESS, self.show), web.post(ADDRESS, self.act)]

    async def create(self, work: Work, call: Call) -> Document:
        params = call.params
        customer = await work.alive("customer", params["customer"], "customer", 400)
        if params.get("configuration") is not None:
            configuration = await work.get(KIND, params["configuration"], "configuration", 400)
            if not configuration["active"]:
                raise invalid("This configuration is not active.", "configuration")
        return work.add(
            "billing_portal.session",
            {
                "configuration": params.get("configuration") or DEFAULT,
                "customer": customer["id"],
                "customer_account": None,
                "flow": None,
                "locale": params.get("locale"),
                "on_behalf_of": None,
                "return_url": params.get("return_url"),
                "url": self._url(letters(32)),
            },
        )

    def _url(self, secret: str) -> str:
        return self._settings.stripe_base + ADDRESS.replace("{secret}", secret)

    async def _session(self, work: Work, request: web.Request) -> tuple[Document, Document]:
        found = await work.find("billing_portal.session", url=self._url(request.match_info["secret"]))
        if not found:
            raise web.HTTPNotFound
        return found[0], await work.alive("customer", found[0]["customer"])

    async def _features(self, work: Work, session: Document) -> Document | None:
        if session["configuration"] == DEFAULT:
            return None
        features: Document = (await work.get(KIND, session["configuration"]))["features"]
        return features

    async def show(self, request: web.Request, problem: str | None = None) -> web.Response:
        async with self._ledger.work() as work:
            session, customer = await self._session(work, request)
            features = await self._features(work, session)
            body = wrong(problem)
            for subscription in await work.find("subscription", customer=customer["id"]):
                if subscription["status"] not in TERMINAL:
                    body += await self._subscription(work, subscription, features)
            owed = await work.find("invoice", customer=customer["id"], status="open")
            for invoice in owed if allows(features, "invoice_history") else []:
                due = money(invoice["amount_remaining"], invoice["currency"])
                body += f'<p><a href="{invoice["hosted_invoice_url"]}">Pay {due}</a>'
        if allows(features, "payment_method_update"):
            card = f"<h2>Payment method</h2>{methods()}<button>Use this one</button>"
            body += f'<form method="post">{hidden(action="method")}{card}</form>'
        if session["return_url"]:
            body += f'<p><a href="{escape(session["return_url"])}">Back</a>'
        return page("Your subscription", body, 402 if problem else 200)

    async def _subscription(self, work: Work, subscription: Document, features: Document | None) -> str:
        own = {"subscription": subscription["id"]}
        item = item_of(subscription)
        product = await work.get("product", item["price"]["product"])
        shown = f"<h2>{plan(str(product.get('name')), item)}</h2><p>{escape(subscription['status'])}</p>"
        if subscription["cancel_at"] is not None:
            return shown + button("Don't cancel", action="keep", **own)
        if subscription["schedule"] is not None:
            schedule = await work.get("subscription_schedule", subscription["schedule"])
            if (phase := planned(schedule, work.at)) is not None:
                return shown + await self._planned(work, phase)
        if allows(features, "subscription_cancel"):
            shown += button("Cancel at the end of the period", action="cancel", **own)
        if not allows(features, "subscription_update"):
            return shown
        for price in await work.find("price", active=True, type="recurring", currency=item["price"]["currency"]):
            if price["id"] != item["price"]["id"] and price["lookup_key"] and offers(features, price["id"]):
                text = f"Change to {price['lookup_key']}, {money(price['unit_amount'], price['currency'])}"
                shown += button(text, action="change", price=price["id"], **own)
        return shown

    async def _planned(self, work: Work, phase: Document) -> str:
        price = await work.get("price", phase["items"][0]["price"])
        day = datetime.fromtimestamp(phase["start_date"], UTC).date()
        return f"<p>Changes to {escape(str(price['lookup_key'] or price['id']))} on {day}</p>"

    async def act(self, request: web.Request) -> web.Response:
        fields = await form_of(request)
        try:
            async with self._ledger.work() as work:
                session, customer = await self._session(work, request)
                features = await self._features(work, session)
                require(features, fields)
                if fields.get("action") == "method":
                    method = await chosen(work, customer, fields)
                    customer["invoice_settings"]["default_payment_method"] = method["id"]
                    work.tell("customer.updated", customer)
                    for subscription in await work.find("subscription", customer=customer["id"]):
                        if subscription["status"] not in TERMINAL and subscription["default_payment_method"]:
                            subscription["default_payment_method"] = method["id"]
                            work.tell("customer.subscription.updated", subscription)
                else:
                    await self._change(work, customer, fields, features)
        except StripeError as refused:
            return await self.show(request, refused.message)
        raise web.HTTPSeeOther(request.path)

    async def _change(self, work: Work, customer: Document, fields: Document, features: Document | None) -> None:
        subscription = await work.get("subscription", fields.get("subscription"))
        if subscription["customer"] != customer["id"] or subscription["status"] in TERMINAL:
            raise invalid("This is not a subscription of yours that can be changed.")
        action = fields.get("action")
        await self._schedules.make_way(work, subscription)
        if action == "cancel":
            end = item_of(subscription)["current_period_end"]
            end_subscription_at(work, subscription, end, False)
            # In the newer versions of the API it stands as a moment, in the older ones as the end of the period.
            subscription["_portal_cancel"] = True
        elif action == "keep":
            end_subscription_at(work, subscription, None, False)
        elif action == "change":
            await self._change_plan(work, subscription, fields.get("price"), features)
        else:
            raise invalid("There is no such button.")
        work.tell("customer.subscription.updated", subscription)

    async def _change_plan(
        self, work: Work, subscription: Document, price: str | None, features: Document | None
    ) -> None:
        if subscription["cancel_at"] is not None:
            raise invalid("Your subscription is cancelled: renew it first.")
        before = item_of(subscription)
        items = await new_items(work, subscription, [{"id": before["id"], "price": price}], "items")
        if features is not None and waits(features, before, items[0]):
            await self._schedules.change_at_period_end(work, subscription, items)
            return
        update = features["subscription_update"] if features else {}
        proration = update.get("proration_behavior", "always_invoice")
        told = {"proration_behavior": proration, "payment_behavior": "error_if_incomplete"}
        await self._changes.apply(work, subscription, items, told)
        if update.get("trial_update_behavior") == "end_trial":
            await self._subscriptions.end_trial(work, subscription)


def require(features: Document | None, fields: Document) -> None:
    """Refuses what the session's configuration does not allow, whatever the page showed."""
    needs = {
        "method": "payment_method_update",
        "cancel": "subscription_cancel",
        "keep": "subscription_cancel",
        "change": "subscription_update",
    }
    action = fields.get("action")
    if action in needs and not allows(features, needs[action]):
        raise invalid("This is not offered here.")
    if action == "change" and not offers(features, fields.get("price")):
        raise invalid("This plan is not offered here.")
