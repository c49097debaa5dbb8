"""Lists over HTTP and what services ask again and again, with a large fleet in the catalog."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.local.fleet import make_fleet, tenant_number
from deploy.local.stack import CATALOG, Stack

TIMES = 20

# As if the janitor had seen every one of them.
INVENTORY = """
insert into provisioner.inventory (driver, server, name, tenant_id, generation, verdict)
select driver, server, name, tenant_id, generation, 'ours' from provisioner.database
"""

STATEMENTS = (
    "select wake_some(200)",
    "select * from saga_claim('bench', '{provision/reserve}', '{}', 1000, 8, 4)",
    "select * from saga_backlog()",
    "select * from catalog.events_to_publish(500)",
    "select * from catalog.snapshots_due(500, '{}')",
    "select watch_stuck()",
    "select prune()",
    "select * from gateway.load",
)


@dataclass
class Timed:
    """The same thing asked so many times."""

    what: str
    milliseconds: list[float]

    @property
    def times(self) -> int:
        return len(self.milliseconds)

    @property
    def median_ms(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def longest_ms(self) -> float:
        return max(self.milliseconds)


@contextmanager
def fleet_stack(root: Path, tenants: int) -> Iterator[Stack]:
    stack = Stack(root, fast=False)
    try:
        stack.start_servers()
        make_fleet(stack.postgres.url(CATALOG), tenants)
        with psycopg.connect(stack.postgres.url(CATALOG), autocommit=True) as catalog:
            catalog.execute(INVENTORY)
            catalog.execute("vacuum analyze provisioner.inventory")
        stack.start_service("gateway")
        yield stack
    finally:
        stack.destroy()


def _timed(what: str, ask: Callable[[], object]) -> Timed:
    taken = []
    for _ in range(TIMES):
        began = time.monotonic()
        ask()
        taken.append((time.monotonic() - began) * 1000)
    return Timed(what, taken)


def measure_lists(stack: Stack) -> list[Timed]:
    gateway = http.client.HTTPConnection("127.0.0.1", stack.services["gateway-0"].http_port or 0, timeout=30)
    headers = {"authorization": f"Bearer {stack.settings['tokens']['admin']}"}

    def get(path: str) -> dict[str, object]:
        gateway.request("GET", path, headers=headers)
        answer = gateway.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}")
        answered: dict[str, object] = json.loads(body)
        return answered

    cursor = ""
    for _ in range(20):
        cursor = str(
            get(f"/api/tenants?limit=500&cursor={cursor}" if cursor else "/api/tenants?limit=500")["next_cursor"]
        )
    behind = str(get("/api/admin/inventory")["next_cursor"])
    paths = {
        "tenants, the first 50": "/api/tenants",
        "tenants, 500 of them": "/api/tenants?limit=500",
        "tenants, 50 behind the first 10,000": f"/api/tenants?cursor={cursor}",
        "tenants of one plan": "/api/tenants?plan=chain",
        "tenants of a state that none has": "/api/tenants?state=attention",
        "one tenant by its name": "/api/tenants?subdomain=fleet-77",
        "one tenant with its history": f"/api/tenants/{tenant_number(77)}",
        "inventory, the first 500": "/api/admin/inventory",
        "inventory, 50 behind the first 500": f"/api/admin/inventory?limit=50&cursor={behind}",
        "alerts": "/api/admin/alerts",
        "dead letters": "/api/admin/dead-letters",
    }

    def asker(path: str) -> Callable[[], object]:
        return lambda: get(path)

    timed = [_timed(what, asker(path)) for what, path in paths.items()]
    gateway.close()
    return timed


def measure_statements(stack: Stack) -> list[Timed]:
    options = "-c search_path=provisioner,durable,catalog"
    with psycopg.connect(stack.postgres.url(CATALOG), options=options, autocommit=True) as catalog:

        def asker(sql: str) -> Callable[[], object]:
            return lambda: catalog.execute(sql)  # type: ignore[arg-type]

        return [_timed(f"`{sql}`", asker(sql)) for sql in STATEMENTS]
