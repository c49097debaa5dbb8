"""The same events by the best-known engine that keeps Stripe's objects in PostgreSQL: Supabase's Stripe Sync Engine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.npm import install
from deploy.local.postgres import PostgresServer

from .ingest import watched
from .machine import CpuMeter

PACKAGES = ("@supabase/stripe-sync-engine@0.48.5", "stripe@23.1.0")
SCRIPT = Path(__file__).with_name("sync_engine.mjs")
DATABASE = "sync_engine"
AT_ONCE = 16

# For each of these it asks Stripe for the lines.
ASKING = b'"checkout.session.completed"'


@dataclass
class Synced:
    """One round of it."""

    count: int
    seconds: float
    cpu: dict[str, float]
    rss_mb: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def cpu_us(self, name: str) -> float:
        return self.cpu[name] * 1e6 / self.count


class SyncEngine:
    """In a database of its own on the same server. Raises npm's Unavailable, or RuntimeError if it does not work."""

    def __init__(self, root: Path, postgres: PostgresServer) -> None:
        self.root = root
        self.postgres = postgres
        self.home = install("stripe-sync-engine-0.48.5", *PACKAGES)
        self.environment = {"PATH": os.environ.get("PATH", "")}
        postgres.execute(f"create database {DATABASE}")
        self._prepare()

    def _command(self, what: str, *more: str) -> list[str]:
        return ["node", str(SCRIPT), what, self.postgres.url(DATABASE), *more]

    def _prepare(self) -> None:
        done = subprocess.run(
            self._command("prepare"), cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0 or done.stderr:
            raise RuntimeError(f"{PACKAGES[0]} cannot make its tables: {done.stdout}{done.stderr}")

    def measure(self, events: Sequence[bytes]) -> Synced:
        path = self.root / "events.ndjson"
        path.write_bytes(b"".join(event + b"\n" for event in events if ASKING not in event))
        meter = CpuMeter({"postgres": self.postgres.pid or 0}, frozenset({"postgres"}))
        command = self._command("apply", str(path), str(AT_ONCE))
        result = watched(command, self.environment, lambda _: meter.start(), self.home)
        cpu = meter.read()
        cpu["engine"] = float(result["cpu_seconds"])
        cpu["others"] = max(0.0, cpu["others"] - cpu["engine"])
        path.unlink()
        return Synced(int(result["events"]), float(result["seconds"]), cpu, float(result["rss_mb"]))

    def settle(self) -> None:
        self.postgres.execute("vacuum analyze", DATABASE)
        self.postgres.execute("checkpoint")
