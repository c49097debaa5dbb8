"""What the sandbox was told at its start, and how a test changes a few settings while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .refusal import Refusal


@dataclass
class Settings:
    """What all rooms share."""

    database_url: str
    smtp_port: int | None = None
    host: str = "127.0.0.1"
    state_database: str = "tenantry_sandbox"
    seed: int = 0


@dataclass
class LiveSettings:
    """A room's own settings; a test may change those that LIVE names."""

    LIVE: ClassVar[dict[str, Callable[[Any], Any]]] = {}

    def live(self) -> dict[str, Any]:
        """The settings a test may change, as they are now."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name in self.LIVE}


def live(groups: Sequence[LiveSettings]) -> dict[str, Any]:
    return {name: value for group in groups for name, value in group.live().items()}


def change(groups: Sequence[LiveSettings], wanted: dict[str, Any]) -> None:
    """Takes over new values of live settings; refuses an unknown name or a value of the wrong type, and then changes none."""
    owners = {name: group for group in groups for name in group.LIVE}
    taken = {}
    for name, value in wanted.items():
        if name not in owners:
            raise Refusal(400, f"unknown setting {name}; known: {', '.join(sorted(owners))}")
        kind = owners[name].LIVE[name]
        try:
            taken[name] = kind(value)
        except (TypeError, ValueError):
            raise Refusal(400, f"{name} must be of type {kind.__name__}") from None
    for name, value in taken.items():
        setattr(owners[name], name, value)
