"""The API as a test sees it: one method a call, answers as plain values."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CROWDED = 3  # deadlines are for a machine with nothing else to do; this is how much slower others may be
FINAL = {"succeeded", "failed", "superseded", "rejected"}


@dataclass
class Answer:
    """Status, headers (lower case) and body of one answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def eventually(condition: Callable[..., Any], seconds: float, what: str) -> Any:
    """The first true value of the condition; after `CROWDED` times the `seconds` an AssertionError that says `what` never
    came."""
    seconds *= CROWDED
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(min(0.25, max(0.05, waited / 5)))  # who waits takes the machine from whom it waits for


class Api:
    """A caller with one token."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token

    def call(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, timeout: float = 60, **headers: str
    ) -> Answer:
        """Sends the request; header names with _ for -. A refused connection is status 0."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            sent.setdefault("content-type", "application/json")
        if self.token is not None:
            sent.setdefault("authorization", f"Bearer {self.token}")
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=timeout) as response:
                return Answer(response.status, lower(response.headers), response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, lower(error.headers), error.read().decode())
        except (urllib.error.URLError, OSError, TimeoutError) as error:
            return Answer(0, {}, json.dumps({"detail": str(error)}))

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, raw=None, timeout=60, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, {} if body is None else body, raw=None, timeout=60, **headers)

    def signup(self, company: str = "Acme Pharmacy", email: str = "ada@acme.test", **more: Any) -> Answer:
        headers = {name: more.pop(name) for name in ("idempotency_key", "prefer") if name in more}
        return self.post("/api/signups", {"company": company, "email": email, **more}, **headers)

    def ready_tenant(self, company: str = "Acme Pharmacy", **more: Any) -> str:
        """Signs up, waits until ready, returns the tenant's id."""
        answer = self.signup(company, **more)
        assert answer.status == 202, answer
        tenant = str(answer.json["tenant_id"])
        self.wait_state(tenant, "ready")
        return tenant

    def tenant(self, tenant_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/tenants/{tenant_id}")
        return answer.json if answer.status == 200 else {}

    def wait_state(self, tenant_id: str, state: str, seconds: float = 30) -> dict[str, Any]:
        """Waits until the tenant is in the state; returns its snapshot."""
        last: dict[str, Any] = {}

        def reached() -> bool:
            last.clear()
            last.update(self.tenant(tenant_id))
            return last.get("state") == state

        try:
            eventually(reached, seconds, f"{tenant_id} is {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {last}") from error
        return last

    def command(self, tenant_id: str, name: str, body: Any = None, **headers: str) -> Answer:
        return self.post(f"/api/tenants/{tenant_id}/{name}", body, **headers)

    def done(self, tenant_id: str, command: str, seconds: float = 30, **body: Any) -> dict[str, Any]:
        """The operation of a command that succeeds."""
        answer = self.command(tenant_id, command, body)
        assert answer.status == 202, answer
        ended = self.wait_operation(answer.json["operation_id"], seconds)
        assert ended["state"] == "succeeded", ended
        return ended

    def operation(self, operation_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/operations/{operation_id}")
        return answer.json if answer.status == 200 else {}

    def wait_operation(self, operation_id: str, seconds: float = 30) -> dict[str, Any]:
        """Waits until the operation has ended; returns it."""
        return eventually(
            lambda: (found := self.operation(operation_id)).get("state") in FINAL and found,
            seconds,
            f"operation {operation_id} ends",
        )


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are answers like others."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
