"""kill -9 at every failpoint that billing passes between Stripe's word and what follows from it, with a tenant that pays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack

from .billing import Desk, billing_stack
from .client import eventually
from .service_faults import armed, died_of_sigkill, stopped
from .stripe import Stripe

PLACES = [
    "intake_before_commit=crash",
    "intake_before_commit=crash@2",
    "intake_after_commit=crash",
    "intake_after_commit=crash@2",
    "consumer_after_assign=crash",
    "billing_before_fetched=crash",
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from billing_stack(billings=2)


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


def ask_for(desk: Desk, subscription: str) -> None:
    """A thin event: Stripe is to be asked."""
    thin = {
        "id": f"evt_thin_{subscription}", "object": "v2.core.event", "type": "v1.customer.subscription.updated",
        "livemode": False, "created": "2026-11-30T12:00:00.000Z",
        "related_object": {"id": subscription, "type": "subscription", "url": f"/v1/subscriptions/{subscription}"},
    }  # fmt: skip
    assert Stripe(desk.api, desk.endpoint["secret"]).deliver(thin).status == 200


def has_applied_or_died(desk: Desk, stack: Stack, subscription: str) -> bool:
    """What comes next is in a batch of its own."""
    known = "select object_id from billing.object where object_id = %s"
    return bool(desk.sql(known, subscription)) or stack.services["billing-0"].process.returncode is not None


@pytest.mark.parametrize("place", PLACES)
def test_whoever_dies_anywhere_loses_and_doubles_nothing(desk: Desk, stack: Stack, place: str) -> None:
    tenant = desk.api.ready_tenant("Crash " + place.replace("_", " "))
    with stopped(stack.services["billing-1"]), armed(stack.services["billing-0"], place):
        subscription = desk.subscribe(tenant, "professional")
        eventually(lambda: has_applied_or_died(desk, stack, subscription["id"]), 30, "the first batch's time is over")
        ask_for(desk, subscription["id"])
        assert died_of_sigkill(stack.services["billing-0"], 30)
    told = desk.wait(tenant, status="active", plan="professional")
    assert told["access"]["wanted"] == "full"
    desk.wait_for_deliveries()
    wanted = "select object_id from billing.wanted_object where object_id = %s"
    eventually(lambda: not desk.sql(wanted, subscription["id"]), 60, "what the dead one asked for is asked by another")
    kinds = "select count(*) from billing.object where tenant_id = %s and kind = 'subscription'"
    assert desk.sql(kinds, tenant) == [1]
    changes = (
        "select count(*) from catalog.tenant_event where tenant_id = %s and type = 'tenant.subscription.changed.v1' "
    )
    changes += "and data -> 'to' ->> 'status' = 'active' and data -> 'from' ->> 'status' is distinct from 'active'"
    assert desk.sql(changes, tenant) == [1], "it became active once"


def test_with_two_processes_and_one_that_dies_again_and_again_all_is_applied_once(desk: Desk, stack: Stack) -> None:
    everybody = [desk.api.ready_tenant(f"Many {number}") for number in range(16)]  # so that each process has some
    tenants = everybody
    stack.control_sandbox("POST", "settings", {"stripe_rate_limit": 1000})
    for place in ("intake_after_commit=crash@2", "intake_before_commit=crash@3"):
        with armed(stack.services["billing-1"], place):
            for tenant in tenants[:8]:
                desk.subscribe(tenant)
            tenants = tenants[8:]
            assert died_of_sigkill(stack.services["billing-1"], 30)
    desk.wait_for_deliveries()
    for tenant in everybody:
        desk.wait(tenant, status="active", plan="starter")
    applied = "select count(*) from catalog.tenant_event where type = 'tenant.subscription.changed.v1' and tenant_id = any (%s) "
    twice = applied + "and data -> 'from' = data -> 'to' and data -> 'from' <> 'null'"
    assert desk.sql(twice, everybody) == [0], "nothing was applied a second time"
