"""The hosted pages do what their buttons say: checkout, the customer portal, an open invoice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from .servers import Answer
from .stripe_client import DAY, FORM, PRO, TEAM, Stripe, Tenant

OBJECTS = Path(__file__).with_name("recorded") / "stripe" / "objects"
VISA, DECLINED, CAREFUL = "4242424242424242", "4000000000000341", "4000002760003184"
TENANT = {"tenant_id": "t1"}


class Browser:
    def __init__(self, stripe: Stripe, url: str) -> None:
        self.stripe = stripe
        self.path = urlsplit(url).path
        assert urlsplit(url).port == stripe.sandbox.stripe_port

    def open(self) -> Answer:
        return self.stripe.sandbox.ask("GET", self.path, token=None, port=self.stripe.sandbox.stripe_port)

    def press(self, action: str = "pay", **fields: Any) -> Answer:
        form = urlencode({"action": action, **fields})
        port = self.stripe.sandbox.stripe_port
        return self.stripe.sandbox.ask("POST", self.path, form, {"Content-Type": FORM}, token=None, port=port)


def checkout(stripe: Stripe, **more: Any) -> Any:
    price = stripe.price(PRO, metadata={"plan": "pro"})["id"]
    told: dict[str, Any] = {
        "mode": "subscription",
        "line_items": [{"price": price, "quantity": 1}],
        "client_reference_id": "t1",
        "subscription_data": {"metadata": TENANT},
        "success_url": "https://app.example.com/ok?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://app.example.com/billing",
    }
    return stripe.post("checkout/sessions", **{**told, **more})


def test_a_customer_subscribes_on_a_page_that_shows_the_plan(stripe: Stripe) -> None:
    customer = stripe.customer(None)["id"]
    session = checkout(stripe, customer=customer)
    browser = Browser(stripe, session["url"])
    shown = browser.open()
    assert shown.status == 200 and shown.headers["Content-Type"].startswith("text/html")
    for part in ("professional_month", "299.00 USD every month", "https://app.example.com/billing", VISA, "Subscribe"):
        assert part in shown.text
    done = browser.press(number=VISA)
    assert (done.status, done.headers["Location"]) == (303, f"https://app.example.com/ok?session_id={session['id']}")
    (event,) = stripe.events(type="checkout.session.completed")
    told = event["data"]["object"]
    assert (told["status"], told["payment_status"], told["client_reference_id"]) == ("complete", "paid", "t1")
    assert (told["customer"], told["url"], told["amount_total"]) == (customer, None, PRO)
    subscription = stripe.get(f"subscriptions/{told['subscription']}")
    assert (subscription["status"], subscription["metadata"]) == ("active", TENANT)
    assert stripe.get(f"payment_methods/{subscription['default_payment_method']}")["customer"] == customer
    (item,) = stripe.get(f"checkout/sessions/{session['id']}/line_items")["data"]
    assert item["amount_total"] == PRO
    assert browser.open().status == 410 and browser.press(number=VISA).status == 410
    assert len(stripe.get("subscriptions")["data"]) == 1


def test_sessions_have_the_fields_of_the_official_examples(stripe: Stripe) -> None:
    portal = stripe.post("billing_portal/sessions", customer=stripe.customer(None)["id"])
    for kind, document in (("checkout.session", checkout(stripe)), ("billing_portal.session", portal)):
        assert set(json.loads((OBJECTS / f"{kind}.json").read_text())) <= set(document), kind


def test_a_declined_card_leaves_the_page_open_and_nothing_behind(stripe: Stripe) -> None:
    session = checkout(stripe, customer=stripe.customer(None)["id"])
    browser = Browser(stripe, session["url"])
    for number in (DECLINED, "4000000000000002", "1234"):
        answer = browser.press(number=number)
        assert answer.status == 402 and 'role="alert"' in answer.text
    assert stripe.get("subscriptions", status="all")["data"] == []
    assert stripe.types(types=["customer.subscription.*", "invoice.*", "payment_method.*"]) == []
    assert browser.press(number=VISA).status == 303


def test_a_bank_asks_the_customer_and_believes_the_answer(stripe: Stripe) -> None:
    session = checkout(stripe, customer=stripe.customer(None)["id"])
    browser = Browser(stripe, session["url"])
    asked = browser.press(number=CAREFUL)
    assert asked.status == 200 and "Complete authentication" in asked.text and CAREFUL in asked.text
    assert browser.press(number=CAREFUL, authenticated="false").status == 402
    assert browser.press(number=CAREFUL, authenticated="true").status == 303
    assert stripe.get(f"checkout/sessions/{session['id']}")["payment_status"] == "paid"


def test_who_is_not_known_leaves_an_address(stripe: Stripe) -> None:
    session = checkout(stripe)
    browser = Browser(stripe, session["url"])
    assert 'name="email"' in browser.open().text and browser.press(number=VISA).status == 402
    assert browser.press(number=VISA, email="new@example.com").status == 303
    (customer,) = stripe.get("customers")["data"]
    assert customer["email"] == "new@example.com"
    assert stripe.get(f"checkout/sessions/{session['id']}")["customer"] == customer["id"]


@pytest.mark.parametrize(
    ("iban", "outcome", "status"),
    [("DE89370400440532013000", "succeeded", "paid"), ("DE62370400440532013001", "failed", "unpaid")],
)
def test_a_debit_is_known_days_after_the_session(stripe: Stripe, iban: str, outcome: str, status: str) -> None:
    session = checkout(stripe, customer=stripe.customer(None)["id"])
    assert Browser(stripe, session["url"]).press(number=iban).status == 303
    path = f"checkout/sessions/{session['id']}"
    assert stripe.get(path)["payment_status"] == "unpaid"
    stripe.pass_time(days=5, seconds=1)
    assert stripe.get(path)["payment_status"] == status
    assert stripe.types(type="checkout.session.*") == [
        "checkout.session.completed",
        f"checkout.session.async_payment_{outcome}",
    ]


def test_a_trial_needs_two_days_and_no_payment(stripe: Stripe) -> None:
    customer, now = stripe.customer(None)["id"], int(stripe.now())
    price = stripe.price()["id"]
    told = {"mode": "subscription", "success_url": "https://app.example.com", "line_items": [{"price": price}]}
    soon = stripe.ask("POST", "/v1/checkout/sessions", subscription_data={"trial_end": now + DAY}, **told)  # type: ignore[arg-type]
    assert (soon.status, soon.body["error"]["param"]) == (400, "subscription_data[trial_end]")
    session = checkout(stripe, customer=customer, subscription_data={"trial_end": now + 3 * DAY})
    assert Browser(stripe, session["url"]).press(number=VISA).status == 303
    done = stripe.get(f"checkout/sessions/{session['id']}", expand=["subscription"])
    assert (done["payment_status"], done["subscription"]["status"]) == ("no_payment_required", "trialing")


def test_a_session_expires_by_itself_or_when_told(stripe: Stripe) -> None:
    told, alone = checkout(stripe), checkout(stripe)
    assert stripe.post(f"checkout/sessions/{told['id']}/expire")["status"] == "expired"
    assert stripe.refused("POST", f"checkout/sessions/{told['id']}/expire")[0] == 400
    stripe.pass_time(days=1, seconds=1)
    assert stripe.get(f"checkout/sessions/{alone['id']}")["status"] == "expired"
    assert stripe.types(type="checkout.session.*") == ["checkout.session.expired"] * 2
    assert Browser(stripe, alone["url"]).open().status == 410


def test_an_open_invoice_has_a_page_on_which_it_is_paid(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    tenant.pays_with("pm_card_authenticationRequired")
    tenant.to_period_end(3700)
    assert tenant.status() == "past_due"
    browser = Browser(stripe, tenant.invoices()[1]["hosted_invoice_url"])
    assert "299.00 USD" in browser.open().text
    assert browser.press(number=DECLINED).status == 402
    assert "Complete authentication" in browser.press(number=CAREFUL).text
    assert browser.press(number=CAREFUL, authenticated="true").status == 200
    assert tenant.status() == "active" and browser.open().status == 410
    assert Browser(stripe, f"http://127.0.0.1:{stripe.sandbox.stripe_port}/i/unknown").open().status == 404


def portal(tenant: Tenant) -> Browser:
    session = tenant.stripe.post(
        "billing_portal/sessions", customer=tenant.customer, return_url="https://app.example.com/"
    )
    return Browser(tenant.stripe, session["url"])


def test_a_cancellation_in_the_portal_is_a_moment_now_and_was_a_period_end_before(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    browser = portal(tenant)
    assert "Cancel at the end of the period" in browser.open().text
    assert browser.press("cancel", subscription=tenant.id).status == 303
    end = tenant.item()["current_period_end"]
    assert (tenant.now()["cancel_at"], tenant.now()["cancel_at_period_end"]) == (end, False)
    older = stripe.call("GET", f"/v1/subscriptions/{tenant.id}", {"Stripe-Version": "2025-06-30.basil"})
    assert (older["cancel_at"], older["cancel_at_period_end"]) == (end, True)
    assert browser.press("keep", subscription=tenant.id).status == 303 and tenant.now()["cancel_at"] is None
    browser.press("cancel", subscription=tenant.id)
    tenant.to_period_end(1)
    assert tenant.status() == "canceled" and "Cancel" not in browser.open().text


def test_the_portal_changes_the_plan_and_the_card(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    browser = portal(tenant)
    assert re.search(r"Change to team_month, 599\.00 USD", browser.open().text)
    wanted = {"subscription": tenant.id, "price": tenant.team["id"]}
    assert browser.press("method", number=DECLINED).status == 303
    assert (browser.press("change", **wanted).status, tenant.plan()) == (402, "pro")
    assert browser.press("method", number=VISA).status == 303
    assert (browser.press("change", **wanted).status, tenant.plan()) == (303, "team")
    assert tenant.invoices()[1]["total"] == TEAM - PRO
    stranger = portal(Tenant(stripe))
    assert stranger.press("cancel", subscription=tenant.id).status == 402


def configuration(tenant: Tenant, *prices: Any, update: Any = None, **more: Any) -> Any:
    update = {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "proration_behavior": "always_invoice",
        "products": [{"product": each["product"], "prices": [each["id"]]} for each in prices or [tenant.team]],
        **(update or {}),
    }
    features = {"subscription_update": update, "payment_method_update": {"enabled": True}, **more}
    return tenant.stripe.post("billing_portal/configurations", features=features, metadata={"owner": "us"})


def configured(tenant: Tenant, made: Any) -> Browser:
    session = tenant.stripe.post("billing_portal/sessions", customer=tenant.customer, configuration=made["id"])
    assert session["configuration"] == made["id"]
    return Browser(tenant.stripe, session["url"])


def test_a_configuration_shows_its_products_only_to_who_has_them_expanded(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    made = configuration(tenant)
    path = "features.subscription_update.products"
    assert made["id"].startswith("bpc_") and "products" not in made["features"]["subscription_update"]
    (listed,) = stripe.get("billing_portal/configurations", active=True, expand=[f"data.{path}"])["data"]
    (product,) = listed["features"]["subscription_update"]["products"]
    assert (product["product"], product["prices"]) == (tenant.team["product"], [tenant.team["id"]])
    one = f"billing_portal/configurations/{made['id']}"
    assert stripe.get(one, expand=[path])["features"] == listed["features"]
    changed = stripe.post(one, active=False, features={"invoice_history": {"enabled": True}}, expand=[path])
    assert changed["features"] == {**listed["features"], "invoice_history": {"enabled": True}}
    assert stripe.get("billing_portal/configurations", active=True)["data"] == []
    refused = stripe.refused("POST", "billing_portal/sessions", customer=tenant.customer, configuration=made["id"])
    assert refused[:2] == (400, "invalid_request_error")


def test_a_configuration_has_prices_in_use_of_the_products_it_names(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    stripe.post(f"prices/{tenant.pro['id']}", active=False)
    for products in (
        [],
        [{"product": tenant.team["product"], "prices": [tenant.pro["id"]]}],
        [{"product": tenant.pro["product"], "prices": [tenant.pro["id"]]}],
        [{"product": "prod_unknown", "prices": [tenant.team["id"]]}],
        [{"product": tenant.team["product"], "prices": [tenant.team["id"]]}] * 11,
    ):
        update = {"enabled": True, "default_allowed_updates": ["price"], "products": products}
        features = {"subscription_update": update}
        assert stripe.refused("POST", "billing_portal/configurations", features=features)[0] == 400, products


def test_a_session_allows_what_its_configuration_does_and_nothing_else(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    third = stripe.price(1000, "third_month", metadata={"plan": "third"})
    browser = configured(tenant, configuration(tenant))
    page = browser.open().text
    assert "team_month" in page and "third_month" not in page and "Cancel" not in page and "Use this one" in page
    assert browser.press("cancel", subscription=tenant.id).status == 402
    assert browser.press("change", subscription=tenant.id, price=third["id"]).status == 402
    assert (tenant.plan(), tenant.now()["cancel_at"]) == ("pro", None)
    assert browser.press("change", subscription=tenant.id, price=tenant.team["id"]).status == 303
    assert tenant.plan() == "team"


CHEAPER, SHORTER = {"type": "decreasing_item_amount"}, {"type": "shortening_interval"}


def waiting(*conditions: Any) -> Any:
    return {"schedule_at_period_end": {"conditions": list(conditions)}}


def test_a_cheaper_plan_waits_for_the_end_of_the_period_where_the_configuration_says_so(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    browser = configured(tenant, configuration(tenant, tenant.pro, tenant.team, update=waiting(CHEAPER, SHORTER)))
    assert browser.press("change", subscription=tenant.id, price=tenant.team["id"]).status == 303
    assert (tenant.plan(), tenant.now()["schedule"], len(tenant.invoices())) == ("team", None, 2)
    assert browser.press("change", subscription=tenant.id, price=tenant.pro["id"]).status == 303
    assert (tenant.plan(), len(tenant.invoices())) == ("team", 2)
    end = tenant.item()["current_period_end"]
    schedule = stripe.get(f"subscription_schedules/{tenant.now()['schedule']}")
    assert (schedule["status"], schedule["end_behavior"], schedule["subscription"]) == ("active", "release", tenant.id)
    now, then = schedule["phases"]
    assert (now["items"][0]["price"], now["end_date"]) == (tenant.team["id"], end)
    assert (then["items"][0]["price"], then["start_date"]) == (tenant.pro["id"], end)
    told = stripe.types(type="subscription_schedule.*")
    assert told == ["subscription_schedule.created", "subscription_schedule.updated"]
    assert re.search(r"Changes to professional_month on \d{4}-\d\d-\d\d", browser.open().text)
    for refused in ("cancel", "keep", "change"):
        assert browser.press(refused, subscription=tenant.id, price=tenant.pro["id"]).status == 402, refused
    tenant.to_period_end(3700)
    assert (tenant.plan(), tenant.invoices()[-1]["total"], tenant.now()["cancel_at"]) == ("pro", PRO, None)
    assert browser.press("change", subscription=tenant.id, price=tenant.team["id"]).status == 303
    assert (tenant.plan(), tenant.now()["schedule"]) == ("team", None)
    assert stripe.types(type="subscription_schedule.*")[-1] == "subscription_schedule.released"


def test_a_condition_is_about_the_amount_over_time_or_the_interval_alone(stripe: Stripe) -> None:
    """As the API's reference has it: a year for ten months' money is cheaper; from a year to a month of something dearer is
    not what "shortening" means."""
    tenant = Tenant(stripe)
    yearly = {"recurring": {"interval": "year"}, "product_data": {"name": "x"}}
    even = stripe.post("prices", currency="usd", unit_amount=12 * PRO, **yearly)
    ten = stripe.post("prices", currency="usd", unit_amount=10 * PRO, **yearly)
    own = stripe.post(
        "prices", currency="usd", unit_amount=10 * PRO, product=tenant.pro["product"], recurring={"interval": "year"}
    )
    for conditions, start, wanted, waits in (
        ([CHEAPER], tenant.pro, even, False),
        ([CHEAPER], tenant.pro, ten, True),
        ([SHORTER], tenant.pro, ten, False),
        ([CHEAPER], own, tenant.pro, False),
        ([SHORTER], own, tenant.pro, True),
        ([CHEAPER, SHORTER], ten, tenant.team, False),
        ([SHORTER], tenant.team, tenant.pro, False),
        ([], tenant.team, tenant.pro, False),
    ):
        each = Tenant(stripe, items=[{"price": start["id"]}])
        browser = configured(each, configuration(each, wanted, update=waiting(*conditions)))
        assert browser.press("change", subscription=each.id, price=wanted["id"]).status == 303
        assert (each.now()["schedule"] is not None) == waits, (conditions, start["id"], wanted["id"])
        assert (each.item()["price"]["id"] == start["id"]) == waits


@pytest.mark.parametrize(
    ("said", "status"), [("continue_trial", "trialing"), ("end_trial", "active"), (None, "active")]
)
def test_a_trial_ends_with_a_change_in_the_portal_unless_it_is_to_go_on(
    stripe: Stripe, said: str | None, status: str
) -> None:
    tenant = Tenant(stripe, trial_period_days=10)
    browser = configured(tenant, configuration(tenant, update=said and {"trial_update_behavior": said}))
    assert browser.press("change", subscription=tenant.id, price=tenant.team["id"]).status == 303
    assert (tenant.plan(), tenant.status()) == ("team", status)


def test_a_configurations_conditions_are_judged_kept_shown_and_taken_away(stripe: Stripe) -> None:
    tenant = Tenant(stripe)
    made = configuration(tenant, update=waiting(CHEAPER))
    shown = made["features"]["subscription_update"]
    assert (
        shown["schedule_at_period_end"] == {"conditions": [CHEAPER]} and shown["trial_update_behavior"] == "end_trial"
    )
    path = f"billing_portal/configurations/{made['id']}"
    for wrong in ([{"type": "cheaper"}], [{"type": ""}], [{"type": "shortening_interval", "more": "1"}]):
        features = {"subscription_update": waiting(*wrong)}
        assert stripe.refused("POST", path, features=features)[0] == 400, wrong
    assert stripe.get(path)["features"]["subscription_update"] == shown
    taken = stripe.post(path, features={"subscription_update": {"schedule_at_period_end": {"conditions": ""}}})
    assert taken["features"]["subscription_update"]["schedule_at_period_end"] == {"conditions": []}
