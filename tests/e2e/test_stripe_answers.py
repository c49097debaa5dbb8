"""Answers of Stripe's that are lost, late or wrong, and such that it gives again: Stripe itself says how often a thing was done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import Answer, Api, eventually
from .sandbox_control import fault
from .service_faults import armed, died_of_sigkill
from .test_checkout import ask, checkout, customers, press, sessions
from .test_plan_changes import change, charges

UNLUCKY: dict[str, dict[str, Any]] = {
    "lost": {"kind": "cut_after"},
    "limited": {"kind": "rate_limit", "retry_after": 2},
    "in use": {"kind": "status", "code": 409},
    "saved with the work": {"kind": "api_error", "work": "done"},
    "saved without the work": {"kind": "api_error", "work": "undone"},
    "slow": {"kind": "delay", "seconds": 2, "when": "after"},
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack).selling("month")


def test_a_lost_answer_a_failure_saved_under_the_key_429_and_409_are_one_checkout(
    desk: Desk, app: Api, stack: Stack
) -> None:
    """Each kind with a tenant of its own, all at the same time: both its calls meet it."""
    kinds = [*UNLUCKY.values(), {"kind": "cut"}, {"kind": "status", "code": 503}]
    tenants = desk.tenants_on_trial(*(f"Unlucky Pharmacy {number}" for number in range(len(kinds))))
    with contextlib.ExitStack() as faults:
        for tenant, what in zip(tenants, kinds, strict=True):
            for path in ("^/v1/customers$", "^/v1/checkout/sessions$"):
                faults.enter_context(fault(stack, "POST", path, what, body=tenant))
        asked = [checkout(app, tenant, prefer="").json["operation_id"] for tenant in tenants]
        done = [desk.api.wait_operation(each, 60) for each in asked]
    assert {each["state"] for each in done} == {"succeeded"}, done
    for tenant, what in zip(tenants, kinds, strict=True):
        assert len(customers(desk, tenant)) == 1, what
        [session] = sessions(desk, tenant)
        assert checkout(app, tenant).json["url"] == session["url"], what


def test_whatever_happens_to_the_call_a_change_a_payment_and_an_end_are_made_once(
    desk: Desk, app: Api, stack: Stack
) -> None:
    """Each kind of bad luck with a subscriber of its own, all at the same time."""
    stack.control_sandbox("POST", "settings", {"stripe_rate_limit": 1000})
    try:
        tenants = dict(zip(UNLUCKY, desk.tenants_on_trial(*(f"Bad luck {kind}" for kind in UNLUCKY)), strict=True))
        made = {kind: desk.subscribe(tenant) for kind, tenant in tenants.items()}
        paths = {kind: f"/v1/subscriptions/{each['id']}$" for kind, each in made.items()}

        def ask_all(api: Api, command: str, method: str = "POST", **body: str) -> None:
            with unlucky(stack, method, paths):
                asked = [api.command(tenant, command, body) for tenant in tenants.values()]
                done = [desk.api.wait_operation(each.json["operation_id"], 60) for each in asked]
                assert {each["state"] for each in done} == {"succeeded"}, done

        for tenant in tenants.values():
            desk.wait(tenant, status="active")
        ask_all(app, "billing/change-plan", plan="professional", interval="month")
        ask_all(app, "billing/cancel")
        ask_all(app, "billing/resume")
        for kind, tenant in tenants.items():
            desk.wait(tenant, status="active", plan="professional", cancel_at=None)
            assert len(charges(desk, made[kind]["customer"])) == 2, kind
            desk.pay_with(made[kind]["customer"], "pm_card_chargeCustomerFail")
        desk.pass_days(31.2)
        for tenant in tenants.values():
            desk.wait(tenant, status="past_due")
        with unlucky(stack, "POST", {kind: f"/v1/invoices/{open_invoice(desk, made[kind])}/pay$" for kind in made}):
            for kind in tenants:
                desk.pay_with(made[kind]["customer"], "pm_card_visa")
            for kind, tenant in tenants.items():
                if kind != "saved without the work":
                    desk.wait(tenant, status="active")
        desk.wait(tenants["saved without the work"], status="active")
        for kind in tenants:
            assert len(charges(desk, made[kind]["customer"])) == 3, kind
        with unlucky(stack, "DELETE", paths):
            for tenant in tenants.values():
                assert desk.api.command(tenant, "archive").status == 202
            eventually(lambda: ended(desk, made) == {"canceled"}, 60, "all have ended with their tenants")
        eventually(lambda: not working(desk), 60, "the answers that were lost have come as well")
    finally:
        stack.control_sandbox("POST", "settings", {"stripe_rate_limit": 25})


def ended(desk: Desk, subscriptions: dict[str, Any]) -> set[str]:
    """In which ways, by what billing knows."""
    known = "select facts ->> 'status' from billing.object where object_id = any (%s)"
    return set(desk.sql(known, [each["id"] for each in subscriptions.values()]))


def working(desk: Desk) -> list[Any]:
    """Whose call to Stripe may still come: a failpoint of the next test's would be theirs."""
    return desk.sql("select tenant_id from billing.saga where finished_at is null")


