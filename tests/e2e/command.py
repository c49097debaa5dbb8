"""The `tenantry` command as a test runs it: to its end, in the background, on a terminal of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import queue
import re
import select
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploy.local.stack import Stack


def cli(stack: Stack, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with something more in its environment."""
    return cli_within(60, stack, *words, **environment)


def cli_within(seconds: float, stack: Stack, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What may take longer than other commands."""
    return subprocess.run(
        [str(stack.build / "tenantry"), *words],
        env={"PATH": os.environ.get("PATH", ""), **stack.client_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def answered(done: subprocess.CompletedProcess[str]) -> Any:
    """What a --json command printed, after it worked."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with the code, and said so in one line that has the words."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tenantry: "), done.stderr
    for word in words:
        assert word in lines[0], lines[0]


@contextmanager
def running(stack: Stack, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in the background, its output line by line."""
    process = subprocess.Popen(
        [str(stack.build / "tenantry"), *words],
        env={"PATH": os.environ.get("PATH", ""), **stack.client_environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], word: str, seconds: float = 30) -> str:
    """The next line of standard output that has the word."""
    found: queue.Queue[str] = queue.Queue()

    def read() -> None:  # readline knows no deadline; who waits for it does
        assert process.stdout is not None
        for line in process.stdout:
            if word in line:
                found.put(line)
                return
        found.put("")

    threading.Thread(target=read, daemon=True).start()
    try:
        line = found.get(timeout=seconds)
    except queue.Empty:
        raise AssertionError(f"no line with {word} in {seconds:g} s") from None
    assert line, f"it ended without a line with {word}"
    return line


class Terminal:
    """The command on a terminal of its own, and what it has drawn."""

    def __init__(self, stack: Stack, width: int, height: int, *words: str) -> None:
        self.parent, child = pty.openpty()
        self.resize(width, height)
        environment = {"PATH": os.environ["PATH"], **stack.client_environment()}
        self.process = subprocess.Popen(
            [str(stack.build / "tenantry"), *words], env=environment, stdout=child, stderr=child
        )
        os.close(child)
        self.drawn = b""

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.parent, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read_until(self, condition: Any, what: str) -> None:
        """Reads on until the condition holds for what is there: [lines], without escapes."""
        deadline = time.monotonic() + 40
        while not condition(self.lines()):
            assert time.monotonic() < deadline, f"{what}: {self.drawn!r}"
            if select.select([self.parent], [], [], 1)[0] and not self.read():
                assert condition(self.lines()), f"{what}: it ended: {self.drawn!r}"

    def read(self) -> bool:
        try:
            piece = os.read(self.parent, 65536)
        except OSError:  # a terminal's way to say that nobody is there any more
            return False
        self.drawn += piece
        return bool(piece)

    def lines(self) -> list[str]:
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.drawn.decode(errors="replace")).splitlines()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.parent)


@contextmanager
def on_terminal(stack: Stack, width: int, height: int, *words: str) -> Iterator[Terminal]:
    terminal = Terminal(stack, width, height, *words)
    try:
        yield terminal
    finally:
        terminal.close()


def has(word: str) -> Any:
    return lambda lines: any(word in line for line in lines)
