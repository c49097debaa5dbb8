"""Rollouts among tenants of which some are broken, and while Kafka, the catalog, a tenant server or an operator gets in the
way: everybody else gets the files, and the end is the same."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from deploy.local.ports import reserve_port
from deploy.local.stack import CATALOG, Service, new_key

from .client import eventually
from .conftest import SHORT_LEASE, make_stack
from .dbmate import Dbmate, dump, let_dbmate_in, there_is_dbmate
from .faults import dump_catalog, restore_catalog
from .rollouts import Rollouts
from .standby import Proxy, StandbyStack, TwoServerStack

LONG = os.environ.get("TENANTRY_LONG") == "1"
SHOPS = 45 if LONG else 11
OPTIONS = {"LEASE": SHORT_LEASE, "KAFKA_PROPERTIES": "session.timeout.ms=4000;heartbeat.interval.ms=500"}


@pytest.fixture(scope="module")
def stack() -> Iterator[StandbyStack]:
    for made in make_stack("postgres", migrators=1, options=OPTIONS, kind=TwoServerStack):
        assert isinstance(made, StandbyStack)
        yield made


@pytest.fixture(scope="module")
def rollouts(stack: StandbyStack) -> Rollouts:
    return Rollouts(stack)


@pytest.fixture(scope="module")
def shops(rollouts: Rollouts) -> list[str]:
    asked = [rollouts.api.signup(f"Outage Shop {number}").json["tenant_id"] for number in range(SHOPS)]
    for shop in asked:
        rollouts.api.wait_state(shop, "ready", 60)
    return asked


def has_once(rollouts: Rollouts, shop: str, version: str) -> bool:
    sql = f"select (select count(*) from public.schema_migrations where version = '{version}'), "
    found = rollouts.query(shop, sql + f"(select count(*) from tenantry.migration where version = '{version}')")
    return found == [(1, 1)]


class Product:
    """A query of the product, again and again for the length of a with block; `slowest` is how long one took at most."""

    def __init__(self, rollouts: Rollouts, tenant: str, sql: str) -> None:
        self.slowest, self.count = 0.0, 0
        self._url = rollouts.stack.tenant_postgres.url(rollouts.database_of(tenant))
        self._sql = sql
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)

    def _ask_on(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as session:
            while not self._ended.wait(0.02):
                began = time.monotonic()
                session.execute(self._sql)  # type: ignore[arg-type]
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.count += 1


@contextlib.contextmanager
def done_and_undone(rollouts: Rollouts, tenant: str, do: str, undo: str) -> Iterator[None]:
    """By the server's administrator, in the tenant's database; {name} is that database's."""
    name = rollouts.database_of(tenant)
    rollouts.query(tenant, do.format(name=name))
    try:
        yield
    finally:
        rollouts.stack.tenant_postgres.execute(undo.format(name=name), name)


@contextlib.contextmanager
def moved(rollouts: Rollouts, tenant: str, port: int) -> Iterator[None]:
    """The tenant's database is looked for here."""
    sql = f"update provisioner.database set port = '%s' where tenant_id = '{tenant}'"
    [[before]] = rollouts.query_catalog(f"select port from provisioner.database where tenant_id = '{tenant}'")
    rollouts.stack.postgres.execute(sql % port, CATALOG)
    try:
        yield
    finally:
        rollouts.stack.postgres.execute(sql % before, CATALOG)


@contextlib.contextmanager
def hanging(rollouts: Rollouts, tenant: str) -> Iterator[Proxy]:
    """Connections are accepted, and nothing is ever said."""
    proxy = Proxy(rollouts.stack.tenant_postgres.port)
    proxy.hold()
    try:
        with moved(rollouts, tenant, proxy.port):
            yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def locked(rollouts: Rollouts, tenant: str) -> Iterator[None]:
    """A report that takes its time."""
    with psycopg.connect(rollouts.stack.tenant_postgres.url(rollouts.database_of(tenant))) as holder:
        holder.execute("select count(*) from branches")
        yield
        holder.rollback()


