"""Signups without pause from several callers at once, each remembered with the answer it got."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from deploy.local.stack import Stack

from .client import eventually
from .invariants import rows

CERTAINLY_REFUSED = {"kafka_away", "stopping", "too_many_signups", "rate_limited"}


@dataclass(frozen=True)
class Attempt:
    """One signup and what the gateway said; status 0 where it said nothing."""

    company: str
    status: int
    code: str | None
    tenant: str | None
    retry_after: str | None
    began: float
    seconds: float

    @property
    def accepted(self) -> bool:
        return self.status == 202

    @property
    def uncertain(self) -> bool:
        """Whether the tenant may exist or not: nobody was promised anything."""
        return not self.accepted and self.code not in CERTAINLY_REFUSED


def what_the_reader_says(stack: Stack) -> str:
    """Where it stands, what it refused, and what services complained of last: a signup may be lost before it is a tenant."""
    offsets = rows(stack, "select topic, partition, next_offset from provisioner.consumer_offset")
    refused = rows(stack, "select topic, partition, at_offset, code from catalog.dead_letter")
    said = [
        line
        for service in stack.services.values()
        for line in service.log_path.read_text(errors="replace").splitlines()
        if '"level":"warn"' in line or '"level":"error"' in line
    ]
    return "\n".join([f"offsets {offsets}, dead letters {refused}", *said[-40:]])


class Load:
    """Callers in the background for the length of a with block; each keeps its connection as a backend would."""

    numbers = itertools.count(1)

    def __init__(self, stack: Stack, callers: int = 2, pause: float = 0.5, gateway: str = "gateway-0") -> None:
        self.stack = stack
        self.port = stack.services[gateway].http_port or 0
        self.pause = pause
        self.attempts: list[Attempt] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call_on, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(40)

    def count(self, status: int, since: float = 0) -> int:
        """Answers with this status to signups that began after a moment of time.monotonic."""
        return sum(1 for each in list(self.attempts) if each.status == status and each.began >= since)

    def wait_for(self, status: int, count: int = 1, seconds: float = 20) -> None:
        """Waits until `count` more signups, begun from now on, got this answer."""
        since = time.monotonic()
        eventually(lambda: self.count(status, since) >= count, seconds, f"{count} answers {status} under load")

    @property
    def accepted(self) -> dict[str, Attempt]:
        return {each.tenant: each for each in self.attempts if each.accepted and each.tenant}

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Every tenant that was promised is ready, and there is none that was refused for certain, and none twice."""
        last: list[str] = []

        def all_ready() -> bool:
            states = dict(rows(self.stack, "select tenant_id, state from provisioner.tenant"))
            last[:] = [f"{tenant} {states.get(tenant)}" for tenant in self.accepted if states.get(tenant) != "ready"]
            return not last

        try:
            eventually(all_ready, seconds, "every signup that got 202 is ready")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {len(last)} of {len(self.accepted)}, such as {last[:3]}; {what_the_reader_says(self.stack)}"
            ) from error
        self.check_nothing_else()

    def check_nothing_else(self) -> None:
        by_company = {each.company: each for each in self.attempts}
        found: dict[str, str] = {}
        for company, tenant in rows(self.stack, "select company, tenant_id from provisioner.tenant"):
            attempt = by_company.get(company)
            if attempt is None:
                continue
            assert company not in found, f"{company} was made twice: {found[company]} and {tenant}"
            found[company] = tenant
            assert attempt.accepted or attempt.uncertain, f"{company} exists, and was refused: {attempt}"

    def _call_on(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._ended.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            if not self._signup(connection):
                connection.close()
                connection = None
            self._ended.wait(self.pause)
        if connection is not None:
            connection.close()

    def _signup(self, connection: http.client.HTTPConnection) -> bool:
        company = f"Load {next(self.numbers)}"
        began = time.monotonic()
        status, body, retry_after = 0, {}, None
        try:
            connection.request(
                "POST", "/api/signups", json.dumps({"company": company, "email": "l@load.test"}),
                {"content-type": "application/json",
                 "authorization": f"Bearer {self.stack.settings['tokens']['signup']}"},
            )  # fmt: skip
            response = connection.getresponse()
            text = response.read()
            status, body, retry_after = response.status, json.loads(text), response.headers.get("retry-after")
        except (OSError, http.client.HTTPException, ValueError):
            pass
        took = time.monotonic() - began
        self.attempts.append(
            Attempt(company, status, body.get("code"), body.get("tenant_id"), retry_after, began, took)
        )
        return status != 0
