"""The demo's story of money: one tenant buys a plan on Stripe's page, one has a card without money, one never buys, and time
passes."""

from __future__ import annotations

import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from .process import ServerError, wait_until
from .stack import Stack
from .telling import BOLD, DIM, PLAIN, call, say

CARD = "4242424242424242"
CARD_WITHOUT_MONEY = "4000000000000341"
DAY = 86400
PATIENCE = 60.0


class Stay(urllib.request.HTTPRedirectHandler):
    """Stripe's page leads back to the product, which the demo does not have."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def set_up_stripe(stack: Stack) -> None:
    """As an operator would: products, prices, the portal and the endpoint, whose secret goes to a file for the gateway."""
    url = stack.client_environment()["TENANTRY_URL"]
    words = ("stripe", "setup", "--endpoint", f"{url}/api/webhooks/stripe")
    done = stack.run_cli(*words, "--secret-file", stack.options["STRIPE_WEBHOOK_SECRET_FILE"], admin=True)
    if done.returncode != 0:
        raise ServerError(f"tenantry stripe setup ended with {done.returncode}: {done.stderr}")


def tenant(stack: Stack, tenant_id: str) -> Any:
    return call(stack, "GET", f"/api/tenants/{tenant_id}")


def wait_for(stack: Stack, tenant_id: str, what: str, **wanted: str) -> Any:
    def reached() -> bool:
        told = tenant(stack, tenant_id)["subscription"] or {}
        return all(told.get(name) == value for name, value in wanted.items())

    wait_until(reached, PATIENCE, what)
    return tenant(stack, tenant_id)


def show(told: Any) -> str:
    subscription = told["subscription"]
    modules = f"{DIM}{', '.join(told['modules'])}{PLAIN}"
    return f"  {told['slug']:22} {subscription['status']:10} {subscription['plan']:13} access {told['access']['wanted']:5} {modules}"


def press(url: str, **fields: str) -> None:
    try:
        form = urllib.parse.urlencode(fields).encode()
        urllib.request.build_opener(Stay).open(urllib.request.Request(url, data=form), timeout=20).close()
    except urllib.error.HTTPError as answer:
        if answer.code != 303:
            raise


def page_for(stack: Stack, tenant_id: str, command: str, **wanted: str) -> str:
    """One of Stripe's, as the product asks for it."""
    token = stack.client_environment()["TENANTRY_APP_TOKEN"]
    path = f"/api/tenants/{tenant_id}/billing/{command}"
    page = str(call(stack, "POST", path, wanted, token=token, prefer="wait=25")["url"])
    say(f"  {DIM}{page}{PLAIN}")
    return page


def buy(stack: Stack, tenant_id: str, plan: str, card: str) -> None:
    press(page_for(stack, tenant_id, "checkout", plan=plan, interval="month"), action="pay", number=card)
    say(show(wait_for(stack, tenant_id, "its plan is known", plan=plan, interval="month")))


def pass_days(stack: Stack, days: int) -> None:
    """At Stripe and here."""
    stack.control_sandbox("POST", "clock", {"advance_seconds": days * DAY})
    time.sleep(2)  # what Stripe tells about these days is known before anything here ends
    done = stack.run_cli("clock", "advance", f"{days}d", admin=True, timeout=120)
    if done.returncode != 0:
        raise ServerError(f"tenantry clock advance ended with {done.returncode}: {done.stderr}")


def tell_billing(stack: Stack, tenants: list[str]) -> None:
    buyer, other, poor = tenants
    wait_until(lambda: tenant(stack, buyer)["subscription"] is not None, PATIENCE, "billing knows the first tenant")
    if tenant(stack, buyer)["subscription"]["status"] != "trial":
        return  # the demo was here before
    companies = [tenant(stack, each)["company"] for each in tenants]

    def reaches(tenant_id: str, status: str) -> None:
        say(show(wait_for(stack, tenant_id, f"it is {status}", status=status)))

    say(f"\n{BOLD}Each has a trial of 14 days, without a card:{PLAIN}")
    for each in tenants:
        reaches(each, "trial")
    say(f"\n{BOLD}{companies[0]} chooses Professional, on Stripe's page, and {companies[2]} Starter:{PLAIN}")
    buy(stack, buyer, "professional", CARD)
    buy(stack, poor, "starter", CARD_WITHOUT_MONEY)
    say(f"\n{BOLD}15 days later: the first pays, the second has not chosen, the third's card is refused:{PLAIN}")
    pass_days(stack, 15)
    for each, status in ((buyer, "active"), (other, "suspended"), (poor, "past_due")):
        reaches(each, status)
    say(f"\n{BOLD}8 days later its time to pay is over. It gives another card, which pays at once:{PLAIN}")
    pass_days(stack, 8)
    reaches(poor, "suspended")
    press(page_for(stack, poor, "portal"), action="method", number=CARD)
    reaches(poor, "active")
    say(f"\n{BOLD}23 days later: who has not chosen for 30 days is archived, after two notices:{PLAIN}")
    pass_days(stack, 23)
    for each, status in ((buyer, "active"), (other, "archived"), (poor, "active")):
        reaches(each, status)
