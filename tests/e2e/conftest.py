"""Real servers for the end-to-end tests: one stack a module, checked against the invariants when the module is over."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.ports import reserve_port
from deploy.local.postgres import PostgresServer
from deploy.local.stack import CATALOG, REPOSITORY, Stack

from .client import Api, eventually
from .crashing import Aftermath, Crash
from .invariants import check_endings, check_history, check_invariants

# Soon over when its holder is dead, yet long enough for statements on a crowded machine: most must come to their end before
# the lease does.
SHORT_LEASE = "5s"
BRANCHES = "20260105090000_branches.sql"


def make_stack(
    driver: str,
    gateways: int = 1,
    provisioners: int = 1,
    migrators: int = 0,
    billings: int = 0,
    previous: Path | None = None,
    kind: type[Stack] = Stack,
    whole_product: bool = False,
    **more: object,
) -> Iterator[Stack]:
    """previous: where a former release lies, built; it is then what is initialized and started. `whole_product`: each tenant
    gets all of the example's schema, which takes PostgreSQL as long as everything else that a tenant needs."""
    root = Path(tempfile.mkdtemp(prefix="tenantry-e2e-", dir=os.environ.get("TENANTRY_TEST_DIR", "/var/tmp")))
    root.chmod(0o755)
    stack = kind(root, driver=driver, **more)  # type: ignore[arg-type]
    if not whole_product:
        stack.tenant_migrations = part_of_product(root / "product")
    if previous is not None:
        stack.build = previous / "build" / "release"
        stack.catalog_migrations = previous / "migrations" / "catalog"
    try:
        stack.start(gateways, provisioners, migrators, billings)
        yield stack
        check_invariants(stack)
        stack.stop()
        check_endings(stack)
    finally:
        stack.destroy()
        if os.environ.get("TENANTRY_KEEP") is None:
            shutil.rmtree(root, ignore_errors=True)


def part_of_product(folder: Path) -> Path:
    """The example's first file, and one that no transaction may hold: what there is to apply, to die in, to dump and to look
    at, without the twenty tables that a pharmacy has."""
    folder.mkdir()
    shutil.copy(REPOSITORY / "migrations" / "tenant" / BRANCHES, folder)
    (folder / "20260105096000_branches_by_time_zone.sql").write_text(
        "-- migrate:up transaction:false\ncreate index concurrently branches_by_time_zone on branches (time_zone);\n"
        "-- migrate:down transaction:false\ndrop index concurrently branches_by_time_zone;\n"
    )
    return folder


@contextlib.contextmanager
def bare_catalog(name: str, migrations: Path | str = "migrations/catalog") -> Iterator[Stack]:
    """PostgreSQL and `tenantry init` only: no Kafka, and no service runs."""
    root = Path(tempfile.mkdtemp(prefix=f"tenantry-{name}-", dir=os.environ.get("TENANTRY_TEST_DIR", "/var/tmp")))
    root.chmod(0o755)
    stack = Stack(root)
    try:
        stack.postgres.start()
        stack.postgres.execute(f"create database {CATALOG}")
        done = stack.run_cli("init", "--no-topics", "--migrations", str(migrations), admin=True)
        assert done.returncode == 0, done.stderr
        yield stack
    finally:
        stack.postgres.stop()
        stack.postgres.destroy()
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def bare_postgres(name: str) -> Iterator[PostgresServer]:
    """A PostgreSQL of its own, for databases that are nobody's."""
    place = Path(tempfile.mkdtemp(prefix=f"tenantry-{name}-", dir=os.environ.get("TENANTRY_TEST_DIR", "/var/tmp")))
    place.chmod(0o755)
    server = PostgresServer(place / "postgres", reserve_port(), fast=True, die_with_parent=True)
    try:
        server.start()
        yield server
    finally:
        server.destroy()
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The product with the postgres driver: one gateway, one provisioner."""
    yield from make_stack("postgres")


@pytest.fixture(scope="module")
def whole_stack() -> Iterator[Stack]:
    """The same, where each tenant has all that the example product makes."""
    yield from make_stack("postgres", whole_product=True)


def add_signal_token(stack: Stack) -> str:
    """A token that may signal to a run and do nothing else. Not in the file of every stack, as programs of the release
    before do not know its scope."""
    token = stack.settings["tokens"].setdefault("signal", secrets.token_urlsafe(24))
    stack.tokens.write()
    nowhere = Api(stack.services["gateway-0"].url, token)
    eventually(
        lambda: nowhere.post("/api/admin/migrations/runs/none/signals").status == 404, 10, "the new token is known"
    )
    return token


@pytest.fixture(scope="module")
def monitoring(stack: Stack) -> Api:
    """Somebody's monitoring, which signals to runs."""
    return Api(stack.services["gateway-0"].url, add_signal_token(stack))


@pytest.fixture(scope="module")
def supabase_stack() -> Iterator[Stack]:
    """The product with the supabase driver on the sandbox."""
    yield from make_stack("supabase", whole_product=True)


@pytest.fixture
def second_server(stack: Stack) -> Iterator[PostgresServer]:
    """Another PostgreSQL for tenants, beside the first."""
    server = PostgresServer(stack.root / "postgres-2", reserve_port(), fast=True, die_with_parent=True)
    server.start()
    try:
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="module")
def aftermaths() -> dict[Crash, Aftermath]:
    """Filled by the crashes, looked at when all of them are over."""
    return {}


@pytest.fixture(scope="module")
def seen() -> dict[str, bytes]:
    """Every tenant's secret there ever was: who is deprovisioned leaves none behind."""
    return {}


@pytest.fixture(autouse=True)
def lawful(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that had a stack: what its tenants did since the last look was legal. The rest of what must hold
    is looked at when the module is over and nothing is under way any more."""
    yield
    stack = request.node.funcargs.get("stack")
    if isinstance(stack, Stack):
        stack.history_seen = check_history(stack, stack.history_seen)


@pytest.fixture
def api(stack: Stack) -> Api:
    """A caller that may do everything but what only the product's backend may."""
    return Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])


@pytest.fixture
def app(stack: Stack) -> Api:
    """The product's backend."""
    return Api(stack.services["gateway-0"].url, stack.settings["tokens"]["app"])
