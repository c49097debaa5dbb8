"""What becomes of a subscription by itself: it begins, is renewed, falls behind, recovers and ends, by the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .invoices import DAY, FAILED, HOUR, PAID, PENDING, Invoices, content
from .ledger import Ledger
from .lines import period_lines, trial_lines
from .periods import next_end
from .settings import StripeSettings
from .work import Document, Work

TERMINAL = ("canceled", "incomplete_expired")
BEHIND = ("past_due", "unpaid")
FIRST_PAYMENT_SECONDS = 23 * HOUR
TRIAL_WILL_END_SECONDS = 3 * DAY
UPCOMING_SECONDS = 7 * DAY


def item_of(subscription: Document) -> Document:
    """Its first item, whose period is that of all."""
    found: Document = subscription["items"]["data"][0]
    return found


def set_period(work: Work, subscription: Document, start: int, end: int) -> None:
    """A new period for all items, and what is due in it."""
    for item in subscription["items"]["data"]:
        item.update(current_period_start=start, current_period_end=end)
    work.due(subscription, "period", end)
    notice = end - UPCOMING_SECONDS
    work.due(subscription, "upcoming", notice if notice > start and subscription["status"] != "paused" else None)


class Lifecycle:
    def __init__(self, settings: StripeSettings, invoices: Invoices) -> None:
        self._settings = settings
        self._invoices = invoices
        invoices.settled = self.settled
        # Told when the invoice of a pending update was paid, and when a subscription has ended.
        self.apply_pending: Callable[[Work, Document], Awaitable[None]]
        self.ended: Callable[[Work, Document], Awaitable[None]]

    def register(self, ledger: Ledger) -> None:
        ledger.when_due("period", "subscription", self.period_over)
        ledger.when_due("cancel", "subscription", self.cancel_due)
        ledger.when_due("trial_will_end", "subscription", self.trial_will_end)
        ledger.when_due("upcoming", "subscription", self.upcoming)
        ledger.when_due("first_payment", "subscription", self.first_payment_late)
        ledger.when_due("finalize", "invoice", self._invoices.finalize_now)
        ledger.when_due("retry", "invoice", self._invoices.retry)
        ledger.when_due("debit_settled", "payment_intent", self._invoices.debit_settled)

    async def start(self, work: Work, subscription: Document, behavior: str) -> None:
        """Bills the first period, or none while it is tried."""
        items, first = subscription["items"]["data"], item_of(subscription)
        start = work.at
        if subscription["trial_end"] is not None:
            subscription["status"] = "trialing"
            set_period(work, subscription, start, subscription["trial_end"])
            work.due(subscription, "trial_will_end", max(start, subscription["trial_end"] - TRIAL_WILL_END_SECONDS))
            lines = trial_lines(subscription, start, subscription["trial_end"])
        else:
            end = next_end(subscription["billing_cycle_anchor"], start, first["price"]["recurring"])
            set_period(work, subscription, start, end)
            lines = period_lines(subscription, items, start, end)
        invoice = await self._invoices.draft(work, subscription, "subscription_create", lines)
        # Until it is paid once, nothing but its customer pays it.
        invoice["auto_advance"] = False
        work.tell("customer.subscription.created", subscription)
        await self._invoices.finalize(work, invoice)
        if subscription["status"] == "incomplete":
            work.due(subscription, "first_payment", start + FIRST_PAYMENT_SECONDS)
        if behavior == "default_incomplete" and invoice["amount_due"] > 0:
            return
        outcome = await self._invoices.collect(work, invoice)
        if outcome == FAILED and behavior == "error_if_incomplete":
            raise await self._invoices.refusal(work, invoice, "subscription")
        if outcome == PENDING:
            await self.first_payment_pending(work, subscription, invoice)

    async def first_payment_pending(self, work: Work, subscription: Document, invoice: Document) -> None:
        """A debit is on its way: the subscription is active on trust."""
        invoice["auto_advance"] = True
        subscription["status"] = "active"
        work.due(subscription, "first_payment", None)
        work.tell("customer.subscription.updated", subscription)

    async def settled(self, work: Work, invoice: Document, outcome: str, again: bool) -> None:
        subscription = await work.get("subscription", invoice["_subscription"])
        status, pending = subscription["status"], subscription["pending_update"]
        if status in TERMINAL:
            return
        if outcome == PAID and pending is not None and pending["_invoice"] == invoice["id"]:
            await self.apply_pending(work, subscription)
        elif outcome == PAID and (
            status == "incomplete" or (status in BEHIND and subscription["latest_invoice"] == invoice["id"])
        ):
            subscription["status"] = "active"
            work.due(subscription, "first_payment", None)
        elif outcome == FAILED and status != "incomplete" and invoice["auto_advance"]:
            if status in ("active", "trialing"):
                subscription["status"] = "past_due"
            if not again and self._settings.stripe_after_retries == "cancel":
                await self.end(work, subscription, "payment_failed")
                return
            if not again and self._settings.stripe_after_retries == "unpaid":
                subscription["status"] = "unpaid"
        work.tell("customer.subscription.updated", subscription)

    async def period_over(self, work: Work, subscription: Document) -> None:
        """The next period begins with a draft; or the subscription ends, or rests for want of something to pay with."""
        if subscription["status"] in TERMINAL or subscription["status"] in ("paused", "incomplete"):
            return
        if subscription["cancel_at_period_end"]:
            await self.end(work, subscription, "cancellation_requested")
            return
        if subscription["status"] == "trialing" and not await self._has_method(work, subscription):
            then = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
            if then == "cancel":
                await self.end(work, subscription, None)
                return
            if then == "pause":
                subscription["status"] = "paused"
                work.due(subscription, "upcoming", None)
                work.tell("customer.subscription.paused", subscription)
                work.tell("customer.subscription.updated", subscription)
                return
        await self.renew(work, subscription)

    async def renew(self, work: Work, subscription: Document) -> None:
        if subscription["status"] in ("trialing", "paused"):
            subscription["status"] = "active"
        items, price = subscription["items"]["data"], item_of(subscription)["price"]
        end = next_end(subscription["billing_cycle_anchor"], work.at, price["recurring"])
        lines = period_lines(subscription, items, work.at, end)
        invoice = await self._invoices.draft(work, subscription, "subscription_cycle", lines)
        set_period(work, subscription, work.at, end)
        if subscription["status"] == "unpaid":
            invoice["auto_advance"] = False
        else:
            self._invoices.finalize_later(work, invoice)
        work.tell("customer.subscription.updated", subscription)

    async def _has_method(self, work: Work, subscription: Document) -> bool:
        customer = await work.get("customer", subscription["customer"])
        return bool(
            subscription["default_payment_method"]
            or (customer.get("invoice_settings") or {}).get("default_payment_method")
        )

    async def trial_will_end(self, work: Work, subscription: Document) -> None:
        if subscription["status"] == "trialing":
            work.tell("customer.subscription.trial_will_end", subscription)

    async def upcoming(self, work: Work, subscription: Document) -> None:
        """Told a week ahead, with an invoice that has no id yet."""
        if subscription["cancel_at_period_end"] or subscription["status"] in (*TERMINAL, "paused"):
            return
        customer, item = await work.get("customer", subscription["customer"]), item_of(subscription)
        start = item["current_period_end"]
        end = next_end(subscription["billing_cycle_anchor"], start, item["price"]["recurring"])
        lines = period_lines(subscription, subscription["items"]["data"], start, end)
        shown = content(subscription, customer, "upcoming", lines, start)
        work.tell("invoice.upcoming", {"object": "invoice", "created": work.at, "livemode": False, **shown})

    async def first_payment_late(self, work: Work, subscription: Document) -> None:
        if subscription["status"] != "incomplete":
            return
        subscription.update(status="incomplete_expired", ended_at=work.at)
        self.forget_dues(work, subscription)
        invoice = await work.get("invoice", subscription["latest_invoice"])
        if invoice["status"] == "open":
            self._invoices.void(work, invoice)
        work.tell("customer.subscription.updated", subscription)

    async def cancel_due(self, work: Work, subscription: Document) -> None:
        if subscription["status"] not in TERMINAL:
            await self.end(work, subscription, "cancellation_requested")

    def forget_dues(self, work: Work, subscription: Document) -> None:
        for what in ("period", "cancel", "trial_will_end", "upcoming", "first_payment", "pending_update"):
            work.due(subscription, what, None)

    async def end(self, work: Work, subscription: Document, reason: str | None) -> None:
        """It is over, for good."""
        subscription.update(status="canceled", ended_at=work.at, pending_update=None)
        subscription["canceled_at"] = subscription["canceled_at"] or work.at
        if reason is not None:
            subscription["cancellation_details"]["reason"] = reason
        self.forget_dues(work, subscription)
        await self._invoices.stop_collecting(work, subscription)
        await self.ended(work, subscription)
        work.tell("customer.subscription.deleted", subscription)
