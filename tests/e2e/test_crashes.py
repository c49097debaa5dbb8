"""kill -9 at every failpoint that the postgres driver reaches, with work in flight; and no secret in clear."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local.postgres import postgres_programs
from deploy.local.stack import CATALOG, REPOSITORY, SANITIZERS, Stack

from .client import Answer, Api, eventually
from .conftest import make_stack
from .invariants import rows
from .secrets_of import invitations, secrets_of, tenant_passwords
from .service_faults import armed, died_of_sigkill, start, stopped
from .topics import read_all, topics_of

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
        "mail_": "the gateway sends no mail",
    },
    "provisioner": {"gateway_": "the provisioner takes no requests"},
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
    program = BUILD / f"tenantry-{service}"
    done = subprocess.run([program, "--failpoints"], capture_output=True, text=True, check=True, env=SANITIZERS)
    return [name for name in done.stdout.split() if not name.startswith(tuple(NEVER[service]))]


def crashes() -> list[Crash]:
    return [
        Crash(service, name, passes)
        for service in ("gateway", "provisioner")
        for name in failpoints(service)
        for passes in (1, *LATER_PASSES.get(name, ()))
    ]


CRASHES = pytest.mark.parametrize("crash", crashes(), ids=lambda crash: crash.name)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Short leases, and one membership of the group per place: a new process need not wait for its dead self."""
    options = {"LEASE": "2s"}
    for made in make_stack("postgres", options=options):
        provisioner = made.services["provisioner-0"]
        provisioner.stop()
        provisioner.environment["KAFKA_PROPERTIES"] = "group.instance.id=provisioner-0"
        start(provisioner)
        yield made


@pytest.fixture(scope="module")
def aftermaths() -> dict[Crash, Aftermath]:
    """Filled by the crashes, looked at when all of them are over."""
    return {}


def sign_up(api: Api, crash: Crash) -> list[Answer]:
    """Three at once; their keys make asking again the same request."""

    def ask(n: int) -> Answer:
        return api.signup(f"{crash.name} {n}", idempotency_key=f"{crash.name}-{n}")

    with ThreadPoolExecutor(3) as callers:
        return list(callers.map(ask, range(3)))


def send_command(api: Api, crash: Crash, victim: str) -> str:
    command = COMMANDS[crash.failpoint]
    body = {"confirm": api.tenant(victim)["slug"]} if command == "deprovision" else {}
    answer = api.command(victim, command, body)
    assert answer.status == 202, answer
    return str(answer.json["operation_id"])


def crash_gateway_under_requests(stack: Stack, api: Api, crash: Crash) -> None:
    gateway = stack.services["gateway-0"]
    with armed(gateway, crash.spec):
        eventually(gateway.ready, 20, "the gateway is ready")
        answers = sign_up(api, crash)
        assert any(answer.status == 0 for answer in answers), answers
        assert died_of_sigkill(gateway)


def crash_gateway_as_publisher(stack: Stack, api: Api, crash: Crash) -> None:
    gateway, provisioner = stack.services["gateway-0"], stack.services["provisioner-0"]
    with stopped(provisioner), armed(gateway, crash.spec):
        eventually(lambda: leads(stack, "gateway-0") or not gateway.process.running, 20, "the gateway publishes")
        if gateway.process.running:
            sign_up(api, crash)
        start(provisioner)
        assert died_of_sigkill(gateway)


def crash_provisioner(stack: Stack, api: Api, crash: Crash) -> None:
    """What is asked while it is down waits in Kafka; it dies on the way. With the gateway gone, it publishes too."""
    gateway, provisioner = stack.services["gateway-0"], stack.services["provisioner-0"]
    provisioner.stop()
    assert [answer.status for answer in sign_up(api, crash)] == [202] * 3
    with stopped(*[gateway] if crash.failpoint.startswith("publisher_") else []), armed(provisioner, crash.spec):
        assert died_of_sigkill(provisioner)


def leads(stack: Stack, service: str) -> bool:
    return stack.services[service].ready() and stack.services[service].metrics()["tenantry_publisher_leading"] == 1


