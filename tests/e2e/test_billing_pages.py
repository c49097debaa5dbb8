"""Where the links in mails about billing lead: pages whose buttons lead to Stripe and back into the product."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack, signed
from .client import Answer, Api, eventually
from .service_faults import told

CARD = "4242424242424242"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()  # without BILLING_RETURN_URL: it is the gateway's page


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack).selling("month")


@pytest.fixture(scope="module")
def person(stack: Stack) -> Api:
    """Who has a mail and a browser, and no token."""
    return Api(stack.services["gateway-0"].url, None)


def shop(desk: Desk, name: str) -> str:
    tenant = desk.api.ready_tenant(f"{name.title()} <i>& Sons", email=f"ada@{name}.test")
    eventually(lambda: desk.subscription(tenant) and desk.subscription(tenant)["trial_end"], 20, "its trial has begun")
    return tenant


def press(api: Api, url: str, **fields: str) -> Answer:
    body = urlencode(fields).encode()
    return api.call("POST", url, raw=body, content_type="application/x-www-form-urlencoded")


def mails(desk: Desk, name: str, word: str) -> list[Any]:
    found = desk.stack.control_sandbox("GET", f"mail?to=ada@{name}.test")
    return [mail for mail in found if word in mail["subject"]]


def test_a_mails_link_leads_by_a_plan_to_stripe_and_back_into_the_product(
    stack: Stack, desk: Desk, person: Api
) -> None:
    tenant = shop(desk, "buyer")
    desk.pass_days(12.1)
    [mail] = eventually(lambda: mails(desk, "buyer", "ends in 2 days"), 20, "the reminder")
    [link] = re.findall(re.escape(person.url) + r"(/billing/\S+)", mail["text"])
    page = person.get(link)
    assert page.status == 200 and page.headers["referrer-policy"] == "no-referrer"
    assert "Buyer &lt;i&gt;&amp; Sons" in page.text and "<i>" not in page.text
    assert "On trial, plan Starter" in page.text and "99.00 USD a month" in page.text and "<script" not in page.text
    sent = press(person, link, action="checkout", plan="starter", interval="month")
    assert sent.status == 303, sent
    stripe = Api("{0.scheme}://{0.netloc}".format(urlsplit(sent.headers["location"])), None)
    paid = press(stripe, urlsplit(sent.headers["location"]).path, action="pay", number=CARD)
    assert paid.status == 303, paid
    back = urlsplit(paid.headers["location"])
    [subdomain] = desk.sql("select slug from provisioner.tenant where tenant_id = %s", tenant)
    assert back.path == f"/billing/back/{subdomain}" and back.query.startswith("checkout=cs_")
    product = f"https://{subdomain}.example.com"
    eventually(
        lambda: person.get(f"{back.path}?{back.query}").headers.get("location") == product, 30, "on into the product"
    )
    desk.wait(tenant, status="active", plan="starter")
    page = person.get(link)
    assert "Active, plan Starter" in page.text and "99.00 USD" in page.text and "a month" not in page.text
    assert press(person, link, action="portal").status == 303


def test_back_from_stripe_it_waits_for_the_webhook_and_not_for_ever(desk: Desk, person: Api) -> None:
    tenant = shop(desk, "waiting")
    [subdomain] = desk.sql("select slug from provisioner.tenant where tenant_id = %s", tenant)
    page = person.get(f"/billing/back/{subdomain}?checkout=cs_not_told_yet")
    assert page.status == 200 and 'content="2;url=?checkout=cs_not_told_yet&amp;looks=1"' in page.text
    last = person.get(f"/billing/back/{subdomain}?checkout=cs_not_told_yet&looks=30")
    assert last.status == 303 and last.headers["location"] == f"https://{subdomain}.example.com"
    assert person.get(f"/billing/back/{subdomain}").status == 303, "back from the portal"
    assert "<b>" not in person.get(f"/billing/back/{subdomain}?checkout=<b>").text
    assert person.get("/billing/back/<b>").status in (400, 404)


def test_nobody_has_the_page_back_from_stripe_look_any_number_of_times(stack: Stack) -> None:
    with told(stack.services["gateway-0"]):  # which has counted nobody's looks yet
        somebody = Api(stack.services["gateway-0"].url, None)
        path = "/billing/back/anybody?checkout=cs_of_nobody"
        assert somebody.get(path).status == 200
        assert {somebody.get(path).status for _ in range(610)} == {200, 303}
        assert somebody.get(path).status == 303


def test_an_old_link_offers_a_new_one_by_mail(stack: Stack, desk: Desk, person: Api) -> None:
    tenant = shop(desk, "old")
    link = signed(stack, tenant, days=-1)
    page = person.get(link)
    assert page.status == 410 and "Send me a new link" in page.text
    assert press(person, link, action="portal").status == 410, "it is good for nothing else"
    assert press(person, link, action="mail").status == 200
    [mail] = eventually(lambda: mails(desk, "old", "Your link to the billing"), 20, "the new link")
    [fresh] = re.findall(r"(/billing/\S+)", mail["text"])
    assert person.get(fresh).status == 200
    assert press(person, link, action="mail").status == 200
    assert len(desk.sql("select 1 from billing.mail where kind = 'billing_link' and tenant_id = %s", tenant)) == 1


def test_links_that_are_not_ours_or_for_something_else_lead_nowhere(stack: Stack, desk: Desk, person: Api) -> None:
    tenant = shop(desk, "forged")
    good = signed(stack, tenant)
    assert person.get(good).status == 200
    other = signed(stack, tenant, "tenantry invitation link")
    for bad in (good[:-3] + "AAA", other, good.replace(tenant, "00000000-0000-4000-8000-000000000000"), "/billing/x"):
        assert person.get(bad).status == 404
        for action in ("portal", "checkout", "mail"):
            assert press(person, bad, action=action, plan="starter", interval="month").status == 404
    assert person.get(good.replace("/billing/", "/invite/")).status == 404


def test_a_button_that_does_not_exist_or_asks_for_what_is_not_sold_does_nothing(
    stack: Stack, desk: Desk, person: Api
) -> None:
    link = signed(stack, shop(desk, "curious"))
    for fields in ({}, {"action": "delete"}, {"action": "checkout", "plan": "starter", "interval": "week"},
                   {"action": "checkout", "plan": "<b>", "interval": "month"}):  # fmt: skip
        assert press(person, link, **fields).status == 400
    refused = press(person, link, action="checkout", plan="enterprise", interval="month")
    assert refused.status == 409 and "not possible" in refused.text
    assert person.get(link).text.count(" a month<") == 2
