"""What the sandbox was told at its start, and the few settings a test may change while it runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .refusal import Refusal

LIVE = {
    "coming_up_seconds": float,
    "services_lag_seconds": float,
    "rate_limit": int,
    "rate_scope": str,
    "site_url": str,
}


@dataclass
class Settings:
    database_url: str
    port: int = 54321
    auth_port: int = 54321
    smtp_port: int | None = None
    host: str = "127.0.0.1"
    state_database: str = "tenantry_sandbox"
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
    seed: int = 0

    def auth_base(self, ref: str) -> str:
        return f"http://127.0.0.1:{self.auth_port}/auth/{ref}/v1"

    def live(self) -> dict[str, Any]:
        """The settings a test may change, as they are now."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name in LIVE}

    def change(self, wanted: dict[str, Any]) -> None:
        """Takes over new values of live settings; refuses an unknown name or a value of the wrong type."""
        taken = {}
        for name, value in wanted.items():
            kind = LIVE.get(name)
            if kind is None:
                raise Refusal(400, f"unknown setting {name}; known: {', '.join(sorted(LIVE))}")
            try:
                taken[name] = [str(item) for item in value] if kind is list else kind(value)
            except (TypeError, ValueError):
                raise Refusal(400, f"{name} must be of type {kind.__name__}") from None
        for name, value in taken.items():
            setattr(self, name, value)