def open_invoice(desk: Desk, subscription: Any) -> str:
    [invoice] = desk.stripe("invoices", "GET", subscription=subscription["id"], status="open", limit=10)["data"]
    return str(invoice["id"])


@contextlib.contextmanager
def unlucky(stack: Stack, method: str, paths: dict[str, str]) -> Iterator[None]:
    with contextlib.ExitStack() as faults:
        for kind, path in paths.items():
            faults.enter_context(fault(stack, method, path, UNLUCKY[kind]))
        yield


def test_an_answer_that_stripe_gives_again_does_not_undo_what_has_changed_since(
    desk: Desk, app: Api, stack: Stack
) -> None:
    tenant = desk.tenant_on_trial("Undecided Twice")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    with armed(stack.services["billing-0"], "billing_after_call=crash"):
        answer = ask(app, tenant, "cancel", prefer="")
        assert died_of_sigkill(stack.services["billing-0"])
        desk.stripe(f"subscriptions/{subscription['id']}", cancel_at_period_end=False)
        stack.control_sandbox("POST", "clock", {"advance_seconds": 60})
    ended = desk.api.wait_operation(answer.json["operation_id"], 60)
    assert ended["state"] == "succeeded", ended
    desk.wait_for_deliveries()
    wanted = "select object_id from billing.wanted_object where object_id = %s"
    eventually(lambda: not desk.sql(wanted, subscription["id"]), 30, "how it is now is known")
    assert desk.subscription(tenant)["cancel_at"] is None


def ended_a_day_after(
    desk: Desk, match: dict[str, str], begin: Callable[[], Answer], is_done: Callable[[], bool]
) -> dict[str, Any]:
    """How it ended, though its answer is lost until Stripe has forgotten the key: what was done is seen, and not done again."""
    rule = {"match": {"method": "POST", **match}, "fault": {"kind": "cut_after"}}
    held = desk.stack.control_sandbox("POST", "faults", rule)
    answer = begin()
    assert answer.status == 202, answer
    eventually(is_done, 30, "it is done, and not known")
    desk.sql("update catalog.business_clock set ahead = ahead + interval '26 hours' returning ahead")
    desk.stack.control_sandbox("POST", "clock", {"advance_seconds": 26 * 3600})
    desk.stack.control_sandbox("DELETE", f"faults/{held['id']}")
    return desk.api.wait_operation(answer.json["operation_id"], 60)


def test_an_upgrade_whose_answer_was_lost_is_charged_once_a_day_later_too(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Forgotten Pharmacy")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    ended = ended_a_day_after(
        desk,
        {"path": f"subscriptions/{subscription['id']}$"},
        lambda: change(app, tenant, "professional", prefer=""),
        lambda: len(charges(desk, subscription["customer"])) == 2,
    )
    assert ended["state"] == "succeeded", ended
    assert len(charges(desk, subscription["customer"])) == 2
    desk.wait(tenant, plan="professional", status="active")


