"""kill -9 between any two effects at Stripe: Stripe itself says how often a thing was done."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import SANITIZERS, Stack

from .billing import Desk, billing_stack
from .client import Answer, Api
from .service_faults import armed, died_of_sigkill
from .test_checkout import checkout, customers, sessions
from .test_plan_changes import change, charges

POINTS = ("billing_after_freeze", "billing_before_call", "billing_after_call", "billing_after_keep")
SAGA_POINTS = ("saga_after_claim", "saga_before_step", "saga_before_advance", "saga_after_advance")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack()


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack).selling("month")


def repeat_dying(stack: Stack, api: Api, begin: Any, point: str, last: int) -> list[dict[str, Any]]:
    """Begins the request once for each pass of the failpoint at which the process dies; the operations as they ended."""
    ended = []
    billing = stack.services["billing-0"]
    for number in range(1, last + 1):
        with armed(billing, f"{point}=crash@{number}"):
            answer: Answer = begin(number)
            assert answer.status == 202, answer
            assert died_of_sigkill(billing)
        ended.append(api.wait_operation(answer.json["operation_id"], 60))
    return ended


@pytest.mark.parametrize("point", POINTS)
def test_a_checkout_that_dies_anywhere_makes_one_customer_and_one_page(
    desk: Desk, app: Api, stack: Stack, point: str
) -> None:
    """Each with a tenant of its own: both its calls are the first."""
    tenants = [desk.tenant_on_trial(f"Dying {point} {number}") for number in (1, 2)]
    ended = repeat_dying(stack, desk.api, lambda number: checkout(app, tenants[number - 1], prefer=""), point, 2)
    assert [each["state"] for each in ended] == ["succeeded"] * 2, ended
    for tenant in tenants:
        assert len(customers(desk, tenant)) == 1
        [session] = sessions(desk, tenant)
        assert checkout(app, tenant).json["url"] == session["url"]


@pytest.mark.parametrize("point", POINTS + SAGA_POINTS)
def test_an_upgrade_that_dies_anywhere_is_charged_once(desk: Desk, app: Api, stack: Stack, point: str) -> None:
    tenant = desk.tenant_on_trial(f"Dying upgrade {point}")
    subscription = desk.subscribe(tenant)
    desk.wait(tenant, status="active")
    [ended] = repeat_dying(stack, desk.api, lambda _: change(app, tenant, "professional", prefer=""), point, 1)
    assert ended["state"] == "succeeded", ended
    desk.wait(tenant, plan="professional", status="active")
    assert len(charges(desk, subscription["customer"])) == 2
    invoices = desk.stripe("invoices", "GET", customer=subscription["customer"], limit=10)["data"]
    assert sorted(each["billing_reason"] for each in invoices) == ["subscription_create", "subscription_update"]


@pytest.mark.parametrize("point", POINTS)
def test_a_downgrade_that_dies_anywhere_leaves_one_schedule(desk: Desk, app: Api, stack: Stack, point: str) -> None:
    tenants = []
    for number in (1, 2):
        tenants.append(desk.tenant_on_trial(f"Dying downgrade {point} {number}"))
        desk.subscribe(tenants[-1], "professional")
        desk.wait(tenants[-1], status="active")
    ended = repeat_dying(
        stack, desk.api, lambda number: change(app, tenants[number - 1], "starter", prefer=""), point, 2
    )
    assert [each["state"] for each in ended] == ["succeeded"] * 2, ended
    for tenant in tenants:
        told = desk.wait(tenant, status="active", plan="professional")
        assert told["subscription"]["pending"]["plan"] == "starter"
        customer = app.get(f"/api/tenants/{tenant}/billing").json["customer_id"]
        found = desk.stripe("subscription_schedules", "GET", customer=customer, limit=10)["data"]
        assert [each["status"] for each in found] == ["active"]


@pytest.mark.parametrize("point", POINTS)
def test_a_duplicates_end_that_dies_anywhere_refunds_once(desk: Desk, stack: Stack, point: str) -> None:
    for number in (1, 2):
        tenant = desk.tenant_on_trial(f"Dying double {point} {number}")
        first = desk.subscribe(tenant)
        desk.wait(tenant, status="active")
        second = desk.stripe(
            "subscriptions", customer=first["customer"], items=[{"price": desk.price("professional")}],
            metadata={"tenant_id": tenant},
        )  # fmt: skip
        with armed(stack.services["billing-0"], f"{point}=crash@{number}"):
            answer = desk.api.post(f"/api/tenants/{tenant}/billing/end-duplicate")
            assert died_of_sigkill(stack.services["billing-0"])
        ended = desk.api.wait_operation(answer.json["operation_id"], 60)
        assert ended["state"] == "succeeded", ended
        found = desk.stripe("subscriptions", "GET", customer=first["customer"], status="all", limit=10)["data"]
        assert {each["id"] for each in found} == {first["id"], second["id"]}
        assert {each["status"] for each in found} == {
            "active",
            "canceled",
        }  # which is later, if in one second, the id says
        refunded = desk.stripe("charges", "GET", customer=first["customer"], limit=10)["data"]
        assert sorted(each["amount_refunded"] > 0 for each in refunded) == [False, True]


def test_at_each_failpoint_of_billings_own_it_dies_in_some_test(stack: Stack) -> None:
    """What all services have is tried with the provisioner: crashing.py."""
    program = stack.build / "tenantry-billing"
    done = subprocess.run([program, "--failpoints"], capture_output=True, text=True, check=True, env=SANITIZERS)
    own = [name for name in done.stdout.split() if name.startswith(("billing_", "intake_", "mail_"))]
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert own, done.stdout
    assert [name for name in own if f'"{name}"' not in tests and f'"{name}=crash' not in tests] == []
