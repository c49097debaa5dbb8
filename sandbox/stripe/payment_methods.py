"""Cards and bank accounts to pay with in tests, each known for what it does when it is charged."""

from __future__ import annotations

from dataclasses import dataclass

from .api import Call, Endpoint
from .errors import declined, invalid, missing
from .forms import LISTING, choice, hash_of, metadata, text
from .work import Document, Work

# What a payment method does when it is charged.
PAYS, DECLINES, AUTHENTICATES, DISPUTED, REFUSED = "pays", "declines", "authenticates", "disputed", "refused"


@dataclass(frozen=True)
class Card:
    number: str
    token: str
    conduct: str


@dataclass(frozen=True)
class Account:
    iban: str
    conduct: str


CARDS = (
    Card("4242424242424242", "visa", PAYS),
    Card("4000000000000341", "chargeCustomerFail", DECLINES),
    Card("4000002760003184", "authenticationRequired", AUTHENTICATES),
    Card("4000000000000259", "createDispute", DISPUTED),
    # Refused as soon as it is attached.
    Card("4000000000000002", "chargeDeclined", REFUSED),
)
ACCOUNTS = (Account("DE89370400440532013000", PAYS), Account("DE62370400440532013001", DECLINES))
TAKES = {
    "type": choice("card", "sepa_debit"),
    "card": hash_of({"token": text, "number": text, "exp_month": text, "exp_year": text, "cvc": text}),
    "sepa_debit": hash_of({"iban": text}, ["iban"]),
    "billing_details": hash_of({"email": text, "name": text}),
    "metadata": metadata,
}


class PaymentMethods:
    def endpoints(self) -> list[Endpoint]:
        base, one = "/v1/payment_methods", "/v1/payment_methods/{id}"
        filters = {**LISTING, "type": text}
        return [
            Endpoint("POST", base, self.create, TAKES, ["type"]),
            Endpoint("GET", base, self.list_all, {**filters, "customer": text}),
            Endpoint("GET", "/v1/customers/{customer}/payment_methods", self.list_of_customer, filters),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one + "/attach", self.attach, {"customer": text}, ["customer"]),
            Endpoint("POST", one + "/detach", self.detach),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        params = call.params
        if params["type"] == "sepa_debit":
            iban = (params.get("sepa_debit") or {}).get("iban", "")
            return new_account(work, str(iban), params.get("billing_details"))
        wanted = params.get("card") or {}
        for card in CARDS:
            if wanted.get("number") == card.number or wanted.get("token") == f"tok_{card.token}":
                return new_card(work, card)
        raise declined("Your card number is incorrect.", "incorrect_number", param="number")

    async def list_all(self, work: Work, call: Call) -> Document:
        like = {"customer": call.params.get("customer"), "type": call.params.get("type")}
        return await work.page("payment_method", "/v1/payment_methods", call.params, **like)

    async def list_of_customer(self, work: Work, call: Call) -> Document:
        customer = await work.alive("customer", call.ids["customer"], "customer")
        url = f"/v1/customers/{customer['id']}/payment_methods"
        like = {"customer": customer["id"], "type": call.params.get("type")}
        return await work.page("payment_method", url, call.params, **like)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get("payment_method", call.ids["id"], "payment_method")

    async def attach(self, work: Work, call: Call) -> Document:
        customer = await work.alive("customer", call.params["customer"], "customer", 400)
        method = await attach(work, customer, call.ids["id"], "payment_method")
        work.tell("payment_method.attached", method)
        return method

    async def detach(self, work: Work, call: Call) -> Document:
        method = await work.get("payment_method", call.ids["id"], "payment_method")
        if method["customer"] is None:
            raise invalid("The payment method you provided is not attached to a customer.", "payment_method")
        customer = await work.get("customer", method["customer"])
        method["customer"] = None
        work.tell("payment_method.detached", method)
        for owner in [customer, *await work.find("subscription", customer=customer["id"])]:
            kept = owner.get("invoice_settings", owner) if owner is customer else owner
            if kept.get("default_payment_method") == method["id"]:
                kept["default_payment_method"] = None
        return method


def new_card(work: Work, card: Card) -> Document:
    details = {"brand": "visa", "country": "US", "exp_month": 12, "exp_year": 2040, "last4": card.number[-4:]}
    return new_method(work, "card", {**details, "funding": "credit"}, card.conduct)


def new_account(work: Work, iban: str, billing: Document | None) -> Document:
    for account in ACCOUNTS:
        if account.iban == iban.replace(" ", ""):
            details = {"country": iban[:2], "last4": iban[-4:]}
            return new_method(work, "sepa_debit", details, account.conduct, billing)
    raise invalid("The IBAN you provided is invalid.", "sepa_debit[iban]", code="invalid_bank_account_iban")


def new_method(work: Work, kind: str, details: Document, conduct: str, billing: Document | None = None) -> Document:
    return work.add(
        "payment_method",
        {
            "type": kind,
            "billing_details": {"address": None, "email": None, "name": None, "phone": None, **(billing or {})},
            "customer": None,
            "metadata": {},
            kind: details,
            "_conduct": conduct,
        },
    )


async def attach(work: Work, customer: Document, token: str, param: str) -> Document:
    """Gives a customer a payment method, or a new one of a test card by its well-known id."""
    method = None
    for card in CARDS:
        if token == f"pm_card_{card.token}":
            method = new_card(work, card)
    if method is None:
        method = await work.get("payment_method", token, param, 400)
    if method["_conduct"] == REFUSED:
        raise declined("Your card was declined.", decline_code="generic_decline", param="")
    if method["customer"] not in (None, customer["id"]):
        raise invalid(
            "The payment method you provided has already been attached to a customer.",
            param,
            code="payment_method_already_attached",
        )
    method["customer"] = customer["id"]
    return method


async def of_customer(work: Work, customer: Document, method_id: str, param: str) -> Document:
    """A payment method that a customer has."""
    method = await work.get("payment_method", method_id, param, 400)
    if method["customer"] != customer["id"]:
        raise missing("PaymentMethod", method_id, param, 400)
    return method
