"""A schema change for a whole fleet, beside what else brings one to so many databases; and how large a fleet may be."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.fleet import make_fleet
from deploy.local.ports import reserve_port
from deploy.local.process import ServerProcess, wait_until
from deploy.local.stack import CATALOG, PYTHON, REPOSITORY, Stack

from .fleet import Timed
from .machine import CpuMeter, cpu_seconds, peak_rss_mb, rss_mb
from .rollout_tools import LEDGERS, Tool, Tools
from .tenants import sign_up, wait_until_ready

SIGNUPS_AT_ONCE = 16
WAIT_SECONDS = 900.0
ROUND_TRIP_MS = 20
FAR_TENANTS = 100
FAR_AT_ONCE = 8
KEPT_OPEN_SECONDS = 5.0
ENDED = ("completed", "halted", "cancelled", "rolled_back")

# Of the fleet that is measured, in the order in which the run takes nobody in particular.
DATABASES = """
select d.tenant_id::text, d.name
from provisioner.database d
join provisioner.tenant t using (tenant_id)
where t.state = 'ready'
  and d.status = 'live'
order by d.name
"""

RUN = """
select state, extract(epoch from state_since)::float8, extract(epoch from ended_at)::float8, reason
from migrator.run
where run_id = %s
"""

SESSIONS = "select coalesce(sum(sessions), 0)::bigint from pg_stat_database where datname = any (%s)"

BUSY = "select count(*) from pg_stat_activity where datname = any (%s) and backend_type = 'client backend'"

CATALOG_BACKENDS = f"select pid from pg_stat_activity where datname = '{CATALOG}'"


@dataclass
class Rollout:
    """One change brought to so many tenants."""

    name: str
    tenants: int
    seconds: float
    connections: float  # to tenants' databases
    cpu: dict[str, float]
    rss_mb: float = 0.0  # of the larger migrator, at most
    states: dict[str, float] = field(default_factory=dict)  # seconds in each, of a run of ours

    @property
    def per_second(self) -> float:
        return self.tenants / self.seconds


@dataclass
class Far:
    """Us and dbmate over a long way."""

    tenants: int
    at_once: int
    ours: list[Rollout]
    dbmate: list[Rollout]


@dataclass
class Rows:
    """What a fleet of rows was asked, and what the processes held before and after."""

    tenants: int
    planned_ms: float
    halted_seconds: float
    pages: list[Timed]
    memory: dict[
        str, list[float]
    ]  # MB by process: before, when the pages were asked for, when they were asked for again


class Operator:
    """An admin token at the gateway, over one connection."""

    def __init__(self, stack: Stack) -> None:
        self.headers = {
            "authorization": f"Bearer {stack.settings['tokens']['admin']}", "content-type": "application/json",
        }  # fmt: skip
        self.gateway = http.client.HTTPConnection("127.0.0.1", stack.services["gateway-0"].http_port or 0, timeout=60)
        self.asked_at = 0.0

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        if time.monotonic() - self.asked_at > KEPT_OPEN_SECONDS:
            self.gateway.close()  # the gateway may have closed it meanwhile; the next request opens it again
        self.asked_at = time.monotonic()
        self.gateway.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.gateway.getresponse()
        told: dict[str, Any] = json.load(answer)
        return answer.status, told

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        status, told = self.ask(method, path, body)
        if status not in (200, 202):
            raise RuntimeError(f"{method} {path} was answered {status}: {told}")
        return told

    def done(self, told: dict[str, Any]) -> dict[str, Any]:
        """When the operation has ended, and well."""
        operation: dict[str, Any] = {}

        def has_ended() -> bool:
            status, answer = self.ask("GET", f"/api/operations/{told['operation_id']}")
            operation.update(answer)
            return status == 200 and answer["state"] != "accepted"  # unknown while it is on its way through Kafka

        wait_until(has_ended, 60, "the operation ends")
        if operation["state"] != "succeeded":
            raise RuntimeError(f"an operation ended so: {operation}")
        return operation

    def register(self, version: str, sql: str, down: str) -> None:
        body = {"name": f"{version}_bench.sql", "sql": f"-- migrate:up\n{sql};\n-- migrate:down\n{down};\n"}
        self.done(self.call("POST", "/api/admin/migrations/files", body))


class Fleet:
    """A stack whose tenants are all ready, and what is known about them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.operator = Operator(stack)
        self.catalog = psycopg.connect(stack.postgres.url(CATALOG), autocommit=True)
        found = self.catalog.execute(DATABASES).fetchall()
        self.tenants = [str(row[0]) for row in found]
        self.databases = [str(row[1]) for row in found]
        self.changes = 0

    def number(self, sql: str) -> int:
        row = self.catalog.execute(sql, (self.databases,)).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def settle(self) -> None:
        """Nobody is connected to a tenant's database any more, and what was written is on the disk: the next one begins as
        the one before it did."""
        wait_until(lambda: self.number(BUSY) == 0, 60, "nobody is connected to a tenant")
        self.catalog.execute("checkpoint")

    def register_change(self) -> None:
        self.changes += 1
        column = f"ours_{self.changes}"
        self.operator.register(
            f"2027{self.changes:010}",
            f"alter table public.branches add column {column} text",
            f"alter table public.branches drop column {column}",
        )

    def catalog_cpu(self) -> dict[int, float]:
        used = {}
        for (pid,) in self.catalog.execute(CATALOG_BACKENDS).fetchall():
            try:
                used[pid] = cpu_seconds(pid)
            except OSError:
                continue  # ended meanwhile
        return used


