"""Behind a real PgBouncer, where one is installed: catalog and tenants by session mode, and a refusal of any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from deploy.local.ports import reserve_port
from deploy.local.process import Account, ServerProcess, wait_until
from deploy.local.stack import CATALOG, Stack

from .client import Api
from .service_faults import told

pytestmark = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")

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
        ["pgbouncer", str(folder / "ini")], log_path=folder / "out", pid_path=folder / "pid",
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
