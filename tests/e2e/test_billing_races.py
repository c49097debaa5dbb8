"""What Stripe tells of a tenant, and that there is such a tenant, come at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from deploy.local.stack import CATALOG

from .client import eventually
from .conftest import bare_catalog
from .stripe_life import START, Life, read_events
from .test_billing_orders import BUILD, PLANS

TENANT = "8a1f0c5e-3b7d-4f0a-9a52-6d2e6f1c0002"
Connection = psycopg.Connection[Any]
APPLY = "select apply_event(%s, '{}')"


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection, Connection]]:
    """Two of billing's transactions, and somebody who watches them."""
    with bare_catalog("billing-races") as stack:
        url = stack.postgres.url(CATALOG)
        with (
            psycopg.connect(url) as one,
            psycopg.connect(url) as other,
            psycopg.connect(url, autocommit=True) as watcher,
        ):
            for connection in (one, other):
                connection.execute("set session authorization tenantry_billing")
                connection.execute("set search_path = billing, durable")
                connection.execute("set lock_timeout = '30s'")
                connection.commit()
            one.execute("select configure(%s, false)", [json.dumps(PLANS)])
            one.commit()
            yield one, other, watcher


def events(named: bool) -> list[str]:
    life = Life(tenant=TENANT, number="race", named=named)
    told = Life(tenant=TENANT, number="race")
    active = life.event("customer.subscription.updated", START, life.subscription("active"))
    finished = told.event("checkout.session.completed", START + 1, told.session())
    return [json.dumps(event) for event in read_events(BUILD, [active, {**finished, "id": "evt_race_session"}])]


def owner(connection: Connection) -> Any:
    connection.rollback()
    return connection.execute("select tenant_id::text from object where kind = 'subscription'").fetchall()


def waits(watcher: Connection, other: Connection) -> bool:
    waiting = "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    return watcher.execute(waiting, [other.info.backend_pid]).fetchone() is not None


@pytest.mark.parametrize("first", ["what_is_nobodys", "whose_it_is"])
def test_a_subscription_finds_its_tenant_whichever_is_stored_first(
    pair: tuple[Connection, Connection, Connection], first: str
) -> None:
    one, other, watcher = pair
    one.execute("insert into tenant (tenant_id, existing) values (%s, true)", [TENANT])
    one.commit()
    subscription, session = events(named=False)
    begins, follows = (subscription, session) if first == "what_is_nobodys" else (session, subscription)
    one.execute(APPLY, [begins])
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(other.execute, APPLY, [follows])
        eventually(lambda: waits(watcher, other) or following.done(), 20, "it waits for the first")
        one.commit()
        following.result(20)
    other.commit()
    assert owner(one) == [(TENANT,)]
