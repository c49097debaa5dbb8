"""A desk for tests of billing: tenants that pay at the sandbox's Stripe, and time that passes there and here."""

from __future__ import annotations

import base64
import contextlib
import hmac
import re
import time
from collections.abc import Iterator
from typing import Any

from deploy.local.stack import CATALOG, REPOSITORY, Stack

from .client import Api, eventually
from .command import cli_within
from .conftest import make_stack
from .stripe import WEBHOOKS, ask_stripe

DAY = 86400
CENTS = {"starter": 9900, "professional": 29900}
TYPES_FILE = REPOSITORY / "common" / "contracts" / "stripe_event_types.c"
EVENT_TYPES = re.findall(r'^ +"([a-z_.]+)",$', TYPES_FILE.read_text(), re.MULTILINE)


def billing_stack(billings: int = 1, **options: str) -> Iterator[Stack]:
    wanted = {"LEASE": "2s", **options}
    yield from make_stack("postgres", billings=billings, stripe=True, keep_memberships=True, options=wanted)


class Desk:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
        self.prices: dict[str, str] = {}
        gateway = stack.services["gateway-0"]
        self.endpoint = self.stripe("webhook_endpoints", url=gateway.url + WEBHOOKS, enabled_events=EVENT_TYPES)
        gateway.stop()
        gateway.restart({"STRIPE_WEBHOOK_SECRET": self.endpoint["secret"]})
        gateway.wait_until_ready()

    # At Stripe.

    def stripe(self, path: str, method: str = "POST", **params: Any) -> Any:
        return ask_stripe(self.stack.stripe_url, path, method, **params)

    def selling(self, *intervals: str) -> Desk:
        """Itself, with the prices of both plans that people can buy."""
        for plan in ("starter", "professional"):
            for interval in intervals:
                self.price(plan, interval)
        return self

    def price(self, plan: str, interval: str = "month") -> str:
        key = f"tenantry_{plan}_{interval}"
        if key not in self.prices:
            amount = CENTS.get(plan, 100) * (10 if interval == "year" else 1)
            made = self.stripe(
                "prices", product_data={"name": plan}, currency="usd", unit_amount=amount,
                recurring={"interval": interval}, lookup_key=key, metadata={"plan": plan},
            )  # fmt: skip
            self.prices[key] = made["id"]
        return self.prices[key]

    def subscribe(self, tenant: str, plan: str = "starter", card: str = "pm_card_visa", **more: Any) -> Any:
        """As a finished checkout leaves it: a customer with a card, and a subscription that names its tenant."""
        customer = self.stripe("customers", email="owner@acme.test", metadata={"tenant_id": tenant})["id"]
        self.pay_with(customer, card)
        return self.stripe(
            "subscriptions",
            customer=customer,
            items=[{"price": self.price(plan)}],
            metadata={"tenant_id": tenant},
            **more,
        )

    def pay_with(self, customer: str, card: str) -> None:
        method = self.stripe(f"payment_methods/{card}/attach", customer=customer)["id"]
        self.stripe(f"customers/{customer}", invoice_settings={"default_payment_method": method})

    # Here.

    def subscription(self, tenant: str) -> Any:
        return self.api.tenant(tenant)["subscription"]

    def tenant_on_trial(self, company: str) -> str:
        """A tenant whose trial has begun: it does once it is ready."""
        tenant = self.api.ready_tenant(company)
        eventually(lambda: (self.subscription(tenant) or {}).get("trial_end"), 20, "its trial has begun")
        return tenant

    def tenants_on_trial(self, *companies: str) -> list[str]:
        """The same for many at once."""
        tenants = [str(self.api.signup(company).json["tenant_id"]) for company in companies]
        for tenant in tenants:
            self.api.wait_state(tenant, "ready", 60)
            eventually(lambda t=tenant: (self.subscription(t) or {}).get("trial_end"), 20, "its trial has begun")
        return tenants

    def wait(self, tenant: str, seconds: float = 30, **expected: Any) -> Any:
        """The tenant's snapshot, once its subscription says all of this."""

        def reached() -> Any:
            told = self.api.tenant(tenant)
            subscription = told["subscription"] or {}
            return all(subscription.get(name) == value for name, value in expected.items()) and told

        try:
            return eventually(reached, seconds, f"the subscription of {tenant} is {expected}")
        except AssertionError as error:
            told = self.sql("select item::text from gateway.billing_event order by number desc limit 12")
            asked = self.sql("select row_to_json(w)::text from billing.wanted_object w")
            sent = self.stack.control_sandbox("GET", "stripe/deliveries")[-6:] if self.stack.stripe else []
            raise AssertionError(
                f"{error}: {self.api.tenant(tenant)['subscription']}; events: {told}; asked for: {asked}; sent: {sent}"
            ) from error

    def wait_access(self, tenant: str, access: str) -> None:
        wanted = {"wanted": access, "applied": access}
        eventually(lambda: wanted.items() <= self.api.tenant(tenant)["access"].items(), 30, f"access is {access}")

    def pass_days(self, days: float) -> None:
        """At Stripe first: what happened there is known here before anything here ends."""
        self.stack.control_sandbox("POST", "clock", {"advance_seconds": int(days * DAY)})
        self.wait_for_deliveries()
        # Which stops for each tenant whose time is over on the way.
        done = cli_within(300, self.stack, "clock", "advance", f"{int(days * DAY)}s", SANDBOX="1")
        assert done.returncode == 0, done.stderr

    def miss_days(self, days: float) -> None:
        """Time passes here while nobody looks."""
        self.sql("update catalog.business_clock set ahead = ahead + %s * interval '1 day' returning 1", days)
        self.stack.control_sandbox("POST", "clock", {"advance_seconds": int(days * DAY)})

    def wait_for_deliveries(self) -> None:
        """All that Stripe has to tell has been applied."""

        def applied() -> bool:
            told = {event["id"] for event in self.events_at_stripe()}
            return told == set(self.sql("select event_id from billing.event where event_id = any (%s)", list(told)))

        eventually(applied, 30, "all of Stripe's events are known")

    def events_at_stripe(self) -> list[Any]:
        """Those that the endpoint is given."""
        return [event for event in self.stripe("events", "GET", limit=100)["data"] if event["type"] in EVENT_TYPES]

    def sql(self, statement: str, *params: Any) -> list[Any]:
        """The first column, as the catalog's owner."""
        import psycopg

        with psycopg.connect(self.stack.postgres.url(CATALOG), autocommit=True) as connection:
            return [row[0] for row in connection.execute(statement, params or None)]

    @contextlib.contextmanager
    def endpoint_disabled(self) -> Iterator[None]:
        """What happens at Stripe meanwhile is told to nobody."""
        self.stripe(f"webhook_endpoints/{self.endpoint['id']}", disabled=True)
        try:
            yield
        finally:
            self.stripe(f"webhook_endpoints/{self.endpoint['id']}", disabled=False)

    @contextlib.contextmanager
    def stripe_away(self) -> Iterator[None]:
        assert self.stack.sandbox is not None
        self.stack.sandbox.stop(5)
        try:
            yield
        finally:
            self.stack.start_sandbox()


def signed(stack: Stack, tenant: str, purpose: str = "tenantry billing link", days: float = 7) -> str:
    """A link as billing makes it."""
    key = base64.b64decode(stack.settings["keys"]["app"].partition(":")[2])
    text = f"{tenant}.0.{int(time.time() + days * 86400)}"
    derived = hmac.digest(key, purpose.encode(), "sha256")
    signature = base64.urlsafe_b64encode(hmac.digest(derived, text.encode(), "sha256")).decode().rstrip("=")
    return f"/billing/{text}.{signature}"
