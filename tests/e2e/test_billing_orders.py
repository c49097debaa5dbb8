"""What Stripe tells ends in one state, in whatever order it comes, however often, and in either of its shapes."""

from __future__ import annotations

import itertools
import json
import os
import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.stack import CATALOG, REPOSITORY

from .client import eventually
from .conftest import bare_catalog
from .stripe_life import DAY, MONTH, START, TENANT, Life, Object, read_events

LONG = os.environ.get("TENANTRY_LONG") == "1"  # all 5,040; otherwise each fifth
AT_ONCE = 100  # in one transaction, which leaves the rows of each behind until it ends
BUILD = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))
PLANS = {
    "trial": {"plan": "starter", "days": 14},
    "plans": [
        {"id": "starter", "name": "Starter", "modules": ["sales"], "limits": {"users": 5},
         "prices": {"month": {"lookup_key": "tenantry_starter_month"}}},
        {"id": "professional", "name": "Professional", "modules": ["sales", "reports"], "limits": {"users": 20},
         "prices": {"month": {"lookup_key": "tenantry_professional_month"}}},
    ],
}  # fmt: skip

# Applies events in an order, in batches that are as long as the order says, answers what Stripe is asked with what it would say at the end, and takes all of it back.
# Returns the state: the objects, what is kept of the tenant, and what its subscription is at each instant.
TRY = """
create function public.state_after(p_events jsonb, p_order int[], p_answers jsonb, p_instants bigint[]) returns text
language plpgsql as $$
declare
    v_place int;
    v_state text;
    v_asked int;
    v_length int := 1 + p_order[1] % 4;
    v_taken int := 0;
begin
    foreach v_place in array p_order loop
        perform billing.take_event(p_events -> v_place, '{}');
        v_taken := v_taken + 1;
        if v_taken % v_length = 0 then
            perform billing.finish_batch();
        end if;
    end loop;
    perform billing.finish_batch();
    select count(*) into v_asked from wanted_object;
    perform billing.fetched(f.kind, f.object_id, f.version, p_answers -> f.object_id, 2000000000) from wanted_object f;
    select jsonb_build_object('asked', v_asked,
        'left', (select count(*) from wanted_object),
        'objects', (select jsonb_agg(jsonb_build_array(kind, object_id, tenant_id, is_deleted, first_failure, facts)
                                     order by kind, object_id) from object),
        'kept', (select jsonb_agg(jsonb_build_array(t.subscription, t.entitled, t.access)) from tenant t),
        'life', (select jsonb_agg(jsonb_build_array(i, subscription_of(t, to_timestamp(i))) order by i)
                 from tenant t, unnest(p_instants) i))::text into v_state;
    raise exception using errcode = 'TS001', message = v_state;
exception
    when sqlstate 'TS001' then return sqlerrm;
end
$$
"""


class Orders:
    def __init__(self, connection: psycopg.Connection[Any], owner: psycopg.Connection[Any]) -> None:
        self.connection, self.owner = connection, owner

    def another(self) -> psycopg.Connection[Any]:
        """Another process of billing's."""
        made = psycopg.connect(self.owner.info.dsn, password=self.owner.info.password, autocommit=True)
        made.execute("set session authorization tenantry_billing")
        made.execute("set search_path = billing, durable")
        return made

    def states(self, events: list[Object], orders: list[tuple[int, ...]], instants: list[int]) -> list[Any]:
        """The different states in which these orders end."""
        read = read_events(BUILD, events)
        last = {
            event["object"]["id"]: event["object"] for event in sorted(read, key=lambda event: int(event["created"]))
        }
        found: set[str] = set()
        for begin in range(0, len(orders), AT_ONCE):
            rows = self.connection.execute(
                "select distinct public.state_after(%s, o.places, %s, %s) from jsonb_array_elements(%s) x, "
                "lateral (select array_agg(value::int) as places from jsonb_array_elements_text(x)) o",
                [json.dumps(read), json.dumps(last), instants, json.dumps(orders[begin : begin + AT_ONCE])],
            )
            found |= {row[0] for row in rows}
            self.owner.execute("vacuum")  # of what was taken back
        return [json.loads(state) for state in sorted(found)]

    def the_state(self, events: list[Object], orders: list[tuple[int, ...]], instants: list[int]) -> Any:
        states = self.states(events, orders, instants)
        for state in states:
            assert state["left"] == 0
        assert len({json.dumps({**state, "asked": 0}) for state in states}) == 1, states[:2]
        return states[0]


