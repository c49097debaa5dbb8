"""kill -9 of the provisioner at every failpoint that the supabase driver reaches, with work in flight; and no secret in
clear. The gateway knows no driver: its own places are in test_crashes.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack

from .client import Api
from .conftest import SHORT_LEASE, make_stack
from .crashing import ENDS, Aftermath, Crash, check_ends, crashes, die
from .invariants import rows
from .sandbox_control import projects_of, users_of
from .secret_search import Search, log_everything, places
from .secrets_of import secrets_of, tenant_passwords
from .service_faults import armed, died_of_sigkill

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


def new_keys(stack: Stack, tenant: str) -> None:
    (project,) = projects_of(stack, tenant)
    stack.control_sandbox("PATCH", f"projects/{project['ref']}", {"new_keys": True})


def moved_pooler(stack: Stack, tenant: str) -> None:
    """The catalog knows where it was before."""
    stack.postgres.execute(
        f"update provisioner.database set host = '127.0.0.99' where tenant_id = '{tenant}'", "tenantry"
    )


@pytest.mark.parametrize("failpoint", ["driver_before_renew", "driver_after_renew"])
@pytest.mark.parametrize("changed", [new_keys, moved_pooler], ids=["key", "pooler"])
def test_what_changed_at_the_provider_is_learnt_by_whoever_follows_the_one_that_died(
    changed: Callable[[Stack, str], None], failpoint: str, stack: Stack, api: Api, seen: dict[str, bytes]
) -> None:
    known = (
        "select s.sealed, d.host from provisioner.secret s join provisioner.database d using (tenant_id, generation)"
    )
    provisioner = stack.services["provisioner-0"]
    tenant = api.ready_tenant(f"{changed.__name__} {failpoint}")
    known += f" where tenant_id = '{tenant}' and field = 'service_key'"
    changed(stack, tenant)
    (old,) = rows(stack, known)
    with armed(provisioner, f"{failpoint}=crash"):
        operation = api.command(tenant, "suspend").json["operation_id"]
        assert died_of_sigkill(provisioner)
        assert (rows(stack, known) == [old]) == (failpoint == "driver_before_renew"), "stored, or not yet"
    assert api.wait_operation(operation, 60)["state"] == "succeeded"
    ((key, host),) = rows(stack, known)
    assert key != old[0] if changed is new_keys else host != "127.0.0.99"
    assert api.wait_operation(api.command(tenant, "resume").json["operation_id"], 60)["state"] == "succeeded"
    seen.update(tenant_passwords(stack))


def test_no_secret_is_anywhere_in_clear(stack: Stack, seen: dict[str, bytes], tmp_path: Path) -> None:
    assert {name.split()[0] for name in seen} >= {"owner_password", "app_password", "service_key"}
    assert len(seen) > 100
    search = Search({**seen, **secrets_of(stack)}, tmp_path)
    found = [f"{name} in {place}" for place, content in places(stack) for name in search.find(content)]
    assert not found, found
