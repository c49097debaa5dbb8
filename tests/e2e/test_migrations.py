"""A tenant's schema: what the ledgers say, files that fail or change, files without a transaction, databases that were
there before."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local.stack import CATALOG, REPOSITORY, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .faults import forget_tenants
from .invariants import rows
from .service_faults import armed, died_of_sigkill, start, stopped, told

PRODUCT = REPOSITORY / "migrations" / "tenant"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", whole_product=True, options={"LEASE": SHORT_LEASE}, keep_memberships=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The product's files, for a test to change."""
    return Path(shutil.copytree(PRODUCT, tmp_path / "migrations"))


def put(directory: Path, name: str, up: str, options: str = "") -> None:
    (directory / name).write_text(f"-- migrate:up{options}\n{up}\n-- migrate:down\n")


def database_of(stack: Stack, tenant: str) -> str:
    found = rows(stack, f"select name from provisioner.database where tenant_id = '{tenant}' order by generation desc")
    return found[0][0]


def in_database(stack: Stack, name: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(stack.postgres.url(name)) as database:
        return database.execute(sql).fetchall()


def attention(api: Api, tenant: str, code: str) -> str:
    """Waits until the tenant needs a person for this reason; returns the reason in words."""
    reason = api.wait_state(tenant, "attention", 40)["reason"]
    assert reason["code"] == code, reason
    return str(reason["detail"])


def forget(api: Api, tenant: str) -> None:
    """What has more than the product's files would stop the tests that come later."""
    operation = api.command(tenant, "deprovision", {"confirm": api.tenant(tenant)["slug"]}).json["operation_id"]
    assert api.wait_operation(operation)["state"] == "succeeded"


def test_both_ledgers_and_the_fence_say_what_was_applied(stack: Stack, api: Api) -> None:
    tenant = api.ready_tenant("Ledger Shop")
    files = sorted(path.name for path in PRODUCT.glob("*.sql"))
    name = database_of(stack, tenant)
    assert in_database(stack, name, "select version from public.schema_migrations order by 1") == [
        (file.partition("_")[0],) for file in files
    ]
    ours = in_database(stack, name, "select name, length(checksum), fence > 0 from tenantry.migration order by version")
    assert ours == [(file, 64, True) for file in files]
    assert in_database(stack, name, "select count(*) from tenantry.migration_progress") == [(0,)]
    assert api.tenant(tenant)["schema"]["version"] == files[-1].partition("_")[0]


def test_a_file_with_a_mistake_is_named_and_nothing_of_it_stays(stack: Stack, api: Api, directory: Path) -> None:
    put(directory, "20270101000000_good.sql", "create table good (a int);")
    put(directory, "20270102000000_bad.sql", "create table half (a int);\ncreate tabel bad (a int);")
    put(directory, "20270103000000_later.sql", "create table later (a int);")
    with told(stack.services["provisioner-0"], TENANT_MIGRATIONS=str(directory)):
        tenant = api.signup("Mistaken Shop").json["tenant_id"]
        assert "20270102000000_bad.sql" in attention(api, tenant, "42601")
    assert not rows(stack, f"select datname from pg_database where datname = '{database_of(stack, tenant)}'"), "undone"
    api.command(tenant, "retry")
    assert api.wait_state(tenant, "ready", 40)["schema"]["version"] == "20260105096000"


def test_a_file_that_ends_its_transaction_stops_the_start_with_its_name(stack: Stack, directory: Path) -> None:
    put(directory, "20270101000000_split.sql", "create table a (a int);\ncommit;\ncreate table b (a int);")
    provisioner = stack.services["provisioner-0"]
    provisioner.stop()
    provisioner.may_end_with.add(2)
    usual = provisioner.environment["TENANT_MIGRATIONS"]
    provisioner.environment["TENANT_MIGRATIONS"] = str(directory)
    try:
        provisioner.start()
        provisioner.process.wait(20)
    finally:
        provisioner.environment["TENANT_MIGRATIONS"] = usual
        start(provisioner)
    told_so = [line for line in provisioner.log_path.read_text().splitlines() if "20270101000000_split.sql" in line]
    assert told_so and "one transaction" in told_so[-1]
    assert provisioner.process.endings[-1] == 2


def test_a_file_without_transaction_goes_on_where_its_worker_died(stack: Stack, api: Api, directory: Path) -> None:
    put(directory, "20270101000000_plain.sql", "create table counted (a int);")
    put(
        directory, "20270102000000_alone.sql",
        "insert into counted values (1);\ncreate index concurrently counted_by_a on counted (a);\n"
        "insert into counted values (2);", " transaction:false",
    )  # fmt: skip
    provisioner = stack.services["provisioner-0"]
    with told(provisioner, TENANT_MIGRATIONS=str(directory)):
        # Two indexes of the product, then: an insert, an index, an insert; it dies behind the index, which is not yet
        # written down.
        with armed(provisioner, "migration_after_statement=crash@4"):
            tenant = api.signup("Interrupted Shop").json["tenant_id"]
            assert died_of_sigkill(provisioner)
        api.wait_state(tenant, "ready", 40)
    name = database_of(stack, tenant)
    assert in_database(stack, name, "select a from counted order by a") == [(1,), (2,)]
    assert in_database(stack, name, "select indexrelid::regclass::text, indisvalid from pg_index "
                       "where indrelid = 'counted'::regclass") == [("counted_by_a", True)]  # fmt: skip
    forget(api, tenant)


def check_config(stack: Stack, name: str, **changed: str) -> tuple[int, str]:
    """`--check-config` of a service of the stack, with some of its options changed; its exit status and words."""
    done = subprocess.run(
        [str(stack.build / f"tenantry-{name}"), "--check-config"],
        env={**stack.services[f"{name}-0"].environment, **changed}, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_check_config_finds_what_would_stop_the_start(stack: Stack, directory: Path, tmp_path: Path) -> None:
    server = json.loads(stack.services["provisioner-0"].environment["TENANT_SERVERS"])[0]
    (directory / "seeds.sql").write_text("insert into branches default values;\n")
    (tmp_path / "tokens").write_text("# nobody yet\nsomebody admin not-hexadecimal\n")
    wrong = [
        ("provisioner", "TENANT_MIGRATIONS", str(directory), "seeds.sql"),
        ("provisioner", "TENANT_SERVERS", json.dumps([server, server]), "two servers"),
        ("provisioner", "TENANT_SERVERS", json.dumps([{**server, "admin_url": "not a URL"}]), "admin_url of server 1"),
        ("provisioner", "CONTROL_KEYS", "c1:short", "CONTROL_KEYS"),
        ("provisioner", "CATALOG_DATABASE_URL", "postgres//:", "CATALOG_DATABASE_URL is not"),
        ("gateway", "OPS_ADDRESS", "localhost", "OPS_ADDRESS"),
        ("gateway", "HTTP_ADDRESS", "127.0.0.256", "HTTP_ADDRESS"),
        ("gateway", "TOKENS", str(tmp_path / "tokens"), "line 2"),
        ("gateway", "TOKENS", str(tmp_path / "missing"), "cannot read the tokens"),
        ("gateway", "APP_KEYS", "a1", "APP_KEYS"),
    ]
    for name, option, value, words in wrong:
        status, told_so = check_config(stack, name, **{option: value})
        assert status == 2 and words in told_so, (option, value, told_so)
    for name in ("gateway", "provisioner"):
        assert check_config(stack, name, KAFKA_PROPERTIES="") == (0, "the configuration is good\n")
    supabase = {"TENANT_DRIVER": "supabase", "SUPABASE_ACCESS_TOKEN": "x", "SUPABASE_ORGANIZATION": "y"}
    status, told_so = check_config(stack, "provisioner", **supabase, TENANT_SERVERS="[{}]")
    assert status == 2 and "TENANT_SERVERS" in told_so, "older tenants may be on servers"


def test_the_app_reads_what_is_made_after_the_schema_was_dropped(
    stack: Stack, api: Api, app: Api, directory: Path
) -> None:
    """As a dump taken with --clean does. What a file has granted or revoked itself stays as it is."""
    put(
        directory, "20270101000000_anew.sql",
        """drop schema public cascade; create schema public;
        create table open (id bigint generated always as identity, a int); create view seen as select a from open;
        create table closed (a int); revoke all on closed from public;""",
    )  # fmt: skip
    with told(stack.services["provisioner-0"], TENANT_MIGRATIONS=str(directory)):
        tenant = api.ready_tenant("Anew Shop")
    assert api.tenant(tenant)["schema"]["version"] == "20270101000000"
    assert len(in_database(stack, database_of(stack, tenant), "select version from public.schema_migrations")) == 8
    mine = app.get(f"/api/tenants/{tenant}/connection").json
    with psycopg.connect(
        host=mine["host"], port=mine["port"], dbname=mine["database"], user=mine["user"], password=mine["password"],
        autocommit=True,
    ) as session:  # fmt: skip
        session.execute("insert into open (a) values (7)")
        assert session.execute("select a from seen").fetchall() == [(7,)]
        for table in ("closed", "schema_migrations"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"select from {table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("create table own ()")
    forget(api, tenant)


def test_a_worker_that_dies_leaves_its_settings_to_the_next(stack: Stack, api: Api, directory: Path) -> None:
    put(directory, "20270101000000_plain.sql", "create schema inside;")
    put(
        directory, "20270102000000_alone.sql",
        "set search_path to inside;\nset lock_timeout to '3s';\ncreate table found (a int);\n"
        "create index concurrently found_by_a on found (a);", " transaction:false",
    )  # fmt: skip
    provisioner = stack.services["provisioner-0"]
    with told(provisioner, TENANT_MIGRATIONS=str(directory)):
        # The product's two indexes, set, set, create table, create index: it dies behind that, before it is written down.
        with armed(provisioner, "migration_after_statement=crash@6"):
            tenant = api.signup("Settled Shop").json["tenant_id"]
            assert died_of_sigkill(provisioner)
        api.wait_state(tenant, "ready", 40)
    found = in_database(stack, database_of(stack, tenant), "select indexname, indisvalid from pg_indexes "
                        "join pg_index on indexrelid = to_regclass('inside.' || indexname) "
                        "where schemaname = 'inside'")  # fmt: skip
    assert found == [("found_by_a", True)]
    forget(api, tenant)


def test_a_build_that_failed_half_way_is_cleared_away_and_done_again(stack: Stack, api: Api, directory: Path) -> None:
    put(directory, "20270101000000_plain.sql", "create table doubled (a int);\ninsert into doubled values (1), (1);")
    put(directory, "20270102000000_unique.sql",
        "select 1;\ncreate unique index concurrently doubled_once on doubled (a);", " transaction:false")  # fmt: skip
    with told(stack.services["provisioner-0"], TENANT_MIGRATIONS=str(directory)):
        tenant = api.signup("Doubled Shop").json["tenant_id"]
        assert "20270102000000_unique.sql" in attention(api, tenant, "23505")


def test_a_file_that_changed_after_it_was_applied_is_noticed(stack: Stack, api: Api, directory: Path) -> None:
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, "migration_after_apply=crash"):
        tenant = api.signup("Changed Shop").json["tenant_id"]
        assert died_of_sigkill(provisioner)
        first = sorted(directory.glob("*.sql"))[0]
        first.write_text(first.read_text() + "\n-- a later thought\n")
        provisioner.environment["TENANT_MIGRATIONS"] = str(directory)
    assert first.name in attention(api, tenant, "migration_changed")
    with stopped(provisioner):
        provisioner.environment["TENANT_MIGRATIONS"] = str(PRODUCT)
    api.command(tenant, "retry")
    api.wait_state(tenant, "ready", 40)


def databases_on_server(stack: Stack) -> set[str]:
    return {row[0] for row in rows(stack, "select datname from pg_database where datname like 'tn\\_%'")}


def test_a_database_that_was_there_before_survives_a_signup_that_fails(stack: Stack, api: Api, directory: Path) -> None:
    """The catalog was restored, the signup is read again, its database is found; then the migrations fail."""
    provisioner = stack.services["provisioner-0"]
    tenant = api.ready_tenant("Treasure Shop")
    name = database_of(stack, tenant)
    stack.postgres.execute("create table treasure (what text); insert into treasure values ('years of sales')", name)
    first = sorted(directory.glob("*.sql"))[0]
    first.write_text(first.read_text() + "\n-- not the file that was applied\n")
    databases = databases_on_server(stack)
    with stopped(provisioner):
        forget_tenants(stack)
        provisioner.environment["TENANT_MIGRATIONS"] = str(directory)
    attention(api, tenant, "migration_changed")
    assert in_database(stack, name, "select what from treasure") == [("years of sales",)]
    assert rows(stack, f"select adopted from provisioner.database where name = '{name}'") == [["t"]]
    with stopped(provisioner):
        provisioner.environment["TENANT_MIGRATIONS"] = str(PRODUCT)
    for (each,) in rows(stack, "select tenant_id from provisioner.tenant where state = 'attention'"):
        api.command(each, "retry")
    api.wait_state(tenant, "ready", 40)
    assert database_of(stack, tenant) == name
    assert in_database(stack, name, "select what from treasure") == [("years of sales",)]
    eventually(
        lambda: not rows(stack, "select 1 from provisioner.tenant where state not in ('ready', 'deprovisioned')"),
        40, "all are back",
    )  # fmt: skip
    assert databases <= databases_on_server(stack), "also of those that had come to a second generation"


def test_a_tenant_restored_to_the_middle_of_its_provisioning_is_not_undone(
    stack: Stack, api: Api, directory: Path
) -> None:
    """The catalog's backup was taken while it was provisioned; since then a customer has worked in its database."""
    provisioner = stack.services["provisioner-0"]
    tenant = api.ready_tenant("Halfway Shop")
    name = database_of(stack, tenant)
    stack.postgres.execute("create table treasure (what text); insert into treasure values ('years of sales')", name)
    first = sorted(directory.glob("*.sql"))[0]
    first.write_text(first.read_text() + "\n-- not the file that was applied\n")
    eventually(
        lambda: not rows(stack, f"select 1 from catalog.tenant_claim where tenant_id = '{tenant}'"),
        20, "its mail is sent",
    )  # fmt: skip
    with stopped(provisioner):
        stack.postgres.execute(
            f"""
            delete from provisioner.saga where tenant_id = '{tenant}' and kind = 'invite';
            update provisioner.saga set status = 'running', step = 'connect', data = '{{}}', finished_at = null,
                next_at = now(), progress = 45, fence = fence where tenant_id = '{tenant}';
            update provisioner.tenant set state = 'provisioning', access_applied = 'none', invite_sent = 0
            where tenant_id = '{tenant}';
            update provisioner.database set status = 'reserved' where tenant_id = '{tenant}';
            insert into catalog.tenant_claim (tenant_id, kind, holder)
            select tenant_id, 'provision', saga_id from provisioner.saga where tenant_id = '{tenant}';
            delete from catalog.tenant_event where tenant_id = '{tenant}' and type = 'tenant.state.changed.v1'
            and data ->> 'to' = 'ready'
            """,
            CATALOG,
        )
        provisioner.environment["TENANT_MIGRATIONS"] = str(directory)
    attention(api, tenant, "migration_changed")
    assert in_database(stack, name, "select what from treasure") == [("years of sales",)]
    with stopped(provisioner):
        provisioner.environment["TENANT_MIGRATIONS"] = str(PRODUCT)
    api.command(tenant, "retry")
    api.wait_state(tenant, "ready", 40)
    assert in_database(stack, name, "select what from treasure") == [("years of sales",)]
