"""What a room is: everything one provider's stand-in gives to the sandbox that it shares with the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from aiohttp import web

from .faults import Faults, Kind, Rule
from .refusal import Refusal
from .settings import LiveSettings


class Room(ABC):
    """One provider. The sandbox keeps its tables, serves its routes at its ports and asks it in the order of these methods."""

    name: str
    # SQL that makes the room's tables where they are missing, and the tables a reset empties.
    schema: str
    tables: tuple[str, ...]
    # The faults that only this room knows.
    kinds: dict[str, Kind]
    # Fields of a body or a query that are remembered as their SHA-256.
    secret_fields: set[str]
    settings: LiveSettings

    @abstractmethod
    def ports(self) -> set[int]:
        """Where this room listens; nowhere, and it is not there."""

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Its provider's API."""

    def middlewares(self) -> list[Any]:
        """What stands around each of its requests, faults included."""
        return []

    @abstractmethod
    def control_routes(self) -> list[web.RouteDef]:
        """What a test sees and changes of it, under /_sandbox."""

    @abstractmethod
    async def admit(self, request: web.Request, headers: dict[str, str]) -> None:
        """Looks at a request before its handler does: refuses it, or adds to the headers of its answer."""

    @abstractmethod
    def rate_limited(self, rule: Rule) -> Refusal:
        """The provider's answer to too many requests, as a fault wants it."""

    @abstractmethod
    def unknown(self, request: web.Request, exception: web.HTTPException) -> web.Response:
        """The provider's answer where there is no such address or method."""

    @abstractmethod
    def broken(self) -> web.Response:
        """The provider's answer while the sandbox cannot reach its own database."""

    def uses(self, faults: Faults) -> None:
        """Hands over the rules, for a room that sends something by itself."""
        return

    async def open(self) -> None:
        """Called at each start, once the tables are there: takes up what an earlier process left unfinished."""
        return

    async def close(self) -> None:
        """Stops what is under way; nothing may be lost by it."""
        return

    async def clock_moved(self) -> None:
        """Does what is due by now, before whoever has moved the clock is answered."""
        return

    async def faults_removed(self, fault_ids: list[int]) -> None:
        """Lets go what these faults have held back."""
        return

    async def clear(self) -> dict[str, Any]:
        """Before a reset empties the tables: removes what the room has made elsewhere; what is to be reported."""
        return {}

    async def begin(self) -> None:
        """After the tables were emptied, and at each start: puts there what a new sandbox has."""
        return
