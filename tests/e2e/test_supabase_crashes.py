"""kill -9 of the provisioner at every failpoint that the supabase driver reaches, with work in flight; and no secret in
clear. The gateway knows no driver: its own places are in test_crashes.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack

from .client import Api
from .conftest import SHORT_LEASE, make_stack
from .crashing import ENDS, Aftermath, Crash, check_ends, crashes, die
from .sandbox_control import projects_of, users_of
from .secret_search import Search, log_everything, places
from .secrets_of import secrets_of, tenant_passwords

CRASHES = pytest.mark.parametrize("crash", crashes("provisioner"), ids=lambda crash: crash.name)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Hundreds of projects in two minutes: the provider's limit would have them wait for each other."""
    options = {"LEASE": SHORT_LEASE, "LOG_LEVEL": "debug", "WORKERS": "16", "SUPABASE_REQUESTS_PER_MINUTE": "60000"}
    for made in make_stack("supabase", options=options, keep_memberships=True):
        made.control_sandbox("POST", "settings", {"rate_limit": 100000})
        log_everything(made)
        yield made


@CRASHES
def test_the_provisioner_dies_at(
    crash: Crash, stack: Stack, api: Api, aftermaths: dict[Crash, Aftermath], seen: dict[str, bytes]
) -> None:
    aftermaths[crash] = die(stack, api, crash)
    seen.update(tenant_passwords(stack))


@CRASHES
def test_all_under_way_come_to_their_end_after(
    crash: Crash, stack: Stack, api: Api, aftermaths: dict[Crash, Aftermath]
) -> None:
    assert crash in aftermaths, "the provisioner did not die there"
    check_ends(api, aftermaths[crash])
    for tenant, state in aftermaths[crash].wanted.items():
        projects = projects_of(stack, tenant)
        assert len(projects) == (0 if state in ENDS.values() else 1), projects
        for project in projects:
            assert len(users_of(stack, project["ref"])) == 1


def test_no_secret_is_anywhere_in_clear(stack: Stack, seen: dict[str, bytes], tmp_path: Path) -> None:
    assert {name.split()[0] for name in seen} >= {"owner_password", "app_password", "service_key"}
    assert len(seen) > 100
    search = Search({**seen, **secrets_of(stack)}, tmp_path)
    found = [f"{name} in {place}" for place, content in places(stack) for name in search.find(content)]
    assert not found, found
