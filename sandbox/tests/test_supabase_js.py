"""The official JavaScript client on the sandbox's Auth: what it makes of the answers is what the real ones are made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .npm import installed, run
from .servers import Sandbox


@pytest.fixture(scope="session")
def client() -> Path:
    return installed("@supabase/supabase-js", "2.119.0")


def test_the_official_client_administers_signs_in_and_understands_errors(sandbox: Sandbox, client: Path) -> None:
    ref = sandbox.project()
    keys = sandbox.keys(ref)
    url = f"http://127.0.0.1:{sandbox.port}/project/{ref}"
    run(client, "supabase_js.mjs", url, keys["service_role"], keys["anon"])
