"""What is slow beside us: a disk that stalls, and how soon a service answers meanwhile."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from deploy.local.stack import Service

from .service_faults import told

SOURCE = Path(__file__).with_name("stalling_disk.c")


class Pulse:
    """Asks a service for its health again and again; knows how long the slowest answer took."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.answers = 0
        self.slowest = 0.0

    def ask(self) -> None:
        began = time.monotonic()
        with urllib.request.urlopen(f"{self.service.ops_url}/healthz", timeout=60) as answer:
            assert answer.status == 200
        self.answers += 1
        self.slowest = max(self.slowest, time.monotonic() - began)


@contextlib.contextmanager
def pulse_of(service: Service) -> Iterator[Pulse]:
    """The service's health for the length of the block, asked ten times a second."""
    pulse = Pulse(service)
    over = threading.Event()
    failed: list[BaseException] = []

    def ask_on() -> None:
        try:
            while not over.wait(0.1):
                pulse.ask()
        except BaseException as error:  # told where the test can see it
            failed.append(error)

    thread = threading.Thread(target=ask_on, daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        over.set()
        thread.join(60)
    assert not failed, failed


@contextlib.contextmanager
def stalling_disk(service: Service, folder: Path, seconds: int) -> Iterator[Path]:
    """The service with a disk whose next fsync takes so long, as soon as the file that is given is made."""
    library, armed = folder / "stalling_disk.so", folder / "stalling_disk"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", str(library), str(SOURCE), "-ldl"], check=True, timeout=60
    )
    folder.chmod(0o755)
    sanitizers = f"{service.environment.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"
    with told(
        service, LD_PRELOAD=str(library), STALLING_DISK=str(armed), STALLING_DISK_SECONDS=str(seconds),
        ASAN_OPTIONS=sanitizers,
    ):  # fmt: skip
        yield armed
