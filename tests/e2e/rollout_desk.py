"""An operator and a migrator in one, who work on a catalog alone: the tenants' databases are what the test says they are."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from deploy.local.fleet import make_fleet, tenant_number
from deploy.local.stack import CATALOG, Stack

from .conftest import bare_catalog
from .test_catalog import as_service, one

BASE = ["1", "2", "3"]
SHOPS = 4


def shop(number: int) -> str:
    return tenant_number(number)


@contextlib.contextmanager
def shops_catalog(name: str, count: int = SHOPS) -> Iterator[Stack]:
    """A catalog of so many shops, whose databases nobody has made."""
    with bare_catalog(name) as stack:
        make_fleet(stack.postgres.url(CATALOG), count)
        yield stack


class Desk:
    """Four shops, which have the three files that there are; and their own ledgers: version -> the run that brought it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.admin = psycopg.connect(stack.postgres.url(CATALOG), autocommit=True)
        self.admin.execute("set search_path = migrator, durable, catalog")
        self.migrator = as_service(stack, "migrator")
        self.has: dict[str, dict[str, str]] = {}
        self.migrator.execute("select claim_inspections(0, 0)")  # as each migrator does all the time
        self.admin.execute("update provisioner.tenant set schema_version = '3'")
        for version in BASE:
            assert self.file(version) == ("succeeded", None)
        for number in range(SHOPS):
            self.know(shop(number + 1), BASE)

    def event(self, what: str, data: dict[str, Any]) -> tuple[str, str]:
        """Returns the operation's state, and its code."""
        event = {"id": str(uuid.uuid4()), "source": "/test", "type": f"migration.{what}.requested.v1", "body_hash": "x"}
        self.migrator.execute("select accept_event(%s, %s)", (json.dumps(event), json.dumps(data)))
        row = self.admin.execute("select state, code from operation where operation_id = %s", (event["id"],)).fetchone()
        assert row is not None
        return row[0], row[1]

    def file(self, version: str, **more: Any) -> tuple[str, str]:
        facts = {"version": version, "name": f"{version}_f.sql", "checksum": version, "sql": "select 1"}
        return self.event("register", {**facts, "transaction": True, "reversible": True, **more})

    def know(self, tenant: str, versions: list[str] | None, run: str = "") -> None:
        """The tenant's database has these, and the catalog knows (None: does not)."""
        self.has[tenant] = dict.fromkeys(versions or [], run)
        value = None if versions is None else json.dumps(versions)
        self.migrator.execute("select catalog.record_ledger(%s, %s)", (tenant, value))

    def begin(self, **wanted: Any) -> str:
        run = str(uuid.uuid4())
        assert self.event("run", {"run_id": run, "strategy": "all", **wanted}) == ("succeeded", None)
        return run

    def command(self, run: str, what: str, **more: Any) -> tuple[str, str]:
        return self.event(what, {"run_id": run, **more})

    def claim(self, limit: int = 100) -> list[dict[str, Any]]:
        """Jobs that change something, once all that is to be looked at or rehearsed has been."""
        while True:
            self.inspect()
            rows = self.migrator.execute("select to_jsonb(c) from claim_jobs('me', 30000, %s) c", (limit,)).fetchall()
            jobs = [row[0] for row in rows]
            rehearsed = [job for job in jobs if job["task"] == "forecasting"]
            if not rehearsed:
                return jobs
            for job in rehearsed:
                self.end(job, forecast="passed")
            self.advance()

    def end(self, job: dict[str, Any], outcome: str = "done", **more: Any) -> None:
        """As a migrator would report it; what the database has is told only by an attempt that ended well."""
        result = {
            "job_id": job["job_id"],
            "fence": job["fence"],
            "outcome": outcome,
            "brought": job["brought"],
            "delay_ms": 0,
        }
        if outcome == "done" and job["task"] != "forecasting":
            self.apply(job)
            mine = sorted(version for version, run in self.has[job["tenant_id"]].items() if run == job["run_id"])
            result |= {"brought": mine, "versions": sorted(self.has[job["tenant_id"]])}
        self.migrator.execute("select end_jobs(%s)", (json.dumps([{**result, **more}]),))

    def apply(self, job: dict[str, Any]) -> None:
        """In the tenant's database."""
        ledger = self.has[job["tenant_id"]]
        for version in job["versions"]:
            if job["task"] == "applying":
                ledger.setdefault(version, job["run_id"])
            elif ledger.get(version) == job["run_id"]:
                del ledger[version]

    def inspect(self, found: dict[str, dict[str, Any] | None] | None = None) -> int:
        """Looks into the databases that are to be looked into, and finds nothing amiss, or what is said here of a tenant (None: it
        cannot be reached). Returns how many there were."""
        rows = self.migrator.execute("select to_jsonb(c) from claim_inspections(100, 100) c").fetchall()
        results = []
        for (taken,) in rows:
            tenant = taken["tenant_id"]
            seen = (found or {}).get(tenant, {})
            result: dict[str, Any] = {"inspection_id": taken["inspection_id"], "changed_at": taken["changed_at"]}
            if seen is None:
                result["error"] = {"code": "connect_failed", "class": "busy", "detail": "it is away"}
            else:
                result["found"] = {
                    "versions": sorted(self.has.get(tenant, {})),
                    "invalid_indexes": [],
                    "counters": {"commits": 1000, "rollbacks": 10, "deadlocks": 0},
                    "server_major": 15,
                    "schema": {"digest": "-".join(sorted(self.has.get(tenant, {}))), "objects": {}},
                    **seen,
                }
            results.append(result)
        self.migrator.execute("select end_inspections(%s)", (json.dumps(results),))
        return len(results)

    def advance(self) -> None:
        self.migrator.execute("select advance()")

    def work(self) -> int:
        """Until nothing is left to be done; returns how many tenants were connected to."""
        count = 0
        for _ in range(20):
            jobs = self.claim()
            for job in jobs:
                self.end(job)
            count += len(jobs)
            self.advance()
        return count

    def state(self, run: str) -> str:
        return str(one(self.admin, "select state from run where run_id = %s", run))

    def jobs(self, run: str) -> dict[str, str]:
        return dict(self.admin.execute("select tenant_id::text, state from job where run_id = %s", (run,)).fetchall())

    def leave(self, tenant: str, state: str = "archived") -> None:
        self.admin.execute("update provisioner.tenant set state = %s where tenant_id = %s", (state, tenant))

    def close(self) -> None:
        self.migrator.close()
        self.admin.execute("set lock_timeout = '10s'")
        self.admin.execute("delete from operation where kind = 'drift'")
        self.admin.execute(
            "delete from job; delete from run; delete from drift_check; delete from tenant; delete from ledger; delete from file"
        )
        self.admin.execute(
            "delete from tenant_claim; update provisioner.tenant set state = 'ready', schema_version = '3'"
        )
        self.admin.close()
