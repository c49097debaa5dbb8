"""Customers: who pays, and with what by default."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .api import Call, Endpoint
from .forms import LISTING, choice, hash_of, list_of, merged, metadata, text
from .ids import letters
from .payment_methods import attach, of_customer
from .work import Document, Work

BLANK: Document = {
    "address": None,
    "balance": 0,
    "currency": None,
    "default_source": None,
    "delinquent": False,
    "description": None,
    "discount": None,
    "email": None,
    "name": None,
    "next_invoice_sequence": 1,
    "phone": None,
    "preferred_locales": [],
    "shipping": None,
    "tax_exempt": "none",
    "test_clock": None,
}
TAKES = {
    "address": hash_of({name: text for name in ("city", "country", "line1", "line2", "postal_code", "state")}),
    "description": text,
    "email": text,
    "invoice_settings": hash_of({"default_payment_method": text}),
    "metadata": metadata,
    "name": text,
    "phone": text,
    "preferred_locales": list_of(text),
    "tax_exempt": choice("none", "exempt", "reverse"),
}
Ending = Callable[[Work, Document], Awaitable[None]]


class Customers:
    def __init__(self, bury: Ending) -> None:
        """Takes what ends all that a customer has when it is deleted."""
        self._bury = bury

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/customers/{id}"
        return [
            Endpoint("POST", "/v1/customers", self.create, {**TAKES, "payment_method": text, "test_clock": text}),
            Endpoint("GET", "/v1/customers", self.list_all, {**LISTING, "email": text}),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one, self.update, TAKES),
            Endpoint("DELETE", one, self.delete),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        if call.params.get("test_clock"):
            await work.at_clock(call.params["test_clock"])
        made = blank_customer(work)
        token = call.params.pop("payment_method", None)
        method = await attach(work, made, token, "payment_method") if token else None
        await self._take(work, made, call.params)
        work.tell("customer.created", made)
        if method is not None:
            work.tell("payment_method.attached", method)
        return made

    async def _take(self, work: Work, customer: Document, params: Document) -> None:
        params.pop("expand", None)
        if "metadata" in params:
            customer["metadata"] = merged(customer["metadata"], params.pop("metadata"))
        if params.get("invoice_settings"):
            name = "default_payment_method"
            wanted = params["invoice_settings"].get(name)
            if wanted is not None:
                wanted = (await of_customer(work, customer, wanted, f"invoice_settings[{name}]"))["id"]
            customer["invoice_settings"][name] = wanted
        params.pop("invoice_settings", None)
        customer.update(params)

    async def list_all(self, work: Work, call: Call) -> Document:
        return await work.page("customer", "/v1/customers", call.params, email=call.params.get("email"))

    async def get(self, work: Work, call: Call) -> Document:
        """A deleted customer is told as such, with 200."""
        return await work.get("customer", call.ids["id"])

    async def update(self, work: Work, call: Call) -> Document:
        customer = await work.alive("customer", call.ids["id"])
        await self._take(work, customer, call.params)
        work.tell("customer.updated", customer)
        return customer

    async def delete(self, work: Work, call: Call) -> Document:
        customer = await work.alive("customer", call.ids["id"])
        await self._bury(work, customer)
        work.tell("customer.deleted", customer)
        return work.delete(customer)


def blank_customer(work: Work) -> Document:
    made = work.add("customer", {**BLANK, "metadata": {}, "invoice_prefix": letters(8).upper()})
    made["invoice_settings"] = {
        "custom_fields": None,
        "default_payment_method": None,
        "footer": None,
        "rendering_options": None,
    }
    return made
