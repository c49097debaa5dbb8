"""Signups into Kafka through the gateway, beside the bare cost of the same messages; the gateway's memory over time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.stack import Stack

from .machine import CpuMeter, rss_mb

CONNECTIONS = 64
SOAK_RATE = 2000
SIGNUP_TOPIC = "tenant.signup.v1"

# What runs for minutes may be compiled well; the local stack's own flags are for a quick start. G1 is Kafka's default.
BROKER_JVM = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Xshare:auto")


@dataclass
class Ingest:
    """One measured stretch. Times in microseconds; CPU in seconds per process."""

    result: dict[str, Any]
    cpu: dict[str, float]
    rss_mb: float = 0.0

    @property
    def per_second(self) -> float:
        return float(self.result["per_second"])

    def cpu_us_per_request(self, name: str) -> float:
        return self.cpu[name] * 1e6 / max(1, self.result["requests"])


@contextmanager
def ingest_stack(root: Path, **options: str) -> Iterator[Stack]:
    """PostgreSQL, Kafka and a gateway; no provisioner, so that nothing else competes. The topic keeps what comes."""
    stack = Stack(root, fast=False, options=options)
    stack.kafka.jvm_options = BROKER_JVM
    try:
        stack.start(gateways=1, provisioners=0)
        yield stack
    finally:
        stack.destroy()


def watched(
    command: list[str], environment: dict[str, str], measuring: Callable[[int], None], cwd: Path | None = None
) -> dict[str, Any]:
    """Runs a generator; calls measuring with its pid when its warm-up is over; returns its result."""
    with subprocess.Popen(command, env=environment, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        result: dict[str, Any] = {}
        for line in process.stdout:
            if line.startswith("measuring"):
                measuring(process.pid)
            else:
                result = json.loads(line)
    if process.returncode != 0 or not result:
        raise RuntimeError(f"{command[0]} ended with code {process.returncode}")
    return result


def _load(stack: Stack, programs: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    gateway = stack.services["gateway-0"]
    command = [str(programs / "load"), "--port", str(gateway.http_port), "--connections", str(CONNECTIONS), *arguments]
    return command, {"PATH": os.environ.get("PATH", ""), "TENANTRY_TOKEN": stack.settings["tokens"]["signup"]}


def _pids(stack: Stack) -> dict[str, int]:
    gateway, broker = stack.services["gateway-0"].process.pid, stack.kafka.pid
    assert gateway is not None and broker is not None
    return {"gateway": gateway, "broker": broker}


def measure_gateway(stack: Stack, programs: Path, warmup: int, seconds: int) -> Ingest:
    """64 connections, each with the next signup when the last was answered."""
    pids = _pids(stack)
    command, environment = _load(stack, programs, "--warmup", str(warmup), "--seconds", str(seconds))
    measured = measure_generator(command, environment, CpuMeter(dict(pids)), seconds)
    measured.rss_mb = rss_mb(pids["gateway"])
    return measured


def measure_bare(stack: Stack, programs: Path, warmup: int, seconds: int) -> Ingest:
    """The same messages by a minimal producer, as many in flight as there were connections."""
    meter = CpuMeter({"broker": _pids(stack)["broker"]})
    command = [
        str(programs / "produce"), stack.kafka.bootstrap, SIGNUP_TOPIC, str(CONNECTIONS), str(warmup), str(seconds)
    ]  # fmt: skip
    return measure_generator(command, {"PATH": os.environ.get("PATH", "")}, meter, seconds)


def measure_generator(command: list[str], environment: dict[str, str], meter: CpuMeter, seconds: int) -> Ingest:
    """Runs a generator. The meter is read a little before the generator ends, while its pid still counts, and scaled to
    the whole."""
    used: dict[str, float] = {}

    def measure(generator: int) -> None:
        meter.pids["generator"] = generator
        meter.start()
        began = time.monotonic()
        time.sleep(seconds * 0.95)
        used.update(meter.read())
        scale = seconds / (time.monotonic() - began)
        for name in used:
            used[name] *= scale

    result = watched(command, environment, measure)
    return Ingest(result, used)


def soak(
    stack: Stack, programs: Path, minutes: float, say: Callable[[str], None]
) -> tuple[list[tuple[int, float]], dict[str, Any]]:
    """The gateway's memory at a moderate rate: [(second, MB)], every ten seconds, and the generator's result."""
    gateway = _pids(stack)["gateway"]
    seconds = max(20, int(minutes * 60))
    command, environment = _load(stack, programs, "--warmup", "0", "--seconds", str(seconds), "--rate", str(SOAK_RATE))
    samples: list[tuple[int, float]] = []

    def sample(_: int) -> None:
        began = time.monotonic()
        for second in range(0, seconds, 10):
            time.sleep(max(0.0, began + second - time.monotonic()))
            samples.append((second, rss_mb(gateway)))

    result = watched(command, environment, sample)
    samples.append((seconds, rss_mb(gateway)))
    say(f"  soak: {samples[0][1]:.1f} MB at the start, {samples[-1][1]:.1f} MB after {seconds} s")
    return samples, result
