"""Checkout sessions: a page on which a customer chooses how to pay, and a subscription that begins with it."""

from __future__ import annotations

from .api import Call, Endpoint
from .customers import blank_customer
from .errors import StripeError, invalid
from .forms import LISTING, boolean, choice, hash_of, list_of, merged, metadata, moment, natural, text
from .invoices import PENDING, Invoices
from .ledger import Ledger
from .lifecycle import Lifecycle
from .paying import chosen, pay_now
from .settings import StripeSettings
from .subscriptions import TRIAL_SETTINGS, Subscriptions, recurring_price
from .work import Document, Work

HOUR = 3600
LEAST_TRIAL = 48 * HOUR
CREATE = {
    "allow_promotion_codes": boolean,
    "automatic_tax": hash_of({"enabled": boolean}, ["enabled"]),
    "cancel_url": text,
    "client_reference_id": text,
    "customer": text,
    "customer_email": text,
    "customer_update": hash_of({"address": choice("auto", "never"), "name": choice("auto", "never")}),
    "expires_at": natural,
    "line_items": list_of(hash_of({"price": text, "quantity": natural}, ["price"])),
    "locale": text,
    "metadata": metadata,
    "mode": choice("subscription"),
    "payment_method_collection": choice("always", "if_required"),
    "payment_method_types": list_of(choice("card", "sepa_debit")),
    "subscription_data": hash_of(
        {
            "description": text,
            "metadata": metadata,
            "trial_end": moment,
            "trial_period_days": natural,
            "trial_settings": TRIAL_SETTINGS,
        }
    ),
    "success_url": text,
    "tax_id_collection": hash_of({"enabled": boolean}, ["enabled"]),
}
LIST = {
    **LISTING,
    "customer": text,
    "status": choice("open", "complete", "expired"),
    "subscription": text,
}
BLANK: Document = {
    "adaptive_pricing": None,
    "after_expiration": None,
    "allow_promotion_codes": None,
    "automatic_tax": {"enabled": False, "liability": None, "status": None, "provider": None},
    "billing_address_collection": None,
    "cancel_url": None,
    "client_reference_id": None,
    "client_secret": None,
    "collected_information": None,
    "consent": None,
    "consent_collection": None,
    "currency_conversion": None,
    "custom_fields": [],
    "custom_text": {
        "after_submit": None,
        "shipping_address": None,
        "submit": None,
        "terms_of_service_acceptance": None,
    },
    "customer": None,
    "customer_account": None,
    "customer_creation": None,
    "customer_details": None,
    "customer_email": None,
    "discounts": [],
    "integration_identifier": None,
    "invoice": None,
    "invoice_creation": None,
    "locale": None,
    "managed_payments": None,
    "metadata": {},
    "mode": "subscription",
    "origin_context": None,
    "payment_intent": None,
    "payment_link": None,
    "payment_method_collection": "always",
    "payment_method_configuration_details": None,
    "payment_method_options": {},
    "payment_method_types": ["card", "sepa_debit"],
    "payment_status": "unpaid",
    "permissions": None,
    "phone_number_collection": {"enabled": False},
    "recovered_from": None,
    "saved_payment_method_options": None,
    "setup_intent": None,
    "shipping_address_collection": None,
    "shipping_cost": None,
    "shipping_options": [],
    "status": "open",
    "submit_type": None,
    "subscription": None,
    "success_url": None,
    "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    "ui_mode": "hosted_page",
    "wallet_options": None,
}


def check_tax(params: Document) -> None:
    """A tax depends on an address, and a tax id on a name: who is known already must be allowed to change."""
    update = params.pop("customer_update", None)
    if update is not None and not params.get("customer"):
        raise invalid("`customer_update` can only be used with `customer`.", "customer_update")
    for wanted, part in (("automatic_tax", "address"), ("tax_id_collection", "name")):
        if not (params.get(wanted) or {}).get("enabled") or not params.get("customer"):
            continue
        if (update or {}).get(part) != "auto":
            raise invalid(f"To use `{wanted}` with a customer, set `customer_update[{part}]` to `auto`.", wanted)
    if "automatic_tax" in params:
        params["automatic_tax"] = {**BLANK["automatic_tax"], **params["automatic_tax"]}


