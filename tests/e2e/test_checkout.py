"""Checkout and portal: pages of Stripe's, one at a time, told to who waits and to nobody else."""

from __future__ import annotations

import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from deploy.local.stack import CATALOG, STRIPE_KEY, Stack

from .billing import Desk, billing_stack
from .client import Answer, Api, eventually
from .command import cli
from .sandbox_control import fault
from .secret_search import Search, places
from .service_faults import start

WAIT = "wait=25"
CARD = "4242424242424242"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack(billings=2, BILLING_RETURN_URL="https://{slug}.example.com/billing")


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack).selling("month")


def ask(app: Api, tenant: str, what: str, prefer: str = WAIT, key: str | None = None, **body: Any) -> Answer:
    headers = {"prefer": prefer, **({"idempotency_key": key} if key else {})}
    return app.post(f"/api/tenants/{tenant}/billing/{what}", body, **headers)


def checkout(app: Api, tenant: str, plan: str = "starter", **more: Any) -> Answer:
    return ask(app, tenant, "checkout", plan=plan, interval="month", **more)


def press(url: str, **fields: str) -> int:
    """A button of a page of Stripe's."""
    request = urllib.request.Request(url, data=urllib.parse.urlencode(fields).encode())
    opener = urllib.request.build_opener(Stay)
    try:
        with opener.open(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def customers(desk: Desk, tenant: str) -> list[Any]:
    found = desk.stripe("customers", "GET", limit=100)["data"]
    return [each for each in found if each["metadata"].get("tenant_id") == tenant]


def sessions(desk: Desk, tenant: str, status: str = "open") -> list[Any]:
    found = [
        desk.stripe("checkout/sessions", "GET", customer=each["id"], limit=100)["data"]
        for each in customers(desk, tenant)
    ]
    return [session for page in found for session in page if session["status"] == status]


def test_a_tenant_subscribes_on_the_page_and_its_trial_goes_on(desk: Desk, app: Api, stack: Stack) -> None:
    tenant = desk.tenant_on_trial("Buying Pharmacy")
    trial_end = desk.subscription(tenant)["trial_end"]
    answer = checkout(app, tenant, "professional")
    assert answer.status == 200 and answer.json["state"] == "succeeded", answer
    assert press(answer.json["url"], action="pay", number=CARD) == 303
    told = desk.wait(tenant, status="trial", plan="professional", interval="month")
    assert "reports" in told["modules"]
    [line] = [line for line in cli(stack, "tenants").stdout.splitlines() if line.startswith("buying-pharmacy ")]
    assert " professional " in line, "the plan that it has, not that of its signup"
    assert told["subscription"]["trial_end"][:19] == trial_end[:19]
    again = checkout(app, tenant)
    assert (again.status, again.json["code"]) == (409, "already_subscribed")


def test_who_buys_before_the_trial_has_begun_keeps_all_of_it(desk: Desk, app: Api, stack: Stack) -> None:
    tenant = desk.tenant_on_trial("Early Buyer")
    with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:  # as before it was ready
        catalog.execute("set search_path = billing, durable")
        catalog.execute("update tenant set ready_at = null where tenant_id = %s", [tenant])
        catalog.execute("select settle(%s, '{}')", [tenant])
    assert desk.subscription(tenant)["trial_end"] is None
    answer = checkout(app, tenant)
    assert press(answer.json["url"], action="pay", number=CARD) == 303
    told = desk.wait(tenant, status="trial", plan="starter", interval="month")
    assert told["subscription"]["trial_end"] is not None


def test_with_less_than_two_days_of_trial_left_the_first_month_is_paid_at_once(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Late Buyer")
    desk.pass_days(12.1)
    answer = checkout(app, tenant)
    assert press(answer.json["url"], action="pay", number=CARD) == 303
    desk.wait(tenant, status="active", plan="starter")


def test_a_first_debit_that_fails_days_later_is_a_payment_that_failed(desk: Desk, app: Api) -> None:
    """Stripe trusts a debit while the bank has it."""
    good, bad = desk.tenants_on_trial("Good Debit", "Bad Debit")
    desk.pass_days(12.1)
    for tenant, account in ((good, "DE89370400440532013000"), (bad, "DE62370400440532013001")):
        assert press(checkout(app, tenant).json["url"], action="pay", number=account) == 303
        desk.wait(tenant, status="active", plan="starter")
    desk.pass_days(6)
    desk.wait(bad, status="past_due", reason="payment_failed")
    assert desk.subscription(good)["status"] == "active"
    desk.pass_days(7.5)
    desk.wait(bad, status="suspended", reason="payment_failed")
    desk.wait_access(bad, "none")
    assert checkout(app, bad).json["code"] == "already_subscribed"
    desk.pay_with(customers(desk, bad)[0]["id"], "pm_card_visa")
    desk.wait(bad, status="active")


def test_the_same_price_gives_the_same_page_and_another_closes_the_one_before(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Wavering Pharmacy")
    first, second = checkout(app, tenant), checkout(app, tenant)
    assert first.json["url"] == second.json["url"] and first.json["operation_id"] != second.json["operation_id"]
    other = checkout(app, tenant, "professional")
    assert other.json["url"] != first.json["url"]
    [session] = sessions(desk, tenant)
    assert session["url"] == other.json["url"] and len(sessions(desk, tenant, "expired")) == 1
    assert press(first.json["url"], action="pay", number=CARD) == 410


def test_a_page_with_the_price_from_before_is_not_given_again(desk: Desk, app: Api) -> None:
    tenant, key = desk.tenant_on_trial("Patient Pharmacy"), "tenantry_professional_year"
    desk.price("professional", "year")
    before = ask(app, tenant, "checkout", plan="professional", interval="year").json["url"]
    dearer = desk.stripe(
        "prices", product_data={"name": "professional"}, currency="usd", unit_amount=320000, recurring={"interval": "year"},
        lookup_key=key, transfer_lookup_key=True, metadata={"plan": "professional"},
    )  # fmt: skip
    after = ask(app, tenant, "checkout", plan="professional", interval="year").json["url"]
    assert after != before
    [session] = sessions(desk, tenant)
    assert session["metadata"]["price"] == dearer["id"] and session["url"] == after


def test_many_tabs_at_once_get_one_page_and_one_customer(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Tabbed Pharmacy")
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(checkout(app, tenant))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.json["url"] for answer in answers}) == 1, answers
    assert len(customers(desk, tenant)) == 1 and len(sessions(desk, tenant)) == 1


def test_a_page_that_is_used_between_two_looks_is_followed_by_no_other(desk: Desk, app: Api, stack: Stack) -> None:
    tenant = desk.tenant_on_trial("Sudden Pharmacy")
    page = checkout(app, tenant).json["url"]
    with fault(stack, "GET", "^/v1/checkout/sessions$", {"kind": "delay", "seconds": 3}):
        asked = checkout(app, tenant, "professional", prefer="")
        eventually(lambda: [each["seen"] for each in stack.control_sandbox("GET", "faults")] == [1], 20, "it looks")
        assert press(page, action="pay", number=CARD) == 303
        ended = desk.api.wait_operation(asked.json["operation_id"])
    assert (ended["state"], ended["code"]) == ("rejected", "already_subscribed")
    assert sessions(desk, tenant) == []


def test_a_page_that_was_used_while_another_was_asked_for_is_not_followed_by_a_second(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Racing Pharmacy")
    first = checkout(app, tenant)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(checkout(app, tenant, "professional")))
    with fault(desk.stack, "POST", "/expire$", {"kind": "delay", "seconds": 3, "when": "before"}):
        asking.start()
        closing = (
            "select 1 from billing.stripe_call join billing.request using (saga_id) "
            "where name like 'expire:%%' and tenant_id::text = %s"
        )
        eventually(lambda: desk.sql(closing, tenant), 20, "the first page is being closed")
        assert press(first.json["url"], action="pay", number=CARD) == 303
        asking.join()
    assert answers[0].json["code"] == "already_subscribed", answers
    assert len(sessions(desk, tenant)) == 0


def test_a_customer_deleted_at_stripe_is_made_anew(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Deleted Pharmacy")
    first = checkout(app, tenant).json["url"]
    [customer] = customers(desk, tenant)
    desk.stripe(f"customers/{customer['id']}", "DELETE")
    answer = checkout(app, tenant)
    assert answer.status == 200 and answer.json["url"] != first
    [made] = customers(desk, tenant)
    assert made["id"] != customer["id"]


def test_the_same_key_is_the_same_request_and_its_page_is_told_again(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Repeating Pharmacy")
    first, second = (checkout(app, tenant, key="tab-1") for _ in range(2))
    assert first.json == second.json
    assert checkout(app, tenant, "professional", key="tab-1").json["code"] == "idempotency_key_reused"


def test_the_portal_opens_for_a_customer_and_for_nobody_else(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Portal Pharmacy")
    refused = ask(app, tenant, "portal")
    assert (refused.status, refused.json["code"]) == (409, "no_customer")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    answer = ask(app, tenant, "portal")
    assert answer.status == 200 and "/p/session/" in answer.json["url"]
    assert press(answer.json["url"], action="cancel", subscription=subscription["id"]) == 303
    desk.wait(tenant, cancel_at=desk.subscription(tenant)["period_end"])


def test_what_cannot_be_bought_is_refused(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Wishing Pharmacy")
    assert checkout(app, tenant, "platinum").json["code"] == "plan_unknown"
    assert checkout(app, tenant, "enterprise").json["code"] == "not_sold"
    assert ask(app, tenant, "checkout", plan="starter", interval="week").status == 400
    year = ask(app, tenant, "checkout", plan="starter", interval="year")
    assert year.json["code"] == "price_missing" and "stripe setup" in year.json["detail"]


def test_no_address_and_no_secret_of_billings_is_in_catalog_topics_or_logs(desk: Desk, app: Api, stack: Stack) -> None:
    """But for Stripe's events as they came, which are Stripe's own words."""
    tenant = desk.tenant_on_trial("Secretive Pharmacy")
    page = checkout(app, tenant).json["url"].partition("//")[2].partition("/")[2]
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    portal = ask(app, tenant, "portal").json["url"].rpartition("/")[2]
    desk.pay_with(subscription["customer"], "pm_card_chargeCustomerFail")
    wanted = ask(app, tenant, "change-plan", plan="professional", interval="month")
    invoice = wanted.json["url"].rpartition("/")[2]
    desk.wait_for_deliveries()
    desk.sql("select catalog.ask_billing_link(%s)", tenant)
    link = eventually(lambda: link_in_mail(stack, tenant), 30, "a link is mailed")
    secrets = {
        "page": page,
        "portal": portal,
        "invoice": invoice,
        "link": link,
        "key": STRIPE_KEY,
        "webhooks": desk.endpoint["secret"],
    }
    search = Search({name: text.encode() for name, text in secrets.items()}, stack.root)
    allowed = {"topic billing.stripe.v1": {"page", "invoice"}, "mail/": {"link"}}
    for place, content in places(stack):
        found = set(search.find(content))
        may_be = {name for start, names in allowed.items() if place.startswith(start) for name in names}
        assert place.startswith(("logs/sandbox", "secret-forms")) or found <= may_be, (place, found)


def link_in_mail(stack: Stack, tenant: str) -> str | None:
    """The signed part of a billing link."""
    for mail in stack.control_sandbox("GET", "mail"):
        if found := re.search(rf"/billing/{tenant}\.([\w.-]+)", mail["text"]):
            return found[1]
    return None


def test_without_a_key_of_stripes_trials_work_and_a_checkout_is_answered_503(
    desk: Desk, app: Api, stack: Stack
) -> None:
    billing = stack.services["billing-0"]
    key = billing.environment.pop("STRIPE_SECRET_KEY")
    billing.stop()
    try:
        start(billing)
        tenant = desk.tenant_on_trial("Keyless Pharmacy")
        refused = checkout(app, tenant)
        assert (refused.status, refused.json["code"]) == (503, "stripe_not_configured"), refused
        assert refused.headers["retry-after"] == "300"
        gift = {"by": "ada", "reason": "a gift", "plan": "enterprise"}
        given = desk.api.post(f"/api/tenants/{tenant}/billing/override", gift, prefer=WAIT)
        assert given.json["state"] == "succeeded", given
    finally:
        billing.environment["STRIPE_SECRET_KEY"] = key
        billing.stop()
        start(billing)
    assert checkout(app, tenant).status == 200


def test_a_key_of_the_other_mode_is_refused(stack: Stack) -> None:
    checked = subprocess.run(
        [str(stack.build / "tenantry-billing"), "--check-config"],
        env={**stack.services["billing-0"].environment, "STRIPE_LIVEMODE": "1"},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert checked.returncode != 0 and "no key of live mode, and STRIPE_LIVEMODE is 1" in checked.stderr
