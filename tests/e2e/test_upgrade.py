"""From the release before to this one, with signups under way: in both orders (programs first, catalog first), side by side,
and with a catalog that lacks something for a while."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import CATALOG, REPOSITORY, Service, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows
from .load import Load

PREVIOUS = REPOSITORY / ".run" / "previous"
NEVER_UNDONE = "select tenant_id, kind, status from provisioner.saga where status in ('failed', 'cancelled', 'attention', 'undoing')"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The release before, catalog and programs; `this` names the directory of the present programs."""
    built = subprocess.run([REPOSITORY / "scripts" / "previous-release"], capture_output=True, text=True)
    if built.returncode == 3:
        pytest.skip(built.stderr.strip())
    assert built.returncode == 0, built.stderr[-2000:]
    for made in make_stack("postgres", gateways=0, provisioners=0, options={"LEASE": SHORT_LEASE}, previous=PREVIOUS):
        made.start_service("gateway", 0)
        made.start_service("provisioner", 0)
        yield made


@pytest.fixture(scope="module")
def this() -> Path:
    return Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release")).absolute()


def readiness(service: Service) -> str:
    """What /readyz answers; nothing while it starts."""
    try:
        with urllib.request.urlopen(f"{service.ops_url}/readyz", timeout=5) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def of_this_release(stack: Stack, this: Path, name: str, index: int) -> Service:
    before, stack.build = stack.build, this
    made = stack.service(name, index)
    stack.build = before
    return made


def open_alerts(stack: Stack) -> set[str]:
    return {row[0] for row in rows(stack, "select cause from catalog.alert where resolved_at is null")}


def test_the_new_programs_before_init_wait_for_it_and_touch_nothing(stack: Stack, this: Path) -> None:
    with Load(stack) as load:
        load.wait_for(202, 3)
        stack.services["provisioner-0"].kill9()  # in the midst of its work
        newer = [of_this_release(stack, this, "provisioner", 1), of_this_release(stack, this, "gateway", 1)]
        for service in newer:
            service.start()
        for service in newer:
            eventually(
                lambda at=service: '"catalog_version"' in readiness(at), 20, f"{service.name} says what it waits for"
            )
            assert "tenantry init" in readiness(service)
        load.wait_for(202, 5)
        fences = rows(stack, "select saga_id, fence from provisioner.saga where status = 'running' order by 1")
        load.wait_for(202, 5)
        assert (
            rows(stack, "select saga_id, fence from provisioner.saga where status = 'running' order by 1") == fences
        ), "nothing was claimed"
        initialize(stack, this)
        for service in newer:
            eventually(service.ready, 20, f"{service.name} is ready by itself")
    load.wait_until_ready()
    assert rows(stack, NEVER_UNDONE) == []


def initialize(stack: Stack, this: Path) -> None:
    before = stack.build, stack.catalog_migrations
    stack.build, stack.catalog_migrations = this, REPOSITORY / "migrations" / "catalog"
    try:
        stack.init()
    finally:
        stack.build, stack.catalog_migrations = before


def test_the_programs_of_the_release_before_go_on_with_the_new_catalog(stack: Stack) -> None:
    """Every command of theirs; the new programs are off."""
    for name in ("provisioner-1", "gateway-1"):
        assert stack.services[name].stop()
    stack.services["provisioner-0"].start()
    stack.services["provisioner-0"].wait_until_ready()
    stack.services["gateway-0"].wait_until_ready()
    api = Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
    tenant = api.ready_tenant("Steady Shop")
    for command in ("suspend", "resume", "rotate-credentials", "backup", "resend-invite", "retry", "archive"):
        ended = api.wait_operation(api.command(tenant, command).json["operation_id"])
        assert ended["state"] == "succeeded", (command, ended)
    assert len(api.get("/api/tenants?limit=2").json["tenants"]) == 2
    assert api.tenant(tenant)["history"]
    wished = f"select source, wanted from catalog.lifecycle_wanted where tenant_id = '{tenant}'"
    assert rows(stack, wished) == [["operator", "archived"]]
    gone = api.command(tenant, "deprovision", {"confirm": api.tenant(tenant)["slug"]}).json["operation_id"]
    assert api.wait_operation(gone)["state"] == "succeeded"


def test_both_releases_side_by_side_share_the_work(stack: Stack) -> None:
    for name in ("provisioner-1", "gateway-1"):
        stack.services[name].start()
        stack.services[name].wait_until_ready()
    with Load(stack) as load:
        load.wait_for(202, 5)
        stack.services["provisioner-0"].kill9()  # the new one takes over what the old one had
        load.wait_for(202, 5)
        stack.services["provisioner-0"].start()
        stack.services["provisioner-0"].wait_until_ready()
        stack.services["provisioner-1"].kill9()  # and the other way round
        load.wait_for(202, 5)
        stack.services["provisioner-1"].start()
        stack.services["provisioner-1"].wait_until_ready()
        assert stack.services["provisioner-0"].stop()
    load.wait_until_ready()
    assert rows(stack, NEVER_UNDONE) == []
    assert {cause for cause in open_alerts(stack) if not cause.startswith("inventory")} == set()


@pytest.mark.parametrize(
    "broken, mended",
    [
        (
            "alter function durable.saga_advance rename to saga_lost",
            "alter function durable.saga_lost rename to saga_advance",
        ),
        ("alter function durable.saga_end rename to saga_lost", "alter function durable.saga_lost rename to saga_end"),
        (
            "alter function provisioner.learn rename to learn_lost",
            "alter function provisioner.learn_lost rename to learn",
        ),
        (
            "revoke execute on function provisioner.reserve from public",
            "grant execute on function provisioner.reserve to public",
        ),
    ],
    ids=["the next step", "the end", "a fact", "a right"],
)
def test_what_the_catalog_cannot_run_holds_up_work_and_undoes_none(stack: Stack, broken: str, mended: str) -> None:
    held = "held:provisioner:catalog-refuses"
    api = Api(stack.services["gateway-1"].url, stack.settings["tokens"]["admin"])
    stack.postgres.execute(broken, CATALOG)
    try:
        tenants = [str(api.signup(f"Held {number}").json["tenant_id"]) for number in range(3)]
        eventually(lambda: held in open_alerts(stack), 20, "somebody is told")
        shown = eventually(
            lambda: [
                api.tenant(tenant).get("activity")
                for tenant in tenants
                if (api.tenant(tenant).get("activity") or {}).get("error")
            ],
            20,
            "the error is shown",
        )
        assert shown[0]["error"]["class"] == "ours" and shown[0]["attempt"] >= 1, shown[0]
        times = rows(stack, f"select times from catalog.alert where cause = '{held}' and resolved_at is null")
        assert int(times[0][0]) < 40, "they do not ask in a hot loop"
    finally:
        stack.postgres.execute(mended, CATALOG)
    for tenant in tenants:
        api.wait_state(tenant, "ready", 90)
    assert rows(stack, NEVER_UNDONE) == []
    eventually(lambda: held not in open_alerts(stack), 20, "the alert is over")
