"""What every local server has in common: start until ready, stop, and the faults a test does to it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from .process import POLL_SECONDS, ServerError, ServerProcess, log_tail


class Server(ABC):
    """A server in a directory of its own, where data stays until destroy(), whatever else happens."""

    name: str
    stop_signal: int = signal.SIGTERM
    start_seconds: float = 60.0
    stop_seconds: float = 20.0

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.log_path = self.data_dir / f"{self.name}.log"
        self.pid_path = self.data_dir / f"{self.name}.pid"
        self._process: ServerProcess | None = None

    @abstractmethod
    def _prepare(self) -> bool:
        """Makes the data and writes the configuration; True when that differs from the last one."""

    @abstractmethod
    def _new_process(self) -> ServerProcess:
        """The process to start, or the one that an earlier program started here, by its pid file."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether the server answers, and is ours; asked every few milliseconds."""

    @property
    def process(self) -> ServerProcess:
        if self._process is None:
            self._process = self._new_process()
        return self._process

    @property
    def running(self) -> bool:
        return self.process.running

    @property
    def pid(self) -> int | None:
        return self.process.pid

    def start(self) -> None:
        """Returns when the server answers; one that runs is kept, or restarted if its settings changed."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        changed = self._prepare()
        if changed and self.running:
            self.stop()
        if not self.running:
            # Made anew, it reads the pid file again: another program may have started the server since.
            self._process = self._new_process()
            if not self.running:
                self._process.start()
        self.wait_until_ready(self.start_seconds)

    def wait_until_ready(self, seconds: float) -> None:
        """ServerError, with the end of the log, when the server dies first or takes too long."""
        deadline = time.monotonic() + seconds
        while not self._ready():
            if not self.running:
                code = self.process.returncode
                raise ServerError(f"{self.name} ended (code {code}):\n{log_tail(self.log_path)}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} is not ready in {seconds:g} s:\n{log_tail(self.log_path)}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Lets the server end in order, or kills it after a deadline; does nothing when it does not run."""
        self.process.stop(self.stop_seconds, self.stop_signal)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill9(self) -> None:
        """Ends the server and its children as a power cut would."""
        self.process.kill9()

    def pause(self) -> None:
        """Lets the server hang: it takes connections, and answers nothing."""
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Lets the server hang for the length of a with block."""
        return self.process.paused()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Kills the server with SIGKILL for the length of a with block, and starts it again after."""
        self.kill9()
        try:
            yield
        finally:
            self.start()

    def destroy(self) -> None:
        """Kills the server and removes all it wrote."""
        self.kill9()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # __exit__ is not called for what __enter__ left half done
            self.kill9()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def write_if_changed(path: Path, text: str) -> bool:
    """Writes a file whole or not at all; True when its text was another before."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        pass
    fresh = path.with_name(path.name + ".fresh")
    fresh.write_text(text)
    fresh.replace(path)
    return True
