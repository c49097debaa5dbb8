"""A client of the sandbox's Stripe that sends what a test says, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from .servers import Answer, Sandbox

KEY = "sk_test_sandbox"
FORM = "application/x-www-form-urlencoded"
DAY = 86400
PRO, TEAM = 29900, 59900


def brackets(params: dict[str, Any], inside: str = "") -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        full = f"{inside}[{name}]" if inside else name
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            yield from brackets(value, full)
        else:
            yield full, str(value).lower() if isinstance(value, bool) else str(value)


class Stripe:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **params: Any) -> Answer:
        told = {"Authorization": f"Bearer {KEY}", **(headers or {})}
        form = urlencode(list(brackets(params)))
        if method == "POST":
            told = {"Content-Type": FORM, **told}
        elif form:
            path, form = f"{path}?{form}", ""
        port = self.sandbox.stripe_port
        return self.sandbox.ask(method, path, form or None, told, token=None, port=port)

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, **params: Any) -> Any:
        answer = self.ask(method, path, headers, **params)
        assert answer.status == 200, answer.text
        return answer.body

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", f"/v1/{path}", **params)

    def post(self, path: str, **params: Any) -> Any:
        return self.call("POST", f"/v1/{path}", **params)

    def delete(self, path: str, **params: Any) -> Any:
        return self.call("DELETE", f"/v1/{path}", **params)

    def refused(self, method: str, path: str, headers: dict[str, str] | None = None, **params: Any) -> Any:
        """The status of an error, its type and its code."""
        answer = self.ask(method, f"/v1/{path}", headers, **params)
        assert answer.status >= 400, answer.text
        error = answer.body["error"]
        return answer.status, error["type"], error.get("code")

    def price(self, amount: int = 29900, key: str = "professional_month", **more: Any) -> Any:
        wanted = {"currency": "usd", "unit_amount": amount, "recurring": {"interval": "month"}, **more}
        return self.post("prices", product_data={"name": key}, lookup_key=key, transfer_lookup_key=True, **wanted)

    def customer(self, card: str | None = "pm_card_visa", **more: Any) -> Any:
        made = self.post("customers", email="owner@example.com", **more)
        if card is not None:
            method = self.post(f"payment_methods/{card}/attach", customer=made["id"])["id"]
            self.post(f"customers/{made['id']}", invoice_settings={"default_payment_method": method})
        return made

    def events(self, **filters: Any) -> list[Any]:
        """All that have happened, oldest first."""
        return list(reversed(self.get("events", limit=100, **filters)["data"]))

    def types(self, **filters: Any) -> list[str]:
        return [event["type"] for event in self.events(**filters)]

    def pass_time(self, days: float = 0, seconds: float = 0) -> None:
        self.sandbox.control("POST", "clock", {"advance_seconds": days * DAY + seconds})

    def now(self) -> float:
        """The sandbox's clock, as an answer tells it."""
        return parsedate_to_datetime(self.ask("GET", "/v1/customers").headers["Date"]).timestamp()


class Tenant:
    """A customer with a subscription to the professional plan."""

    def __init__(self, stripe: Stripe, card: str | None = "pm_card_visa", **more: Any) -> None:
        self.stripe = stripe
        self.pro = stripe.price(PRO, "professional_month", metadata={"plan": "pro"})
        self.team = stripe.price(TEAM, "team_month", metadata={"plan": "team"})
        self.customer = stripe.customer(card)["id"]
        told: dict[str, Any] = {"items": [{"price": self.pro["id"]}], "metadata": {"tenant_id": "t1"}, **more}
        self.id = stripe.post("subscriptions", customer=self.customer, **told)["id"]

    def now(self, **expand: Any) -> Any:
        return self.stripe.get(f"subscriptions/{self.id}", **expand)

    def change(self, **wanted: Any) -> Any:
        return self.stripe.post(f"subscriptions/{self.id}", **wanted)

    def to_team(self, **wanted: Any) -> Any:
        return self.change(items=[{"id": self.item()["id"], "price": self.team["id"]}], **wanted)

    def item(self) -> Any:
        return self.now()["items"]["data"][0]

    def plan(self) -> str:
        return str(self.item()["price"]["metadata"]["plan"])

    def status(self) -> str:
        return str(self.now()["status"])

    def invoices(self, **filters: Any) -> list[Any]:
        """Oldest first."""
        return list(reversed(self.stripe.get("invoices", subscription=self.id, **filters)["data"]))

    def pays_with(self, card: str) -> None:
        method = self.stripe.post(f"payment_methods/{card}/attach", customer=self.customer)["id"]
        self.stripe.post(f"customers/{self.customer}", invoice_settings={"default_payment_method": method})

    def to_period_end(self, seconds: float = 0) -> None:
        left = self.item()["current_period_end"] - self.stripe.now()
        self.stripe.pass_time(seconds=left + seconds)