@CRASHES
def test_a_service_dies_at(crash: Crash, stack: Stack, api: Api, aftermaths: dict[Crash, Aftermath]) -> None:
    aftermath = Aftermath()
    if crash.failpoint in COMMANDS:
        victim = api.ready_tenant(f"{crash.name} victim")
        stack.services["provisioner-0"].stop()
        aftermath.operations.append(send_command(api, crash, victim))
        aftermath.wanted[victim] = ENDS.get(COMMANDS[crash.failpoint], "ready")
    if crash.service == "provisioner":
        crash_provisioner(stack, api, crash)
    elif crash.failpoint.startswith("publisher_"):
        crash_gateway_as_publisher(stack, api, crash)
    else:
        crash_gateway_under_requests(stack, api, crash)
    for answer in sign_up(api, crash):
        assert answer.status == 202, answer
        aftermath.wanted[answer.json["tenant_id"]] = "ready"
        aftermath.operations.append(answer.json["operation_id"])
    aftermaths[crash] = aftermath


@CRASHES
def test_all_under_way_come_to_their_end_after(
    crash: Crash, stack: Stack, api: Api, aftermaths: dict[Crash, Aftermath]
) -> None:
    assert crash in aftermaths, "the service did not die there"
    for operation in aftermaths[crash].operations:
        ended = api.wait_operation(operation, 60)
        assert ended["state"] == "succeeded", ended
    for tenant, state in aftermaths[crash].wanted.items():
        assert api.tenant(tenant)["state"] == state
        check_belongings(stack, tenant, 0 if state in ENDS.values() else 1)
    companies = rows(stack, f"select company from provisioner.tenant where company like '{crash.name} _'")
    assert sorted(company for (company,) in companies) == [f"{crash.name} {n}" for n in range(3)]


def check_belongings(stack: Stack, tenant: str, databases: int) -> None:
    """One database with its three or four logins, or nothing at all."""
    name = f"tn_{tenant.replace('-', '')}"
    found = rows(stack, f"select datname from pg_database where starts_with(datname, '{name}')")
    logins = rows(stack, f"select rolname from pg_roles where starts_with(rolname, '{name}')")
    assert len(found) == databases, found
    assert len(logins) in ((3, 4) if databases else (0,)), logins


def test_no_secret_is_anywhere_in_clear(stack: Stack, api: Api, app: Api) -> None:
    tenant = api.ready_tenant("Secretive Shop", email="owner@secretive.test")
    for command in ("backup", "rotate-credentials"):
        assert api.wait_operation(api.command(tenant, command).json["operation_id"])["state"] == "succeeded"
    handed_out = app.get(f"/api/tenants/{tenant}/connection").json
    opened = tenant_passwords(stack)
    assert handed_out["password"].encode() in opened.values()
    secrets = {**opened, **secrets_of(stack)}
    assert len(opened) > 100

    links = invitations(stack)
    assert len(links) > 100

    found, searched = [], 0
    for place, content in places(stack, handed_out["database"]):
        searched += handed_out["user"].encode() in content
        found += [f"{name} in {place}" for name, secret in secrets.items() if secret in content]
        if not place.startswith("mail/"):
            found += [f"{name} in {place}" for name, link in links.items() if link in content]
    assert not found, found
    assert searched >= 2, "the dumps do not even have the login's name: the search is broken"


def places(stack: Stack, tenant_database: str) -> Iterator[tuple[str, bytes]]:
    """All that is kept or told: dumps of the catalog, of the roles and of a tenant, topics, logs, mails, archives."""
    for words in (["pg_dump", CATALOG], ["pg_dump", tenant_database], ["pg_dumpall", "--roles-only"]):
        yield " ".join(words), dump(stack, *words)
    for topic in topics_of(stack.kafka.bootstrap):
        records = read_all(stack.kafka.bootstrap, topic)
        parts = (part for r in records for part in (r.key, r.value, *r.headers.values()) if part is not None)
        yield f"topic {topic}", b"\n".join(parts)
    folders = (stack.root / name for name in ("logs", "mail", "archive"))
    logs = [stack.postgres.log_path, stack.kafka.log_path]
    for path in [*logs, *(path for folder in folders for path in folder.rglob("*") if path.is_file())]:
        yield str(path.relative_to(stack.root)), path.read_bytes()


def dump(stack: Stack, program: str, *words: str) -> bytes:
    environment = {
        "PGHOST": "127.0.0.1", "PGPORT": str(stack.postgres.port), "PGUSER": "postgres",
        "PGPASSWORD": stack.postgres.password, "PATH": os.environ.get("PATH", ""),
    }  # fmt: skip
    done = subprocess.run([postgres_programs() / program, *words], env=environment, capture_output=True, check=True)
    return done.stdout
