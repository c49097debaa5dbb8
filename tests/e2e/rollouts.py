"""Rollouts as a test sees them: files registered, runs begun, watched and commanded."""

from __future__ import annotations

from typing import Any

import psycopg

from deploy.local.stack import Stack

from .client import Api, eventually
from .command import cli
from .invariants import rows

ENDED = {"completed", "rolled_back", "cancelled"}


class Rollouts:
    """An operator with an admin token."""

    def __init__(self, stack: Stack, api: Api | None = None) -> None:
        self.stack = stack
        self.api = api or Api(stack.services["gateway-0"].url, stack.settings["tokens"]["admin"])
        self.made = 0
        self.sql: dict[str, str] = {}  # of each version

    def file(self, up: str, down: str = "", options: str = "", **more: Any) -> str:
        """Registers a file with the next version; returns the version."""
        self.made += 1
        version = f"2027{self.made:010}"
        self.sql[version] = f"-- migrate:up{options}\n{up}\n-- migrate:down{options}\n{down}\n"
        self.register(f"{version}_made.sql", self.sql[version], **more)
        return version

    def register(self, name: str, sql: str, **more: Any) -> dict[str, Any]:
        told = self.api.post("/api/admin/migrations/files", {"name": name, "sql": sql, **more})
        assert told.status == 202, told
        done: dict[str, Any] = self.api.wait_operation(told.json["operation_id"])
        assert done["state"] == "succeeded", done
        return done

    def withdraw(self, version: str) -> dict[str, Any]:
        told = self.api.post("/api/admin/migrations/files/withdraw", {"name": f"{version}_made.sql"})
        assert told.status == 202, told
        return dict(self.api.wait_operation(told.json["operation_id"]))

    def begin(self, **wanted: Any) -> str:
        """Begins a run; returns its id once it is planned."""
        told = self.api.post("/api/admin/migrations/run", wanted)
        assert told.status == 202, told
        done = self.api.wait_operation(told.json["operation_id"])
        assert done["state"] == "succeeded", done
        return str(told.json["run_id"])

    def refused(self, **wanted: Any) -> tuple[str, str]:
        told = self.api.post("/api/admin/migrations/run", wanted)
        assert told.status == 202, told
        done = self.api.wait_operation(told.json["operation_id"])
        assert done["state"] == "rejected", done
        return done["code"], done["detail"]

    def run(self, run: str) -> dict[str, Any]:
        told = self.api.get(f"/api/admin/migrations/runs/{run}")
        assert told.status == 200, told
        return dict(told.json)

    def tenants(self, run: str, query: str = "") -> list[dict[str, Any]]:
        told = self.api.get(f"/api/admin/migrations/runs/{run}/tenants{query}")
        assert told.status == 200, told
        return list(told.json["tenants"])

    def wait(self, run: str, *states: str, seconds: float = 30) -> dict[str, Any]:
        eventually(lambda: self.run(run)["state"] in states, seconds, f"run is {states}: {self.run(run)}")
        return self.run(run)

    def completed(self, **wanted: Any) -> str:
        run = self.begin(**wanted)
        ended = self.wait(run, *ENDED, "halted")
        assert ended["state"] == "completed", ended
        return run

    def command(self, run: str, command: str, **more: Any) -> dict[str, Any]:
        told = self.api.post(f"/api/admin/migrations/runs/{run}/{command}", more)
        assert told.status == 202, told
        return dict(self.api.wait_operation(told.json["operation_id"]))

    def advance_clock(self, by: str) -> None:
        done = cli(self.stack, "clock", "advance", by, SANDBOX="1")
        assert done.returncode == 0, done.stderr

    def query_catalog(self, sql: str) -> list[list[str]]:
        return rows(self.stack, sql)

    # What tenants have.

    def database_of(self, tenant: str) -> str:
        sql = "select coalesce(dbname, name) from provisioner.database "
        sql += f"where tenant_id = '{tenant}' order by generation desc limit 1"
        return rows(self.stack, sql)[0][0]

    def query(self, tenant: str, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.tenant_postgres.url(self.database_of(tenant)), autocommit=True) as database:
            cursor = database.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def versions(self, tenant: str) -> list[str]:
        return [row[0] for row in self.query(tenant, "select version from public.schema_migrations order by 1")]
