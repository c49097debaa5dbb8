"""How the demo tells its story, and how it asks the gateway."""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

from .stack import Stack

BOLD, DIM, GREEN, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "", "", "")


def say(text: str) -> None:
    print(text, flush=True)


def call(stack: Stack, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
    """`token`: another than the operator's."""
    environment = stack.client_environment()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        environment["TENANTRY_URL"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "content-type": "application/json",
            "authorization": f"Bearer {token or environment['TENANTRY_TOKEN']}",
            **told,
        },
    )
    with urllib.request.urlopen(request, timeout=40) as response:
        return json.load(response)
