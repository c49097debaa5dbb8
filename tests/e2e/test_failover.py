"""A standby takes over that lacks the last seconds, for the catalog, for the tenants' databases, or for both: what was
acknowledged comes right by itself, and what nobody can bring back is told."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import psycopg
import pytest

from .client import FINAL, Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows, wait_until_idle
from .load import Load, what_the_reader_says
from .standby import Pair, StandbyStack, TwoServerStack

LONG = os.environ.get("TENANTRY_LONG") == "1"
SEED = int(os.environ.get("TENANTRY_SEED", "7"))
ROUNDS = 6 if LONG else 1
OPTIONS = {"LEASE": SHORT_LEASE, "KAFKA_PROPERTIES": "session.timeout.ms=4000;heartbeat.interval.ms=500"}
LOST = "database_lost"


@pytest.fixture(scope="module", params=[StandbyStack, TwoServerStack], ids=["one server", "two servers"])
def stack(request: pytest.FixtureRequest) -> Iterator[StandbyStack]:
    for made in make_stack("postgres", gateways=1, provisioners=2, options=OPTIONS, kind=request.param):
        assert isinstance(made, StandbyStack)
        yield made


class Commands:
    """Someone who commands tenants of the load, one after the other, for the length of a with block."""

    def __init__(self, stack: StandbyStack, api: Api, load: Load, seed: int) -> None:
        self.stack = stack
        self.api = api
        self.load = load
        self.operations: dict[str, str] = {}  # id -> command
        self.gone: set[str] = set()  # who was told to go
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._command_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(40)

    def _command_on(self) -> None:
        while not self._ended.wait(0.3):
            known = [tenant for tenant in self.load.accepted if tenant not in self.gone]
            if not known:
                continue
            tenant = self._chance.choice(known)
            name = self._chance.choice(["suspend", "resume", "rotate-credentials", "backup", "deprovision"])
            if name == "deprovision":
                slug = self.api.tenant(tenant).get("slug")
                if slug is None:
                    continue
                answer = self.api.command(tenant, name, {"confirm": slug})
            else:
                answer = self.api.command(tenant, name, {"reason": "a test"} if name == "suspend" else None)
            if answer.status == 202:
                self.operations[answer.json["operation_id"]] = f"{name} {tenant}"
                if name == "deprovision":
                    self.gone.add(tenant)

    def check(self) -> None:
        """Each has ended, and none failed but of a tenant whose database is lost."""
        left: list[str] = []

        def all_ended() -> bool:
            found = {id: self.api.operation(id) for id in self.operations}
            left[:] = [
                f"{id}: {self.operations[id]}, {operation}"
                for id, operation in found.items()
                if operation.get("state") not in FINAL
            ]
            return not left

        try:
            eventually(all_ended, 60, "each operation ends")
        except AssertionError as error:
            raise AssertionError(f"{error}: {left[:3]}") from error
        failed = {id: self.api.operation(id) for id in self.operations}
        wrong = [
            f"{self.operations[id]}: {operation}"
            for id, operation in failed.items()
            if operation["state"] in ("failed", "rejected") and operation.get("code") not in (LOST, "tenant_gone")
        ]
        assert not wrong, wrong


def lost_tenants(stack: StandbyStack) -> set[str]:
    """Those that wait for a person because their database is lost."""
    return {
        row[0]
        for row in rows(
            stack, f"select tenant_id from provisioner.tenant where state = 'attention' and reason_code = '{LOST}'"
        )
    }


def handed_out(stack: StandbyStack) -> set[str]:
    """Those whose database somebody may have used: ready, or found to be there by a catalog that fell back."""
    found = rows(
        stack,
        "select tenant_id from provisioner.tenant t left join provisioner.database d using (tenant_id, generation) "
        "where t.state = 'ready' or d.adopted",
    )
    return {row[0] for row in found}


def wait_until_right(stack: StandbyStack, load: Load, commands: Commands, may_be_lost: set[str]) -> None:
    """Each tenant that was promised is ready, gone as it was told, or lost with its database, which is told."""
    wrong: list[str] = []

    def all_right() -> bool:
        found = {
            tenant: (state, code)
            for tenant, state, code in rows(
                stack, "select tenant_id, state, coalesce(reason_code, '') from provisioner.tenant"
            )
        }
        wrong[:] = []
        for tenant in load.accepted:
            state, code = found.get(tenant, ("unknown", ""))
            wanted = "deprovisioned" if tenant in commands.gone else "ready"
            if state != wanted and not (state == "attention" and code == LOST and tenant in may_be_lost):
                wrong.append(f"{tenant} is {state} {code}, not {wanted}")
        return not wrong

    try:
        eventually(all_right, 60, "every tenant is as it was promised")
    except AssertionError as error:
        raise AssertionError(f"{error}: {wrong[:5]}; {what_the_reader_says(load.stack)}") from error
    load.check_nothing_else()


def databases(stack: StandbyStack) -> set[str]:
    found = stack.tenant_postgres.execute("select datname from pg_database where datname like 'tn\\_%'")
    return set(found.split("\n")) - {""}


def was_handed_over(stack: StandbyStack, database: str) -> bool:
    return stack.tenant_postgres.execute("select to_regclass('tenantry.handed_over') is not null", database) == "t"


def end_lost_tenants(stack: StandbyStack, api: Api) -> None:
    """Each is named by an alert, and has no database; a person decides that they go."""
    lost = lost_tenants(stack)
    there = databases(stack)
    for tenant in lost:
        assert rows(
            stack,
            "select 1 from catalog.alert where resolved_at is null and cause like 'tenant-attention:%' "
            f"and tenant_id = '{tenant}'",
        ), f"nobody is told that the database of {tenant} is lost"
        mine = [name for name in there if tenant.replace("-", "") in name]
        assert not mine or not was_handed_over(stack, mine[0]), f"{tenant} has its database"
        answer = api.command(tenant, "deprovision", {"confirm": api.tenant(tenant)["slug"]})
        assert answer.status == 202, answer
        api.wait_state(tenant, "deprovisioned")


def check_logins(stack: StandbyStack, app: Api) -> None:
    """What the product's backend is told opens the database of each ready tenant that is open, and no other."""
    wrong: list[str] = []

    def all_open() -> bool:
        wrong[:] = []
        for tenant, access in rows(
            stack, "select tenant_id, catalog.wanted_access(tenant_id) from provisioner.tenant where state = 'ready'"
        ):
            now = app.get(f"/api/tenants/{tenant}/connection")
            if access != "full":
                continue
            if now.status != 200:
                wrong.append(f"{tenant}: {now}")
                continue
            try:
                psycopg.connect(
                    host=now.json["host"], port=now.json["port"], dbname=now.json["database"],
                    user=now.json["user"], password=now.json["password"], connect_timeout=5,
                ).close()  # fmt: skip
            except psycopg.OperationalError as error:
                wrong.append(f"{tenant}: {error}")
        closed = {
            tenant.replace("-", "")
            for (tenant,) in rows(
                stack, "select tenant_id from provisioner.tenant where catalog.wanted_access(tenant_id) = 'none'"
            )
        }
        logins = stack.tenant_postgres.execute(
            "select rolname from pg_roles where rolcanlogin and rolname ~ '_app_[ab]$'"
        )
        wrong.extend(
            f"{login} is open, and its tenant is suspended"
            for login in logins.split("\n")
            if login and login.split("_")[1] in closed
        )
        return not wrong

    try:
        eventually(all_open, 30, "each login is as it should be")
    except AssertionError as error:
        raise AssertionError(f"{error}: {wrong[:5]}") from error


