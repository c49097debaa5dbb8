"""The customer portal as `tenantry stripe setup` leaves it: opened without being told of it, and no way past the rules of a
change of plan."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import Api, eventually
from .sandbox_control import fault
from .service_faults import told
from .test_checkout import ask, press

CONFIGURATIONS = "billing_portal/configurations"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    for made in billing_stack():
        made.control_sandbox("POST", "settings", {"stripe_rate_limit": 5000})
        yield made


@pytest.fixture(scope="module")
def desk(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With what `tenantry stripe setup` makes, but for its endpoint: the desk has one."""
    made, secret = Desk(stack), tmp_path_factory.mktemp("secret") / "webhook"
    where = ("--endpoint", "http://127.0.0.1:9/", "--secret-file", str(secret))
    done = stack.run_cli("stripe", "setup", *where, admin=True)
    assert done.returncode == 0, done.stderr
    for each in made.stripe("webhook_endpoints", "GET")["data"]:
        if each["id"] != made.endpoint["id"]:
            made.stripe(f"webhook_endpoints/{each['id']}", "DELETE")
    for price in made.stripe("prices", "GET", limit=100)["data"]:
        made.prices[price["lookup_key"]] = price["id"]
    return made


def subscriber(desk: Desk, name: str, plan: str, **more: Any) -> tuple[str, str]:
    tenant = desk.tenant_on_trial(name)
    made = desk.subscribe(tenant, plan, **more)
    desk.wait(tenant, plan=plan, interval="month")
    return tenant, made["id"]


def portal(app: Api, tenant: str) -> str:
    answer = ask(app, tenant, "portal")
    assert answer.status == 200 and answer.json["result"] == {"outcome": "page"}, answer
    return str(answer.json["url"])


def read(page: str) -> str:
    with urllib.request.urlopen(page, timeout=20) as response:
        return str(response.read().decode())


def shown(app: Api, tenant: str) -> str:
    return read(portal(app, tenant))


def change(app: Api, desk: Desk, tenant: str, subscription: str, plan: str, interval: str = "month") -> None:
    page, price = portal(app, tenant), desk.prices[f"tenantry_{plan}_{interval}"]
    assert press(page, action="change", subscription=subscription, price=price) == 303


def wait_for_pending(desk: Desk, tenant: str, plan: str, interval: str) -> Any:
    """The subscription, once that is what its end of the period brings."""

    def planned() -> Any:
        found = desk.subscription(tenant)
        wanted = {"plan": plan, "interval": interval, "at": found["period_end"]}
        return found["pending"] == wanted and found

    try:
        return eventually(planned, 30, f"{plan} by the {interval} is pending")
    except AssertionError as error:
        raise AssertionError(f"{error}: {desk.subscription(tenant)}") from error


def invoices(desk: Desk, subscription: str) -> list[int]:
    found = desk.stripe("invoices", "GET", subscription=subscription, limit=100)["data"]
    return [each["total"] for each in reversed(found)]


