"""A change of a subscription's items in the middle of a period: prorated, billed at once or later, or pending until it is paid."""

from __future__ import annotations

import copy

from .errors import invalid
from .invoices import FAILED, HOUR, Invoices
from .ledger import Ledger
from .lifecycle import TERMINAL, Lifecycle, item_of, set_period
from .lines import period_lines, prorations
from .periods import next_end
from .work import Document, Work

PENDING_SECONDS = 23 * HOUR
# What may be said together with pending_if_incomplete.
PENDABLE = {"items", "payment_behavior", "proration_behavior", "proration_date", "expand"}


def interval_of(items: list[Document]) -> tuple[str, int]:
    recurring = items[0]["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


class Changes:
    def __init__(self, ledger: Ledger, invoices: Invoices, lifecycle: Lifecycle) -> None:
        self._invoices = invoices
        lifecycle.apply_pending = self.apply_pending
        ledger.when_due("pending_update", "subscription", self.pending_over)

    def lines_of(
        self, subscription: Document, items: list[Document], wanted: Document, at: int
    ) -> tuple[list[Document], bool]:
        """What a change costs now, and whether a new period begins with it."""
        moment = wanted.get("proration_date") or at
        period = item_of(subscription)
        if not period["current_period_start"] <= moment <= period["current_period_end"]:
            message = "Invalid proration_date: it must be within the subscription's current period."
            raise invalid(message, "proration_date")
        resets = interval_of(items) != interval_of(subscription["items"]["data"])
        lines = []
        if wanted.get("proration_behavior") != "none" and subscription["status"] != "trialing":
            lines = prorations(subscription, items, moment, resets)
        if resets and subscription["status"] != "trialing":
            end = next_end(at, at, items[0]["price"]["recurring"])
            lines += period_lines(subscription, items, at, end)
        return lines, resets

    async def apply(self, work: Work, subscription: Document, items: list[Document], wanted: Document) -> None:
        """Bills the change as its proration_behavior says; how it goes on unpaid says its payment_behavior."""
        behavior = wanted.get("payment_behavior", "allow_incomplete")
        lines, resets = self.lines_of(subscription, items, wanted, work.at)
        subscription["pending_update"] = None
        work.due(subscription, "pending_update", None)
        if subscription["status"] == "trialing" or not lines:
            self._take(work, subscription, items, False)
            return
        if not resets and wanted.get("proration_behavior") != "always_invoice":
            self._wait(work, subscription, lines)
            self._take(work, subscription, items, False)
            return
        if behavior == "pending_if_incomplete":
            await self._take_if_paid(work, subscription, items, lines, resets)
            return
        self._take(work, subscription, items, resets)
        invoice = await self._invoices.draft(work, subscription, "subscription_update", lines)
        await self._invoices.finalize(work, invoice)
        if behavior == "default_incomplete" and invoice["amount_due"] > 0:
            return
        if await self._invoices.collect(work, invoice) == FAILED and behavior == "error_if_incomplete":
            raise await self._invoices.refusal(work, invoice, "subscription")

    def _wait(self, work: Work, subscription: Document, lines: list[Document]) -> None:
        """Prorations that are not billed at once wait for the next invoice."""
        for line in lines:
            work.add(
                "invoiceitem",
                {
                    "amount": line["amount"],
                    "currency": line["currency"],
                    "customer": subscription["customer"],
                    "description": line["description"],
                    "invoice": None,
                    "period": line["period"],
                    "proration": True,
                    "subscription": subscription["id"],
                    "_line": line,
                },
            )

    def _take(self, work: Work, subscription: Document, items: list[Document], resets: bool) -> None:
        subscription["items"]["data"] = items
        subscription["items"]["total_count"] = len(items)
        if resets:
            subscription["billing_cycle_anchor"] = work.at
            set_period(work, subscription, work.at, next_end(work.at, work.at, items[0]["price"]["recurring"]))

    async def _take_if_paid(
        self, work: Work, subscription: Document, items: list[Document], lines: list[Document], resets: bool
    ) -> None:
        """The invoice is made and tried; until it is paid the old plan stays, and the new one is a pending update."""
        invoice = await self._invoices.draft(work, subscription, "subscription_update", lines)
        invoice["auto_advance"] = False
        await self._invoices.finalize(work, invoice)
        subscription["pending_update"] = {
            "billing_cycle_anchor": None,
            "discount": None,
            "discounts": None,
            "expires_at": work.at + PENDING_SECONDS,
            "metadata": None,
            "subscription_items": copy.deepcopy(items),
            "trial_end": None,
            "trial_from_plan": None,
            "_invoice": invoice["id"],
            "_resets": resets,
            "_told": False,
        }
        work.due(subscription, "pending_update", work.at + PENDING_SECONDS)
        await self._invoices.collect(work, invoice)
        if subscription["pending_update"] is not None:
            subscription["pending_update"]["_told"] = True

    async def apply_pending(self, work: Work, subscription: Document) -> None:
        """Its invoice was paid. One that was paid at once has never been pending to anybody."""
        pending = subscription["pending_update"]
        subscription["pending_update"] = None
        work.due(subscription, "pending_update", None)
        self._take(work, subscription, pending["subscription_items"], pending["_resets"])
        if pending["_told"]:
            work.tell("customer.subscription.pending_update_applied", subscription)

    async def pending_over(self, work: Work, subscription: Document) -> None:
        pending = subscription["pending_update"]
        if pending is None or subscription["status"] in TERMINAL:
            return
        subscription["pending_update"] = None
        invoice = await work.get("invoice", pending["_invoice"])
        if invoice["status"] == "open":
            self._invoices.void(work, invoice)
        work.tell("customer.subscription.pending_update_expired", subscription)
        work.tell("customer.subscription.updated", subscription)
