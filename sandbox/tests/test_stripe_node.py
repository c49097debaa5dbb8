"""The official Node library on the sandbox's Stripe: what it makes of the answers is what the real ones are made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .npm import installed, run
from .servers import Sandbox


@pytest.fixture(scope="session")
def client() -> Path:
    return installed("stripe", "23.1.0")


def test_the_official_library_sells_changes_and_ends_a_subscription(sandbox: Sandbox, client: Path) -> None:
    run(client, "stripe_node.mjs", str(sandbox.stripe_port), str(sandbox.port))
