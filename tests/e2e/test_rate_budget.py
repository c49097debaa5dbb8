"""The budget of requests that all processes share: a queue in which everybody keeps their place."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from deploy.local.stack import Stack

from .client import Api, eventually
from .invariants import CATALOG, rows
from .sandbox_control import fault, projects_of

PER_SECOND = 0.1  # a place every ten seconds, so that a slow machine is not taken for a wrong order
INTERVAL = 10.0
KEEPS_MS = 1000
Place = tuple[str, bool]  # an instant of the queue's clock; let in before the others
MISSED: Place = ("-infinity", False)


@pytest.fixture(scope="module")
def stack(supabase_stack: Stack) -> Stack:
    return supabase_stack


class Budget:
    """One bucket with room for one request at once."""

    def __init__(self, catalog: psycopg.Connection) -> None:
        self.catalog = catalog
        self.name = f"test:{uuid.uuid4()}"

    def ask(self, sql: str, *parameters: object) -> tuple[float, Place]:
        found = self.catalog.execute(sql, (self.name, 1.0, PER_SECOND, *parameters)).fetchone()  # type: ignore[arg-type]
        assert found is not None
        return found[0] / 1000, (found[1], found[2])

    def take(self) -> tuple[float, Place]:
        """Seconds to wait, and the place."""
        return self.ask("select wait_ms, place::text, false from catalog.take_token(%s, %s, %s)")

    def use(self, place: Place) -> tuple[float, Place]:
        return self.ask(
            "select wait_ms, place::text, first from catalog.use_turn(%s, %s, %s, %s::timestamptz, %s, %s)",
            *place, KEEPS_MS,
        )  # fmt: skip

    def block(self, seconds: float) -> None:
        self.catalog.execute("select catalog.block_budget(%s, %s)", (self.name, int(seconds * 1000)))


@pytest.fixture
def budget(stack: Stack) -> Iterator[Budget]:
    with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:
        yield Budget(catalog)
        catalog.execute("delete from catalog.rate_budget where name like 'test:%'")


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=INTERVAL / 3)


def test_the_order_of_asking_is_the_order_of_going(budget: Budget) -> None:
    assert [budget.take()[0] for _ in range(4)] == [0, about(10), about(20), about(30)]


def test_a_refusal_by_the_provider_moves_everybody_and_changes_no_order(budget: Budget) -> None:
    budget.take()
    waiting = [budget.take()[1] for _ in range(3)]
    budget.block(60)
    assert [budget.use(place)[0] for place in waiting] == [about(70), about(80), about(90)]
    assert budget.take()[0] == about(100), "who comes later is behind them"
    budget.block(30)
    assert budget.use(waiting[0])[0] == about(70), "a shorter wait that is told later adds nothing"
    budget.block(90)
    assert [budget.use(place)[0] for place in waiting] == [about(100), about(110), about(120)]


def test_those_who_missed_their_turn_go_before_all_who_wait_one_after_the_other(budget: Budget) -> None:
    budget.take()
    waiting = [budget.take()[1] for _ in range(2)]
    missed = [budget.use(MISSED) for _ in range(3)]
    assert [wait for wait, _ in missed] == [0, about(10), about(20)]
    assert [budget.use(place)[0] for place in waiting] == [about(40), about(50)], "they are moved by three places"
    assert [budget.use(place)[0] for _, place in missed[1:]] == [about(10), about(20)], "they keep their places"
    assert budget.take()[0] == about(60)


def test_a_missed_turn_waits_for_the_end_of_a_block(budget: Budget) -> None:
    budget.take()
    budget.block(60)
    assert [budget.use(MISSED)[0], budget.use(MISSED)[0], budget.take()[0]] == [about(60), about(70), about(90)]


def test_a_provider_that_names_an_epoch_blocks_for_an_hour_and_not_for_decades(budget: Budget) -> None:
    budget.take()
    budget.block(1_767_225_600)
    assert budget.use(MISSED)[0] == about(3600)


def test_who_missed_a_turn_in_an_empty_queue_goes_at_once(budget: Budget) -> None:
    budget.take()
    budget.catalog.execute(
        "update catalog.rate_budget set refilled_at = refilled_at - interval '1 minute' where name = %s", (budget.name,)
    )
    assert budget.use(MISSED)[0] == 0
    assert budget.take()[0] == about(10), "it was a request like any other"


def test_the_oldest_signup_goes_first_also_when_the_provider_refused_it(stack: Stack, api: Api) -> None:
    api.ready_tenant("Budget Opener")
    stack.postgres.execute(
        "update catalog.rate_budget set tokens = 0, refilled_at = now() + interval '2 seconds'"
        " where name = 'supabase:find'", "tenantry",
    )  # fmt: skip
    tenants: list[str] = []
    with fault(stack, "POST", "^/v1/projects$", {"kind": "rate_limit", "reset": 2, "retry_after": 2}):
        for number in range(5):
            tenants.append(api.signup(f"Budget Shop {number}").json["tenant_id"])
            eventually(
                lambda: has_a_turn(stack, tenants[-1]) or projects_of(stack, tenants[-1]), 20, "it is in the queue"
            )
        for tenant in tenants:
            api.wait_state(tenant, "ready", 60)
    assert [len(projects_of(stack, tenant)) for tenant in tenants] == [1] * 5
    made = sorted(tenants, key=lambda tenant: projects_of(stack, tenant)[0]["created_at"])
    assert made == tenants


def has_a_turn(stack: Stack, tenant: str) -> bool:
    return bool(
        rows(stack, f"select 1 from provisioner.saga where tenant_id = '{tenant}' and data -> 'turns' ? 'find'")
    )


def test_a_turn_that_was_kept_by_a_host_whose_clock_is_ahead_is_not_waited_for(stack: Stack, api: Api) -> None:
    """A provisioner of the release before stored when its own clock would say that the turn has come."""
    stack.postgres.execute(
        "update catalog.rate_budget set tokens = 0, refilled_at = now() + interval '3 seconds'"
        " where name = 'supabase:find'", "tenantry",
    )  # fmt: skip
    tenant = api.signup("Budget Ahead Shop").json["tenant_id"]
    eventually(lambda: has_a_turn(stack, tenant), 20, "it is in the queue")
    tomorrow = "to_jsonb((extract(epoch from now()) * 1000)::bigint + 86400000)"
    stack.postgres.execute(
        f"update provisioner.saga set data = jsonb_set(data, '{{turns,find,due}}', {tomorrow}), next_at = now()"
        f" where tenant_id = '{tenant}' and status = 'running'", "tenantry",
    )  # fmt: skip
    api.wait_state(tenant, "ready", 40)
