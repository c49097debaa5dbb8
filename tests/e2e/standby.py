"""A PostgreSQL with a standby that takes over without the last seconds, and the proxies that make it so."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from deploy.local.ports import reserve_port
from deploy.local.postgres import PostgresServer, postgres_programs
from deploy.local.process import Account, ServerError
from deploy.local.stack import Stack

from .client import eventually


class Proxy:
    """Passes TCP on to a port that may change; holds back what goes through, or cuts it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", reserve_port()), backlog=200)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def hold(self) -> None:
        """From now on nothing arrives any more, in either direction, and nobody is told."""
        self._flows.clear()

    def turn_to(self, target: int) -> None:
        """Whoever is connected is cut; who connects from now on reaches the other port. What was held back is lost."""
        self.target = target
        with self._lock:
            cut, self._open = self._open, set()
        for each in cut:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._flows.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.turn_to(0)

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                target = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                caller.close()
                continue
            target.settimeout(None)
            with self._lock:
                self._open |= {caller, target}
            for source, sink in ((caller, target), (target, caller)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            ended = {source, sink} & self._open
            self._open -= ended
        del ended


class StandbyServer(PostgresServer):
    """Follows a primary, from its base backup on, until it is promoted."""

    def __init__(self, data_dir: Path, primary: PostgresServer, through: Proxy) -> None:
        super().__init__(
            data_dir, reserve_port(), max_connections=primary.max_connections, fast=True, die_with_parent=True
        )
        self._primary = primary
        self._through = through

    def _make_cluster(self, account: Account | None) -> None:
        fresh = self._home / "cluster.fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._password_path.touch(mode=0o600)
        self._password_path.write_text(self._primary.password + "\n")
        if account is not None:
            os.chown(fresh, account.uid, account.gid)
        done = subprocess.run(
            [postgres_programs() / "pg_basebackup", f"--pgdata={fresh}", "--write-recovery-conf", "--checkpoint=fast",
             "--wal-method=stream", "--no-sync", "--host=127.0.0.1", f"--port={self._through.port}",
             "--username=postgres"],
            env={"PATH": "/usr/bin:/bin", "PGPASSWORD": self._primary.password},
            cwd="/",
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else account.groups(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerError(f"pg_basebackup failed:\n{done.stderr}")
        fresh.rename(self._cluster)

    def wait_until_level(self) -> None:
        """Until it has all that the primary has written by now."""
        end = self._primary.execute("select pg_current_wal_lsn()")
        eventually(
            lambda: self.execute(f"select pg_last_wal_replay_lsn() >= '{end}'::pg_lsn") == "t", 30,
            "the standby has what the primary wrote",
        )  # fmt: skip

    def promote(self) -> None:
        self.execute("select pg_promote(false)")
        eventually(lambda: self.execute("select pg_is_in_recovery()") == "f", 30, "the standby has taken over")


class Pair:
    """A primary, the proxy that everybody reaches it by, and a standby. `server` is who serves now."""

    def __init__(self, primary: PostgresServer, door: Proxy, root: Path) -> None:
        self.server = primary
        self.door = door
        self._root = root
        self._count = 0
        self._retired: list[PostgresServer] = []
        self._replication: Proxy | None = None
        self._standby: StandbyServer | None = None

    def start_standby(self) -> None:
        """Level with the primary, and kept so."""
        self._count += 1
        self._replication = Proxy(self.server.port)
        self._standby = StandbyServer(self._root / f"standby-{self._count}", self.server, self._replication)
        self._standby.start()
        self._standby.wait_until_level()

    def stop_replication(self) -> None:
        """What is committed from now on dies with the primary."""
        assert self._replication is not None
        self._replication.hold()

    def kill(self) -> None:
        """The primary dies as of a power cut."""
        self.server.kill9()

    def take_over(self) -> PostgresServer:
        """The standby takes over as it is. Returns who serves now."""
        assert self._replication is not None
        assert self._standby is not None
        self._replication.close()
        self._standby.promote()
        self._retired.append(self.server)
        self.server, self._standby = self._standby, None
        self.door.turn_to(self.server.port)
        return self.server

    def destroy(self) -> None:
        self.door.close()
        for each in (*self._retired, self.server, *([self._standby] if self._standby else [])):
            each.destroy()


class StandbyStack(Stack):
    """The product with one server for catalog and tenants, or one for each, reached through proxies only."""

    servers_apart = False

    def __init__(self, root: Path, **more: object) -> None:
        super().__init__(root, **more)  # type: ignore[arg-type]
        self.catalog = Pair(self.postgres, Proxy(self.postgres.port), self.root / "catalog")
        self.tenants = self.catalog
        if self.servers_apart:
            server = PostgresServer(self.root / "tenants" / "primary", reserve_port(), fast=True, die_with_parent=True)
            self.tenants = Pair(server, Proxy(server.port), self.root / "tenants")

    @property
    def tenant_postgres(self) -> PostgresServer:
        return self.tenants.server

    def catalog_url(self, role: str) -> str:
        return super().catalog_url(role).replace(f":{self.postgres.port}/", f":{self.catalog.door.port}/")

    def servers(self) -> list[dict[str, object]]:
        url = self.tenants.server.superuser_url
        return [
            {
                "name": "local",
                "admin_url": url.replace(f":{self.tenants.server.port}/", f":{self.tenants.door.port}/"),
                "tenant_host": "127.0.0.1",
                "tenant_port": str(self.tenants.door.port),
                "capacity": 5000,
            }
        ]

    @property
    def pairs(self) -> list[Pair]:
        return [self.catalog, self.tenants] if self.servers_apart else [self.catalog]

    def start_servers(self) -> None:
        if self.servers_apart:
            self.tenants.server.start()
        super().start_servers()

    def take_over(self, pair: Pair) -> None:
        server = pair.take_over()
        if pair is self.catalog:
            self.postgres = self.provider = server

    def stop(self) -> None:
        super().stop()
        for pair in self.pairs:
            pair.server.stop()

    def destroy(self) -> None:
        super().destroy()
        for pair in self.pairs:
            pair.destroy()


class TwoServerStack(StandbyStack):
    servers_apart = True