def fail_over_under_load(stack: StandbyStack, api: Api, app: Api, seed: int, *order: Pair) -> None:
    """Signups and commands go on all the time. Each pair loses what was committed since replication stopped."""
    chance = random.Random(seed)
    handed: set[str] = set()
    for pair in set(order):
        pair.start_standby()
    with Load(stack, callers=3, pause=0.3) as load, Commands(stack, api, load, seed) as commands:
        load.wait_for(202, 6)
        for pair in order:
            pair.stop_replication()
            load.wait_for(202, chance.randint(4, 12))
            until = time.monotonic() + chance.random()
            eventually(lambda until=until: time.monotonic() >= until, 2, "it dies at any moment")
            if pair is stack.catalog:
                handed |= handed_out(stack)
            pair.kill()
            if pair is not stack.catalog:  # who was at the last step may have become ready meanwhile
                handed |= handed_out(stack)
            stack.take_over(pair)
        load.wait_for(202, 4, 40)
    assert {each.status for each in load.attempts} == {202}
    may_be_lost = handed if stack.tenants in order and stack.servers_apart else set()
    wait_until_right(stack, load, commands, may_be_lost)
    wait_until_idle(stack)
    end_lost_tenants(stack, api)
    commands.check()
    check_logins(stack, app)


def orders(stack: StandbyStack) -> list[list[Pair]]:
    if not stack.servers_apart:
        return [[stack.catalog]]
    if not LONG:
        return [[stack.tenants]]
    # Where two fall back to different moments an orphan was left once, which the inventory shows. By reading, not by proof:
    # a dropped database comes back whose tenant the catalog had forgotten and then heard of only as gone.
    return [[stack.tenants], [stack.catalog], [stack.catalog, stack.tenants], [stack.tenants, stack.catalog]]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_standby_without_the_last_seconds_takes_over_and_everything_comes_right(
    stack: StandbyStack, api: Api, app: Api, number: int
) -> None:
    every = orders(stack)
    for at, order in enumerate(every):
        fail_over_under_load(stack, api, app, SEED + number * len(every) + at, *order)
