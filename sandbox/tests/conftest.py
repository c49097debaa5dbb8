"""One cluster and one sandbox for all tests; every test begins with an empty one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .servers import Cluster, Sandbox
from .stripe_client import Stripe


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def shared_sandbox(cluster: Cluster) -> Iterator[Sandbox]:
    limits = ("--rate-limit", "5000", "--stripe-rate-limit", "5000")
    started = Sandbox(cluster, "--coming-up-seconds", "0.1", "--services-lag-seconds", "0.05", *limits)
    yield started
    started.stop()


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.control("POST", "reset")
    return shared_sandbox


@pytest.fixture
def stripe(sandbox: Sandbox) -> Stripe:
    return Stripe(sandbox)
