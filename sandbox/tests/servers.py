"""The servers a test needs: a throwaway PostgreSQL cluster, the sandbox as a process, and a client for it."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "sbp_sandbox"
Found = TypeVar("Found")


def eventually(condition: Callable[[], Found], seconds: float = 20) -> Found:
    """The first true value of a condition, asked again and again until the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        time.sleep(0.01)


def free_port() -> int:
    while True:
        port = random.SystemRandom().randint(20000, 32000)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Cluster:
    """A PostgreSQL of our own; its server refuses to run as root, so then it runs as postgres."""

    def __init__(self) -> None:
        self.port = free_port()
        self._user = "postgres" if os.geteuid() == 0 else None
        self._home = Path(tempfile.mkdtemp(prefix="sandbox-pg."))
        if self._user:
            shutil.chown(self._home, self._user)
        newest = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        data = self._home / "data"
        common: dict[str, Any] = {"user": self._user, "cwd": self._home, "stdout": subprocess.DEVNULL}
        make = f"{newest}/initdb -D {data} -U postgres -A scram-sha-256 -E UTF8 --no-sync"
        run = f"{newest}/postgres -D {data} -p {self.port} -h 127.0.0.1 -k {self._home} -c fsync=off"
        subprocess.run([*make.split(), f"--pwfile={self._password_file()}"], check=True, **common)
        self._server = subprocess.Popen(run.split(), stderr=subprocess.DEVNULL, **common)
        eventually(self._answers)

    def _password_file(self) -> Path:
        path = self._home / "password"
        path.write_text("secret")
        if self._user:
            shutil.chown(path, self._user)
        return path

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
            return True
        except psycopg.OperationalError:
            return False

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:secret@127.0.0.1:{self.port}/{database}"

    def scalar(self, query: str, *params: Any, database: str = "postgres") -> Any:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            row = connection.execute(query, params).fetchone()
            return None if row is None else row[0]

    def stop(self) -> None:
        self._server.send_signal(signal.SIGINT)
        self._server.wait(30)
        shutil.rmtree(self._home, ignore_errors=True)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def body(self) -> Any:
        return json.loads(self.text)


class Sandbox:
    """The sandbox as a process of its own, that a test may kill and start again."""

    def __init__(self, cluster: Cluster, *options: str) -> None:
        self.cluster = cluster
        self.port = free_port()
        self.smtp_port = free_port()
        self.stripe_port = free_port()
        self._options = options
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "sandbox",
            "--port",
            str(self.port),
            "--smtp-port",
            str(self.smtp_port),
            "--stripe-port",
            str(self.stripe_port),
        ]
        command += ["--database-url", self.cluster.url(), *self._options]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the sandbox has ended"
        try:
            return self.ask("GET", "/_sandbox/healthz", token=None).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: str | None = TOKEN,
        timeout: float = 20,
        port: int | None = None,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            text = json.dumps(body) if body is not None and not isinstance(body, str) else body
            connection.request(method, path, text, {**sent, **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.ask(method, f"/_sandbox/{path}", body, token=None)
        assert answer.status in (200, 201), answer.text
        return answer.body

    def fault(self, kind: str, match: dict[str, str] | None = None, rule: Any = None, **about: Any) -> int:
        wanted = {"fault": {"kind": kind, **about}, **(rule or {})}
        if match is not None:
            wanted["match"] = match
        return int(self.control("POST", "faults", wanted)["id"])

    def create(self, name: str = "acme", db_pass: str = "correct-horse", **extra: Any) -> Answer:
        body = {"name": name, "db_pass": db_pass, "organization_slug": "sandbox", **extra}
        return self.ask("POST", "/v1/projects", body)

    def status(self, ref: str) -> str:
        return str(self.ask("GET", f"/v1/projects/{ref}").body["status"])

    def health(self, ref: str, *services: str) -> dict[str, str]:
        query = "&".join(f"services={name}" for name in services)
        rows = self.ask("GET", f"/v1/projects/{ref}/health?{query}").body
        return {row["name"]: row["status"] for row in rows}

    def project(self, name: str = "acme", db_pass: str = "correct-horse", **extra: Any) -> str:
        """A project that is up with all its services; returns its ref."""
        answer = self.create(name, db_pass, **extra)
        assert answer.status == 201, answer.text
        ref = str(answer.body["ref"])
        ready = {"db": "ACTIVE_HEALTHY", "pooler": "ACTIVE_HEALTHY", "auth": "ACTIVE_HEALTHY"}
        eventually(lambda: self.health(ref, *ready) == ready)
        return ref

    def login(self, ref: str, password: str, database: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.cluster.port,
            user=f"postgres.{ref}",
            password=password,
            dbname=database or f"sb_{ref}",
            autocommit=True,
        )

    def keys(self, ref: str) -> dict[str, str]:
        rows = self.ask("GET", f"/v1/projects/{ref}/api-keys?reveal=true").body
        return {row["name"] if row["type"] == "legacy" else row["type"]: row["api_key"] for row in rows}
