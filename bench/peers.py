"""Servers that do the gateway's work, one after the other with it, on one Kafka. What they are stands in peers.json of the
directory that is given:

    {"peers": [{"name": "...", "command": ["{here}/server", "{port}", "{brokers}"], "environment": {"NAME": "value"}}]}

A peer listens on {port} of the loopback address, and answers POST /api/signups with 202 when Kafka has the message;
{here} is the directory. It is told the token it should ask for as TENANTRY_TOKEN."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.ports import reserve_port
from deploy.local.process import wait_until
from deploy.local.stack import Stack

from .ingest import CONNECTIONS, ingest_stack, watched
from .machine import CORES, CpuMeter, rss_mb

GATEWAY = "Tenantry's gateway"


@dataclass
class Peer:
    """One round of one server."""

    name: str
    result: dict[str, Any]
    cpu: dict[str, float]
    rss_mb: float

    @property
    def per_second(self) -> float:
        return float(self.result["per_second"])

    def cpu_us(self, name: str) -> float:
        return self.cpu[name] * 1e6 / max(1, self.result["requests"])

    @property
    def others(self) -> float:
        return float(self.cpu["others"] / (self.result["seconds"] * CORES) * 100)


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _measure(stack: Stack, given: argparse.Namespace, name: str, port: int, pid: int) -> Peer:
    broker = stack.kafka.pid
    assert broker is not None
    meter = CpuMeter({"server": pid, "broker": broker})
    used: dict[str, float] = {}

    def measuring(generator: int) -> None:
        meter.pids["generator"] = generator
        meter.start()
        began = time.monotonic()
        time.sleep(given.seconds * 0.95)
        scale = given.seconds / (time.monotonic() - began)
        used.update({name: seconds * scale for name, seconds in meter.read().items()})

    command = [
        str(given.programs / "load"), "--port", str(port), "--connections", str(CONNECTIONS), "--warmup", "3",
        "--seconds", str(given.seconds),
    ]  # fmt: skip
    environment = {"PATH": os.environ.get("PATH", ""), "TENANTRY_TOKEN": stack.settings["tokens"]["signup"]}
    result = watched(command, environment, measuring)
    return Peer(name, result, used, rss_mb(pid))


def _measure_peer(stack: Stack, given: argparse.Namespace, log: Path, peer: dict[str, Any]) -> Peer:
    port = reserve_port()
    names = {"here": str(given.peers.absolute()), "port": str(port), "brokers": stack.kafka.bootstrap}
    environment = {name: value.format(**names) for name, value in peer.get("environment", {}).items()}
    environment |= {"PATH": os.environ.get("PATH", ""), "TENANTRY_TOKEN": stack.settings["tokens"]["signup"]}
    with log.open("a") as output:
        process = subprocess.Popen(
            [word.format(**names) for word in peer["command"]], env=environment, stdout=output, stderr=output
        )
        try:

            def listens_or_ended() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"{peer['name']} ended with {process.returncode}: {log.read_text()[-500:]}")
                return _listens(port)

            wait_until(listens_or_ended, 30, f"{peer['name']} listens")
            return _measure(stack, given, peer["name"], port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure_peers(root: Path, given: argparse.Namespace, say: Callable[[str], None]) -> list[Peer]:
    known = json.loads((given.peers / "peers.json").read_text())["peers"]
    measured: list[Peer] = []
    with ingest_stack(root) as stack:
        gateway = stack.services["gateway-0"]
        assert gateway.http_port is not None and gateway.process.pid is not None
        for number in range(given.runs):
            for peer in [None, *known] if number % 2 == 0 else [*known[::-1], None]:
                if peer is None:
                    measured.append(_measure(stack, given, GATEWAY, gateway.http_port, gateway.process.pid))
                else:
                    measured.append(_measure_peer(stack, given, root / "peers.log", peer))
                say(f"  {measured[-1].name}: {measured[-1].per_second:,.0f}/s")
    return measured
