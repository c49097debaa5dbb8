"""kill -9 at every failpoint a service passes, with work in flight: what both drivers' tests share. One place after the
other, and all who were under way are looked at when the last one is done: waiting for each would take hours."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.stack import REPOSITORY, SANITIZERS, Stack

from .client import Answer, Api, eventually
from .service_faults import armed, died_of_sigkill, start, stopped

BUILD = Path(os.environ.get("TENANTRY_BUILD", REPOSITORY / "build" / "release"))

# What reaches a failpoint that signups alone do not reach, and how its tenant ends.
COMMANDS = {
    "driver_before_access": "suspend",
    "driver_after_access": "suspend",
    "driver_before_rotate": "rotate-credentials",
    "driver_after_rotate": "rotate-credentials",
    "backup_before_dump": "backup",
    "backup_after_dump": "archive",
    "backup_after_list": "archive",
    "driver_before_delete": "deprovision",
    "driver_after_delete": "deprovision",
}
ENDS = {"archive": "archived", "deprovision": "deprovisioned"}

# Names that a service lists and never passes, by their beginning, and why. Any other that is not reached is a failure.
NEVER = {
    "gateway": {
        "intake_": "the gateway consumes no commands",
        "saga_": "the gateway runs no sagas",
        "driver_": "the gateway drives no provider",
        "identity_": "the gateway opens no tenant's database",
        "migration_": "the gateway opens no tenant's database",
        "backup_": "the gateway opens no tenant's database",
        "restore_": "the gateway opens no tenant's database",
        "mail_": "the gateway sends no mail",
        "billing_": "the gateway asks Stripe nothing",
        "job_": "the gateway migrates nobody: test_rollout_crashes.py",
        "run_": "the gateway migrates nobody: test_rollout_crashes.py",
        "inspection_": "the gateway looks into nobody: test_drift.py",
        "setup_": "the command's: test_stripe_setup.py",
    },
    "provisioner": {
        "gateway_": "the provisioner takes no requests",
        "billing_": "Stripe is billing's: test_checkout_crashes.py",
        "job_": "rollouts are the migrator's: test_rollout_crashes.py",
        "run_": "rollouts are the migrator's: test_rollout_crashes.py",
        "inspection_": "looking into tenants is the migrator's: test_drift.py",
        "setup_": "the command's: test_stripe_setup.py",
        "restore_": "needs a backup first: test_restore.py lets it die there",
        "driver_before_renew": "needs a key or a pooler that changed: test_supabase_crashes.py brings them",
        "driver_after_renew": "needs a key or a pooler that changed: test_supabase_crashes.py brings them",
    },
}

# Failpoints every step passes: also somewhere in the middle of three provisionings.
LATER_PASSES = {"saga_before_step": (6, 14, 22), "saga_before_advance": (5, 13, 21), "saga_after_advance": (7, 15, 23)}


@dataclass(frozen=True)
class Crash:
    """One place where one service dies."""

    service: str
    failpoint: str
    passes: int = 1

    @property
    def name(self) -> str:
        return f"{self.service}-{self.failpoint}" + (f"-{self.passes}" if self.passes > 1 else "")

    @property
    def spec(self) -> str:
        return f"{self.failpoint}=crash@{self.passes}"


@dataclass
class Aftermath:
    """Who was under way when a service died, and how each must end."""

    wanted: dict[str, str] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)


def failpoints(service: str) -> list[str]:
    """What the shipped program lists, without what it never passes."""
    program = BUILD / f"tenantry-{service}"
    done = subprocess.run([program, "--failpoints"], capture_output=True, text=True, check=True, env=SANITIZERS)
    return [name for name in done.stdout.split() if not name.startswith(tuple(NEVER[service]))]


def crashes(*services: str) -> list[Crash]:
    return [
        Crash(service, name, passes)
        for service in services
        for name in failpoints(service)
        for passes in (1, *LATER_PASSES.get(name, ()))
    ]


def sign_up(api: Api, crash: Crash) -> list[Answer]:
    """Three at once; their keys make asking again the same request."""

    def ask(n: int) -> Answer:
        return api.signup(f"{crash.name} {n}", idempotency_key=f"{crash.name}-{n}")

    with ThreadPoolExecutor(3) as callers:
        return list(callers.map(ask, range(3)))


def die(stack: Stack, api: Api, crash: Crash) -> Aftermath:
    """Lets the service die at the place, with three signups and, where it takes one, a command in flight."""
    aftermath = Aftermath()
    if crash.failpoint in COMMANDS:
        victim = str(api.signup(f"{crash.name} victim").json["tenant_id"])
        api.wait_state(victim, "ready", 60)
        stack.services["provisioner-0"].stop()
        aftermath.operations.append(_send_command(api, crash, victim))
        aftermath.wanted[victim] = ENDS.get(COMMANDS[crash.failpoint], "ready")
    by_beginning = WAYS.get(f"{crash.service} {crash.failpoint.partition('_')[0]}", _crash_provisioner)
    crash_there = WAYS.get(f"{crash.service} {crash.failpoint}", by_beginning)
    crash_there(stack, api, crash)
    for answer in sign_up(api, crash):
        assert answer.status == 202, answer
        aftermath.wanted[answer.json["tenant_id"]] = "ready"
        aftermath.operations.append(answer.json["operation_id"])
    return aftermath


def check_ends(api: Api, aftermath: Aftermath) -> None:
    """Every operation succeeded, every tenant is where it was to go."""
    for operation in aftermath.operations:
        ended = api.wait_operation(operation, 60)
        assert ended["state"] == "succeeded", ended
    for tenant, state in aftermath.wanted.items():
        assert api.tenant(tenant)["state"] == state


def _send_command(api: Api, crash: Crash, victim: str) -> str:
    command = COMMANDS[crash.failpoint]
    body = {"confirm": api.tenant(victim)["slug"]} if command == "deprovision" else {}
    answer = api.command(victim, command, body)
    assert answer.status == 202, answer
    return str(answer.json["operation_id"])


def _crash_gateway_under_requests(stack: Stack, api: Api, crash: Crash) -> None:
    gateway = stack.services["gateway-0"]
    with armed(gateway, crash.spec):
        eventually(gateway.ready, 20, "the gateway is ready")
        answers = sign_up(api, crash)
        assert any(answer.status == 0 for answer in answers), answers
        assert died_of_sigkill(gateway)


def _crash_gateway_at_start(stack: Stack, api: Api, crash: Crash) -> None:
    """As it begins to follow the status topic: before it is ready, or just behind that."""
    gateway = stack.services["gateway-0"]
    with armed(gateway, crash.spec):
        assert died_of_sigkill(gateway)


def _crash_gateway_as_publisher(stack: Stack, api: Api, crash: Crash) -> None:
    gateway, provisioner = stack.services["gateway-0"], stack.services["provisioner-0"]
    with stopped(provisioner), armed(gateway, crash.spec):
        eventually(lambda: _leads(stack, "gateway-0") or not gateway.process.running, 20, "the gateway publishes")
        if gateway.process.running:
            sign_up(api, crash)
        start(provisioner)
        assert died_of_sigkill(gateway)


def _crash_provisioner(stack: Stack, api: Api, crash: Crash) -> None:
    """What is asked while it is down waits in Kafka; it dies on the way. With the gateway gone, it publishes too."""
    gateway, provisioner = stack.services["gateway-0"], stack.services["provisioner-0"]
    provisioner.stop()
    assert [answer.status for answer in sign_up(api, crash)] == [202] * 3
    publishes = crash.failpoint.startswith(("publisher_", "kafka_before_produce"))
    with stopped(*[gateway] if publishes else []), armed(provisioner, crash.spec):
        assert died_of_sigkill(provisioner)


# Where a failpoint is reached, by the service and its name, or the beginning of it; the provisioner's in one way.
WAYS = {
    "gateway gateway": _crash_gateway_under_requests,
    "gateway consumer": _crash_gateway_at_start,
    "gateway publisher": _crash_gateway_as_publisher,
    "gateway kafka_before_client": _crash_gateway_at_start,
    "gateway kafka_before_produce": _crash_gateway_under_requests,
}


def _leads(stack: Stack, service: str) -> bool:
    return stack.services[service].ready() and stack.services[service].metrics()["tenantry_publisher_leading"] == 1