class Checkout:
    def __init__(
        self,
        settings: StripeSettings,
        ledger: Ledger,
        invoices: Invoices,
        lifecycle: Lifecycle,
        subscriptions: Subscriptions,
    ) -> None:
        self._settings = settings
        self._invoices = invoices
        self._lifecycle = lifecycle
        self._subscriptions = subscriptions
        invoices.debited = self.debited
        ledger.when_due("expire", "checkout.session", self.expire_due)

    def endpoints(self) -> list[Endpoint]:
        base, one = "/v1/checkout/sessions", "/v1/checkout/sessions/{id}"
        return [
            Endpoint("POST", base, self.create, CREATE, ["mode", "line_items", "success_url"]),
            Endpoint("GET", base, self.list_all, LIST),
            Endpoint("GET", one, self.get),
            Endpoint("GET", one + "/line_items", self.line_items, LISTING),
            Endpoint("POST", one + "/expire", self.expire),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        params = call.params
        if params.get("customer") and params.get("customer_email"):
            raise invalid("You may only specify one of these parameters: customer, customer_email.")
        customer = None
        if params.get("customer"):
            customer = await work.alive("customer", params["customer"], "customer", 400)
        check_tax(params)
        items = params.pop("line_items")
        for number, item in enumerate(items):
            item["quantity"] = item.get("quantity", 1)
            item["_price"] = await recurring_price(work, item["price"], f"line_items[{number}][price]")
        if not items:
            raise invalid("You must provide at least one line item.", "line_items")
        wanted = params.pop("subscription_data", None) or {}
        free = self._trial(work, wanted)
        total = 0 if free else sum((each["_price"]["unit_amount"] or 0) * each["quantity"] for each in items)
        expires = params.get("expires_at", work.at + 24 * HOUR)
        if not work.at + HOUR // 2 <= expires <= work.at + 24 * HOUR:
            message = (
                "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation."
            )
            raise invalid(message, "expires_at")
        params.pop("expand", None)
        session = work.add("checkout.session", {**BLANK, **params, "expires_at": expires})
        session["metadata"] = merged({}, params.get("metadata", {}))
        session.update(amount_subtotal=total, amount_total=total, currency=items[0]["_price"]["currency"])
        email = customer["email"] if customer else params.get("customer_email")
        details = {"address": None, "name": customer["name"] if customer else None, "phone": None}
        details |= {"business_name": None, "individual_name": None, "tax_exempt": "none", "tax_ids": []}
        session["customer_details"] = {"email": email, **details} if email else None
        session["customer_creation"] = None if customer else "always"
        session["url"] = f"{self._settings.stripe_base}/c/pay/{session['id']}"
        session.update(_items=[strip(item) for item in items], _subscription_data=wanted)
        work.due(session, "expire", expires)
        return session

    def _trial(self, work: Work, wanted: Document) -> bool:
        end = wanted.get("trial_end")
        if end is not None and wanted.get("trial_period_days"):
            raise invalid("You can only specify one of these parameters: trial_end, trial_period_days.")
        if end is not None and (end == "now" or end < work.at + LEAST_TRIAL):
            message = "The `trial_end` date has to be at least 2 days in the future."
            raise invalid(message, "subscription_data[trial_end]")
        return end is not None or bool(wanted.get("trial_period_days"))

    async def list_all(self, work: Work, call: Call) -> Document:
        like = {name: call.params.get(name) for name in ("customer", "status", "subscription")}
        return await work.page("checkout.session", "/v1/checkout/sessions", call.params, **like)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get("checkout.session", call.ids["id"])

    async def line_items(self, work: Work, call: Call) -> Document:
        session = await work.get("checkout.session", call.ids["id"])
        data = []
        for number, each in enumerate(session["_items"]):
            price = await work.get("price", each["price"])
            amount = (price["unit_amount"] or 0) * each["quantity"]
            own = {"id": f"li_{session['id'][-16:]}{number}", "object": "item", "currency": session["currency"]}
            amounts = {"amount_discount": 0, "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount}
            data.append({**own, **amounts, "price": price, "quantity": each["quantity"]})
        url = f"/v1/checkout/sessions/{session['id']}/line_items"
        return {"object": "list", "data": data, "has_more": False, "url": url}

    async def expire(self, work: Work, call: Call) -> Document:
        session = await work.get("checkout.session", call.ids["id"])
        if session["status"] != "open":
            message = (
                f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {session["status"]}.'
            )
            raise invalid(message)
        self._expire(work, session)
        return session

    def _expire(self, work: Work, session: Document) -> None:
        session.update(status="expired", url=None)
        work.due(session, "expire", None)
        work.tell("checkout.session.expired", session)

    async def expire_due(self, work: Work, session: Document) -> None:
        if session["status"] == "open":
            self._expire(work, session)

    async def complete(self, work: Work, session: Document, fields: Document) -> None:
        """Somebody has chosen how to pay. What is raised is for the page to show, and nothing was done then."""
        if session["status"] != "open":
            raise StripeError(410, "This session is no longer open.")
        customer = await self._customer(work, session, fields)
        method = await chosen(work, customer, fields)
        told = {**session["_subscription_data"], "items": [dict(item) for item in session["_items"]]}
        told.update(default_payment_method=method["id"], payment_behavior="default_incomplete")
        subscription = await self._subscriptions.new(work, customer, told)
        invoice = await work.get("invoice", subscription["latest_invoice"])
        status = "no_payment_required"
        if subscription["status"] == "incomplete":
            outcome = await pay_now(work, self._invoices, invoice, method, fields)
            status = "unpaid" if outcome == PENDING else "paid"
            if outcome == PENDING:
                await self._lifecycle.first_payment_pending(work, subscription, invoice)
        session.update(status="complete", payment_status=status, url=None)
        session.update(customer=customer["id"], subscription=subscription["id"], invoice=invoice["id"])
        work.due(session, "expire", None)
        work.tell("checkout.session.completed", session)

    async def _customer(self, work: Work, session: Document, fields: Document) -> Document:
        if session["customer"] is not None:
            return await work.alive("customer", session["customer"])
        email = session["customer_email"] or fields.get("email")
        if not email:
            raise invalid("Your email address is needed.", "email")
        session["customer_details"] = {**(session["customer_details"] or {}), "email": email}
        customer = blank_customer(work)
        customer["email"] = email
        work.tell("customer.created", customer)
        return customer

    async def debited(self, work: Work, invoice: Document, pays: bool) -> None:
        """What a bank says days after the session was completed."""
        for session in await work.find("checkout.session", invoice=invoice["id"], payment_status="unpaid"):
            if pays:
                session["payment_status"] = "paid"
            outcome = "succeeded" if pays else "failed"
            work.tell(f"checkout.session.async_payment_{outcome}", session)


def strip(item: Document) -> Document:
    return {name: value for name, value in item.items() if not name.startswith("_")}
