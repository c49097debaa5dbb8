"""What the Supabase room was told at its start, and which of it a test may change while it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..settings import LiveSettings


@dataclass
class SupabaseSettings(LiveSettings):
    LIVE: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "coming_up_seconds": float,
        "services_lag_seconds": float,
        "rate_limit": int,
        "rate_scope": str,
        "site_url": str,
    }

    port: int = 54321
    auth_port: int = 54321
    token: str = "sbp_sandbox"
    organization: str = "sandbox"
    plan: str = "pro"
    max_projects: int = 100_000
    coming_up_seconds: float = 0.3
    services_lag_seconds: float = 0.1
    rate_limit: int = 120
    rate_scope: str = "endpoint"
    lazy_databases: bool = False
    database_workers: int = 2
    database_strategy: str = "wal_log"
    pooler_host: str = "127.0.0.1"
    pooler_port: int = 6543
    site_url: str = "http://localhost:3000"

    def auth_base(self, ref: str) -> str:
        return f"http://127.0.0.1:{self.auth_port}/auth/{ref}/v1"


def port_or_same(text: str) -> int | None:
    return None if text == "same" else int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = SupabaseSettings()
    add = parser.add_argument_group("Supabase").add_argument
    add("--port", type=int, default=default.port, help="HTTP port (%(default)s)")
    add("--auth-port", type=port_or_same, help="a second port for the Auth API, or: same (the default)")
    add("--token", default=default.token, help="the access token that is accepted (%(default)s)")
    add("--organization", default=default.organization, help="slug of the first organization (%(default)s)")
    add("--plan", default=default.plan, choices=["free", "pro", "team"], help="its plan (%(default)s)")
    add("--max-projects", type=int, help="its quota (free: 2, else 100000)")
    add("--coming-up-seconds", type=float, default=default.coming_up_seconds, help="(%(default)s)")
    add("--services-lag-seconds", type=float, default=default.services_lag_seconds, help="(%(default)s)")
    add("--rate-limit", type=int, default=default.rate_limit, help="requests a minute (%(default)s)")
    add(
        "--rate-scope",
        choices=["endpoint", "project"],
        default=default.rate_scope,
        help="what the limit is counted by",
    )
    add(
        "--lazy-databases",
        "--no-databases",
        action="store_true",
        help="make a database when its pooler is read",
    )
    add(
        "--database-workers",
        type=int,
        default=default.database_workers,
        help="databases made at once (%(default)s)",
    )
    add("--database-strategy", choices=["wal_log", "file_copy"], default=default.database_strategy)
    add("--pooler-host", default=default.pooler_host, help="host in the pooler's answer (%(default)s)")
    add(
        "--pooler-port",
        type=int,
        default=default.pooler_port,
        help="port in the pooler's answer (%(default)s)",
    )
    add(
        "--site-url",
        default=default.site_url,
        help="a new project's site_url, where a link leads whose redirect_to is not allowed",
    )


def complete(told: dict[str, Any]) -> dict[str, Any]:
    """Adds what follows from the rest of what was told."""
    quota = 2 if told["plan"] == "free" else SupabaseSettings.max_projects
    return {"auth_port": told["port"], "max_projects": quota, **told}