@pytest.fixture(scope="module")
def orders() -> Iterator[Orders]:
    with bare_catalog("billing-orders") as stack:
        url = stack.postgres.url(CATALOG)
        with psycopg.connect(url, autocommit=True) as owner, psycopg.connect(url, autocommit=True) as connection:
            owner.execute(TRY)
            owner.execute("grant usage on schema public to tenantry_billing")
            connection.execute("set session authorization tenantry_billing")
            connection.execute("set search_path = billing, durable")
            connection.execute("select configure(%s, false)", [json.dumps(PLANS)])
            connection.execute("insert into tenant (tenant_id, existing) values (%s, true)", [TENANT])
            yield Orders(connection, owner)


def statuses(state: Any) -> list[str]:
    return [told["status"] for _, told in state["life"]]


@pytest.mark.parametrize("old", [False, True], ids=["todays_shape", "the_older_shape"])
def test_every_order_of_a_first_payment_and_a_cancellation_ends_in_one_state(orders: Orders, old: bool) -> None:
    life = Life(old=old)
    events = life.first_payment() + life.end()
    every = list(itertools.permutations(range(7)))
    some = every if LONG else every[:: 11 if old else 5]
    state = orders.the_state(events, some, [START, START + 3 * MONTH])
    assert state["asked"] == 0, "each of them says which is later"
    [_, (_, end)] = state["life"]
    assert (end["status"], end["access"], end["plan"]) == ("cancelled", "none", "starter")


def test_a_whole_life_in_any_order_with_repetitions_ends_in_one_state(orders: Orders) -> None:
    life = Life()
    events = life.first_payment() + life.failed_renewal() + life.end()
    rolls = random.Random(20261130)
    some = [tuple(rolls.sample(range(12), 12)) + tuple(rolls.choices(range(12), k=6)) for _ in range(400)]
    due = START + MONTH + 3600
    state = orders.the_state(events, some, [due, START + 3 * MONTH])
    assert state["objects"][2][4] == due, "the grace counts from the first failure, not from the last that was told"


def recorded(first: int, last: int) -> list[Object]:
    """Of one tenant's life as Stripe tells it, with all fields: those whose files have these numbers."""
    files = sorted((REPOSITORY / "sandbox" / "tests" / "recorded" / "stripe" / "events").glob("*.json"))
    return [json.loads(file.read_text()) for file in files if first <= int(file.name[:2]) <= last]


def test_every_order_of_each_burst_with_all_of_stripes_fields_ends_in_one_state(orders: Orders) -> None:
    first, renewal = recorded(1, 5), recorded(6, 11)
    state = orders.the_state(first, list(itertools.permutations(range(5))), [START])
    assert state["asked"] == 0 and statuses(state) == ["active"]
    every = list(itertools.permutations(range(6)))
    state = orders.the_state(renewal, every if LONG else every[::5], [START + MONTH])
    assert state["asked"] == 0 and statuses(state) == ["active"]
    whole = recorded(1, 16)
    rolls = random.Random(20261201)
    some = [tuple(rolls.sample(range(14), 14)) + tuple(rolls.choices(range(14), k=7)) for _ in range(200)]
    state = orders.the_state(whole, some, [START, START + 3 * MONTH])
    assert statuses(state)[-1] == "cancelled"


def test_both_shapes_end_in_one_state(orders: Orders) -> None:
    states = []
    for old in (False, True):
        life = Life(old=old)
        events = life.first_payment() + life.failed_renewal() + life.end()
        states.append(orders.the_state(events, [tuple(range(12))], [START, START + 3 * MONTH]))
    assert states[0] == states[1]


def test_two_states_of_one_second_are_settled_by_asking_stripe_once(orders: Orders) -> None:
    life = Life()
    first = life.event("customer.subscription.updated", START + DAY, life.subscription("active"))
    second = life.event("customer.subscription.updated", START + DAY, life.subscription("active", "professional"))
    states = orders.states([first, second, first, second], list(itertools.permutations(range(4))), [START + DAY])
    assert {state["asked"] for state in states} == {1}
    assert {state["life"][0][1]["plan"] for state in states} == {"professional"}, "what Stripe says now"


