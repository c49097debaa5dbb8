"""The sandbox's own interface: faults, what there is, what was asked."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploy.local.stack import Stack


def control(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """Calls it; returns what it answers."""
    request = urllib.request.Request(
        f"{stack.sandbox_url}/_sandbox/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        text = response.read().decode()
    return json.loads(text) if text else None


@contextmanager
def fault(
    stack: Stack, method: str, path: str, what: dict[str, Any], times: int = 1, applied: int = 1, **more: Any
) -> Iterator[None]:
    """While it lasts, the provider fails these calls so many times; it must have come to `applied` of them at least."""
    rule = {"match": {"method": method, "path": path}, "times": times, "fault": what, **more}
    made = control(stack, "POST", "faults", rule)
    try:
        yield
        rules = control(stack, "GET", "faults")
        listed = rules["faults"] if isinstance(rules, dict) else rules
        (mine,) = [each for each in listed if each["id"] == made["id"]]
        assert mine["applied"] >= applied, f"nobody met the fault: {mine}"
    finally:
        control(stack, "DELETE", f"faults/{made['id']}")


def projects_of(stack: Stack, tenant: str) -> list[dict[str, Any]]:
    """The tenant's projects that exist now."""
    found = control(stack, "GET", "projects")
    listed = found["projects"] if isinstance(found, dict) else found
    return [p for p in listed if tenant.replace("-", "") in p["name"] and p["status"] not in ("REMOVED", "GOING_DOWN")]


def users_of(stack: Stack, ref: str) -> list[dict[str, Any]]:
    """The users of a project's Auth."""
    found = control(stack, "GET", f"users?ref={ref}")
    listed: list[dict[str, Any]] = found["users"] if isinstance(found, dict) else found
    return listed