def test_an_upgrade_in_the_portal_is_at_once_and_a_downgrade_comes_when_the_period_ends(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Portal Pharmacy", "starter")
    desk.pass_days(10)
    change(app, desk, tenant, subscription, "professional")
    desk.wait(tenant, plan="professional", pending=None)
    first, second = invoices(desk, subscription)
    assert first == 9900 and 0 < second < 20000
    usage = {"at": "2026-01-01T00:00:00Z", "users": 7, "branches": 1}
    assert app.post(f"/api/tenants/{tenant}/billing/usage", usage, prefer="wait=20").json["state"] == "succeeded"
    change(app, desk, tenant, subscription, "starter")
    before = wait_for_pending(desk, tenant, "starter", "month")
    assert (before["plan"], before["status"]) == ("professional", "active")
    assert invoices(desk, subscription) == [first, second]
    assert app.get(f"/api/tenants/{tenant}/billing").json["next"] == {"what": "change", "at": before["period_end"]}
    assert app.get(f"/api/tenants/{tenant}/entitlements").json["over"] == []
    desk.pass_days(21.2)
    after = desk.wait(tenant, plan="starter", status="active", pending=None)["subscription"]
    assert after["period_end"] > before["period_end"] and invoices(desk, subscription) == [first, second, 9900]
    over = app.get(f"/api/tenants/{tenant}/entitlements").json["over"]
    assert over == [{"limit": "users", "used": 7, "most": 5}]


def test_a_downgrade_in_the_portal_is_taken_back_or_replaced_here(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Wavering Pharmacy", "professional")
    for back in ("resume", "change-plan"):
        change(app, desk, tenant, subscription, "starter")
        assert wait_for_pending(desk, tenant, "starter", "month")["plan"] == "professional"
        wanted = {} if back == "resume" else {"plan": "professional", "interval": "year"}
        answer = ask(app, tenant, back, **wanted)
        assert answer.json["result"]["outcome"] == ("goes_on" if back == "resume" else "changed"), answer
        desk.wait(tenant, plan="professional", pending=None, interval="month" if back == "resume" else "year")
    change(app, desk, tenant, subscription, "professional")  # from the year to the month
    assert wait_for_pending(desk, tenant, "professional", "month")["interval"] == "year"


def test_a_trial_goes_on_with_the_plan_that_is_chosen_in_the_portal(desk: Desk, app: Api) -> None:
    tenant, subscription = subscriber(desk, "Trying Pharmacy", "starter", trial_period_days=10)
    end = desk.wait(tenant, status="trial")["subscription"]["trial_end"]
    change(app, desk, tenant, subscription, "professional")
    after = desk.wait(tenant, plan="professional", status="trial")["subscription"]
    assert after["trial_end"] == end and sum(invoices(desk, subscription)) == 0


def test_the_configuration_of_the_set_up_is_opened_unless_another_is_named_or_there_is_none(
    desk: Desk, app: Api, stack: Stack
) -> None:
    tenant, _ = subscriber(desk, "Looking Pharmacy", "starter")
    desk.price("foreign")
    [ours] = desk.stripe(CONFIGURATIONS, "GET", active=True)["data"]
    page = shown(app, tenant)
    assert "tenantry_professional_month" in page and "tenantry_foreign" not in page and "Cancel at" in page
    # Newer, but nobody's of ours: it is not taken for it.
    features = {"invoice_history": {"enabled": True}}
    other = desk.stripe(CONFIGURATIONS, features=features, metadata={"owner": "somebody"})
    assert "tenantry_professional_month" in shown(app, tenant)
    billing = stack.services["billing-0"]
    with told(billing, STRIPE_PORTAL_CONFIGURATION=other["id"]):
        page = shown(app, tenant)
        assert "Change to" not in page and "Cancel at" not in page and "Use this one" not in page
    desk.stripe(f"{CONFIGURATIONS}/{ours['id']}", active=False)
    assert "tenantry_foreign" in shown(app, tenant), "Stripe's default one allows everything"
    desk.stripe(f"{CONFIGURATIONS}/{ours['id']}", active=True)
    assert "tenantry_foreign" not in shown(app, tenant)


def test_a_configuration_that_is_switched_off_while_its_page_is_asked_for_is_not_insisted_on(
    desk: Desk, app: Api, stack: Stack
) -> None:
    tenant, _ = subscriber(desk, "Unlucky Pharmacy", "starter")
    desk.price("foreign")
    [ours] = [
        each for each in desk.stripe(CONFIGURATIONS, "GET", active=True)["data"] if "tenantry" in each["metadata"]
    ]
    pages: list[str] = []
    asking = threading.Thread(target=lambda: pages.append(portal(app, tenant)))
    with fault(stack, "POST", "/billing_portal/sessions$", {"kind": "delay", "seconds": 3, "when": "before"}):
        asking.start()
        opening = (
            "select 1 from billing.stripe_call join billing.request using (saga_id) "
            "where name = 'portal' and params ->> 'configuration' = %s and tenant_id::text = %s"
        )
        eventually(lambda: desk.sql(opening, ours["id"], tenant), 20, "the page is asked for")
        desk.stripe(f"{CONFIGURATIONS}/{ours['id']}", active=False)
        asking.join()
    assert "/p/session/" in pages[0]
    assert "Change to tenantry_foreign_month" in read(pages[0]), "Stripe's default one allows everything"
    desk.stripe(f"{CONFIGURATIONS}/{ours['id']}", active=True)