@contextmanager
def rollout_stack(root: Path, count: int, say: Callable[[str], None]) -> Iterator[Fleet]:
    """So many tenants with fsync on, a gateway, a provisioner and two migrators."""
    stack = Stack(root / "stack", fast=False, max_connections=300, options={"WORKERS": "16", "JANITOR_INTERVAL": "5m"})
    try:
        stack.start(gateways=1, provisioners=2, migrators=2)
        began = time.monotonic()
        share = [len(range(i, count, SIGNUPS_AT_ONCE)) for i in range(SIGNUPS_AT_ONCE)]
        with ThreadPoolExecutor(SIGNUPS_AT_ONCE) as pool:
            signed = pool.map(lambda i: sign_up(stack, share[i], f"Rollout {i}"), range(SIGNUPS_AT_ONCE))
            tenants = [tenant for some in signed for tenant in some]
        wait_until_ready(stack, tenants, max(WAIT_SECONDS, count * 1.0))
        say(f"  {count} tenants are ready after {time.monotonic() - began:.0f} s")
        stack.services.pop("provisioner-1").stop()  # one goes on publishing what happens to tenants
        fleet = Fleet(stack)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: _make_ledgers(stack, name), fleet.databases))
        yield fleet
    finally:
        stack.destroy()


def _make_ledgers(stack: Stack, database: str) -> None:
    with psycopg.connect(stack.postgres.url(database)) as tenant:
        tenant.execute(LEDGERS)


def _migrators(stack: Stack) -> dict[str, int]:
    found = {name: each.process.pid for name, each in stack.services.items() if name.startswith("migrator")}
    return {name: pid for name, pid in found.items() if pid is not None}


def _meter(stack: Stack) -> CpuMeter:
    pids = {"postgres": stack.postgres.pid, "broker": stack.kafka.pid}
    pids |= {name: each.process.pid for name, each in stack.services.items()}
    meter = CpuMeter({name: pid for name, pid in pids.items() if pid is not None}, frozenset({"postgres"}))
    meter.start()
    return meter


def _follow(fleet: Fleet, run: str, began: float) -> tuple[str, dict[str, float], float]:
    """The state a run ends in, seconds in each state before, and when it ended."""
    entered: dict[str, float] = {}
    ended: list[tuple[str, float]] = []

    def has_ended() -> bool:
        time.sleep(0.02)
        row = fleet.catalog.execute(RUN, (run,)).fetchone()
        if row is None:
            return False  # on its way through Kafka
        entered.setdefault(row[0], row[1])
        if row[0] in ENDED:
            ended.append((row[0], row[2] or row[1]))
        return bool(ended)

    wait_until(has_ended, WAIT_SECONDS, f"run {run} ends")
    state, at = ended[0]
    times = [*((name, since) for name, since in entered.items() if name not in ENDED), (state, at)]
    states = {"planned": times[0][1] - began}
    for (name, since), (_, until) in zip(times, times[1:], strict=False):
        states[name] = until - since
    return state, states, at


def _measured_run(fleet: Fleet, name: str, count: int, **wanted: object) -> Rollout:
    """From the POST until the catalog has the run's end."""
    fleet.settle()
    sessions, backends, meter = fleet.number(SESSIONS), fleet.catalog_cpu(), _meter(fleet.stack)
    began = time.time()
    told = fleet.operator.call("POST", "/api/admin/migrations/run", {"strategy": "all", **wanted})
    state, states, at = _follow(fleet, str(told["run_id"]), began)
    cpu = meter.read()
    cpu["catalog"] = sum(used - backends.get(pid, 0.0) for pid, used in fleet.catalog_cpu().items())
    if state != "completed":
        raise RuntimeError(
            f"run {told['run_id']} is {state}: {fleet.catalog.execute(RUN, (told['run_id'],)).fetchone()}"
        )
    wait_until(lambda: fleet.number(BUSY) == 0, 60, "nobody is connected to a tenant")
    memory = max(peak_rss_mb(pid) for pid in _migrators(fleet.stack).values())
    return Rollout(name, count, at - began, fleet.number(SESSIONS) - sessions, cpu, memory, states)