def test_a_renewal_that_fails_has_seven_days_and_payment_on_the_ninth_brings_all_back(orders: Orders) -> None:
    life = Life()
    events = life.first_payment() + life.failed_renewal()
    due = START + MONTH + 3600
    until_paid = orders.the_state(
        events[:-2], [tuple(range(8))], [due, due + 7 * DAY - 1, due + 7 * DAY, due + 36 * DAY]
    )
    assert statuses(until_paid) == ["past_due", "past_due", "suspended", "suspended"]
    assert [told["access"] for _, told in until_paid["life"]] == ["full", "full", "none", "none"]
    [*_, (_, late)] = until_paid["life"]
    assert late["archive_at"].startswith("2025-12-15T"), "thirty days after access ended"
    paid = orders.the_state(events, [tuple(range(10))], [due + 9 * DAY])
    assert statuses(paid) == ["active"] and paid["life"][0][1]["access"] == "full"


def test_the_plan_of_a_price_follows_from_its_key_then_from_itself_then_from_its_product(orders: Orders) -> None:
    cases = [
        (
            {"lookup_key": "tenantry_starter_month", "plan": "professional", "product": "tenantry_professional"},
            "starter",
        ),
        ({"lookup_key": "moved", "plan": "starter", "product": "tenantry_professional"}, "starter"),
        ({"lookup_key": None, "plan": None, "product": "tenantry_professional"}, "professional"),
        ({"plan": "gone", "product": "tenantry_professional"}, "professional"),
        ({"plan": None, "product": "professional"}, None),
        ({"plan": None, "product": "tenantryXprofessional"}, None),
        ({"plan": None, "product": "tenantry_gone"}, None),
    ]
    for price, plan in cases:
        found = orders.connection.execute("select plan from plan_of_prices(%s)", [json.dumps([price])]).fetchone()
        assert found == (plan,), price


def test_a_planned_change_to_a_price_made_by_hand_has_its_products_plan(orders: Orders) -> None:
    by_hand = {
        "id": "price_deal",
        "object": "price",
        "lookup_key": None,
        "metadata": {},
        "recurring": {"interval": "year"},
    }
    shapes = ["tenantry_professional", {"id": "tenantry_professional", "object": "product"}]
    for number, product in enumerate(shapes):
        price = {**by_hand, "id": f"price_deal_{number}", "product": product}
        [event] = read_events(BUILD, [Life(number=f"deal_{number}").event("price.created", START, price)])
        with orders.connection.transaction(force_rollback=True):
            orders.connection.execute("select apply_event(%s, '{}')", [json.dumps(event)])
            known = orders.connection.execute("select plan, period from plan_of_price(%s)", [price["id"]])
            assert known.fetchone() == ("professional", "year")


def test_a_finished_checkout_activates_nothing(orders: Orders) -> None:
    life = Life()
    [begun, _, _, _, finished] = life.first_payment()
    state = orders.the_state([begun, finished], [(0, 1), (1, 0)], [START])
    [(_, told)] = state["life"]
    assert (told["reason"], told["access"]) == ("exempt", "full"), "what has not begun takes nothing away either"


def test_events_without_a_tenant_wait_until_a_customer_is_known(orders: Orders) -> None:
    unnamed, named = Life(named=False), Life()
    events = unnamed.first_payment()[:4] + [named.event("checkout.session.completed", START + 1, named.session())]
    state = orders.the_state(events, list(itertools.permutations(range(5))), [START + DAY])
    assert {row[2] for row in state["objects"]} == {TENANT}
    assert statuses(state) == ["active"]


def test_a_tenant_that_becomes_known_while_its_event_is_taken_gets_its_subscription(orders: Orders) -> None:
    tenant, life = str(uuid.uuid4()), Life(number="race")
    life.tenant = tenant
    [event] = read_events(BUILD, [life.event("customer.subscription.updated", START, life.subscription("active"))])
    taking, knowing = orders.another(), orders.another()
    taking.execute("begin")
    taking.execute("select apply_event(%s, '{}')", [json.dumps(event)])
    orders.owner.execute(
        "insert into provisioner.tenant (tenant_id, slug, company, email, admin_id, plan, driver, state) "
        "values (%s, 'race', 'Race', 'a@b.test', %s, 'starter', 'postgres', 'ready')", [tenant, tenant]
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(knowing.execute, "select take_news(10, false)")
        waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        eventually(lambda: orders.owner.execute(waits).fetchone() == (1,), 10, "who makes it known waits")
        taking.execute("commit")
        taken.result(20)
    owner = orders.owner.execute("select tenant_id::text from billing.object where object_id = 'sub_race'").fetchone()
    status = orders.owner.execute("select subscription ->> 'status' from billing.tenant where tenant_id = %s", [tenant])
    assert owner == (tenant,) and status.fetchone() == ("active",)
