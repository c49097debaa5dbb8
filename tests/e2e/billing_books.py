"""Billing as its catalog knows it, with nobody at work but the test: time passes from timer to timer, and mails go as far as the
test lets them."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.stack import CATALOG, REPOSITORY

from .conftest import bare_catalog
from .stripe_life import DAY, MONTH, Life, Object, read_events
from .test_catalog import as_service, make_ready, one, sign_up

BUILD = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
PLANS = {
    "trial": {"plan": "starter", "days": 14},
    "plans": [
        {
            "id": "starter", "name": "Starter", "modules": ["sales"], "limits": {"users": 5},
            "prices": {"month": {"lookup_key": "tenantry_starter_month"}},
        }
    ],
}  # fmt: skip


@dataclass
class Mail:
    tenant: str
    kind: str
    step: int
    message_id: str
    facts: dict[str, str]
    at: float


@dataclass
class Books:
    owner: psycopg.Connection[Any]
    operator: psycopg.Connection[Any]  # the provisioner's login
    billing: psycopg.Connection[Any]
    sent: list[Mail] = field(default_factory=list)
    customers: int = 0

    def now(self) -> float:
        return float(one(self.owner, "select extract(epoch from business_now())"))

    def tenant(self, company: str = "Shop") -> str:
        """Ready, and known to billing."""
        tenant = sign_up(self.operator, slug=f"shop-{uuid.uuid4().hex[:12]}", company=company)
        make_ready(self.owner, tenant)
        self.take_news()
        return tenant

    def take_news(self) -> None:
        self.billing.execute("select take_news(1000, false)")

    def fact(self, tenant: str, column: str) -> Any:
        return one(self.owner, f"select {column} from billing.tenant where tenant_id = %s", tenant)

    def subscription(self, tenant: str) -> Any:
        return self.fact(tenant, "subscription")

    def wish(self, tenant: str) -> Any:
        found = self.owner.execute(
            "select wanted from lifecycle_wanted where tenant_id = %s and source = 'billing'", [tenant]
        ).fetchone()
        return found and found[0]

    def alerts(self) -> set[str]:
        return {row[0] for row in self.owner.execute("select cause from alert where resolved_at is null")}

    def resolve_alerts(self) -> None:
        self.owner.execute("update alert set resolved_at = now() where resolved_at is null")

    # What Stripe tells.

    def apply(self, *events: Object) -> None:
        for event in read_events(BUILD, list(events)):
            self.billing.execute("select apply_event(%s, '{}')", [json.dumps(event)])

    def apply_together(self, *events: Object) -> None:
        """In one batch, as what waits in Kafka is."""
        cause = {"type": "billing.stripe.received.v1", "id": "waited"}
        with self.billing.transaction():
            for event in read_events(BUILD, list(events)):
                self.billing.execute("select accept_event(%s, %s)", [json.dumps(cause), json.dumps(event)])
            self.billing.execute("select finish_batch()")

    def life(self, tenant: str) -> Life:
        self.customers += 1
        return Life(tenant=tenant, number=str(self.customers))

    def subscribe(self, tenant: str) -> Life:
        """A month is paid from now on."""
        life, now = self.life(tenant), int(self.now())
        self.apply(life.event("customer.subscription.updated", now, life.subscription("active", start=now)))
        return life

    def fail(self, life: Life, name: str = "second", action: bool = False) -> int:
        """The renewal is due now, and is not paid. Returns when."""
        now = int(self.now())
        invoice = life.invoice(name, "open", now, amount_remaining=9900)
        self.apply(
            life.event("invoice.payment_failed", now, invoice),
            *([life.event("invoice.payment_action_required", now, invoice)] if action else []),
            life.event("customer.subscription.updated", now, life.subscription("past_due", start=now)),
        )
        return now

    def pay(self, life: Life, began: int, name: str = "second") -> None:
        now = int(self.now())
        self.apply(
            life.event("invoice.paid", now, life.invoice(name, "paid", began, 2, amount_remaining=0)),
            life.event("customer.subscription.updated", now, life.subscription("active", start=began)),
        )

    # Time.

    def fire_timers(self) -> None:
        for _ in range(1000):
            if self.billing.execute("select fire_timers(200)").fetchone() == (0,):
                return
        raise AssertionError("timers come to no end")

    def pass_days(self, days: float, mails: bool = True) -> None:
        """From one instant at which something is due to the next, as while all work."""
        until = self.now() + days * DAY
        self.settle(mails)
        while self.now() < until:
            self.owner.execute("select clock_move(to_timestamp(%s))", [until])
            self.settle(mails)

    def settle(self, mails: bool = True) -> None:
        """Until nothing is due: a mail that went may make something due, and the other way round."""
        while True:
            self.billing.execute("select watch(false)")
            self.fire_timers()
            if not mails or self.send() == 0:
                break
        self.fire_timers()
        failing = self.owner.execute("select name, key, error from timer where attempts > 0").fetchall()
        assert failing == []

    def leap_days(self, days: float) -> None:
        """While no process of ours is there."""
        self.owner.execute("update business_clock set ahead = ahead + %s * interval '1 second'", [days * DAY])

    def begin(self) -> None:
        """What a process does first."""
        self.billing.execute("select * from take_mails('{}', 0, 60000, 1000, true)")

    # Mails.

    def take(self) -> list[Mail]:
        found = self.billing.execute(
            "select m.tenant_id, x.kind, m.step, x.message_id, x.facts "
            "from take_mails('{}', 100, 60000, 1000, false) x join mail m using (message_id)"
        ).fetchall()
        now = self.now()
        return [Mail(str(row[0]), row[1], row[2], row[3], row[4], now) for row in found]

    def send(self) -> int:
        taken = self.take()
        for mail in taken:
            self.billing.execute("select mail_sent(%s)", [mail.message_id])
        self.sent += taken
        return len(taken)

    def mails(self, tenant: str) -> list[tuple[str, int]]:
        return [(mail.kind, mail.step) for mail in self.sent if mail.tenant == tenant]

    def last(self, tenant: str) -> Mail:
        return [mail for mail in self.sent if mail.tenant == tenant][-1]


@contextlib.contextmanager
def books_of(name: str) -> Iterator[Books]:
    with bare_catalog(name) as stack:
        with (
            psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as owner,
            as_service(stack) as operator,
            as_service(stack, "billing") as billing,
        ):
            owner.execute("set search_path = provisioner, durable, catalog")
            billing.execute("select configure(%s, false)", [json.dumps(PLANS)])
            yield Books(owner, operator, billing)


__all__ = ["DAY", "MONTH", "Books", "Mail", "books_of"]
