"""Faults by rule: which requests are to go wrong, how, and the middleware that makes them do so."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from psycopg.types.json import Jsonb

from .refusal import Refusal
from .store import Pool

POLL_SECONDS = 0.02

SAVE = """
insert into fault (rule)
values (%(rule)s)
returning id
"""

COUNT = """
update fault
set rule = rule || jsonb_build_object('seen', %(seen)s::int, 'applied', %(applied)s::int)
where id = %(id)s
"""


@dataclass(frozen=True)
class Kind:
    """What a kind of fault may say, what it has to, and the requests it is about when its rule does not say."""

    takes: set[str] = field(default_factory=set)
    needs: str | None = None
    about: dict[str, str] = field(default_factory=dict)
    # What it may say where only some words mean anything.
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    room: str | None = None
    # About what the sandbox sends by itself, not about a request to it; it is told by its type.
    outbound: bool = False


# The kinds that any provider may suffer from; a room adds its own.
KINDS = {
    "status": Kind({"code", "body", "text", "headers"}, needs="code"),
    "delay": Kind({"seconds", "when"}, needs="seconds"),
    "hang": Kind(),
    "cut": Kind(),
    "cut_after": Kind(),
    "rate_limit": Kind({"reset", "retry_after", "headers"}, about={"path": "^/v1/"}),
}


@dataclass
class Rule:
    id: int
    match: dict[str, str]
    fault: dict[str, Any]
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    seen: int = 0
    applied: int = 0

    @property
    def kind(self) -> str:
        return str(self.fault["kind"])

    def about(self, request: web.Request, body: str) -> bool:
        method = self.match.get("method")
        return (
            self.match.get("room") in (None, request.app["room"])
            and (method is None or method.upper() == request.method)
            and re.search(self.match.get("path", ""), request.path) is not None
            and re.search(self.match.get("body", ""), body) is not None
        )

    def applies(self, dice: random.Random) -> bool:
        """Counts one request this rule is about, and says whether it is to go wrong."""
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.applied >= self.times):
            return False
        if dice.random() >= self.probability:
            return False
        self.applied += 1
        return True

    def describe(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items()}


class Faults:
    """The rules, in memory for speed and in PostgreSQL so that a restart keeps them."""

    def __init__(self, state: Pool, seed: int, kinds: dict[str, Kind]) -> None:
        """Takes the rooms' own kinds, beside those that all share."""
        self._state = state
        self._kinds = {**KINDS, **kinds}
        self._dice = random.Random(seed)
        self._rules: dict[int, Rule] = {}

    async def load(self) -> None:
        for row in await self._state.rows("select id, rule from fault order by id"):
            self._rules[row["id"]] = Rule(**{**row["rule"], "id": row["id"]})

    async def add(self, wanted: dict[str, Any]) -> Rule:
        rule = read_rule(wanted, self._kinds)
        kept = {name: value for name, value in rule.describe().items() if name != "id"}
        row = await self._state.row(SAVE, rule=Jsonb(kept))
        assert row is not None
        rule.id = row["id"]
        self._rules[rule.id] = rule
        return rule

    async def remove(self, fault_id: int | None = None) -> list[int]:
        """Removes one rule, or all; returns the ids of those that were there."""
        gone = [key for key in self._rules if fault_id in (None, key)]
        await self._state.run("delete from fault where id = any(%(ids)s)", ids=gone)
        for key in gone:
            del self._rules[key]
        return gone

    def all(self) -> list[Rule]:
        return list(self._rules.values())

    async def strike(self, request: web.Request) -> list[Rule]:
        """The rules that apply to this request, oldest first; their counters are saved before it goes on."""
        if not self._rules:
            return []
        needs_body = any("body" in rule.match for rule in self._rules.values())
        body = (await request.read()).decode("utf-8", "replace") if needs_body else ""
        about = [rule for rule in self._rules.values() if not self._outbound(rule) and rule.about(request, body)]
        return await self._count(about)

    async def sending(self, kind: str, event: str) -> list[Rule]:
        """The rules of an outbound kind that apply to something the sandbox is about to send."""
        mine = [rule for rule in self._rules.values() if rule.kind == kind]
        return await self._count([rule for rule in mine if re.search(rule.match.get("event", ""), event)])

    def _outbound(self, rule: Rule) -> bool:
        return self._kinds[rule.kind].outbound

    async def _count(self, about: list[Rule]) -> list[Rule]:
        struck = [rule for rule in about if rule.applies(self._dice)]
        for rule in about:
            await self._state.run(COUNT, id=rule.id, seen=rule.seen, applied=rule.applied)
        return struck

    def middleware(self, rate_limited: Callable[[Rule], Refusal]) -> Any:
        """Makes requests to one room go wrong; `rate_limited` is that room's answer to too many of them."""

        @web.middleware
        async def go_wrong(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/_sandbox"):
                return await handler(request)
            struck = await self.strike(request)
            request["faults"] = struck
            return await suffer(request, handler, struck, rate_limited)

        return go_wrong


async def suffer(
    request: web.Request, handler: Handler, struck: list[Rule], rate_limited: Callable[[Rule], Refusal]
) -> web.StreamResponse:
    """Waits as told, then lets the first fault that settles the answer do so, else the handler."""
    if await given_up(request, struck, "before"):
        return nothing(request)
    for rule in struck:
        if rule.kind == "status":
            return answer_of(rule.fault).response()
        if rule.kind == "rate_limit":
            return rate_limited(rule).response()
        if rule.kind == "hang":
            await client_gone(request, None)
            return nothing(request)
        if rule.kind == "cut":
            return nothing(request)
    response = await handler(request)
    if await given_up(request, struck, "after") or any(rule.kind == "cut_after" for rule in struck):
        return nothing(request)
    return response


async def given_up(request: web.Request, struck: list[Rule], when: str) -> bool:
    """Plays out the delays before or after the work; true if nobody waits for the answer any more."""
    for rule in struck:
        if rule.kind == "delay" and rule.fault.get("when", "before") == when:
            gone = await client_gone(request, rule.fault["seconds"])
            if gone:
                return True
    return False


async def client_gone(request: web.Request, at_most: float | None) -> bool:
    """True once the client has closed or the sandbox stops; False after so many real seconds."""
    loop = asyncio.get_running_loop()
    end = None if at_most is None else loop.time() + at_most
    stopping: asyncio.Event = request.app["stopping"]
    while request.transport is not None and not request.transport.is_closing() and not stopping.is_set():
        left = POLL_SECONDS if end is None else min(POLL_SECONDS, end - loop.time())
        if left <= 0:
            return False
        await asyncio.sleep(left)
    return True


def nothing(request: web.Request) -> web.StreamResponse:
    """Breaks the connection; the response returned never reaches anybody."""
    request["cut"] = True
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def answer_of(fault: dict[str, Any]) -> Refusal:
    body = fault.get("body", {"message": f"status {fault['code']} by a fault of the sandbox"})
    return Refusal(fault["code"], body=body, text=fault.get("text"), headers=fault.get("headers"))


def standing(request: web.Request, kind: str) -> Iterator[Rule]:
    """The faults of a kind that apply to this request and that its handler has to play out."""
    return (rule for rule in request.get("faults", []) if rule.kind == kind)


def read_rule(wanted: dict[str, Any], kinds: dict[str, Kind]) -> Rule:
    fault, match = wanted.get("fault"), wanted.get("match")
    if not isinstance(fault, dict) or fault.get("kind") not in kinds:
        raise Refusal(400, f"fault.kind must be one of: {', '.join(kinds)}")
    kind = fault["kind"]
    of_kind = kinds[kind]
    match = of_kind.about if match is None else match
    matched = {"room", "event"} if of_kind.outbound else {"room", "method", "path", "body"}
    known = {"match": matched, "fault": of_kind.takes | {"kind"}}
    known["the rule"] = {"match", "times", "after", "probability", "fault"}
    for where, given in (("match", match), ("fault", fault), ("the rule", wanted)):
        if not isinstance(given, dict) or (odd := set(given) - known[where]):
            odd = odd if isinstance(given, dict) else {"anything but an object"}
            raise Refusal(400, f"{where} of kind {kind} does not take {', '.join(sorted(odd))}")
    if of_kind.needs is not None and of_kind.needs not in fault:
        raise Refusal(400, f"a fault of kind {kind} needs {of_kind.needs}")
    for name, choices in of_kind.choices.items():
        if name in fault and fault[name] not in choices:
            raise Refusal(400, f"{name} of a fault of kind {kind} is one of: {', '.join(choices)}")
    try:
        for name in ("path", "body", "event"):
            re.compile(match.get(name, ""))
        times = wanted.get("times")
        return Rule(
            id=0,
            match={**match, "room": of_kind.room} if of_kind.room is not None else match,
            fault=fault,
            times=None if times is None else int(times),
            after=int(wanted.get("after", 0)),
            probability=float(wanted.get("probability", 1.0)),
        )
    except (re.error, TypeError, ValueError) as problem:
        raise Refusal(400, f"the rule cannot be read: {problem}") from None
