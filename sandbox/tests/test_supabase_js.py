"""The official JavaScript client on the sandbox's Auth: what it makes of the answers is what the real ones are made for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .servers import Sandbox

PACKAGE = "@supabase/supabase-js@2.119.0"
CACHE = Path(__file__).parents[2] / ".run" / "cache" / "supabase-js-2.119.0"


@pytest.fixture(scope="session")
def client() -> Path:
    """A directory with the client, kept from run to run."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the official JavaScript client was not tried")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20).stdout
    if int(version.removeprefix("v").partition(".")[0] or 0) < 20:
        pytest.skip(f"node {version.strip()} is older than {PACKAGE} wants: it was not tried")
    if not (CACHE / "installed").exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        (CACHE / "package.json").write_text("{}")
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", PACKAGE],
            cwd=CACHE, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"{PACKAGE} cannot be had, and was not tried: {done.stdout}{done.stderr}")
        (CACHE / "installed").touch()
    return CACHE


def test_the_official_client_administers_signs_in_and_understands_errors(sandbox: Sandbox, client: Path) -> None:
    ref = sandbox.project()
    keys = sandbox.keys(ref)
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("supabase_js.mjs")), f"http://127.0.0.1:{sandbox.port}/project/{ref}", keys["service_role"],
         keys["anon"]],
        cwd=client, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "good\n", done.stdout + done.stderr
