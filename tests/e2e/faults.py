"""Faults that a test does to the whole product, each undone at the end of its with block."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from deploy.local.postgres import postgres_programs
from deploy.local.process import ServerError, identity_of
from deploy.local.server import Server
from deploy.local.stack import CATALOG, Service, Stack

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
    """Cuts the connections of the applications that are LIKE this but the `keep` oldest; returns how many were cut."""
    return int(
        stack.postgres.execute(
            "select count(*) filter (where pg_terminate_backend(pid)) from (select pid from pg_stat_activity "
            f"where application_name like '{application}' order by backend_start offset {keep}) newest"
        )
    )


def open_sockets(service: Service) -> set[str]:
    """The inodes of the sockets that the service has open."""
    found = set()
    for entry in Path(f"/proc/{service.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(entry))
    return {name[8:-1] for name in found if name.startswith("socket:[")}


def connections(service: Service, port: int) -> dict[int, str]:
    """The service's own ports of its connections to the port of a server, and their sockets' inodes."""
    mine = open_sockets(service)
    return {here: inode for here, there, _, inode in _sockets() if there == port and inode in mine}


def unread(ports: set[int], port: int) -> bool:
    """Whether something that came from one of the ports waits for the server behind the port."""
    return any(waiting for here, there, waiting, _ in _sockets() if here == port and there in ports)


def _sockets() -> list[tuple[int, int, int, str]]:
    """Its own port, the other's, the bytes that wait to be read, and the inode."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [[int(part.split(":")[1], 16) for part in line[1:3] + line[4:5]] for line in lines]
    return [(here, there, waiting, line[9]) for (here, there, waiting), line in zip(ends, lines, strict=True)]


def crash_with_unread_statements(stack: Stack, service: Service) -> set[str]:
    """PostgreSQL crashes while what the service sent has not been read, so that its connections are reset. Returns their
    inodes, by which they are known as long as it has not closed them."""
    before = connections(service, stack.postgres.port)
    found = stack.postgres.execute(
        f"select pid from pg_stat_activity where application_name = 'tenantry-{service.name}'"
    )
    backends = [each for pid in found.split() if (each := identity_of(int(pid))) is not None]
    for backend in backends:
        backend.send(signal.SIGSTOP)
    try:
        eventually(lambda: unread(set(before), stack.postgres.port), 20, "a statement is not read")
    finally:
        for backend in backends:
            backend.send(signal.SIGQUIT)
            backend.send(signal.SIGCONT)
    eventually(lambda: not any(backend.is_alive() for backend in backends), 10, "they have died")
    return set(before.values())


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
