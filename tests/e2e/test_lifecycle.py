"""How long a tenant is to live, as operators and billing want it: the strictest of them counts, billing takes back nothing but
its own wish, and whoever restores an archived tenant has the last word. PostgreSQL and `tenantry init`; no service runs, and
sagas end as the test says."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy.local.stack import CATALOG, REPOSITORY, Stack

from .conftest import bare_catalog
from .test_catalog import as_service, command, make_ready, one, sign_up

MIGRATION = "20261203000010_lifecycle.sql"
STRICTEST = ("live", "archived", "gone")
ENDS_AS = {"live": "ready", "archived": "archived", "gone": "deprovisioned"}
COMMANDS = {"archived": "archive", "gone": "deprovision"}


@pytest.fixture(scope="module")
def catalog() -> Iterator[Stack]:
    with bare_catalog("lifecycle") as stack:
        yield stack


@pytest.fixture
def admin(catalog: Stack) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(catalog.postgres.url(CATALOG), autocommit=True) as session:
        session.execute("set search_path = provisioner, durable, catalog")
        yield session


@pytest.fixture
def billing(catalog: Stack) -> Iterator[psycopg.Connection[Any]]:
    with as_service(catalog, "billing") as session:
        yield session


class Shop:
    """A ready tenant, its operator and the one who carries out what is begun."""

    def __init__(self, operator: psycopg.Connection[Any], admin: psycopg.Connection[Any]) -> None:
        self.operator, self.admin = operator, admin
        self.slug = f"shop-{uuid.uuid4().hex[:12]}"
        self.tenant = sign_up(operator, slug=self.slug)
        make_ready(admin, self.tenant)

    def fact(self, column: str) -> Any:
        return one(self.admin, f"select {column} from tenant where tenant_id = %s", self.tenant)

    def command(self, name: str, **data: str) -> str:
        confirm = {"confirm": self.slug} if name == "deprovision" else {}
        return command(self.operator, self.tenant, name, **confirm, **data)

    def outcome(self, operation: str) -> Any:
        return self.admin.execute(
            "select state, code from catalog.operation where operation_id = %s", (operation,)
        ).fetchone()

    def wish(self, source: str) -> Any:
        found = self.admin.execute(
            "select wanted from lifecycle_wanted where tenant_id = %s and source = %s", (self.tenant, source)
        ).fetchone()
        return found and found[0]

    def at_work(self) -> list[str]:
        found = self.admin.execute(
            "select kind from saga where tenant_id = %s and status = 'running' order by created_at", (self.tenant,)
        )
        return [kind for (kind,) in found]

    def saga(self) -> tuple[Any, ...]:
        found = self.admin.execute(
            "select saga_id, fence, step from saga where tenant_id = %s and status = 'running'", (self.tenant,)
        ).fetchone()
        assert found is not None
        return found

    def end(self, status: str = "done", step: str | None = None) -> None:
        """What is at work ends so, at this step if one is named."""
        if step is not None:
            self.admin.execute("update saga set step = %s where saga_id = %s", (step, self.saga()[0]))
        error = json.dumps({"code": "test", "detail": "the test says so"}) if status != "done" else None
        self.admin.execute("select saga_end(%s, %s, %s, %s, '{}', %s)", (*self.saga(), status, error))

    def end_all(self) -> None:
        for _ in range(5):
            if not self.at_work():
                return
            self.admin.execute(
                "update tenant set access_applied = wanted_access(tenant_id), verify_done = verify_wanted "
                "where tenant_id = %s",
                (self.tenant,),
            )
            self.end()
        raise AssertionError(f"it comes to no end: {self.at_work()}")

    def restore(self, settle: bool = True) -> None:
        """Of its archive, in place, as far as its settling or to its end."""
        self.admin.execute(
            "insert into backup (tenant_id, location, kind, bytes, sha256, objects) "
            "values (%s, '/mnt/' || %s || '/' || gen_random_uuid() || '-1.archive', 'archive', 1, '', 1)",
            (self.tenant, self.tenant),
        )
        self.command("restore", mode="in_place")
        assert self.at_work() == ["restore"]
        if settle:
            self.settle()

    def settle(self) -> None:
        saga, fence, _ = self.saga()
        self.operator.execute("select settle_restore(%s, %s, %s, '{}')", (saga, fence, self.tenant))
        self.admin.execute(
            "update tenant set access_applied = 'full', verify_done = verify_wanted where tenant_id = %s",
            (self.tenant,),
        )
        self.end()

    def told(self) -> list[tuple[str, str, str]]:
        """What the history says of billing's wishes: what it wants, what is wanted in all, why."""
        return [
            (data["wanted"], data["strictest"], data["reason"])
            for (data,) in self.admin.execute(
                "select data from tenant_event where tenant_id = %s and type = 'tenant.lifecycle.wanted.v1' order by seq",
                (self.tenant,),
            )
        ]


