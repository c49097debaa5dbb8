"""kill -9 of the provisioner between any two effects of the supabase driver, with signups or a command in flight."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack

from .client import Api
from .conftest import make_stack
from .service_faults import armed, died_of_sigkill
from .test_supabase import control, projects_of

EVERY_SIGNUP_POINT = [
    "driver_before_create",
    "driver_after_create",
    "driver_before_grant",
    "driver_after_grant",
    "identity_after_plant",
    "migration_before_apply",
    "migration_after_apply",
    "driver_before_admin",
    "driver_after_admin",
    "driver_before_access",
    "driver_after_access",
    "mail_after_send",
    "saga_before_step",
    "saga_before_advance",
    "saga_after_advance",
]
LONG = os.environ.get("TENANTRY_LONG") == "1"  # each point costs a restart and a lease: all of them in the long run
SIGNUP_POINTS = EVERY_SIGNUP_POINT if LONG else ["driver_after_create", "driver_after_admin"]
EVERY_COMMAND = [
    ("driver_before_rotate", "rotate-credentials", None, "ready"),
    ("driver_before_access", "suspend", None, "ready"),
    ("backup_after_list", "backup", None, "ready"),
    ("driver_before_delete", "deprovision", "slug", "deprovisioned"),
    ("driver_after_access", "suspend", None, "ready"),
    ("driver_after_delete", "deprovision", "slug", "deprovisioned"),
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("supabase", options={"LEASE": "2s"})


@pytest.mark.parametrize("point", SIGNUP_POINTS)
def test_signups_survive_a_crash(stack: Stack, api: Api, point: str) -> None:
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, f"{point}=crash"):
        tenants = [api.signup(f"{point} {i}").json["tenant_id"] for i in range(3)]
        assert died_of_sigkill(provisioner), f"{point} was not reached"
    for tenant in tenants:
        api.wait_state(tenant, "ready", 40)
        (project,) = projects_of(stack, tenant)
        users = control(stack, "GET", f"users?ref={project['ref']}")
        assert len(users["users"] if isinstance(users, dict) else users) == 1


@pytest.mark.parametrize(("point", "command", "body", "end"), EVERY_COMMAND if LONG else EVERY_COMMAND[-2:])
def test_commands_survive_a_crash(stack: Stack, api: Api, point: str, command: str, body: str | None, end: str) -> None:
    tenant = api.ready_tenant(f"Crash {point} {command}")
    provisioner = stack.services["provisioner-0"]
    with armed(provisioner, f"{point}=crash"):
        answer = api.command(tenant, command, {"confirm": api.tenant(tenant)["slug"]} if body else None)
        assert died_of_sigkill(provisioner), f"{point} was not reached"
    assert api.wait_operation(answer.json["operation_id"], 40)["state"] == "succeeded"
    assert api.tenant(tenant)["state"] == end
    assert len(projects_of(stack, tenant)) == (0 if end == "deprovisioned" else 1)
