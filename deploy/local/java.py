"""Finds a Java that is new enough to run Kafka."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .process import ServerError

OLDEST = 17
JAVA_HOMES = Path("/usr/lib/jvm")


def find_java() -> Path:
    """The java program: of $JAVA_HOME, else the newest below /usr/lib/jvm, else the one on PATH."""
    for home in _homes():
        if (major := _major(home)) is not None and major >= OLDEST:
            return home / "bin" / "java"
    raise ServerError(f"no Java {OLDEST} or newer is installed; deploy/local/install.sh brings it")


def _homes() -> Iterator[Path]:
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    yield from sorted(JAVA_HOMES.glob("*"), key=lambda home: _major(home) or 0, reverse=True)
    if on_path := shutil.which("java"):
        yield Path(on_path).resolve().parent.parent


def _major(home: Path) -> int | None:
    """The major version; from the release file if there is one, for to ask java itself takes long."""
    java = home / "bin" / "java"
    if not os.access(java, os.X_OK):
        return None
    try:
        text = (home / "release").read_text()
    except OSError:
        try:
            text = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=10).stderr
        except (OSError, subprocess.TimeoutExpired):
            return None
    match = re.search(r'(?:^JAVA_VERSION=| version )"(\d+)', text, re.MULTILINE)
    return int(match[1]) if match else None
