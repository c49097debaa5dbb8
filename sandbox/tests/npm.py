"""Official JavaScript clients from npm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.local.npm import Unavailable, install


def installed(name: str, version: str) -> Path:
    """A directory with the package; the test that asks is skipped where it cannot be had."""
    try:
        return install(f"{name.rpartition('/')[2]}-{version}", f"{name}@{version}")
    except Unavailable as why:
        pytest.skip(str(why))


def run(home: Path, script: str, *arguments: str) -> None:
    """Runs a script that says `good` in the end if all that it asserts holds."""
    command = ["node", str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "good\n", done.stdout + done.stderr