def test_dbmate_and_a_run_take_a_tenant_for_what_the_other_made_of_it(
    rollouts: Rollouts, shops: list[str], tmp_path: Path
) -> None:
    there_is_dbmate()
    ours, theirs, *_ = shops
    for file in rollouts.stack.tenant_migrations.glob("*.sql"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = rollouts.file("create table of_both (a int);", "drop table of_both;")
    second = rollouts.file("alter table of_both add column b int;", "alter table of_both drop column b;")
    for version in (first, second):
        (tmp_path / f"{version}_made.sql").write_text(rollouts.sql[version])

    def dbmate(shop: str) -> Dbmate:
        name = rollouts.database_of(shop)
        let_dbmate_in(rollouts.stack.tenant_postgres)
        return Dbmate(rollouts.stack.tenant_postgres.url(name), tmp_path, role=f"{name}_owner")

    assert dbmate(theirs).pending() == 2 and dbmate(theirs).migrate()
    run = rollouts.completed(strategy="all", tenants=[ours, theirs])
    assert rollouts.versions(ours) == rollouts.versions(theirs)
    brought = {job["tenant_id"]: job["brought"] for job in rollouts.tenants(run)}
    assert brought == {ours: [first, second], theirs: []}, "what dbmate had done is not the run's"
    before = dump(rollouts.stack.tenant_postgres.url(rollouts.database_of(ours)))
    assert dbmate(ours).pending() == 0 and dbmate(ours).migrate()
    assert dump(rollouts.stack.tenant_postgres.url(rollouts.database_of(ours))) == before, "there was nothing to do"
    assert dbmate(ours).rollback() and dbmate(ours).pending() == 1
    third = rollouts.file("select 1;", "select 1;")
    run = rollouts.completed(strategy="all", tenants=[ours, theirs])
    brought = {job["tenant_id"]: job["brought"] for job in rollouts.tenants(run)}
    assert brought == {ours: [second, third], theirs: [third]}
    assert rollouts.query(ours, "select a, b from of_both") == []


def schema_of(rollouts: Rollouts, shop: str) -> str:
    return dump(rollouts.stack.tenant_postgres.url(rollouts.database_of(shop)))


def test_a_rollback_leaves_each_schema_as_pg_dump_saw_it_before(rollouts: Rollouts, shops: list[str]) -> None:
    """All of pg_dump -s: also the privileges, and the schema of our own."""
    group = shops[:4]  # the first two have files that the others get only now
    before = {shop: schema_of(rollouts, shop) for shop in group}
    files = [
        rollouts.file(
            "create table loans (id bigint primary key, branch bigint not null references branches, due date);"
            "comment on table loans is 'of the library'; create index loans_by_due on loans (due);",
            "drop table loans;",
        ),
        rollouts.file(
            "alter table branches add column closes_at time default '18:00';"
            "create function closed(branches) returns boolean language sql stable as $$ select localtime > $1.closes_at $$;"
            "create view closed_branches as select * from branches b where closed(b);",
            "drop view closed_branches; drop function closed(branches); alter table branches drop column closes_at;",
        ),
        rollouts.file(
            "create index concurrently branches_by_phone on branches (phone);"
            "alter table loans add constraint loans_due check (due > '2000-01-01') not valid;"
            "alter table loans validate constraint loans_due;",
            "alter table loans drop constraint loans_due; drop index concurrently branches_by_phone;",
            options=" transaction:false",
        ),
        rollouts.file("create table of_undo ();", "drop table of_undo;"),
    ]
    run = rollouts.completed(strategy="all", tenants=group, allow=["tightened-constraint"])
    assert all("branches_by_phone" in schema_of(rollouts, shop) for shop in group)
    rollouts.query(group[1], "create view in_the_way as select from of_undo")
    assert rollouts.command(run, "rollback")["state"] == "succeeded"
    halted = rollouts.wait(run, "halted", "rolled_back")
    assert halted["reason"]["code"] == "rollback_incomplete" and halted["states"] == {"undone": 3, "undo_failed": 1}
    [stuck] = rollouts.tenants(run, "?state=undo_failed")
    assert stuck["tenant_id"] == group[1]
    assert stuck["error"]["code"] == "2BP01" and "in_the_way" in stuck["error"]["detail"]
    rollouts.query(group[1], "drop view in_the_way")
    assert rollouts.command(run, "retry", tenant_id=group[1])["state"] == "succeeded"
    assert rollouts.wait(run, "halted", "rolled_back")["states"] == {"undone": 4}
    assert {shop: schema_of(rollouts, shop) for shop in group} == before
    assert all(rollouts.withdraw(version)["state"] == "succeeded" for version in files)


def test_a_run_that_is_sent_right_behind_its_files_brings_them(rollouts: Rollouts, shops: list[str]) -> None:
    """Nobody waits for the register to answer; a restored catalog, which reads all of it again, does not either."""
    sent = {}
    for number in range(4):
        version = f"2030010100000{number}"
        file = {"name": f"{version}_made.sql", "sql": "-- migrate:up\nselect 1;\n-- migrate:down\n"}
        assert rollouts.api.post("/api/admin/migrations/files", file).status == 202
        wanted = {"dry_run": True, "queue": True, "tenants": shops[-1:]}
        sent[version] = rollouts.api.post("/api/admin/migrations/run", wanted).json
    for version, told in sent.items():
        done = rollouts.api.wait_operation(told["operation_id"])
        assert done["state"] == "succeeded" and done["result"]["target"] == version, done
        rollouts.wait(told["run_id"], "completed")
    assert all(rollouts.withdraw(version)["state"] == "succeeded" for version in sent)


CODES = {
    "down": "connect_failed", "hangs": "connect_timeout", "shut": "28000", "full": "53300", "read_only": "25006",
    "locked": "55P03", "has_it": "42P07", "other_type": "42883", "not_ours": "wrong_identity",
}  # fmt: skip


def test_tenants_that_are_broken_in_each_way_fail_alone_with_the_code_that_tells_it(
    rollouts: Rollouts, shops: list[str]
) -> None:
    bad = dict(zip(CODES, shops, strict=False))
    failing = (
        set(CODES) if LONG else {"shut", "has_it", "other_type", "not_ours"}
    )  # the others take minutes: six attempts
    version = rollouts.file(
        "alter table branches add column tried int;create view phones as select btrim(phone) from branches;"
        "create table taken ();",
        "drop table taken; drop view phones; alter table branches drop column tried;",
    )
    with contextlib.ExitStack() as faults:

        def broken(name: str, do: str, undo: str) -> None:
            faults.enter_context(done_and_undone(rollouts, bad[name], do, undo))

        faults.enter_context(moved(rollouts, bad["down"], reserve_port()))
        faults.enter_context(locked(rollouts, bad["locked"]))
        broken("shut", "alter role {name}_owner nologin", "alter role {name}_owner login")
        broken("full", "alter database {name} connection limit 0", "alter database {name} connection limit -1")
        broken(
            "read_only",
            "alter database {name} set default_transaction_read_only = on",
            "set default_transaction_read_only = off; alter database {name} reset default_transaction_read_only",
        )
        broken("has_it", "create table taken ()", "drop table taken")
        broken(
            "other_type",
            "alter table branches alter phone type int using null",
            "alter table branches alter phone type text",
        )
        broken(
            "not_ours",
            f"update tenantry.identity set tenant_id = '{uuid.uuid4()}'",
            f"update tenantry.identity set tenant_id = '{bad['not_ours']}'",
        )
        with (
            hanging(rollouts, bad["hangs"]),
            Product(rollouts, bad["locked"], "select count(*) from branches") as product,
        ):
            run = rollouts.begin(strategy="all", max_failures=100, max_failure_rate=1, lock_timeout="1s")
            jobs: dict[str, dict[str, Any]] = {}

            def each_is_told() -> bool:
                jobs.update({job["tenant_id"]: job for job in rollouts.tenants(run)})
                good = [jobs[shop]["state"] == "done" for shop in shops if shop not in bad.values()]
                broken = [jobs[bad[name]]["state"] == "failed" for name in failing]
                return all(good + broken) and all(jobs[bad[name]]["attempts"] > 1 for name in CODES.keys() - failing)

            eventually(each_is_told, 90, "the others have it, and the broken ones have failed or are tried again")
            assert {name: jobs[shop]["error"]["code"] for name, shop in bad.items()} == CODES
        assert product.count > 100 and product.slowest < 1 + 2, (
            "it waits behind our lock request for a time-out at most"
        )
        assert rollouts.api.tenant(bad["has_it"])["schema"]["error"]["code"] == "42P07"
    ended = rollouts.wait(run, "completed", seconds=60)
    assert ended["states"] == {"done": SHOPS - len(failing), "failed": len(failing)}
    assert {each["code"]: each["count"] for each in ended["failures"]} == {CODES[name]: 1 for name in failing}
    assert all(rollouts.api.tenant(shop)["state"] == "ready" for shop in shops)
    assert rollouts.command(run, "retry")["state"] == "succeeded"
    assert rollouts.wait(run, "completed")["states"] == {"done": SHOPS}
    assert all(has_once(rollouts, shop, version) for shop in shops)


def test_a_rehearsal_waits_once_for_a_tenant_that_does_not_answer(rollouts: Rollouts, shops: list[str]) -> None:
    """Since all others of its wave wait with it."""
    version = rollouts.file("create table unanswered ();", "drop table unanswered;")
    with hanging(rollouts, shops[0]) as proxy:
        run = rollouts.completed(dry_run=True, tenants=shops[:2])
        assert proxy.accepted == 1
    assert {job["tenant_id"]: job["forecast"] for job in rollouts.tenants(run)} == {
        shops[0]: "failed",
        shops[1]: "passed",
    }
    assert rollouts.run(run)["failures"][0]["code"] == "connect_timeout"
    assert rollouts.withdraw(version)["state"] == "succeeded"


@dataclass
class UnderWay:
    """A run that some tenants have had and others are in the middle of, until it may go on."""

    run: str
    version: str
    gates: list[psycopg.Connection[tuple[object, ...]]]

    def may_go_on(self) -> None:
        for gate in self.gates:
            gate.close()


@contextlib.contextmanager
def under_way(rollouts: Rollouts, shops: list[str], held: list[str], leaving: Sequence[str] = ()) -> Iterator[UnderWay]:
    """The held ones wait in their file for what the block does. After it, all ends as if nothing had been."""
    name = f"slow_{rollouts.made}"
    version = rollouts.file(f"create table {name} (); select pg_advisory_xact_lock(7);", f"drop table {name};")
    gates = [
        psycopg.connect(rollouts.stack.tenant_postgres.url(rollouts.database_of(shop)), autocommit=True)
        for shop in held
    ]
    for gate in gates:
        gate.execute("select pg_advisory_lock(7)")
    now = UnderWay(rollouts.begin(strategy="all", lock_timeout="60s"), version, gates)
    try:
        there = {"done": len(shops) - len(held), "applying": len(held)}
        eventually(lambda: rollouts.run(now.run)["states"] == there, 30, "some have it, and some are in the middle")
        yield now
    finally:
        now.may_go_on()
    ended = rollouts.wait(now.run, "completed", "halted", seconds=60)
    assert ended["state"] == "completed" and ended["states"].keys() <= {"done", "left"}, ended
    staying = [shop for shop in shops if shop not in leaving]
    brought = {job["tenant_id"]: job["brought"] for job in rollouts.tenants(now.run)}
    assert all(brought[shop][-1] == version for shop in staying), "a rollback would know its own"
    eventually(lambda: all(has_once(rollouts, shop, version) for shop in staying), 30, "everybody has it, and once")


def test_a_run_goes_on_and_ends_while_kafka_is_away(stack: StandbyStack, rollouts: Rollouts, shops: list[str]) -> None:
    with under_way(rollouts, shops, shops[::3]) as slow, stack.kafka.down():
        slow.may_go_on()
        rollouts.wait(slow.run, "completed")
    assert rollouts.command(slow.run, "rollback")["state"] == "succeeded"
    assert rollouts.wait(slow.run, "rolled_back", "halted")["states"] == {"undone": SHOPS}
    assert rollouts.withdraw(slow.version)["state"] == "succeeded"


def test_a_run_goes_on_when_the_catalog_is_restarted(stack: StandbyStack, rollouts: Rollouts, shops: list[str]) -> None:
    with under_way(rollouts, shops, shops[::3]) as slow:
        stack.postgres.stop("immediate")
        slow.may_go_on()
        stack.postgres.start()


@pytest.mark.parametrize("known", ["nothing", "half"])
def test_a_run_of_which_the_restored_catalog_knows_less_than_the_tenants_ends_the_same(
    stack: StandbyStack, rollouts: Rollouts, shops: list[str], tmp_path: Path, known: str
) -> None:
    if known == "nothing":
        dump_catalog(stack, tmp_path / "catalog")
    with under_way(rollouts, shops, shops[::3]) as slow:
        if known == "half":
            dump_catalog(stack, tmp_path / "catalog")
            slow.may_go_on()
            rollouts.wait(slow.run, "completed")
        restore_catalog(stack, tmp_path / "catalog")
        slow.may_go_on()
        there = f"/api/admin/migrations/runs/{slow.run}"
        eventually(lambda: rollouts.api.get(there).status == 200, 30, "it is known again")


def test_what_is_more_urgent_goes_first_and_the_rest_waits_for_the_tenants_part_of_a_run(
    rollouts: Rollouts, shops: list[str]
) -> None:
    """Each finds its tenant in the middle of a file."""
    api = rollouts.api
    guests = [api.ready_tenant(f"Urgent {number}") for number in range(3)]
    everybody = [*shops, *guests]
    suspended, archived, deprovisioned = guests
    rotated, backed_up = shops[:2]
    patient: dict[str, str] = {}
    with under_way(rollouts, everybody, [*guests, rotated, backed_up], leaving=[archived, deprovisioned]) as slow:
        patient["rotate"] = api.command(rotated, "rotate-credentials").json["operation_id"]
        patient["backup"] = api.command(backed_up, "backup").json["operation_id"]
        urgent = {
            "suspend": api.command(suspended, "suspend"),
            "archive": api.command(archived, "archive"),
            "deprovision": api.command(deprovisioned, "deprovision", {"confirm": api.tenant(deprovisioned)["slug"]}),
        }
        for name, told in urgent.items():
            assert told.status == 202, told
            done = api.wait_operation(told.json["operation_id"])
            assert done["state"] == "succeeded", (name, done)
        born = api.ready_tenant("Urgent Newcomer")
        assert rollouts.run(slow.run)["state"] == "running"
        assert {name: api.operation(operation)["state"] for name, operation in patient.items()} == dict.fromkeys(
            patient, "accepted"
        )
    for name, operation in patient.items():
        assert api.wait_operation(operation)["state"] == "succeeded", name
    assert {job["tenant_id"]: job["state"] for job in rollouts.tenants(slow.run)} == {
        **dict.fromkeys([*shops, suspended, born], "done"), archived: "left", deprovisioned: "left",
    }  # fmt: skip
    assert has_once(rollouts, born, slow.version)
    for tenant in (suspended, archived, born):
        told = api.command(tenant, "deprovision", {"confirm": api.tenant(tenant)["slug"]})
        assert api.wait_operation(told.json["operation_id"])["state"] == "succeeded"


def test_a_run_goes_on_while_the_keys_of_stored_secrets_are_rotated(
    stack: StandbyStack, rollouts: Rollouts, shops: list[str]
) -> None:
    old, new = stack.settings["keys"]["control"], new_key("c2")
    services = [stack.services[name] for name in ("migrator-0", "provisioner-0")]
    of_owners = "select distinct split_part(sealed, '.', 1) from provisioner.secret where ring = 'control'"

    def give(service: Service, keys: str) -> None:
        service.stop()
        service.environment["CONTROL_KEYS"] = keys
        service.start()
        service.wait_until_ready()

    with under_way(rollouts, shops, shops[::3]) as slow:
        for service in services:  # all can read it before one seals with it
            give(service, f"{old},{new}")
        give(services[-1], f"{new},{old}")
        eventually(lambda: rollouts.query_catalog(of_owners) == [["c2"]], 20, "every secret is sealed with the new key")
        for service in services:
            give(service, new)
        stack.settings["keys"]["control"] = new
        assert rollouts.run(slow.run)["state"] == "running"


def test_a_run_goes_on_when_a_standby_without_the_last_seconds_takes_over_for_the_tenants(
    stack: StandbyStack, rollouts: Rollouts, shops: list[str]
) -> None:
    stack.tenants.start_standby()
    with under_way(rollouts, shops, shops[::3]) as slow:
        stack.tenants.stop_replication()
        slow.gates.pop().close()
        eventually(lambda: rollouts.run(slow.run)["states"]["applying"] == 3, 30, "one more has it, and will lose it")
        stack.tenants.kill()
        stack.take_over(stack.tenants)
    assert rollouts.command(slow.run, "rollback")["state"] == "succeeded"
    assert rollouts.wait(slow.run, "rolled_back", "halted")["state"] == "rolled_back"
    assert not any(slow.version in rollouts.versions(shop) for shop in shops), (
        "what was lost and brought again is its own"
    )


@pytest.mark.skipif(not LONG, reason="ten million rows")
def test_ten_million_rows_are_not_rehearsed_and_hold_nobody_up(rollouts: Rollouts, shops: list[str]) -> None:
    large, small = shops[:2]
    rows_of = "select n, repeat('x', 100) from generate_series(1, %s) n"
    for shop, count in ((large, 10_000_000), (small, 10)):
        rollouts.query(shop, "create table ledger_lines (id bigint, words text)")
        rollouts.query(shop, f"alter table ledger_lines owner to {rollouts.database_of(shop)}_owner")
        rollouts.query(shop, f"insert into ledger_lines {rows_of % count}")
        rollouts.query(shop, "vacuum analyze ledger_lines")
    filenode = rollouts.query(large, "select pg_relation_filenode('ledger_lines')")
    column = rollouts.file(
        "alter table ledger_lines add column noted int not null default 7;",
        "alter table ledger_lines drop column noted;",
    )
    tried = {
        job["tenant_id"]: job for job in rollouts.tenants(rollouts.completed(tenants=[large, small], dry_run=True))
    }
    assert tried[small]["forecast"] == "passed" and tried[large]["forecast"] == "untried"
    assert f"from {column}_made.sql on" in tried[large]["error"]["detail"]
    assert "ledger_lines is large here" in tried[large]["error"]["detail"]
    with Product(rollouts, large, "insert into ledger_lines values (0, 'of the product')") as product:
        rollouts.completed(strategy="all", tenants=[large, small])
    assert product.slowest < 1, "the column is there at once"
    assert rollouts.query(large, "select pg_relation_filenode('ledger_lines')") == filenode, "nothing was written anew"
    index = rollouts.file(
        "create index concurrently ledger_lines_id on ledger_lines (id);",
        "drop index concurrently ledger_lines_id;", options=" transaction:false",
    )  # fmt: skip
    with Product(rollouts, large, "insert into ledger_lines values (0, 'of the product')") as product:
        run = rollouts.begin(strategy="all", tenants=[large, small])
        assert rollouts.wait(run, "completed", "halted", seconds=300)["states"] == {"done": 2}
    assert product.count > 20 and product.slowest < 1, "the index is built beside the product"
    assert rollouts.query(large, "select indisvalid from pg_index where indexrelid = 'ledger_lines_id'::regclass") == [
        (True,)
    ]
    assert has_once(rollouts, large, column) and has_once(rollouts, large, index)
