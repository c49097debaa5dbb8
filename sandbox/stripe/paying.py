"""What the hosted pages share: the payment method somebody has chosen, and an invoice paid with it on the spot."""

from __future__ import annotations

from aiohttp import web

from . import payments
from .errors import StripeError, declined, invalid
from .invoices import FAILED, Invoices
from .ledger import Ledger
from .pages import authentication, gone, money, page, pay_form, wrong
from .payment_methods import CARDS, attach, new_account, new_card
from .work import Document, Work


class NeedsOwner(Exception):
    """The bank wants to see the owner of the card first."""


async def chosen(work: Work, customer: Document, fields: Document) -> Document:
    """The method of the number that was sent, as the customer's own."""
    number = str(fields.get("number", "")).replace(" ", "")
    card = next((each for each in CARDS if each.number == number), None)
    if card is not None:
        method = new_card(work, card)
    elif number[:2].isalpha():
        method = new_account(work, number, {"email": customer["email"], "name": customer["name"]})
    else:
        raise declined("Your card number is incorrect.", "incorrect_number", param="number")
    await attach(work, customer, method["id"], "number")
    work.tell("payment_method.attached", method)
    return method


async def pay_now(work: Work, invoices: Invoices, invoice: Document, method: Document, fields: Document) -> str:
    """Collects with the customer present; raises what the page is to show instead, and then nothing was done."""
    said = fields.get("authenticated")
    outcome = await invoices.collect(work, invoice, method, authenticated=said == "true")
    if outcome != FAILED:
        return outcome
    intent = await work.get("payment_intent", invoice["_intent"])
    if intent["status"] != payments.ACTION:
        raise declined("Your card was declined. Please try another one.")
    if said == "false":
        raise declined("We are unable to authenticate your payment method.")
    raise NeedsOwner


async def form_of(request: web.Request) -> Document:
    return {name: str(value) for name, value in (await request.post()).items()}


class InvoicePage:
    """The page behind an invoice's hosted_invoice_url."""

    def __init__(self, ledger: Ledger, invoices: Invoices) -> None:
        self._ledger = ledger
        self._invoices = invoices

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/i/{token}", self.show), web.post("/i/{token}", self.pay)]

    async def show(self, request: web.Request, problem: str | None = None) -> web.Response:
        async with self._ledger.work() as work:
            invoice = await self._find(work, request)
        if invoice["status"] != "open":
            return gone(f"Invoice {invoice['number']} is {invoice['status']}")
        due = money(invoice["amount_remaining"], invoice["currency"])
        body = wrong(problem) + f"<p>{due}</p>" + pay_form(f"Pay {due}")
        return page(f"Invoice {invoice['number']}", body, 402 if problem else 200)

    async def pay(self, request: web.Request) -> web.Response:
        fields = await form_of(request)
        try:
            async with self._ledger.work() as work:
                invoice = await self._find(work, request)
                if invoice["status"] != "open":
                    raise invalid("This invoice is not open.")
                customer = await work.alive("customer", invoice["customer"])
                method = await chosen(work, customer, fields)
                await pay_now(work, self._invoices, invoice, method, fields)
                customer["invoice_settings"]["default_payment_method"] = method["id"]
        except NeedsOwner:
            return authentication(number=fields.get("number"))
        except StripeError as refused:
            return await self.show(request, refused.message)
        return page("Thank you", f"<p>Invoice {invoice['number']} is {invoice['status']}.")

    async def _find(self, work: Work, request: web.Request) -> Document:
        found = await work.find("invoice", hosted_invoice_url=self._invoices.page_of(request.match_info["token"]))
        if not found:
            raise web.HTTPNotFound
        return found[0]
