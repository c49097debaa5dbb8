"""Official JavaScript clients from npm, each in a directory that is kept from run to run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".run" / "cache"


def installed(name: str, version: str) -> Path:
    """A directory with the package; the test that asks is skipped where it cannot be had."""
    package = f"{name}@{version}"
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: {package} was not tried")
    found = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20).stdout
    if int(found.removeprefix("v").partition(".")[0] or 0) < 20:
        pytest.skip(f"node {found.strip()} is older than {package} wants: it was not tried")
    home = CACHE / f"{name.rpartition('/')[2]}-{version}"
    if not (home / "installed").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text("{}")
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", package],
            cwd=home, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"{package} cannot be had, and was not tried: {done.stdout}{done.stderr}")
        (home / "installed").touch()
    return home


def run(home: Path, script: str, *arguments: str) -> None:
    """Runs a script that says `good` in the end if all that it asserts holds."""
    command = ["node", str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "good\n", done.stdout + done.stderr
