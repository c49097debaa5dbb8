"""Invoices from draft to paid or void: their amounts, what is tried to collect them, and what becomes of each attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from . import payments
from .errors import StripeError, declined, invalid
from .ids import letters
from .settings import StripeSettings
from .work import Document, Work

HOUR = 3600
DAY = 86400
# Fourteen days in all.
RETRY_DAYS = (3, 5, 6)
PAID, FAILED, PENDING = "paid", "failed", "pending"
Settled = Callable[[Work, Document, str, bool], Awaitable[None]]

BLANK: Document = {
    "account_country": "US",
    "account_name": None,
    "account_tax_ids": None,
    "amount_overpaid": 0,
    "amount_shipping": 0,
    "application": None,
    "attempt_count": 0,
    "attempted": False,
    "auto_advance": True,
    "automatic_tax": {"enabled": False, "liability": None, "status": None, "disabled_reason": None, "provider": None},
    "automatically_finalizes_at": None,
    "collection_method": "charge_automatically",
    "custom_fields": None,
    "customer_account": None,
    "customer_address": None,
    "customer_phone": None,
    "customer_shipping": None,
    "customer_tax_exempt": "none",
    "customer_tax_ids": [],
    "default_payment_method": None,
    "default_source": None,
    "default_tax_rates": [],
    "description": None,
    "discounts": [],
    "due_date": None,
    "effective_at": None,
    "ending_balance": None,
    "footer": None,
    "from_invoice": None,
    "hosted_invoice_url": None,
    "invoice_pdf": None,
    "issuer": {"type": "self"},
    "last_finalization_error": None,
    "latest_revision": None,
    "metadata": {},
    "next_payment_attempt": None,
    "number": None,
    "on_behalf_of": None,
    "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
    "post_payment_credit_notes_amount": 0,
    "pre_payment_credit_notes_amount": 0,
    "receipt_number": None,
    "rendering": None,
    "shipping_cost": None,
    "shipping_details": None,
    "starting_balance": 0,
    "statement_descriptor": None,
    "status": "draft",
    "status_transitions": {"finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None},
    "test_clock": None,
    "total_discount_amounts": [],
    "total_pretax_credit_amounts": [],
    "total_taxes": [],
    "webhooks_delivered_at": None,
}


def content(subscription: Document, customer: Document, reason: str, lines: list[Document], at: int) -> Document:
    """An invoice's fields but its id: as they are stored, and as a preview shows them."""
    total = sum(line["amount"] for line in lines)
    due = max(0, total + customer["balance"])
    item = subscription["items"]["data"][0]
    return {
        **BLANK,
        "amount_due": due,
        "amount_paid": 0,
        "amount_remaining": due,
        "billing_reason": reason,
        "currency": item["price"]["currency"],
        "customer": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "lines": {"object": "list", "data": lines, "has_more": False, "total_count": len(lines)},
        "parent": {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": {
                "metadata": dict(subscription["metadata"]),
                "subscription": subscription["id"],
            },
        },
        "period_start": item["current_period_start"] if reason == "subscription_cycle" else at,
        "period_end": at,
        "starting_balance": customer["balance"],
        "subtotal": total,
        "test_clock": subscription["test_clock"],
        "subtotal_excluding_tax": total,
        "total": total,
        "total_excluding_tax": total,
        "_subscription": subscription["id"],
        "_charge": None,
        "_intent": None,
        "_retries": 0,
    }