@pytest.fixture
def shop(catalog: Stack, admin: psycopg.Connection[Any]) -> Iterator[Shop]:
    with as_service(catalog) as operator:
        made = Shop(operator, admin)
        yield made
        assert made.fact("lifecycle_wanted = wanted_lifecycle(tenant_id)") is True, "the copy is in step"


def want(billing: psycopg.Connection[Any], shop: Shop, wanted: str, cause: str = "sub_1 ended", why: str = "-") -> Any:
    return one(billing, "select catalog.want_lifecycle(%s, %s, %s, %s)", shop.tenant, wanted, why, cause)


@pytest.mark.parametrize("first", ["operator", "billing"])
@pytest.mark.parametrize("theirs", ["live", "archived"])
@pytest.mark.parametrize("ours", STRICTEST)
def test_the_strictest_of_both_counts_whoever_said_it_first(
    shop: Shop, billing: psycopg.Connection[Any], ours: str, theirs: str, first: str
) -> None:
    for source in ("operator", "billing") if first == "operator" else ("billing", "operator"):
        if source == "billing":
            want(billing, shop, theirs)
        elif ours != "live":
            shop.command(COMMANDS[ours])
    strictest = max(ours, theirs, key=STRICTEST.index)
    assert shop.fact("lifecycle_wanted") == strictest
    assert bool(shop.at_work()) == (strictest != "live"), "whoever changes what is wanted wakes the tenant"
    shop.end_all()
    assert shop.fact("state") == ENDS_AS[strictest]
    assert (shop.wish("operator") or "live", shop.wish("billing")) == (ours, theirs)


