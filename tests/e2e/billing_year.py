"""A year in a town of tenants that pay, or do not: what they do, by dice, and how time passes for Stripe, for us and for the model."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from deploy.local.stack import CATALOG, Service, Stack

from .billing import EVENT_TYPES, Desk
from .billing_model import DAY, KEPT, Expected, Told, read_stamp
from .client import Answer, Api, eventually
from .stripe import WEBHOOKS
from .test_checkout import ask, checkout, press

GOOD, FAILS_LATER, ASKS, REFUSED = "4242424242424242", "4000000000000341", "4000002760003184", "4000000000000002"
DEBIT, BAD_DEBIT = "DE89370400440532013000", "DE62370400440532013001"
METHODS = [GOOD] * 4 + [FAILS_LATER] * 3 + [ASKS] * 2 + [REFUSED, DEBIT, BAD_DEBIT]
PLANS = [(plan, interval) for plan in ("starter", "professional") for interval in ("month", "month", "month", "year")]
OLD_SHAPE = "2024-06-20"
LATE = 301  # seconds of the clock after which Stripe delivers again what it could not

# What goes wrong with calls to Stripe while somebody waits, and with what Stripe delivers.
CHANGES, LOOKS = (
    "^/v1/(?!customers/|payment_methods/)",
    "^/v1/(checkout|invoices|prices|subscriptions)",
)  # the test's own go well
CALLS: list[tuple[float, str, str, dict[str, Any]]] = [
    (0.03, "POST", CHANGES, {"kind": "rate_limit", "retry_after": 1}),
    (0.03, "POST", CHANGES, {"kind": "status", "code": 409}),
    (0.03, "POST", CHANGES, {"kind": "cut_after"}),
    (0.02, "POST", CHANGES, {"kind": "cut"}),
    (0.02, "POST", CHANGES, {"kind": "api_error", "work": "done"}),
    (0.02, "POST", CHANGES, {"kind": "api_error", "work": "undone"}),
    (0.02, "GET", LOOKS, {"kind": "status", "code": 503}),
]
DELIVERIES: list[tuple[float, dict[str, Any]]] = [
    (0.1, {"how": "duplicate"}), (0.3, {"how": "reorder", "order": "random"}), (0.03, {"how": "drop_answer"}),
    (0.02, {"how": "delay", "seconds": 60}), (0.01, {"how": "lose"}),
]  # fmt: skip

ABOUT_TO_HAPPEN = """
select 'asked for at Stripe: ' || object_id from billing.wanted_object
union all
select 'a card to be tried: ' || payment_method from billing.payment where state = 'wanted'
union all
select 'under way: ' || kind || ' of ' || tenant_id from billing.saga where status in ('running', 'undoing')
limit 1
"""
STANDS_STILL = """
select coalesce(catalog.clock_waits_for(), (select 'the mail ' || message_id from billing.mail where state = 'waiting' limit 1))
"""


@dataclass
class Shop:
    """One tenant, its dice, and what the model expects of it."""

    number: int
    tenant: str
    dice: random.Random
    expected: Expected
    is_idle: bool = False  # never buys anything
    did: list[str] = field(default_factory=list)

    @property
    def told(self) -> Told:
        return self.expected.told


class Town:
    def __init__(self, desk: Desk, stack: Stack, seed: int) -> None:
        self.desk, self.stack, self.seed = desk, stack, seed
        self.dice = random.Random(seed)
        self.app = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["app"])
        self.shops: dict[str, Shop] = {}
        self.customers: dict[str, str] = {}  # whose they are
        self.last_event: str | None = None
        self.catalog: psycopg.Connection[Any] = psycopg.connect(stack.postgres.url(CATALOG), autocommit=True)
        self.control = stack.control_sandbox
        self.endpoints = [desk.endpoint["id"], self.listen_in_old_shape()]
        self.failing: list[int] = []
        self.beginning: list[Service] = []
        self.killed = 0
        self.began = self.now = self.our_now()

    def listen_in_old_shape(self) -> str:
        """Another endpoint for the same gateway, which is told nothing yet."""
        gateway, first = self.stack.services["gateway-0"], self.desk.endpoint
        made = self.desk.stripe(
            "webhook_endpoints", url=gateway.url + WEBHOOKS, enabled_events=EVENT_TYPES, api_version=OLD_SHAPE
        )
        self.desk.stripe(f"webhook_endpoints/{made['id']}", disabled=True)
        gateway.stop()
        gateway.restart({"STRIPE_WEBHOOK_SECRET": f"{first['secret']},{made['secret']}"})
        gateway.wait_until_ready()
        return str(made["id"])

    def leave(self) -> None:
        """For those who come after."""
        self.control("DELETE", "faults")
        self.desk.stripe(f"webhook_endpoints/{self.desk.endpoint['id']}", disabled=False)
        [other] = set(self.endpoints) - {self.desk.endpoint["id"]}
        self.desk.stripe(f"webhook_endpoints/{other}", "DELETE")
        self.catalog.close()

    # Clocks.

    def one(self, statement: str, *params: Any) -> Any:
        row = self.catalog.execute(statement, params or None).fetchone()
        return row and row[0]

    def rows(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.catalog.execute(statement, params or None).fetchall()

    def our_now(self) -> int:
        return int(self.one("select (extract(epoch from catalog.business_now()) * 1000)::bigint"))

    def stripe_now(self) -> int:
        return round(datetime.fromisoformat(self.control("GET", "clock")["now"]).timestamp() * 1000)

    def pass_time(self, seconds: int, kill: Service | None = None) -> None:
        """At Stripe first. What it has told is known here before our time passes, and stays while it does. One of ours may die
        while it hears, or while something is due."""
        is_early = self.dice.random() < 0.5 or self.somebody_is_about_to_be_archived()
        self.control("POST", "clock", {"advance_seconds": seconds})
        if kill is not None and is_early:
            self.kill(kill)
        self.hear()
        while self.beginning:
            self.beginning.pop().wait_until_ready()
        since = self.now
        while self.stripe_now() - self.our_now() > 500:
            self.follow(self.stripe_now(), None if is_early else kill)
            kill = None
        self.now = self.our_now()
        for shop in self.shops.values():
            shop.expected.pass_time(since, self.now)

    def somebody_is_about_to_be_archived(self) -> bool:
        """A process that begins does not count, as watched since the notice, what has just passed: an archive may be later."""
        ends = [shop.expected.ended for shop in self.shops.values() if not shop.expected.is_archived]
        return any(end is not None and end + KEPT < self.now + 30 * DAY for end in ends)

    def follow(self, until: int, kill: Service | None) -> None:
        """Our clock, from one moment at which something is due to the next, as `tenantry clock advance` moves it."""
        at = 0
        while at < until:
            moved = "select (extract(epoch from catalog.clock_move(to_timestamp(%s / 1000.0))) * 1000)::bigint"
            at = int(self.one(moved, until))
            if kill is not None:
                self.kill(kill)
                kill = None
            self.settle()
            self.age()

    def kill(self, service: Service) -> None:
        """And a new one begins."""
        self.killed += 1
        service.kill9()
        service.start()
        self.beginning.append(service)

    def settle(self) -> None:
        waits = ""

        def stands_still() -> bool:
            nonlocal waits
            waits = self.one(STANDS_STILL)
            return not waits

        try:
            eventually(stands_still, 60, "all that was due has been done")
        except AssertionError as error:
            raise AssertionError(f"{error}: {waits}") from error

    def age(self) -> None:
        """What the clock has leapt over were days: who lost access then is not one of many who lose it within ten minutes."""
        for statement in (
            "update billing.tenant set suspended_at = suspended_at - interval '1 hour' "
            "where suspended_at > clock_timestamp() - interval '10 minutes'",
            "update catalog.lifecycle_wanted set since = since - interval '1 hour' "
            "where source = 'billing' and since > clock_timestamp() - interval '10 minutes'",
        ):
            self.catalog.execute(statement)

    # What Stripe tells.

    def read_events(self) -> list[str]:
        """What has happened at Stripe since the last look, for the model; the ids of those that the endpoint is given."""
        found = []
        more = True
        while more:
            after = {"ending_before": self.last_event} if self.last_event else {}
            page = self.desk.stripe("events", "GET", limit=100, **after)
            for event in reversed(page["data"]):
                self.last_event = event["id"]
                if event["type"] in EVENT_TYPES:
                    found.append(event["id"])
                self.take(event)
            more = bool(after) and page["has_more"]
        return found

    def take(self, event: Any) -> None:
        about = event["data"]["object"]
        if about["object"] == "customer":
            self.customers[about["id"]] = about["metadata"].get("tenant_id", "")
        shop = self.shops.get(self.customers.get(about.get("customer"), ""))
        if shop is None:
            return
        shop.told.take(event)
        if event["type"] == "invoice.payment_action_required":
            shop.expected.ask_for_customer(about["id"], event["created"] * 1000)

    def hear(self) -> None:
        """Until all that Stripe has told is known here, and nothing that follows from it is under way at Stripe."""
        waits: object = None
        looks = 0
        unknown = set(self.read_events())

        def quiet() -> bool:
            nonlocal waits, looks
            looks += 1
            known = "select array_agg(event_id) from billing.event where event_id = any (%s)"
            unknown.difference_update(self.one(known, list(unknown)) or [] if unknown else [])
            waits = unknown or self.one(ABOUT_TO_HAPPEN)
            if unknown and looks % 3 == 0:
                self.bring_late(unknown)
            if not waits:
                unknown.update(self.read_events())
                waits = unknown
            return not waits

        try:
            eventually(quiet, 60, "all that Stripe has told is known")
        except AssertionError as error:
            raise AssertionError(f"{error}: {waits}") from error

    def bring_late(self, unknown: set[str]) -> None:
        """What was delayed or lost on its way comes with the clock."""
        for event in sorted(unknown)[:1]:
            now = self.stripe_now() / 1000
            for delivery in self.control("GET", f"stripe/deliveries?event={event}"):
                if (delivery["next_at"] or 0) > now + 1:
                    self.control("POST", "clock", {"advance_seconds": LATE})
                    return

    def change_shape(self) -> None:
        """From now on Stripe tells in the shape of its other version."""
        self.endpoints.reverse()
        for endpoint, disabled in zip(self.endpoints, (False, True), strict=True):
            self.desk.stripe(f"webhook_endpoints/{endpoint}", disabled=disabled)

    def fail_deliveries(self) -> None:
        """In another way from now on."""
        for rule_id in self.failing:
            self.control("DELETE", f"faults/{rule_id}")
        self.failing.clear()
        for probability, how in self.dice.sample(DELIVERIES, 2):
            rule = {"match": {"event": "."}, "probability": probability, "fault": {"kind": "delivery", **how}}
            self.failing.append(self.control("POST", "faults", rule)["id"])

    def fail_calls(self, probability: float, method: str, path: str, what: dict[str, Any]) -> int:
        match = {"room": "stripe", "method": method, "path": path}
        return int(self.control("POST", "faults", {"match": match, "probability": probability, "fault": what})["id"])

    # What tenants do.

    def act(self, kill: Service | None = None) -> None:
        """Some of them do something, all at the same time, while Stripe has its troubles and one of ours may die."""
        doing: list[Callable[[], None]] = []
        for shop in self.shops.values():
            chosen = self.choose(shop)
            if chosen is not None:
                shop.did.append(chosen.__name__)
                doing.append(lambda shop=shop, chosen=chosen: chosen(shop))  # type: ignore[misc]
        rules = [self.fail_calls(*each) for each in CALLS if doing]
        with ThreadPoolExecutor(max(len(doing), 1)) as pool:
            running = [pool.submit(each) for each in doing]
            if kill is not None:
                self.kill(kill)
            for each in running:
                each.result()
        for rule in rules:
            self.control("DELETE", f"faults/{rule}")
        self.hear()
        self.settle()
        now = self.our_now()
        for shop in self.shops.values():
            shop.expected.pass_time(now, now)
        self.now = now

    def choose(self, shop: Shop) -> Callable[[Shop], None] | None:
        dice, live = shop.dice.random(), shop.told.live
        if shop.is_idle or shop.expected.is_archived:
            return None
        if live is None:
            return self.buy if dice < 0.25 else self.buy_twice_at_once if dice < 0.35 else None
        if live["status"] in ("past_due", "unpaid"):
            return self.choose_card if dice < 0.2 else self.pay if dice < 0.35 else None
        if live["cancel_at"] is not None:
            return self.resume if dice < 0.2 else None
        for most, what in (
            (0.12, self.change), (0.15, self.change_here_and_there), (0.2, self.cancel), (0.24, self.resume),
            (0.28, self.choose_card), (0.31, self.change_card_at_stripe),
        ):  # fmt: skip
            if dice < most:
                return what
        return None

    def answered(self, shop: Shop, answer: Answer) -> Any:
        """What came of it; refused is fine, an error is not."""
        assert answer.status in (200, 202, 409), (shop.number, shop.did, answer)
        return answer.json

    def use_page(self, url: str, shop: Shop) -> None:
        """A page of Stripe's, with something to pay with; a second try with a good card, or none."""
        number, patient = shop.dice.choice(METHODS), shop.dice.random() < 0.5
        for each in [number, *[GOOD][: int(patient)]]:
            told = {"authenticated": "true"} if shop.dice.random() < 0.8 else {}
            if press(url, action="pay", number=each, **told) in (303, 410):
                return

    def buy(self, shop: Shop) -> None:
        plan, interval = shop.dice.choice(PLANS)
        told = self.answered(shop, ask(self.app, shop.tenant, "checkout", plan=plan, interval=interval))
        if told.get("url"):
            self.use_page(told["url"], shop)

    def buy_twice_at_once(self, shop: Shop) -> None:
        """Two tabs, and both buttons."""
        wanted = [shop.dice.choice(PLANS)[0] for _ in range(2)]
        answers: list[Answer] = []
        both(lambda: answers.append(checkout(self.app, shop.tenant, wanted[0])),
             lambda: answers.append(checkout(self.app, shop.tenant, wanted[1])))  # fmt: skip
        pages = [told["url"] for told in (self.answered(shop, answer) for answer in answers) if told.get("url")]
        both(*[lambda page=page: press(page, action="pay", number=GOOD) for page in pages])  # type: ignore[misc]

    def change(self, shop: Shop) -> None:
        plan, interval = shop.dice.choice(PLANS)
        self.answered(shop, ask(self.app, shop.tenant, "change-plan", plan=plan, interval=interval))

    def portal(self, shop: Shop) -> str:
        return str(self.answered(shop, ask(self.app, shop.tenant, "portal")).get("url") or "")

    def change_here_and_there(self, shop: Shop) -> None:
        """In the product and in Stripe's portal."""
        page, action, live = self.portal(shop), shop.dice.choice(["cancel", "keep", "change"]), shop.told.live
        price = self.desk.price(*shop.dice.choice(PLANS))
        if page:
            both(lambda: self.change(shop), lambda: press(page, action=action, subscription=live["id"], price=price))

    def cancel(self, shop: Shop) -> None:
        self.answered(shop, ask(self.app, shop.tenant, "cancel"))

    def resume(self, shop: Shop) -> None:
        self.answered(shop, ask(self.app, shop.tenant, "resume"))

    def choose_card(self, shop: Shop) -> None:
        page = self.portal(shop)
        if page:
            press(page, action="method", number=shop.dice.choice(METHODS))

    def change_card_at_stripe(self, shop: Shop) -> None:
        """By hand, in the dashboard: of the customer only."""
        self.desk.pay_with(shop.told.live["customer"], shop.dice.choice(["pm_card_visa", "pm_card_chargeCustomerFail"]))

    def pay(self, shop: Shop) -> None:
        """The invoice that is open, on its page."""
        owed = shop.told.owed(shop.told.live)
        if owed is not None:
            press(owed["hosted_invoice_url"], action="pay", number=shop.dice.choice([GOOD, FAILS_LATER]))

    def settle_in(self, number: int, is_idle: bool) -> Shop:
        """A new tenant, whose trial begins."""
        tenant = self.desk.tenant_on_trial(f"Shop {self.seed} {number}")
        trial_end = read_stamp(self.desk.subscription(tenant)["trial_end"])
        dice = random.Random(f"{self.seed} {number}")
        shop = self.shops[tenant] = Shop(number, tenant, dice, Expected(tenant, trial_end), is_idle)
        assert abs(trial_end - 14 * DAY - self.our_now()) < 60_000, "fourteen days from when it was ready"
        return shop


def both(*what: Callable[[], object]) -> None:
    threads = [threading.Thread(target=each) for each in what]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
