"""Stripe's webhooks: by the gateway into Kafka, and beside it by node:http with the official library, which keeps nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.npm import Unavailable, install
from deploy.local.ports import reserve_port
from deploy.local.process import ServerProcess, log_tail, wait_until
from deploy.local.stack import Stack

from .ingest import CONNECTIONS, Ingest, ingest_stack, measure_generator
from .machine import CpuMeter, rss_mb, rss_mb_with_children
from .stripe_events import webhook_body

SECRET = "whsec_of_the_benchmark"
STRIPE_LIBRARY = "stripe@23.1.0"
SERVER = Path(__file__).with_name("webhook_server.mjs")
WARMUP_SECONDS = 3

GATEWAY = "gateway, into Kafka"


@dataclass
class Webhooks:
    """Rounds by server, what was left out, and the gateway's memory before and after all of them."""

    rounds: dict[str, list[Ingest]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    rss_start_mb: float = 0.0
    rss_mb: list[float] = field(default_factory=list)  # after each round


@dataclass
class Loader:
    """The generator, with the event that it makes others of."""

    programs: Path
    body: Path
    seconds: int

    def measure(self, port: int, meter: CpuMeter) -> Ingest:
        command = [
            str(self.programs / "load"), "--port", str(port), "--connections", str(CONNECTIONS), "--webhook",
            str(self.body), "--warmup", str(WARMUP_SECONDS), "--seconds", str(self.seconds),
        ]  # fmt: skip
        environment = {"PATH": os.environ.get("PATH", ""), "TENANTRY_WEBHOOK_SECRET": SECRET}
        measured = measure_generator(command, environment, meter, self.seconds)
        refused = {status: count for status, count in measured.result["statuses"].items() if status != "200"}
        if refused:
            raise RuntimeError(f"webhooks were not taken: {refused}")
        return measured


def _measure_gateway(stack: Stack, loader: Loader) -> Ingest:
    gateway = stack.services["gateway-0"]
    pid, broker, port = gateway.process.pid, stack.kafka.pid, gateway.http_port
    assert pid is not None and broker is not None and port is not None
    measured = loader.measure(port, CpuMeter({"server": pid, "broker": broker}))
    measured.rss_mb = rss_mb(pid)
    return measured


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _node_server(root: Path, library: Path, workers: int) -> Iterator[tuple[int, int]]:
    """Port and pid."""
    port, log = reserve_port(), root / "webhook_server.log"
    process = ServerProcess(
        ["node", str(SERVER), str(port), str(workers)], log_path=log, pid_path=root / "webhook_server.pid", cwd=library,
        env={"PATH": os.environ.get("PATH", ""), "TENANTRY_WEBHOOK_SECRET": SECRET}, die_with_parent=True,
    )  # fmt: skip
    process.start()
    try:

        def listens_or_ended() -> bool:
            if not process.running:
                raise RuntimeError(f"{SERVER.name} ended: {log_tail(log)}")
            return _listens(port)

        wait_until(listens_or_ended, 30, f"{SERVER.name} listens")
        assert process.pid is not None
        yield port, process.pid
    finally:
        process.stop()


def _measure_node(root: Path, loader: Loader, library: Path, workers: int) -> Ingest:
    with _node_server(root, library, workers) as (port, pid):
        measured = loader.measure(port, CpuMeter({"server": pid}, frozenset({"server"})))
        measured.rss_mb = rss_mb_with_children(pid)
        return measured


def node_version() -> str:
    return subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20).stdout.strip()


def _servers(stack: Stack, root: Path, loader: Loader, measured: Webhooks) -> dict[str, Callable[[], Ingest]]:
    servers: dict[str, Callable[[], Ingest]] = {GATEWAY: lambda: _measure_gateway(stack, loader)}
    try:
        library = install(STRIPE_LIBRARY.replace("@", "-"), STRIPE_LIBRARY)
    except (Unavailable, subprocess.TimeoutExpired) as why:
        measured.left_out.append(f"node:http with the official library ({why})")
        return servers
    name = f"node:http {node_version()} and {STRIPE_LIBRARY}"
    servers[f"{name}, one process"] = lambda: _measure_node(root, loader, library, 1)
    servers[f"{name}, cluster of two workers"] = lambda: _measure_node(root, loader, library, 2)
    return servers


def measure_webhooks(root: Path, programs: Path, runs: int, seconds: int, say: Callable[[str], None]) -> Webhooks:
    """All servers in turn, every other round backwards."""
    measured = Webhooks()
    with ingest_stack(root / "stack", STRIPE_WEBHOOK_SECRET=SECRET) as stack:
        loader = Loader(programs, root / "webhook.json", seconds)
        loader.body.write_text(webhook_body())
        gateway = stack.services["gateway-0"].process.pid or 0
        measured.rss_start_mb = rss_mb(gateway)
        servers = _servers(stack, root, loader, measured)
        Loader(programs, loader.body, 10).measure(
            stack.services["gateway-0"].http_port or 0, CpuMeter({})
        )  # until the broker's code is compiled
        for number in range(runs):
            for name in list(servers) if number % 2 == 0 else list(servers)[::-1]:
                one = servers[name]()
                measured.rounds.setdefault(name, []).append(one)
                say(f"  {name}: {one.per_second:,.0f}/s, p99 {one.result['p99_us'] / 1000:.2f} ms")
            measured.rss_mb.append(rss_mb(gateway))
    return measured
