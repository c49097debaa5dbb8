"""Packages from npm, each in a directory that is kept from run to run; for tests and benchmarks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".run" / "cache"
OLDEST_NODE = 20


class Unavailable(RuntimeError):
    """A package cannot be had here; the text says why."""


def install(directory: str, *packages: str) -> Path:
    """A directory of that name in the cache, with the packages (`name@version`)."""
    wanted = " and ".join(packages)
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed: {wanted} was not tried")
    found = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20).stdout
    if int(found.removeprefix("v").partition(".")[0] or 0) < OLDEST_NODE:
        raise Unavailable(f"node {found.strip()} is older than {wanted} wants: it was not tried")
    home = CACHE / directory
    if not (home / "installed").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text("{}")
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", *packages],
            cwd=home, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise Unavailable(f"{wanted} cannot be had, and was not tried: {done.stdout}{done.stderr}")
        (home / "installed").touch()
    return home