def measure_ours(fleet: Fleet) -> tuple[Rollout, Rollout, Rollout]:
    """One file, for everybody: as a dry run, as a run, and as a run that finds that everybody has it."""
    fleet.register_change()
    count = len(fleet.tenants)
    dry = _measured_run(fleet, "dry run", count, dry_run=True)
    ours = _measured_run(fleet, "Tenantry, two migrators", count)
    return dry, ours, _measured_run(fleet, "everybody has it", count)


def measure_tool(fleet: Fleet, tool: Tool) -> Rollout:
    databases = fleet.databases[: tool.most]
    fleet.settle()
    sessions, meter = fleet.number(SESSIONS), _meter(fleet.stack)
    began = time.monotonic()
    used = tool.run(databases, tool.at_once)
    seconds, cpu = time.monotonic() - began, meter.read()
    cpu["tool"] = used
    cpu["others"] = max(0.0, cpu["others"] - used)
    wait_until(lambda: fleet.number(BUSY) == 0, 60, "nobody is connected to a tenant")
    return Rollout(tool.name, len(databases), seconds, fleet.number(SESSIONS) - sessions, cpu)


@contextmanager
def _relay(fleet: Fleet, root: Path) -> Iterator[int]:
    port = reserve_port()
    process = ServerProcess(
        [PYTHON, "-m", "bench.relay", str(port), str(fleet.stack.postgres.port), str(ROUND_TRIP_MS / 2)],
        log_path=root / "relay.log", pid_path=root / "relay.pid", cwd=REPOSITORY, die_with_parent=True,
    )  # fmt: skip
    process.start()
    try:

        def answers() -> bool:
            try:
                psycopg.connect(
                    fleet.stack.postgres.url().replace(f":{fleet.stack.postgres.port}/", f":{port}/")
                ).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, 20, "the relay answers")
        yield port
    finally:
        process.stop()


def measure_far(fleet: Fleet, root: Path, tools: Tools, runs: int) -> Far:
    """The same on some of the tenants, as many at once with both, each round trip to them as long as to another region."""
    far = Far(min(FAR_TENANTS, len(fleet.tenants)), FAR_AT_ONCE, [], [])
    tenants = fleet.tenants[: far.tenants]
    with _relay(fleet, root) as port:
        servers = [{**server, "direct_host": "127.0.0.1", "direct_port": str(port)} for server in fleet.stack.servers()]
        for index in range(2):
            fleet.stack.services[f"migrator-{index}"].stop()
            fleet.stack.start_service("migrator", index, TENANT_SERVERS=json.dumps(servers))
        tool = Tool("dbmate", lambda names, at_once: tools.dbmate(names, at_once, port), far.at_once, far.tenants)
        for number in range(runs):
            for turn in (0, 1):
                if (turn + number) % 2 == 0:
                    fleet.register_change()
                    far.ours.append(
                        _measured_run(fleet, "Tenantry", far.tenants, tenants=tenants, concurrency=far.at_once)
                    )
                else:
                    far.dbmate.append(measure_tool(fleet, tool))
    return far


def measure_rows(root: Path, count: int) -> Rows:
    """A fleet that is nothing but rows: its jobs are claimed, fail before they connect, since no secret of theirs can be
    opened, and are recorded; then the run halts."""
    stack = Stack(root / "rows", fast=False)
    try:
        stack.start_servers()
        make_fleet(stack.postgres.url(CATALOG), count)
        for name, index in (("gateway", 0), ("migrator", 0), ("migrator", 1)):
            stack.start_service(name, index)
        fleet = Fleet(stack)
        pids = _migrators(stack) | {"gateway-0": stack.services["gateway-0"].process.pid or 0}
        fleet.register_change()  # when that is done, the migrators have their partitions of Kafka's topic
        memory: dict[str, list[float]] = {name: [rss_mb(pid)] for name, pid in pids.items()}
        began = time.time()
        told = fleet.operator.call("POST", "/api/admin/migrations/run", {"strategy": "all", "forecast": "all"})
        fleet.operator.done(told)
        planned = time.time() - began
        run, pages, at = str(told["run_id"]), [], 0.0
        for when in ("while it runs", "afterwards"):
            pages += _ask(fleet.operator, run, when)
            _, _, at = _follow(fleet, run, began)
            for name, pid in pids.items():
                memory[name].append(rss_mb(pid))
        return Rows(count, planned * 1000, at - began, pages, memory)
    finally:
        stack.destroy()


def _ask(operator: Operator, run: str, when: str) -> list[Timed]:
    of_run = f"/api/admin/migrations/runs/{run}"
    paths = {
        "status of all runs": "/api/admin/migrations/status",
        "status of the run": of_run,
        "its tenants, the first 50": f"{of_run}/tenants",
        "its tenants, 500 of them": f"{of_run}/tenants?limit=500",
        "its tenants that failed": f"{of_run}/tenants?state=failed",
    }
    timed = []
    for what, path in paths.items():
        taken = []
        for _ in range(20):
            began = time.monotonic()
            operator.call("GET", path)
            taken.append((time.monotonic() - began) * 1000)
        timed.append(Timed(f"{what}, {when}", taken))
    return timed
