"""Signups to ready tenants with the postgres driver, beside the bare cost of the same databases made by psql."""

from __future__ import annotations

import http.client
import json
import os
import resource
import secrets
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.local.postgres import postgres_programs
from deploy.local.process import wait_until
from deploy.local.stack import CATALOG, REPOSITORY, Stack

from .machine import CpuMeter

WORKERS = 8  # the provisioner's default: sagas in hand at once
WAIT_SECONDS = 600.0

# One line per tenant and thing told about it, in the order it was told.
TOLD = """
select tenant_id::text, type, coalesce(data ->> 'step', ''), extract(epoch from at)::float8
from catalog.tenant_event
where tenant_id = any (%s::uuid[])
order by tenant_id, seq
"""

READY = "select count(*) from provisioner.tenant where tenant_id = any (%s::uuid[]) and state = 'ready'"

BARE_CREATE = """
create role {name}_owner login connection limit 10 password '{password}';
create role {name}_app;
create role {name}_app_a login connection limit 20 password '{password}';
grant {name}_app to {name}_app_a;
create database {name} template template0 owner {name}_owner connection limit 0;
revoke all on database {name} from public;
grant connect, temporary on database {name} to {name}_app;
alter database {name} connection limit 30;
"""

BARE_RIGHTS = """
create table public.schema_migrations (version varchar(50) primary key, applied_at timestamptz default now());
revoke create on schema public from public;
grant usage on schema public to {name}_app;
alter default privileges in schema public grant select, insert, update, delete on tables to {name}_app;
alter default privileges in schema public grant usage, select on sequences to {name}_app;
"""


@dataclass
class Round:
    """So many tenants made, at once or one after the other."""

    tenants: int
    seconds: float
    steps: dict[str, list[float]]  # milliseconds
    cpu: dict[str, float]

    @property
    def per_minute(self) -> float:
        return self.tenants * 60 / self.seconds

    def median_ms(self, step: str) -> float:
        return statistics.median(self.steps[step])


@contextmanager
def tenant_stack(root: Path) -> Iterator[Stack]:
    """Everything with fsync on, one provisioner."""
    stack = Stack(root, fast=False, options={"JANITOR_INTERVAL": "5m"})  # the default; tests look every two seconds
    try:
        stack.start(gateways=1, provisioners=1)
        yield stack
    finally:
        stack.destroy()


def sign_up(stack: Stack, count: int, what: str, times: list[float] | None = None) -> list[str]:
    """So many signups one after the other over one connection; returns the tenants' ids in this order, and when each
    was sent."""
    gateway = http.client.HTTPConnection("127.0.0.1", stack.services["gateway-0"].http_port or 0, timeout=30)
    headers = {"authorization": f"Bearer {stack.settings['tokens']['signup']}", "content-type": "application/json"}
    tenants = []
    for number in range(count):
        body = json.dumps({"company": f"{what} Pharmacy {number}", "email": f"owner{number}@bench.example"})
        if times is not None:
            times.append(time.monotonic())
        gateway.request("POST", "/api/signups", body, headers)
        answer = gateway.getresponse()
        told = json.load(answer)
        if answer.status != 202:
            raise RuntimeError(f"a signup was answered {answer.status}: {told}")
        tenants.append(str(told["tenant_id"]))
    gateway.close()
    return tenants


def wait_until_ready(stack: Stack, tenants: list[str], seconds: float = WAIT_SECONDS) -> None:
    with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:

        def all_ready() -> bool:
            time.sleep(0.25)
            row = catalog.execute(READY, (tenants,)).fetchone()
            return row is not None and int(row[0]) == len(tenants)

        wait_until(all_ready, seconds, f"{len(tenants)} tenants are ready")


def _steps_of(stack: Stack, tenants: list[str]) -> tuple[float, dict[str, list[float]]]:
    """When the last tenant was ready, and how long each step took: from the event of its beginning to the next."""
    with psycopg.connect(stack.postgres.url(CATALOG)) as catalog:
        told = catalog.execute(TOLD, (tenants,)).fetchall()
    steps: dict[str, list[float]] = {}
    last = 0.0
    step, since, of = "", 0.0, ""
    for tenant, kind, entered, at in told:
        if tenant != of or kind == "tenant.requested.v1":
            step, since, of = "wait and reserve", at, tenant
        elif kind == "tenant.activity.progressed.v1" or kind == "tenant.activity.finished.v1":
            steps.setdefault(step, []).append((at - since) * 1000)
            step, since = entered, at
            last = max(last, at)
    return last, steps