def test_a_downgrade_whose_answer_was_lost_has_one_schedule_a_day_later_too(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Forgotten Downgrade")
    subscription = desk.subscribe(tenant, "professional")
    desk.wait(tenant, status="active")

    def schedules() -> list[Any]:
        found = desk.stripe("subscription_schedules", "GET", customer=subscription["customer"], limit=10)["data"]
        return [each for each in found if each["status"] == "active"]

    ended = ended_a_day_after(
        desk,
        {"path": "subscription_schedules$", "body": subscription["id"]},
        lambda: change(app, tenant, "starter", prefer=""),
        lambda: len(schedules()) == 1,
    )
    assert ended["state"] == "succeeded", ended
    assert len(schedules()) == 1
    assert desk.wait(tenant, plan="professional")["subscription"]["pending"]["plan"] == "starter"


def test_a_customer_whose_making_was_not_answered_is_found_a_day_later(desk: Desk, app: Api) -> None:
    tenant = desk.api.ready_tenant("Forgotten Customer")
    ended = ended_a_day_after(
        desk,
        {"path": "^/v1/customers$", "body": tenant},
        lambda: checkout(app, tenant, prefer=""),
        lambda: len(customers(desk, tenant)) == 1,
    )
    assert ended["state"] == "succeeded", ended
    assert len(customers(desk, tenant)) == 1
    [session] = sessions(desk, tenant)
    assert checkout(app, tenant).json["url"] == session["url"]


def test_a_refund_whose_answer_was_lost_is_made_once_a_day_later_too(desk: Desk) -> None:
    tenant = desk.tenant_on_trial("Forgotten Double")
    first = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    desk.stripe(
        "subscriptions", customer=first["customer"], items=[{"price": desk.price("professional")}],
        metadata={"tenant_id": tenant},
    )  # fmt: skip

    def refunded() -> list[int]:
        found = desk.stripe("charges", "GET", customer=first["customer"], limit=10)["data"]
        return sorted(each["amount_refunded"] for each in found)

    paid = sum(charges(desk, first["customer"]))
    ended = ended_a_day_after(
        desk,
        {"path": "^/v1/refunds$"},
        lambda: desk.api.post(f"/api/tenants/{tenant}/billing/end-duplicate"),
        lambda: sum(refunded()) > 0,
    )
    assert ended["state"] == "succeeded", ended
    assert len(refunded()) == 2 and refunded()[0] == 0
    assert sum(refunded()) < paid, "one of the two, and once"


@pytest.mark.parametrize("command", ["cancel", "resume"])
def test_an_answer_that_was_lost_is_not_believed_when_the_portal_was_used_since(
    desk: Desk, app: Api, stack: Stack, command: str
) -> None:
    """The same request gets the same answer from Stripe for a day, whatever has happened meanwhile."""
    tenant = desk.tenant_on_trial(f"Lost {command}")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    page = ask(app, tenant, "portal").json["url"]
    end = None if command == "cancel" else desk.subscription(tenant)["period_end"]
    if end is None:
        back = "keep"
    else:
        back = "cancel"
        assert press(page, action="cancel", subscription=subscription["id"]) == 303
        desk.wait(tenant, cancel_at=end)
    with armed(stack.services["billing-0"], "billing_after_call=crash"):
        answer = ask(app, tenant, command, prefer="")
        assert died_of_sigkill(stack.services["billing-0"])
        assert press(page, action=back, subscription=subscription["id"]) == 303
    assert desk.api.wait_operation(answer.json["operation_id"], 60)["state"] == "succeeded"
    desk.wait_for_deliveries()
    desk.wait(tenant, cancel_at=end)


def test_stripe_away_for_long_and_the_tenant_deleted_meanwhile_ends_what_there_is(desk: Desk, app: Api) -> None:
    tenant = desk.tenant_on_trial("Vanishing Pharmacy")
    subscription = desk.subscribe(tenant)
    slug = desk.wait(tenant, status="active")["slug"]
    with desk.stripe_away():
        asked = change(app, tenant, "professional", prefer="")
        gone = desk.api.command(tenant, "deprovision", {"confirm": slug})
        assert desk.api.wait_operation(gone.json["operation_id"], 60)["state"] == "succeeded"
    assert desk.api.wait_operation(asked.json["operation_id"], 60)["code"] == "tenant_archived"
    eventually(
        lambda: desk.stripe(f"subscriptions/{subscription['id']}", "GET")["status"] == "canceled", 60, "it has ended"
    )
    assert charges(desk, subscription["customer"]) == [9900], "nobody pays for what was to come after the end"
