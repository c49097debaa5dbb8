"""What an event tells beside its object, and which endpoint wants it."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def previous(before: Document, after: Document) -> Document:
    """The former values of what has changed: of a hash only its changed keys, of a list all of it."""
    changed: Document = {}
    for name in {**before, **after}:
        was, now = before.get(name), after.get(name)
        if was == now or name.startswith("_"):
            continue
        changed[name] = previous(was, now) if isinstance(was, dict) and isinstance(now, dict) else was
    return changed


def matches(endpoint: Document, kind: str) -> bool:
    return "*" in endpoint["enabled_events"] or kind in endpoint["enabled_events"]