def _meter(stack: Stack, provisioners: int) -> CpuMeter:
    pids = {"postgres": stack.postgres.pid, "broker": stack.kafka.pid}
    pids["gateway"] = stack.services["gateway-0"].process.pid
    pids |= {f"provisioner-{i}": stack.services[f"provisioner-{i}"].process.pid for i in range(provisioners)}
    meter = CpuMeter({name: pid for name, pid in pids.items() if pid is not None}, frozenset({"postgres"}))
    meter.start()
    return meter


def measure_tenants(stack: Stack, count: int, provisioners: int, what: str) -> Round:
    """From the first signup sent to the last tenant ready."""
    meter = _meter(stack, provisioners)
    began = time.time()
    tenants = sign_up(stack, count, what)
    wait_until_ready(stack, tenants)
    cpu = meter.read()
    last, steps = _steps_of(stack, tenants)
    return Round(count, last - began, steps, cpu)


def measure_alone(stack: Stack, count: int) -> Round:
    """One tenant after the other, so that no step waits for another tenant's."""
    meter = _meter(stack, 1)
    steps: dict[str, list[float]] = {}
    seconds = 0.0
    for number in range(count):
        began = time.time()
        tenants = sign_up(stack, 1, f"Alone {number}")
        wait_until_ready(stack, tenants)
        last, taken = _steps_of(stack, tenants)
        seconds += last - began
        steps.setdefault("signup until told", []).append((last - began) * 1000 - sum(sum(t) for t in taken.values()))
        for step, times in taken.items():
            steps.setdefault(step, []).extend(times)
    return Round(count, seconds, steps, meter.read())


def migration_script() -> str:
    """The up parts of the tenant migrations with their lines in the ledger, in a transaction each where one may be."""
    parts = []
    for path in sorted((REPOSITORY / "migrations" / "tenant").glob("*.sql")):
        options, up = path.read_text().split("-- migrate:up", 1)[1].split("-- migrate:down", 1)[0].split("\n", 1)
        version = path.name.split("_", 1)[0]
        script = f"insert into public.schema_migrations (version) values ('{version}');\n{up}\n"
        parts.append(script if "transaction:false" in options else f"begin;\n{script}commit;\n")
    return "".join(parts)


def measure_bare(stack: Stack, count: int, parallel: int, what: str) -> Round:
    """What a script does for each tenant: one psql makes roles and database, one applies the migrations."""
    script = migration_script()
    steps: dict[str, list[float]] = {"create": [], "migrate": []}
    psql = str(postgres_programs() / "psql")

    def run(sql: str, user: str, password: str, database: str) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""), "PGHOST": "127.0.0.1", "PGPORT": str(stack.postgres.port),
            "PGUSER": user, "PGPASSWORD": password, "PGDATABASE": database,
        }  # fmt: skip
        done = subprocess.run(
            [psql, "-Xq", "--set=ON_ERROR_STOP=1"], input=sql, env=environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"psql failed: {done.stderr}")

    def make(number: int) -> None:
        name, password = f"bare_{what}_{number}", secrets.token_urlsafe(24)
        began = time.monotonic()
        run(BARE_CREATE.format(name=name, password=password), "postgres", stack.postgres.password, "postgres")
        made = time.monotonic()
        run(BARE_RIGHTS.format(name=name) + script, f"{name}_owner", password, name)
        steps["create"].append((made - began) * 1000)
        steps["migrate"].append((time.monotonic() - made) * 1000)

    postgres = stack.postgres.pid
    assert postgres is not None
    meter = CpuMeter({"postgres": postgres}, frozenset({"postgres"}))
    meter.start()
    children, began = _children_cpu(), time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(make, range(count)))
    seconds, used = time.monotonic() - began, meter.read()
    used["psql"] = _children_cpu() - children
    used["others"] = max(0.0, used["others"] - used["psql"])
    return Round(count, seconds, steps, used)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
