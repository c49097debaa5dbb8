"""A client of the sandbox's Stripe that sends what a test says, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from .servers import Answer, Sandbox

KEY = "sk_test_sandbox"
FORM = "application/x-www-form-urlencoded"
DAY = 86400


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
        return self.post("prices", product_data={"name": key}, lookup_key=key, **wanted)

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
