"""An object as a caller sees it: in the shape of its API version, with what it asked to have expanded."""

from __future__ import annotations

from typing import Any

from .errors import invalid
from .ids import kind_of
from .old_shape import OLD_SHAPE
from .work import Document, Work

# From then on a subscription's period stands on its items, and an invoice names its subscription under `parent`.
PERIOD_ON_ITEMS = "2025-03-31"
# From then on a cancellation in the portal is a `cancel_at`.
PORTAL_SETS_CANCEL_AT = "2025-09-30"
DEEPEST = 4


def rendered(document: Any, version: str) -> Any:
    """A copy in the shape of a version, without what the room keeps for itself (names with an underscore)."""
    if isinstance(document, list):
        return [rendered(item, version) for item in document]
    if not isinstance(document, dict):
        return document
    kind, date = document.get("object"), version[:10]
    if kind == "event":
        # An event keeps the shape that it was made in, whoever asks.
        own = {name: value for name, value in document.items() if not name.startswith("_")}
        return {**own, "data": event_data(document["data"], document["api_version"])}
    shown = {name: rendered(value, version) for name, value in document.items() if not name.startswith("_")}
    if kind == "subscription" and document.get("_portal_cancel") and date < PORTAL_SETS_CANCEL_AT:
        shown["cancel_at_period_end"] = True
    if date < PERIOD_ON_ITEMS and kind in OLD_SHAPE:
        OLD_SHAPE[kind](shown, document)
    return shown


def event_data(data: Document, version: str) -> Document:
    shown = {"object": rendered(data["object"], version)}
    if "previous_attributes" in data:
        # What changed has the shape of the object it was taken from.
        kind = data["object"]["object"]
        before = rendered({**data["previous_attributes"], "object": kind}, version)
        before.pop("object")
        shown["previous_attributes"] = before
    return shown


async def expanded(work: Work, document: Document, paths: list[str]) -> Document:
    """Puts objects in the place of their ids along each path."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEEPEST:
            raise invalid(f"You cannot expand more than {DEEPEST} levels of a property ({path})", "expand")
        await expand(work, document, parts, path)
    return document


async def expand(work: Work, document: Document, parts: list[str], path: str) -> None:
    name, rest = parts[0], parts[1:]
    if name not in document:
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    value = document[name]
    if isinstance(value, str):
        kind = kind_of(value)
        if kind is None:
            raise invalid(f"This property cannot be expanded ({path}).", "expand")
        value = document[name] = dict(await work.get(kind, value))
    for item in value if isinstance(value, list) else [value]:
        if rest and isinstance(item, dict):
            await expand(work, item, rest, path)
