"""The sandbox's own interface: faults, and what there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploy.local.stack import Stack


@contextmanager
def fault(
    stack: Stack,
    method: str,
    path: str,
    what: dict[str, Any],
    times: int = 1,
    applied: int = 1,
    body: str = "",
    **more: Any,
) -> Iterator[None]:
    """While it lasts, the provider fails these calls so many times; it must have come to `applied` of them at least."""
    rule = {"match": {"method": method, "path": path, "body": body}, "times": times, "fault": what, **more}
    made = stack.control_sandbox("POST", "faults", rule)
    try:
        yield
        (mine,) = [each for each in stack.control_sandbox("GET", "faults") if each["id"] == made["id"]]
        assert mine["applied"] >= applied, f"nobody met the fault: {mine}"
    finally:
        stack.control_sandbox("DELETE", f"faults/{made['id']}")


def projects_of(stack: Stack, tenant: str) -> list[dict[str, Any]]:
    """The tenant's projects that exist now."""
    name, gone = tenant.replace("-", ""), ("REMOVED", "GOING_DOWN")
    return [p for p in stack.control_sandbox("GET", "projects") if name in p["name"] and p["status"] not in gone]


def users_of(stack: Stack, ref: str) -> list[dict[str, Any]]:
    """The users of a project's Auth."""
    found: list[dict[str, Any]] = stack.control_sandbox("GET", f"users?ref={ref}")
    return found
