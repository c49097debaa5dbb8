"""Behind a real PgBouncer: the catalog by session mode, with a refusal of any other; tenants by either."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from deploy.local.ports import reserve_port
from deploy.local.process import Account, ServerProcess, wait_until
from deploy.local.stack import CATALOG, Service, Stack

from .client import Api
from .rollouts import Rollouts
from .service_faults import started, told

SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
auth_user = postgres
auth_query = select usename, passwd from pg_shadow where usename = $1
pool_mode = {mode}
server_reset_query = discard all
logfile = {folder}/log
"""


@contextmanager
def pooler(stack: Stack, mode: str) -> Iterator[int]:
    """A PgBouncer before the stack's PostgreSQL; its port. It asks the server for logins, as it must for tenants'."""
    folder, port = stack.root / f"pgbouncer-{mode}", reserve_port()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    settings = SETTINGS.format(server=stack.postgres.port, port=port, folder=folder, mode=mode)
    (folder / "ini").write_text(settings)
    users = {"postgres": stack.postgres.password}
    users |= {f"tenantry_{name}": word for name, word in stack.settings["passwords"].items()}
    (folder / "users").write_text("".join(f'"{name}" "{word}"\n' for name, word in users.items()))
    (folder / "users").chmod(0o644)
    process = ServerProcess(
        ["/usr/sbin/pgbouncer", str(folder / "ini")], log_path=folder / "out", pid_path=folder / "pid",
        account=Account.named("nobody"), die_with_parent=True,
    )  # fmt: skip
    process.start()
    try:
        wait_until(lambda: answers(stack, port), 10, "PgBouncer answers")
        yield port
    finally:
        process.stop()


def answers(stack: Stack, port: int) -> bool:
    try:
        psycopg.connect(
            host="127.0.0.1", port=port, dbname="postgres", user="postgres", password=stack.postgres.password
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def catalog_by(stack: Stack, role: str, port: int) -> str:
    return f"postgres://tenantry_{role}:{stack.settings['passwords'][role]}@127.0.0.1:{port}/{CATALOG}"


def test_services_work_through_a_pooler_in_session_mode(stack: Stack, api: Api, app: Api) -> None:
    """Catalog and tenants both: host and port of a tenant are the pooler's."""
    gateway, provisioner = stack.services["gateway-0"], stack.services["provisioner-0"]
    with pooler(stack, "session") as port:
        servers = [{**stack.servers()[0], "tenant_port": str(port)}]
        with (
            told(gateway, CATALOG_DATABASE_URL=catalog_by(stack, "gateway", port)),
            told(
                provisioner,
                CATALOG_DATABASE_URL=catalog_by(stack, "provisioner", port),
                TENANT_SERVERS=json.dumps(servers),
            ),
        ):
            tenant = api.ready_tenant("Pooled Shop")
            connection = app.get(f"/api/tenants/{tenant}/connection").json
            assert connection["port"] == port
            for command in ("backup", "suspend", "resume"):
                done = api.wait_operation(api.command(tenant, command).json["operation_id"])
                assert done["state"] == "succeeded", done
            psycopg.connect(
                host="127.0.0.1", port=port, dbname=connection["database"], user=connection["user"],
                password=connection["password"],
            ).close()  # fmt: skip


@pytest.mark.parametrize("role", ["gateway", "provisioner"])
def test_a_pooler_in_transaction_mode_ends_the_start_with_a_clear_word(stack: Stack, role: str) -> None:
    service = stack.services[f"{role}-0"]
    with pooler(stack, "transaction") as port:
        service.stop()
        usual = service.environment["CATALOG_DATABASE_URL"]
        service.environment["CATALOG_DATABASE_URL"] = catalog_by(stack, role, port)
        service.may_end_with.add(2)
        service.start()
        service.process.wait(20)
        service.environment["CATALOG_DATABASE_URL"] = usual
        service.start()
        service.wait_until_ready()
    assert 2 in service.process.endings
    assert '"code":"catalog_mode"' in service.log_path.read_text()


@pytest.fixture
def migrator(stack: Stack) -> Iterator[Service]:
    service = stack.service("migrator")
    with started(service):
        yield service


def move(stack: Stack, tenant: str, port: int) -> None:
    """Its product, and we, reach the tenant's database here from now on."""
    stack.postgres.execute(f"update provisioner.database set port = '{port}' where tenant_id = '{tenant}'", CATALOG)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_rollout_and_its_rollback_work_through_a_pooler_of_either_mode(
    stack: Stack, api: Api, migrator: Service, mode: str
) -> None:
    rollouts = Rollouts(stack, api)
    tenant = api.ready_tenant(f"Rolled Out By {mode}")
    before = rollouts.versions(tenant)
    with pooler(stack, mode) as port:
        move(stack, tenant, port)
        one = rollouts.file(f"create table by_{mode} (a int);", f"drop table by_{mode};")
        two = rollouts.file(f"create index by_{mode}_a on by_{mode} (a);", f"drop index by_{mode}_a;")
        run = rollouts.completed(strategy="all", tenants=[tenant])
        assert rollouts.versions(tenant) == [*before, one, two]
        assert rollouts.command(run, "rollback")["state"] == "succeeded"
        rollouts.wait(run, "rolled_back")
        move(stack, tenant, stack.postgres.port)
    assert rollouts.versions(tenant) == before
    assert all(rollouts.withdraw(version)["state"] == "succeeded" for version in (two, one))


def test_what_needs_a_session_goes_around_the_pooler_by_the_direct_address(
    stack: Stack, api: Api, migrator: Service
) -> None:
    rollouts = Rollouts(stack, api)
    tenant = api.ready_tenant("Direct Shop")
    server = {**stack.servers()[0], "direct_host": "127.0.0.1", "direct_port": str(stack.postgres.port)}
    rollouts.file("create table direct (a int);", "drop table direct;")
    version = rollouts.file(
        "create index concurrently direct_a on direct (a);", "drop index direct_a;", " transaction:false"
    )
    with pooler(stack, "transaction") as port, told(migrator, TENANT_SERVERS=json.dumps([server])):
        move(stack, tenant, port)
        rollouts.completed(strategy="all", tenants=[tenant])
        assert version in rollouts.versions(tenant)
        move(stack, tenant, stack.postgres.port)
