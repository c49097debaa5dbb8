"""One stack for all tests of the contracts, and one run of the product's life that several of them look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from tests.e2e.conftest import add_signal_token, make_stack
from tests.e2e.stripe import SECRET

from .life import Life, live
from .recording import RecordingApi


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """The product with the postgres driver: one of each service."""
    yield from make_stack("postgres", migrators=1, billings=1, stripe=True, options={"STRIPE_WEBHOOK_SECRET": SECRET})


def caller(stack: Stack, scope: str | None) -> RecordingApi:
    return RecordingApi(stack.services["gateway-0"].url, stack.settings["tokens"][scope] if scope else None)


@pytest.fixture(scope="package")
def api(stack: Stack) -> RecordingApi:
    """A caller that may do everything but what only the product's backend may."""
    return caller(stack, "admin")


@pytest.fixture(scope="package")
def life(stack: Stack) -> Life:
    """What was seen of a run: every answer, every event."""
    add_signal_token(stack)
    scopes = (None, "signup", "read", "app", "signal", "admin")
    return live(stack, {scope or "": caller(stack, scope) for scope in scopes})
