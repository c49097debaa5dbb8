"""Faults of our own processes: each lasts as long as its with block, and leaves the service running as before."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from deploy.local.stack import Service

from .client import eventually


@contextlib.contextmanager
def stopped(*services: Service) -> Iterator[None]:
    """Ended by SIGTERM, as an operator would."""
    for service in services:
        service.stop()
    try:
        yield
    finally:
        start(*services)


@contextlib.contextmanager
def started(*services: Service) -> Iterator[None]:
    """Runs for the length of the block only."""
    start(*services)
    try:
        yield
    finally:
        for service in services:
            service.stop()


@contextlib.contextmanager
def armed(service: Service, failpoints: str) -> Iterator[None]:
    """Started anew with failpoints; the block may see it die."""
    service.stop()
    service.environment["FAILPOINTS"] = failpoints
    service.start()
    try:
        yield
    finally:
        del service.environment["FAILPOINTS"]
        service.stop()
        start(service)


@contextlib.contextmanager
def told(service: Service, **environment: str) -> Iterator[None]:
    """Started anew with another configuration."""
    before = dict(service.environment)
    service.stop()
    service.environment.update(environment)
    start(service)
    try:
        yield
    finally:
        service.stop()
        service.environment.clear()
        service.environment.update(before)
        start(service)


def start(*services: Service) -> None:
    """Starts those that do not run, and waits until all are ready."""
    for service in services:
        if not service.process.running:
            service.start()
    for service in services:
        service.wait_until_ready()


def died_of_sigkill(service: Service, seconds: float = 20) -> bool:
    """Waits for the end of a service that nobody touched; a failpoint's crash ends it by SIGKILL."""
    eventually(lambda: service.process.returncode is not None, seconds, f"{service.name} dies")
    return service.process.returncode == -signal.SIGKILL


@contextlib.contextmanager
def frozen_in_failpoint(service: Service) -> Iterator[None]:
    """Waits until the service has stopped itself in its armed failpoint; it goes on from there after the block."""
    eventually(lambda: is_stopped(service), 30, "it stops itself")
    try:
        yield
    finally:
        service.process.resume()


def is_stopped(service: Service) -> bool:
    stat = Path(f"/proc/{service.process.pid}/stat").read_text()
    return stat[stat.rindex(")") + 2] == "T"
