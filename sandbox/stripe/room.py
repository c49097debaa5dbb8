"""Puts the parts of the Stripe room together, and looks at a request in the order in which the real service does."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
from email.utils import format_datetime
from typing import Any, Protocol

import psycopg
from aiohttp import web

from ..clock import Clock
from ..faults import Faults, Kind, Rule
from ..limits import RateLimit
from ..refusal import Refusal
from ..room import Room
from ..store import Store
from .api import Api, Endpoint, new_request_id
from .catalog import Catalog
from .changes import Changes
from .checkout import Checkout
from .checkout_page import CheckoutPage
from .control import Control
from .customers import Customers
from .delivery import HOW, Deliveries
from .errors import StripeError
from .event_list import Events
from .frozen_clocks import TestClocks
from .invoice_api import InvoiceApi
from .invoices import Invoices
from .ledger import Ledger
from .lifecycle import Lifecycle
from .paying import InvoicePage
from .payment_methods import PaymentMethods
from .portal import Portal
from .portal_configurations import PortalConfigurations
from .refunds import Refunds
from .schedules import Schedules
from .settings import StripeSettings
from .subscriptions import Subscriptions
from .tables import SCHEMA, TABLES
from .webhooks import WebhookEndpoints
from .work import Document

log = logging.getLogger("sandbox.stripe")
PAUSE_SECONDS = 1.0


class Part(Protocol):
    def endpoints(self) -> list[Endpoint]: ...


class StripeRoom(Room):
    name = "stripe"
    schema = SCHEMA
    tables = TABLES
    kinds = {
        "api_error": Kind(
            {"code", "headers", "message", "work"},
            about={"method": "POST", "path": "^/v1/"},
            choices={"work": ("done", "undone")},
        ),
        "lagging_events": Kind({"seconds"}, needs="seconds", about={"method": "GET", "path": "^/v1/events$"}),
        "delivery": Kind(
            {"how", "seconds", "count", "order"},
            needs="how",
            choices={"how": HOW, "order": ("reverse", "random")},
            outbound=True,
        ),
    }
    secret_fields: set[str] = set()

    def __init__(self, settings: StripeSettings, store: Store, clock: Clock, seed: int) -> None:
        self.settings: StripeSettings = settings
        self._state = store.state
        self._clock = clock
        self._ledger = Ledger(store.state, clock, settings.stripe_version)
        self._api = Api(self._ledger, settings.stripe_version)
        self._limit = RateLimit(store.log, clock, 1)
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []
        self._awake = asyncio.Event()
        self._ledger.wakes.append(self._awake)
        clock.wakes.append(self._awake)
        invoices = Invoices(settings)
        lifecycle = Lifecycle(settings, invoices)
        lifecycle.register(self._ledger)
        changes = Changes(self._ledger, invoices, lifecycle)
        subscriptions = Subscriptions(lifecycle, changes)
        checkout = Checkout(settings, self._ledger, invoices, lifecycle, subscriptions)
        schedules = Schedules(self._ledger, lifecycle, changes)
        portal = Portal(settings, self._ledger, changes, schedules, subscriptions)
        self._control = Control(store.state, self._ledger)
        self._parts: list[Part] = [
            Customers(subscriptions.bury),
            Catalog(),
            PaymentMethods(),
            subscriptions,
            schedules,
            InvoiceApi(invoices, changes),
            Refunds(),
            Events(),
            WebhookEndpoints(),
            TestClocks(subscriptions),
            checkout,
            portal,
            PortalConfigurations(),
        ]
        self._pages = (CheckoutPage(self._ledger, checkout), InvoicePage(self._ledger, invoices), portal)

    def ports(self) -> set[int]:
        return set() if self.settings.stripe_port is None else {self.settings.stripe_port}

    def routes(self) -> list[web.RouteDef]:
        api = [self._api.route(endpoint) for part in self._parts for endpoint in part.endpoints()]
        return [*api, *(route for page in self._pages for route in page.routes())]

    def control_routes(self) -> list[web.RouteDef]:
        return self._control.routes()

    def middlewares(self) -> list[Any]:
        return [self._api.middleware()]

    def uses(self, faults: Faults) -> None:
        self._deliveries = Deliveries(self._state, self._clock, self._ledger, self.settings, faults, self._seed)

    async def begin(self) -> None:
        if not self._tasks and self.settings.stripe_port is not None:
            self._tasks = [asyncio.create_task(work) for work in (self._keep_up(), self._deliveries.run())]

    async def clock_moved(self) -> None:
        """A leap of a month with a thousand subscriptions takes seconds, longer than a caller of the API waits."""
        await self._ledger.catch_up()

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def clear(self) -> Document:
        await self.close()
        return {}

    async def _keep_up(self) -> None:
        """Does what is due when it is due, also where nobody asks."""
        while True:
            self._awake.clear()
            try:
                await self._ledger.catch_up()
                wait = await self._seconds_until_next()
            except (psycopg.OperationalError, OSError) as problem:
                log.warning("what is due is tried again: %s", problem)
                wait = PAUSE_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), wait)

    async def _seconds_until_next(self) -> float | None:
        row = await self._state.row("select min(at) as at from stripe_due where clock = ''")
        return None if row is None or row["at"] is None else self._clock.real_seconds_until_stamp(row["at"])

    async def admit(self, request: web.Request, headers: dict[str, str]) -> None:
        """Key and rate limit of the API; a hosted page asks for neither."""
        # A caller takes the time of what it has read from here, so it has to be the time by which it happens.
        headers["Date"] = format_datetime(self._clock.now(), usegmt=True)
        if not request.path.startswith("/v1/"):
            return
        request["request_id"] = headers["Request-Id"] = new_request_id()
        headers["Stripe-Version"] = request.headers.get("Stripe-Version", self.settings.stripe_version)
        if request.method == "POST" and "Idempotency-Key" in request.headers:
            headers["Idempotency-Key"] = request.headers["Idempotency-Key"]
        require_key(request, self.settings.stripe_key)
        if request.match_info.route.resource is not None:
            used, _ = await self._limit.take("stripe")
            if used > self.settings.stripe_rate_limit:
                raise too_many_requests({})

    def rate_limited(self, rule: Rule) -> Refusal:
        headers = {name: str(value) for name, value in rule.fault.get("headers", {}).items()}
        if "retry_after" in rule.fault:
            headers["Retry-After"] = str(rule.fault["retry_after"])
        return too_many_requests(headers)

    def unknown(self, request: web.Request, exception: web.HTTPException) -> web.Response:
        if not request.path.startswith("/v1/") or exception.status < 400:
            return exception
        if exception.status in (404, 405):
            return StripeError(404, f"Unrecognized request URL ({request.method}: {request.path}).").response()
        return StripeError(exception.status, exception.reason).response()

    def broken(self) -> web.Response:
        return StripeError(500, "An unknown error occurred", kind="api_error").response()


def require_key(request: web.Request, key: str) -> None:
    """The secret key as a bearer's token, or as the user of basic authentication."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if scheme.lower() not in ("basic", "bearer") or not given:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
        raise StripeError(401, message)
    if given != key:
        shown = f"{given[:8]}{'*' * max(0, len(given) - 12)}{given[-4:]}" if len(given) > 12 else "*" * len(given)
        raise StripeError(401, f"Invalid API Key provided: {shown}")


def too_many_requests(headers: dict[str, str]) -> Refusal:
    message = (
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits."
    )
    return StripeError(429, message, code="rate_limit", headers=headers)
