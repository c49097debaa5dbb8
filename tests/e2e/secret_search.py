"""Looks for secrets everywhere something is kept or told: dumps, topics, logs, mails, archives, metrics, processes."""

from __future__ import annotations

import base64
import os
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from deploy.local.postgres import postgres_programs
from deploy.local.stack import CATALOG, Stack

from .mails import all_words
from .topics import read_all, topics_of


def forms_of(secret: bytes) -> set[bytes]:
    """The secret as it may hide in other text: plain, quoted for URLs, in hexadecimal, in base64 at any alignment."""
    forms = {secret, urllib.parse.quote_from_bytes(secret, safe="").encode(), secret.hex().encode()}
    for shift in range(3):
        padded = base64.b64encode(b"\0" * shift + secret)
        # Only what the secret alone decides: the characters that its neighbours share are cut off.
        core = padded[(0, 2, 3)[shift] : len(padded) - (0 if (len(secret) + shift) % 3 == 0 else 4)]
        forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in forms if len(form) >= min(8, len(secret))}


class Search:
    """Many secrets in all their forms, looked for in one pass over each place (grep's automaton; Python has none)."""

    def __init__(self, secrets: dict[str, bytes], folder: Path) -> None:
        self._names: dict[bytes, str] = {}
        self._binary: dict[bytes, str] = {}
        for name, secret in secrets.items():
            for form in forms_of(secret):
                (self._names if form.isascii() and b"\n" not in form else self._binary)[form] = name
        self._patterns = folder / "secret-forms"
        self._patterns.touch(mode=0o600)
        self._patterns.write_bytes(b"\n".join(self._names) + b"\n")

    def find(self, content: bytes) -> list[str]:
        """Names of the secrets that are in the content in any form."""
        done = subprocess.run(
            ["grep", "-aoF", "-f", self._patterns], input=content, capture_output=True, env={"LC_ALL": "C"}
        )
        assert done.returncode in (0, 1), done.stderr
        text = {self._names[match] for match in done.stdout.split(b"\n") if match in self._names}
        return sorted(text | {name for form, name in self._binary.items() if form in content})


def places(stack: Stack, tenant_database: str | None = None) -> Iterator[tuple[str, bytes]]:
    """Everything there is to search, with a name for each place."""
    dumps = [["pg_dump", CATALOG], ["pg_dumpall", "--roles-only"]]
    if tenant_database is not None:
        dumps.append(["pg_dump", tenant_database])
    for words in dumps:
        yield " ".join(words), dump(stack, *words)
    for topic in topics_of(stack.kafka.bootstrap):
        records = read_all(stack.kafka.bootstrap, topic)
        parts = (part for r in records for part in (r.key, r.value, *r.headers.values()) if part is not None)
        yield f"topic {topic}", b"\n".join(parts)
    mails = []
    for path in files(stack):
        if path.suffix == ".eml":
            mails.append(path)
        else:
            yield str(path.relative_to(stack.root)), path.read_bytes()
    # Hundreds, as one place: to prepare for thousands of forms takes longer than to look through a mail.
    yield "mail/*.eml", b"\n".join(path.read_bytes() for path in mails)
    yield "mail/*.eml decoded", b"\n".join(all_words(path) for path in mails)
    for name, service in stack.services.items():
        with urllib.request.urlopen(f"{service.ops_url}/metrics", timeout=5) as response:
            yield f"metrics of {name}", response.read()
        yield f"title of {name}", Path(f"/proc/{service.process.pid}/cmdline").read_bytes()


def log_everything(stack: Stack) -> None:
    """The server's log with all statements and their parameters: else a search of it proves nothing."""
    for setting in ("log_statement = 'all'", "log_error_verbosity = 'default'", "log_parameter_max_length = -1",
                    "log_parameter_max_length_on_error = -1", "log_min_error_statement = 'error'"):  # fmt: skip
        stack.postgres.execute(f"alter system set {setting}")
    stack.postgres.execute("select pg_reload_conf()")


def files(stack: Stack) -> list[Path]:
    folders = (stack.root / name for name in ("logs", "mail", "archive"))
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [stack.postgres.log_path, stack.kafka.log_path, *found]


def dump(stack: Stack, program: str, *words: str) -> bytes:
    environment = {
        "PGHOST": "127.0.0.1", "PGPORT": str(stack.postgres.port), "PGUSER": "postgres",
        "PGPASSWORD": stack.postgres.password, "PATH": os.environ.get("PATH", ""),
    }  # fmt: skip
    done = subprocess.run([postgres_programs() / program, *words], env=environment, capture_output=True, check=True)
    return done.stdout
