"""Faults that a test does to the whole product, each undone at the end of its with block."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from deploy.local.postgres import postgres_programs
from deploy.local.process import ServerError
from deploy.local.server import Server
from deploy.local.stack import CATALOG, Stack

from .client import eventually


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server ends in order, and starts again after."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def crowded(stack: Stack) -> Iterator[None]:
    """Strangers hold every connection that PostgreSQL gives to a normal user; ours are cut and find no place."""
    stack.postgres.execute("drop role if exists crowd; create role crowd login password 'crowd'")
    held: list[psycopg.Connection[tuple[object, ...]]] = []

    def fill() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(stack.postgres.url("postgres", "crowd", "crowd"), connect_timeout=5))

    try:
        fill()
        as_superuser(
            stack,
            "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'tenantry\\_%'",
        )
        fill()
        assert len(held) > 10, "the strangers did not get in"
        yield
    finally:
        for connection in held:
            connection.close()
        eventually(lambda: as_superuser(stack, "drop role crowd") is not None, 10, "the strangers are gone")


def as_superuser(stack: Stack, sql: str) -> str:
    """Even the places reserved for superusers may all be taken at a moment."""
    said: list[str] = []

    def done() -> bool:
        try:
            said.append(stack.postgres.execute(sql))
        except ServerError as error:
            if "too many clients" not in str(error) and "remaining connection slots" not in str(error):
                raise
            return False
        return True

    eventually(done, 10, "a superuser gets in")
    return said[0]


def terminate(stack: Stack, application: str, keep: int = 0) -> int:
    """Cuts the service's connections to the catalog but the `keep` oldest; returns how many were cut."""
    return int(
        stack.postgres.execute(
            "select count(*) filter (where pg_terminate_backend(pid)) from (select pid from pg_stat_activity "
            f"where application_name = '{application}' order by backend_start offset {keep}) newest"
        )
    )


def dump_catalog(stack: Stack, path: Path) -> None:
    """The catalog as it is now, in a file."""
    run_tool(stack, "pg_dump", "--format=custom", f"--file={path}", CATALOG)


def restore_catalog(stack: Stack, path: Path) -> None:
    """Puts the dumped catalog in the place of the present one while the services run."""
    stack.postgres.execute("drop database if exists restored")
    stack.postgres.execute("create database restored")
    run_tool(stack, "pg_restore", "--dbname=restored", str(path))
    stack.postgres.execute(
        "revoke all on database restored from public; grant connect on database restored to tenantry_gateway, "
        "tenantry_provisioner, tenantry_migrator, tenantry_billing"
    )
    stack.postgres.execute("drop database if exists lost")
    stack.postgres.execute(f"alter database {CATALOG} allow_connections false")
    stack.postgres.terminate_backends(CATALOG)
    eventually(lambda: renamed(stack), 10, "the restored catalog took its place")


def renamed(stack: Stack) -> bool:
    try:
        stack.postgres.execute(f"alter database {CATALOG} rename to lost; alter database restored rename to {CATALOG}")
    except ServerError as error:
        if "being accessed" not in str(error):
            raise
        return False
    return True


def run_tool(stack: Stack, name: str, *arguments: str) -> None:
    subprocess.run(
        [str(postgres_programs() / name), *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(stack.postgres.port),
            "PGUSER": "postgres",
            "PGPASSWORD": stack.postgres.password,
        },
        check=True,
        timeout=60,
    )


def forget_tenants(stack: Stack) -> None:
    """As if the catalog were restored to the day before the first signup: Kafka still has them all."""
    stack.postgres.execute(
        "truncate provisioner.tenant, provisioner.database, provisioner.secret, provisioner.slug, provisioner.saga, "
        "provisioner.inbox, provisioner.consumer_offset, provisioner.backup, catalog.tenant_claim, catalog.operation, "
        "catalog.tenant_status, catalog.tenant_event, catalog.access_wanted cascade",
        CATALOG,
    )
