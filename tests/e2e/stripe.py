"""Stripe as the gateway sees it: signed deliveries of events, by the test itself or by the sandbox's stand-in."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from deploy.local.stack import STRIPE_KEY, Stack
from sandbox.tests.stripe_client import brackets

from .client import Answer, Api

SECRET = "whsec_of_the_tests"
WEBHOOKS = "/api/webhooks/stripe"


def signature(body: bytes, secret: str = SECRET, at: int | None = None) -> str:
    """The value of Stripe-Signature for these bytes, sent now or at another second."""
    at = int(time.time()) if at is None else at
    return f"t={at},v1={hmac.new(secret.encode(), b'%d.' % at + body, hashlib.sha256).hexdigest()}"


def event(name: str = "evt_1", customer: str | None = "cus_1", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "event",
        "type": "customer.subscription.updated",
        "created": 1760000000,
        "livemode": False,
        "data": {"object": {"id": "sub_1", "object": "subscription", "customer": customer}},
        **more,
    }


@dataclass
class Stripe:
    """Whoever has the endpoint's secret."""

    api: Api
    secret: str = SECRET

    def deliver(self, body: bytes | dict[str, Any], at: int | None = None, **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("stripe_signature", signature(raw, self.secret, at))
        return self.api.call("POST", WEBHOOKS, raw=raw, timeout=60, **headers)


def ask_stripe(url: str, path: str, method: str = "POST", /, **params: Any) -> Any:
    """What the sandbox's Stripe at `url` answers; asked again while it has been asked too often."""
    form = urllib.parse.urlencode(list(brackets(params)))
    request = urllib.request.Request(
        f"{url}/v1/{path}" + (f"?{form}" if method == "GET" and form else ""),
        method=method,
        data=form.encode() if method == "POST" else None,
        headers={"authorization": f"Bearer {STRIPE_KEY}"},
    )
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code != 429 or time.monotonic() > deadline:
                raise AssertionError(error.read().decode()) from error
        time.sleep(0.1)


class SandboxStripe:
    """The sandbox's Stripe, beside the stack; `control` is its clock and what else a test may move."""

    def __init__(self, stack: Stack, port: int) -> None:
        self.stack, self.url = stack, f"http://127.0.0.1:{port}"
        stack.start_sandbox("--stripe-port", str(port))

    def post(self, path: str, /, **params: Any) -> Any:
        return ask_stripe(self.url, path, **params)

    def control(self, method: str, path: str, body: object = None) -> Any:
        return self.stack.control_sandbox(method, path, body)

    def pass_time(self, seconds: int) -> None:
        self.control("POST", "clock", {"advance_seconds": seconds})
