"""The real dbmate, which judges our migrations; deploy/local/install.sh brings it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.postgres import SUPERUSER, PostgresServer, postgres_programs
from deploy.local.stack import REPOSITORY

CACHE = Path(os.environ.get("TENANTRY_CACHE", REPOSITORY / ".run" / "cache"))
PROGRAM = CACHE / "dbmate" / "bin" / "dbmate"


def there_is_dbmate() -> None:
    """Skips whoever asks on a machine for which there is none."""
    known = (REPOSITORY / "deploy" / "local" / "dbmate.txt").read_text()
    if not re.search(f"^{platform.machine()} ", known, re.MULTILINE):
        pytest.skip(f"there is no dbmate for {platform.machine()}")
    assert PROGRAM.exists(), "no dbmate: deploy/local/install.sh test brings it"


def let_dbmate_in(server: PostgresServer) -> None:
    """Its client refuses a verifier of few iterations, as tests' servers have for their superuser: this makes PostgreSQL's own."""
    server.execute(f"alter role {SUPERUSER} password '{server.password}'")


@dataclass
class Dbmate:
    """On one database, with the files of a directory; as another role if that is named."""

    url: str
    directory: Path
    role: str | None = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        url = f"{self.url}?sslmode=disable" + (f"&role={self.role}" if self.role else "")
        return subprocess.run(
            [PROGRAM, "--url", url, "--migrations-dir", self.directory, "--no-dump-schema", "--env-file", "/dev/null", *words],
            env={"PATH": "/usr/bin:/bin"}, cwd="/", capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def migrate(self) -> bool:
        return self.run("migrate").returncode == 0

    def rollback(self) -> bool:
        return self.run("rollback").returncode == 0

    def pending(self) -> int:
        told = self.run("status").stdout
        found = re.search(r"^Pending: (\d+)$", told, re.MULTILINE)
        assert found, told
        return int(found[1])


def schema_of(url: str) -> str:
    """pg_dump -s of what the product sees: without our schema, and without the ledger, which each tool makes its own way."""
    return dump(url, "--exclude-schema=tenantry", "--exclude-table=public.schema_migrations")


def dump(url: str, *options: str) -> str:
    """pg_dump -s. Its \\restrict has another key each time."""
    done = subprocess.run(
        [postgres_programs() / "pg_dump", "--schema-only", *options, url],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))
