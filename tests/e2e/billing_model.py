"""What a tenant may use, which mails it gets and when it is archived: said once more, as docs/billing.md says it, from what Stripe
tells and from when the trial ends. Shares nothing with the product; all times are milliseconds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from deploy.local.stack import REPOSITORY

SECOND = 1000
DAY = 86400 * SECOND
TRIAL, GRACE, KEPT = 14 * DAY, 7 * DAY, 30 * DAY
NOTICES = (7 * DAY, 1 * DAY)  # before the archive
FOREVER = 1 << 60
ALIVE = ("active", "trialing", "past_due", "unpaid")
PLANS = {plan["id"]: plan for plan in json.loads((REPOSITORY / "templates" / "plans.json").read_text())["plans"]}


def stamp(at: int) -> str:
    seconds, rest = divmod(at, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def read_stamp(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@dataclass
class Told:
    """What Stripe has told of one customer, in the order in which it happened: each object as it is now."""

    subscriptions: dict[str, Any] = field(default_factory=dict)
    invoices: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)  # when an invoice's payment failed first
    asked: dict[str, int] = field(default_factory=dict)  # when the bank first asked for its customer
    tried: set[str] = field(default_factory=set)  # invoices of changes that are made once they are paid

    def take(self, event: Any) -> None:
        about, at = event["data"]["object"], event["created"] * SECOND
        if about["object"] == "subscription":
            self.subscriptions[about["id"]] = about
            if about["pending_update"] is not None:
                self.tried.add(about["latest_invoice"])
        elif about["object"] == "invoice" and "id" in about:
            self.invoices[about["id"]] = about
        if event["type"] == "invoice.payment_failed":
            self.failed.setdefault(about["id"], at)
        elif event["type"] == "invoice.payment_action_required":
            self.asked.setdefault(about["id"], at)

    @property
    def live(self) -> Any:
        found = [each for each in self.subscriptions.values() if each["status"] in ALIVE]
        assert len(found) <= 1, f"two live subscriptions: {[each['id'] for each in found]}"
        return found[0] if found else None

    @property
    def ended(self) -> Any:
        found = [each for each in self.subscriptions.values() if each["status"] == "canceled"]
        return max(found, key=lambda each: each["ended_at"], default=None)

    def owed(self, subscription: Any) -> Any:
        """The oldest of its invoices that was not paid, but for one of a change of the plan, which then did not happen."""
        found = [
            each
            for each in self.invoices.values()
            if subscription_of(each) == subscription["id"]
            and each["status"] == "open"
            and each["billing_reason"] != "subscription_update"
            and each["id"] in self.failed
        ]
        return min(found, key=lambda each: (each["created"], each["id"]), default=None)


def subscription_of(invoice: Any) -> str:
    return str(invoice["parent"]["subscription_details"]["subscription"])


def plan_of(subscription: Any) -> str:
    return str(subscription["items"]["data"][0]["price"]["metadata"]["plan"])


@dataclass
class State:
    status: str
    why: str
    plan: str
    access: str = "full"
    subscription: str | None = None


@dataclass(frozen=True)
class Letter:
    """A mail, and from when to when it is true."""

    message_id: str
    start: int
    end: int


@dataclass
class Expected:
    """One tenant. Time passes by `pass_time`, while what Stripe has told stays as it is."""

    tenant: str
    trial_end: int
    told: Told = field(default_factory=Told)
    ended: int | None = None  # since when it has no access
    is_archived: bool = False
    mails: set[str] = field(default_factory=set)  # that must have come
    maybe: set[str] = field(default_factory=set)  # that may have

    def access_ends(self) -> int | None:
        """When access ends, or has, if nothing else happens."""
        live, ended = self.told.live, self.told.ended
        if live is not None:
            owed = self.told.owed(live) if live["status"] in ("past_due", "unpaid") else None
            return None if owed is None else self.told.failed[owed["id"]] + GRACE
        if ended is None:
            return self.trial_end
        owed = self.told.owed(ended)
        over = max(ended["ended_at"] * SECOND, self.trial_end)
        return over if owed is None else min(over, max(self.told.failed[owed["id"]] + GRACE, self.trial_end))

    def state(self, at: int) -> State:
        """What holds at a moment."""
        live, ended, ends = self.told.live, self.told.ended, self.access_ends()
        access = "none" if ends is not None and ends <= at else "full"
        if self.is_archived:
            plan = plan_of(ended) if ended is not None else "starter"
            return State("archived", "archived", plan, "none")
        if live is not None:
            said = {"active": "active", "trialing": "trial"}.get(live["status"])
            late = "suspended" if access == "none" else "past_due"
            return State(said or late, said or "payment_failed", plan_of(live), access, live["id"])
        if at < self.trial_end:
            return State("trial", "trial", "starter")
        if ended is not None:
            failed = (ended.get("cancellation_details") or {}).get("reason") == "payment_failed"
            return State("cancelled", "payment_failed" if failed else "cancelled", plan_of(ended), access)
        return State("suspended", "trial_ended", "starter", "none")

    def letter(self, kind: str, step: int, cause: str, start: int, end: int) -> Letter:
        about = hashlib.md5(cause.encode()).hexdigest()[:12]
        return Letter(f"<{kind.replace('_', '-')}-{step}-{self.tenant}-{about}@tenantry>", start, end)

    def letters(self) -> list[Letter]:
        """All that what is known leads to."""
        live, ends = self.told.live, self.access_ends()
        found = []
        if self.is_archived:
            return []
        if live is None:
            start = max(self.trial_end - 2 * DAY, self.trial_end - TRIAL)
            found.append(self.letter("trial_ending", 0, stamp(self.trial_end), start, self.trial_end))
        else:
            found += self.about_invoices(live)
        if ends is not None:
            cause, archive = stamp(ends if self.ended is None else self.ended), ends + KEPT
            week, day = (archive - before for before in NOTICES)
            found.append(self.letter("suspended", 0, cause, ends, week))
            found.append(self.letter("archive_notice", 7, cause, week, day))
            found.append(self.letter("archive_notice", 1, cause, day, FOREVER))
        return found

    def about_invoices(self, live: Any) -> list[Letter]:
        found = []
        owed = self.told.owed(live) if live["status"] in ("past_due", "unpaid") else None
        if owed is not None:
            failed, cause = self.told.failed[owed["id"]], owed["id"]
            days = [(3, failed + 3 * DAY, failed + 6 * DAY), (6, failed + 6 * DAY, failed + GRACE)]
            if owed["id"] not in self.told.asked:  # else that mail is the better one
                days.append((0, failed + 120 * SECOND, failed + 3 * DAY))
            found += [self.letter("payment_failed", step, cause, start, end) for step, start, end in days]
        for invoice, at in self.told.asked.items():
            about = self.told.invoices[invoice]
            if (
                subscription_of(about) == live["id"]
                and about["status"] == "open"
                and about["billing_reason"] != "subscription_create"
            ):
                found.append(self.letter("payment_action_required", 0, invoice, at, at + 7 * DAY))
        return found

    def pass_time(self, since: int, until: int) -> None:
        """What has come, once it is `until`."""
        ends = self.access_ends()
        if ends is None or ends > since:
            self.ended = None
        is_over = ends is not None and ends + KEPT <= until
        for letter in self.letters():
            end = min(letter.end, ends + KEPT) if ends is not None and is_over else letter.end
            if letter.start <= until and since < end:
                self.mails.add(letter.message_id)
        if ends is not None and ends <= until and self.ended is None:
            self.ended = ends
        self.is_archived = self.is_archived or is_over

    def ask_for_customer(self, invoice: str, at: int) -> None:
        """The bank has, while the customer was there: whether the mail went before it was answered is a race."""
        self.maybe.add(self.letter("payment_action_required", 0, invoice, at, at).message_id)