class Invoices:
    def __init__(self, settings: StripeSettings) -> None:
        self._settings = settings
        # Told what came of every attempt, and whether there is another one to come.
        self.settled: Settled
        # Told what a bank said to a debit, days after it was asked.
        self.debited: Callable[[Work, Document, bool], Awaitable[None]]

    def page_of(self, token: str) -> str:
        """Where an invoice's customer pays it."""
        return f"{self._settings.stripe_base}/i/{token}"

    async def draft(self, work: Work, subscription: Document, reason: str, lines: list[Document]) -> Document:
        """A new invoice of a subscription, with what was waiting for its next one."""
        customer = await work.get("customer", subscription["customer"])
        for waiting in await work.find("invoiceitem", subscription=subscription["id"], invoice=None):
            lines.append(waiting["_line"])
        invoice = work.add("invoice", content(subscription, customer, reason, lines, work.at))
        invoice["lines"]["url"] = f"/v1/invoices/{invoice['id']}/lines"
        for line in invoice["lines"]["data"]:
            line["invoice"] = invoice["id"]
        for waiting in await work.find("invoiceitem", subscription=subscription["id"], invoice=None):
            waiting["invoice"] = invoice["id"]
        subscription["latest_invoice"] = invoice["id"]
        work.tell("invoice.created", invoice)
        return invoice

    def finalize_later(self, work: Work, invoice: Document) -> None:
        """A renewal's draft can be looked at for an hour."""
        invoice["automatically_finalizes_at"] = work.at + HOUR
        work.due(invoice, "finalize", work.at + HOUR)

    async def finalize(self, work: Work, invoice: Document) -> None:
        """Gives it a number; from then on its amounts do not change. A credit goes to the customer's balance."""
        if invoice["status"] != "draft":
            raise invalid("This invoice is already finalized.", code="invoice_not_editable")
        customer = await work.get("customer", invoice["customer"])
        balance = invoice["starting_balance"] = customer.get("balance", 0)
        due = max(0, invoice["total"] + balance)
        invoice.update(amount_due=due, amount_remaining=due, ending_balance=min(0, invoice["total"] + balance))
        if not customer.get("deleted"):
            customer["balance"] = invoice["ending_balance"]
            invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
            customer["next_invoice_sequence"] += 1
        invoice.update(status="open", effective_at=work.at, automatically_finalizes_at=None)
        invoice["status_transitions"]["finalized_at"] = work.at
        invoice["hosted_invoice_url"] = self.page_of(letters(24))
        work.due(invoice, "finalize", None)
        work.tell("invoice.finalized", invoice)

    async def collect(
        self, work: Work, invoice: Document, method: Document | None = None, authenticated: bool = False
    ) -> str:
        """Tries to have an open invoice paid, by the method that is its turn unless one is given."""
        if invoice["amount_remaining"] == 0:
            return await self._paid(work, invoice)
        intent = await self._intent(work, invoice)
        if intent["status"] == payments.PROCESSING:
            return PENDING
        method = method or await self._method(work, invoice)
        invoice["attempted"] = True
        invoice["attempt_count"] += 1
        status = payments.FAILED
        if method is not None:
            seconds = self._settings.stripe_debit_seconds
            status = payments.attempt(work, intent, method, authenticated, seconds)
            invoice["_charge"] = intent["latest_charge"]
        if status == payments.SUCCEEDED:
            return await self._paid(work, invoice)
        if status == payments.PROCESSING:
            work.due(invoice, "retry", None)
            invoice["next_payment_attempt"] = None
            return PENDING
        return await self._failed(work, invoice, status == payments.ACTION)

    async def _intent(self, work: Work, invoice: Document) -> Document:
        if invoice["_intent"] is not None:
            return await work.get("payment_intent", invoice["_intent"])
        amount, currency = invoice["amount_remaining"], invoice["currency"]
        intent = payments.new_intent(work, invoice["customer"], amount, currency, invoice["id"])
        invoice["_intent"] = intent["id"]
        work.add(
            "invoice_payment",
            {
                "amount_paid": None,
                "amount_requested": amount,
                "currency": currency,
                "invoice": invoice["id"],
                "is_default": True,
                "payment": {"type": "payment_intent", "payment_intent": intent["id"]},
                "status": "open",
                "status_transitions": {"canceled_at": None, "paid_at": None},
            },
        )
        return intent

    async def _method(self, work: Work, invoice: Document) -> Document | None:
        subscription = await work.get("subscription", invoice["_subscription"])
        customer = await work.get("customer", invoice["customer"])
        chosen = (
            invoice["default_payment_method"]
            or subscription["default_payment_method"]
            or (customer.get("invoice_settings") or {}).get("default_payment_method")
        )
        return await work.get("payment_method", chosen) if chosen else None

    async def _paid(self, work: Work, invoice: Document) -> str:
        invoice.update(status="paid", attempted=True, auto_advance=False, next_payment_attempt=None)
        invoice.update(amount_paid=invoice["amount_due"], amount_remaining=0)
        invoice["status_transitions"]["paid_at"] = work.at
        work.due(invoice, "retry", None)
        for payment in await work.find("invoice_payment", invoice=invoice["id"], status="open"):
            payment.update(status="paid", amount_paid=payment["amount_requested"])
            payment["status_transitions"]["paid_at"] = work.at
        await self.settled(work, invoice, PAID, False)
        work.tell("invoice.payment_succeeded", invoice)
        work.tell("invoice.paid", invoice)
        return PAID

    async def _failed(self, work: Work, invoice: Document, needs_action: bool) -> str:
        """The next attempt is some days later, if this one was not the last and the invoice collects itself."""
        again = invoice["auto_advance"] and invoice["_retries"] < len(RETRY_DAYS)
        if again:
            invoice["next_payment_attempt"] = work.at + RETRY_DAYS[invoice["_retries"]] * DAY
            invoice["_retries"] += 1
        else:
            invoice["next_payment_attempt"] = None
        work.due(invoice, "retry", invoice["next_payment_attempt"])
        work.tell("invoice.payment_failed", invoice)
        if needs_action:
            work.tell("invoice.payment_action_required", invoice)
        await self.settled(work, invoice, FAILED, again)
        return FAILED

    async def refusal(self, work: Work, invoice: Document, where: str) -> StripeError:
        """Why an attempt has failed, as a caller who waits for it is told."""
        intent = await work.get("payment_intent", invoice["_intent"]) if invoice["_intent"] else None
        if intent is not None and intent["status"] == payments.ACTION:
            return declined("This payment requires additional user action.", f"{where}_payment_intent_requires_action")
        return declined(payments.MESSAGE, decline_code="generic_decline")

    async def debit_settled(self, work: Work, intent: Document) -> None:
        """What a bank answers days after it was asked."""
        pays = await payments.settle(work, intent)
        if intent["_invoice"] is None:
            return
        invoice = await work.get("invoice", intent["_invoice"])
        if invoice["status"] != "open":
            return
        await (self._paid(work, invoice) if pays else self._failed(work, invoice, False))
        await self.debited(work, invoice, pays)

    async def retry(self, work: Work, invoice: Document) -> None:
        if invoice["status"] == "open":
            await self.collect(work, invoice)

    async def finalize_now(self, work: Work, invoice: Document) -> None:
        if invoice["status"] == "draft":
            await self.finalize(work, invoice)
            await self.collect(work, invoice)

    def void(self, work: Work, invoice: Document) -> None:
        invoice.update(status="void", auto_advance=False, next_payment_attempt=None)
        invoice["status_transitions"]["voided_at"] = work.at
        work.due(invoice, "retry", None)
        work.tell("invoice.voided", invoice)

    async def stop_collecting(self, work: Work, subscription: Document) -> None:
        """Of a subscription that has ended, nothing is collected by itself any more."""
        for status in ("draft", "open"):
            for invoice in await work.find("invoice", _subscription=subscription["id"], status=status):
                invoice.update(auto_advance=False, next_payment_attempt=None, automatically_finalizes_at=None)
                work.due(invoice, "retry", None)
                work.due(invoice, "finalize", None)
