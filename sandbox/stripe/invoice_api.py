"""The API's invoices: looked at, paid, finalized and voided on request, and previewed."""

from __future__ import annotations

from .api import Call, Endpoint
from .changes import Changes
from .errors import invalid
from .forms import LISTING, boolean, choice, hash_of, list_of, merged, metadata, natural, text
from .invoices import FAILED, Invoices, content
from .lifecycle import item_of
from .lines import period_lines
from .payment_methods import of_customer
from .periods import next_end
from .subscriptions import ITEM, new_items
from .work import Document, Work

LIST = {
    **LISTING,
    "customer": text,
    "subscription": text,
    "status": choice("draft", "open", "paid", "uncollectible", "void"),
}
PREVIEW = {
    "customer": text,
    "subscription": text,
    "subscription_details": hash_of(
        {
            "items": list_of(hash_of(ITEM)),
            "proration_behavior": choice("create_prorations", "always_invoice", "none"),
            "proration_date": natural,
        }
    ),
}


class InvoiceApi:
    def __init__(self, invoices: Invoices, changes: Changes) -> None:
        self._invoices = invoices
        self._changes = changes

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/invoices/{id}"
        paying = {"payment_method": text, "off_session": boolean}
        return [
            Endpoint("GET", "/v1/invoices", self.list_all, LIST),
            Endpoint("POST", "/v1/invoices/create_preview", self.preview, PREVIEW, ["subscription"]),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one, self.update, {"metadata": metadata, "auto_advance": boolean}),
            Endpoint("POST", one + "/finalize", self.finalize, {"auto_advance": boolean}),
            Endpoint("POST", one + "/pay", self.pay, paying),
            Endpoint("POST", one + "/void", self.void),
            Endpoint("POST", one + "/mark_uncollectible", self.mark_uncollectible),
            Endpoint("GET", one + "/lines", self.lines, LISTING),
            Endpoint("GET", "/v1/invoice_payments", self.payments, {**LISTING, "invoice": text, "status": text}),
            Endpoint("GET", "/v1/payment_intents/{id}", self.get_intent),
            Endpoint("GET", "/v1/charges", self.charges, {**LISTING, "customer": text, "payment_intent": text}),
            Endpoint("GET", "/v1/charges/{id}", self.get_charge),
        ]

    async def list_all(self, work: Work, call: Call) -> Document:
        params = call.params
        like = {"customer": params.get("customer"), "status": params.get("status")}
        like["_subscription"] = params.get("subscription")
        return await work.page("invoice", "/v1/invoices", params, **like)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get("invoice", call.ids["id"])

    async def update(self, work: Work, call: Call) -> Document:
        invoice = await work.get("invoice", call.ids["id"])
        if "metadata" in call.params:
            invoice["metadata"] = merged(invoice["metadata"], call.params["metadata"])
        invoice["auto_advance"] = call.params.get("auto_advance", invoice["auto_advance"])
        work.tell("invoice.updated", invoice)
        return invoice

    async def finalize(self, work: Work, call: Call) -> Document:
        invoice = await work.get("invoice", call.ids["id"])
        await self._invoices.finalize(work, invoice)
        return invoice

    async def pay(self, work: Work, call: Call) -> Document:
        """402 if it is not paid by this, and the attempt counts all the same."""
        invoice = await work.get("invoice", call.ids["id"])
        if invoice["status"] == "draft":
            await self._invoices.finalize(work, invoice)
        if invoice["status"] == "paid":
            raise invalid("Invoice is already paid")
        if invoice["status"] == "void":
            raise invalid("You cannot pay an invoice that is void.")
        method = None
        if call.params.get("payment_method"):
            customer = await work.alive("customer", invoice["customer"])
            method = await of_customer(work, customer, call.params["payment_method"], "payment_method")
        if await self._invoices.collect(work, invoice, method) == FAILED:
            call.refusal = await self._invoices.refusal(work, invoice, "invoice")
        return invoice

    async def void(self, work: Work, call: Call) -> Document:
        invoice = await self._open(work, call, ("open", "uncollectible"))
        self._invoices.void(work, invoice)
        return invoice

    async def mark_uncollectible(self, work: Work, call: Call) -> Document:
        invoice = await self._open(work, call, ("open",))
        invoice.update(status="uncollectible", auto_advance=False, next_payment_attempt=None)
        invoice["status_transitions"]["marked_uncollectible_at"] = work.at
        work.due(invoice, "retry", None)
        work.tell("invoice.marked_uncollectible", invoice)
        return invoice

    async def _open(self, work: Work, call: Call, statuses: tuple[str, ...]) -> Document:
        invoice = await work.get("invoice", call.ids["id"])
        if invoice["status"] not in statuses:
            raise invalid(
                f"This can only be done to an invoice that is {' or '.join(statuses)}, not {invoice['status']}."
            )
        return invoice

    async def lines(self, work: Work, call: Call) -> Document:
        invoice = await work.get("invoice", call.ids["id"])
        found: Document = invoice["lines"]
        return found

    async def payments(self, work: Work, call: Call) -> Document:
        like = {"invoice": call.params.get("invoice"), "status": call.params.get("status")}
        return await work.page("invoice_payment", "/v1/invoice_payments", call.params, **like)

    async def get_intent(self, work: Work, call: Call) -> Document:
        return await work.get("payment_intent", call.ids["id"], "intent")

    async def charges(self, work: Work, call: Call) -> Document:
        like = {name: call.params.get(name) for name in ("customer", "payment_intent")}
        return await work.page("charge", "/v1/charges", call.params, **like)

    async def get_charge(self, work: Work, call: Call) -> Document:
        return await work.get("charge", call.ids["id"])

    async def preview(self, work: Work, call: Call) -> Document:
        """What a change would cost now if it is billed at once; else what the next renewal will. Nothing is kept of it."""
        subscription = await work.get("subscription", call.params["subscription"], "subscription", 400)
        customer = await work.get("customer", subscription["customer"])
        wanted = call.params.get("subscription_details") or {}
        lines: list[Document] = []
        items, resets = subscription["items"]["data"], False
        if wanted.get("items"):
            items = await new_items(work, subscription, wanted["items"], "subscription_details[items]")
            lines, resets = self._changes.lines_of(subscription, items, wanted, work.at)
        reason, at = "subscription_update", work.at
        if not resets and wanted.get("proration_behavior") != "always_invoice":
            item = item_of(subscription)
            at = item["current_period_end"]
            end = next_end(subscription["billing_cycle_anchor"], at, item["price"]["recurring"])
            waiting = await work.find("invoiceitem", subscription=subscription["id"], invoice=None)
            lines = [*period_lines(subscription, items, at, end), *lines, *(each["_line"] for each in waiting)]
            reason = "upcoming"
        shown = content(subscription, customer, reason, lines, at)
        invoice_id = f"upcoming_{subscription['id']}"
        return {"id": invoice_id, "object": "invoice", "created": work.at, "livemode": False, **shown}