def test_billing_cannot_wish_a_tenant_gone_nor_touch_what_operators_want(
    shop: Shop, billing: psycopg.Connection[Any]
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        want(billing, shop, "gone")
    with pytest.raises(psycopg.errors.CheckViolation):
        one(billing, "select catalog.want_lifecycle(%s, 'archived', 'no cause', null)", shop.tenant)
    assert shop.wish("billing") is None and shop.at_work() == []
    shop.command("archive", reason="contract ended")
    for statement in (
        "insert into catalog.lifecycle_wanted (tenant_id, source, wanted) values (gen_random_uuid(), 'operator', 'gone')",
        "insert into catalog.lifecycle_wanted (tenant_id, source, wanted) values (gen_random_uuid(), 'billing', 'live')",
        "update catalog.lifecycle_wanted set wanted = 'live'",
        "delete from catalog.lifecycle_wanted",
        f"select provisioner.put_lifecycle('{shop.tenant}', 'operator', 'live', null, null)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            billing.execute(statement)  # type: ignore[arg-type]
    assert want(billing, shop, "live") == "archived", "it is told that an operator wants more"
    seen = billing.execute("select source, wanted, reason from catalog.lifecycle_wanted where tenant_id = %s order by 1", (shop.tenant,))  # fmt: skip
    assert seen.fetchall() == [("billing", "live", "-"), ("operator", "archived", "contract ended")]


@pytest.mark.parametrize("role", ["gateway", "migrator", "provisioner"])
def test_nobody_else_speaks_for_billing(catalog: Stack, shop: Shop, role: str) -> None:
    with as_service(catalog, role) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        want(session, shop, "archived")


def test_the_history_tells_what_billing_wants_and_a_comparison_that_finds_the_same_tells_nothing(
    shop: Shop, billing: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    version = "select version from tenant_status where tenant_id = %s"
    before = one(admin, version, shop.tenant)
    assert want(billing, shop, "live") == "live"
    assert one(admin, version, shop.tenant) == before and shop.told() == [], "that is how it was"
    assert want(billing, shop, "archived", why="unpaid") == "archived"
    after = one(admin, version, shop.tenant)
    assert after > before
    assert want(billing, shop, "archived", why="unpaid") == "archived"
    assert one(admin, version, shop.tenant) == after and shop.told() == [("archived", "archived", "unpaid")]
    cause = "select caused_by from saga where tenant_id = %s and kind = 'archive'"
    assert admin.execute(cause, (shop.tenant,)).fetchall() == [(None,)], "once, and caused by no command of before"


def test_of_a_tenant_that_nobody_knows_or_that_is_gone_nothing_is_wanted(
    shop: Shop, billing: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    nobody = str(uuid.uuid4())
    assert one(billing, "select catalog.want_lifecycle(%s, 'archived', null, 'x')", nobody) is None
    assert admin.execute("select from lifecycle_wanted where tenant_id = %s", (nobody,)).fetchall() == []
    shop.command("deprovision")
    shop.end_all()
    assert want(billing, shop, "archived") == "gone"
    assert shop.wish("billing") is None and shop.told() == []


def test_who_pays_while_archived_stays_archived_until_an_operator_restores_it(
    shop: Shop, billing: psycopg.Connection[Any]
) -> None:
    want(billing, shop, "archived")
    shop.end_all()
    assert shop.fact("state") == "archived"
    assert want(billing, shop, "live", cause="invoice paid") == "live"
    shop.operator.execute("select wake_some(200)")
    assert shop.at_work() == [] and shop.fact("state") == "archived"
    for refused in ("resume", "archive"):
        assert shop.outcome(shop.command(refused)) == ("rejected", "tenant_archived")
    shop.restore()
    assert shop.fact("state") == "ready" and shop.at_work() == []


def test_who_pays_before_anything_was_begun_is_not_archived(shop: Shop, billing: psycopg.Connection[Any]) -> None:
    job = str(uuid.uuid4())
    assert one(shop.operator, "select claim_take(%s, 'migrate', %s)", shop.tenant, job) is True
    want(billing, shop, "archived")
    want(billing, shop, "live", cause="invoice paid")
    shop.operator.execute("select claim_release(%s, %s)", (shop.tenant, job))
    shop.operator.execute("select wake_some(200)")
    assert shop.at_work() == [] and shop.fact("state") == "ready"


@pytest.mark.parametrize("also_by_operator", [False, True], ids=["by billing", "by both"])
def test_a_restore_beats_the_wish_of_before_and_a_new_cause_counts_again(
    shop: Shop, billing: psycopg.Connection[Any], also_by_operator: bool
) -> None:
    want(billing, shop, "archived", cause="sub_1 ended")
    if also_by_operator:
        shop.command("archive")
    shop.end_all()
    shop.restore()
    assert (shop.fact("state"), shop.fact("lifecycle_wanted"), shop.at_work()) == ("ready", "live", [])
    assert shop.wish("billing") == "live" and shop.wish("operator") in (None, "live")
    assert shop.told()[-1] == ("live", "live", "restored")
    for _ in range(2):
        assert want(billing, shop, "archived", cause="sub_1 ended") == "live", "its comparison still says so"
        assert shop.at_work() == []
    assert want(billing, shop, "live", cause="invoice paid") == "live"
    assert want(billing, shop, "archived", cause="sub_1 ended") == "live", "nor later"
    assert want(billing, shop, "archived", cause="sub_2 ended") == "archived"
    assert shop.at_work() == ["archive"]


def test_a_check_of_an_archive_and_a_restore_that_fails_take_nothing_back(
    shop: Shop, billing: psycopg.Connection[Any]
) -> None:
    want(billing, shop, "archived")
    shop.end_all()
    shop.restore(settle=False)
    shop.end("failed")
    shop.command("restore", mode="check")
    shop.end()
    assert (shop.wish("billing"), shop.fact("lifecycle_wanted"), shop.fact("state")) == (
        "archived",
        "archived",
        "archived",
    )


def test_a_restore_does_not_beat_who_wants_the_tenant_gone(shop: Shop, billing: psycopg.Connection[Any]) -> None:
    want(billing, shop, "archived")
    shop.end_all()
    shop.restore(settle=False)
    shop.command("deprovision")
    shop.settle()
    assert shop.fact("lifecycle_wanted") == "gone" and shop.at_work() == ["deprovision"]
    shop.end_all()
    assert shop.fact("state") == "deprovisioned"


@pytest.mark.parametrize("step", ["close", "dump"])
def test_an_archive_that_failed_with_the_database_whole_opens_again_for_who_has_paid(
    shop: Shop, billing: psycopg.Connection[Any], step: str
) -> None:
    want(billing, shop, "archived")
    shop.end("attention", step)
    assert want(billing, shop, "live", cause="invoice paid") == "live"
    assert shop.fact("state") == "attention" and shop.at_work() == [], "a person decides"
    operation = shop.command("retry")
    assert shop.at_work() == ["access"], "it may be closed, whatever is known of it"
    shop.end_all()
    assert shop.fact("state") == "ready" and shop.outcome(operation) == ("succeeded", None)


@pytest.mark.parametrize("paid", [False, True], ids=["unpaid", "paid"])
@pytest.mark.parametrize("step", ["drop", "dropped"])
def test_an_archive_that_failed_with_the_database_half_dropped_is_ended_by_a_retry(
    shop: Shop, billing: psycopg.Connection[Any], step: str, paid: bool
) -> None:
    """To close what is gone failed for good, and there was no way on."""
    want(billing, shop, "archived")
    shop.end("attention", step)
    if paid:
        want(billing, shop, "live", cause="invoice paid")
    operation = shop.command("retry")
    assert shop.at_work() == ["archive"] and shop.saga()[2] == step
    shop.end()
    assert shop.fact("state") == "archived" and shop.at_work() == []
    assert shop.outcome(operation) == ("succeeded", None)


def test_what_functions_of_the_release_before_still_write_is_the_operators_wish(
    shop: Shop, billing: psycopg.Connection[Any]
) -> None:
    """One of them may be at work while it is replaced."""
    write = "update tenant set state = %s, lifecycle_wanted = %s where tenant_id = %s"
    shop.operator.execute(write, ("archived", "archived", shop.tenant))
    assert shop.wish("operator") == "archived"
    assert want(billing, shop, "archived") == "archived" and want(billing, shop, "live") == "archived"
    want(billing, shop, "archived")
    shop.operator.execute(write, ("ready", "live", shop.tenant))
    assert (shop.wish("operator"), shop.wish("billing")) == ("live", "live")
    assert want(billing, shop, "archived") == "live", "a restore, of a cause that it overruled"


def test_what_was_wanted_before_the_upgrade_is_the_operators_wish(tmp_path: Path) -> None:
    before = tmp_path / "catalog"
    before.mkdir()
    for file in sorted((REPOSITORY / "migrations" / "catalog").glob("*.sql")):
        if file.name < MIGRATION:
            shutil.copy(file, before)
    with bare_catalog("lifecycle-before", before) as stack:
        with as_service(stack) as operator, psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as admin:
            admin.execute("set search_path = provisioner, durable, catalog")
            live, archiving, archived, gone = (Shop(operator, admin) for _ in range(4))
            archiving.command("archive")
            archived.command("archive")
            archived.end_all()
            gone.command("deprovision")
            done = stack.run_cli("init", "--no-topics", "--migrations", "migrations/catalog", admin=True)
            assert done.returncode == 0, done.stderr
            assert [shop.wish("operator") for shop in (live, archiving, archived, gone)] == [
                None, "archived", "archived", "gone",
            ]  # fmt: skip
        with as_service(stack) as operator, as_service(stack, "billing") as billing:
            with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as admin:
                admin.execute("set search_path = provisioner, durable, catalog")
                for shop in (archiving, archived, gone):
                    shop.operator, shop.admin = operator, admin
                    was = shop.fact("lifecycle_wanted")
                    assert want(billing, shop, "live") == was
                archived.restore()
                assert archived.fact("state") == "ready" and archived.wish("operator") == "live"
