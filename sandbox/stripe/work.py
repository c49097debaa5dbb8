"""One transaction of the Stripe room: documents are read once, changed in place, and told of and stored at its end."""

from __future__ import annotations

import json
from typing import Any

from psycopg.types.json import Jsonb

from ..store import Connection
from .errors import invalid, missing
from .events import matches, previous
from .ids import new_id

Document = dict[str, Any]

GET = "select document, gone from stripe_object where id = %(id)s and kind = %(kind)s"

# All in one trip, in the order in which they were made.
SAVE = """
insert into stripe_object (id, kind, document, gone)
select r.document ->> 'id', r.document ->> 'object', r.document, r.gone
from jsonb_to_recordset(%(rows)s) as r (number integer, document jsonb, gone boolean)
order by r.number
on conflict (id) do update set
    document = excluded.document,
    gone = excluded.gone
"""

FIND = """
select id, document
from stripe_object
where kind = %(kind)s and not gone and document @> %(like)s
order by seq
"""

PAGE = """
select document
from stripe_object
where kind = %(kind)s
  and not gone
  and document @> %(like)s
  and (%(since)s::bigint is null or (document ->> '_at')::bigint >= %(since)s)
  and (document ->> 'created')::bigint between %(least)s and %(most)s
  and (%(after)s::text is null or seq < (select seq from stripe_object where id = %(after)s))
  and (%(before)s::text is null or seq > (select seq from stripe_object where id = %(before)s))
  and (%(types)s::text[] is null or document ->> 'type' like any (%(types)s))
  and (%(any)s::text[] is null or document ->> %(field)s = any (%(any)s))
order by case when %(before)s::text is null then -seq else seq end
limit %(limit)s
"""

PUT_DUE = """
insert into stripe_due (object_id, what, at, clock)
values (%(id)s, %(what)s, %(at)s, %(clock)s)
on conflict (object_id, what) do update set
    at = excluded.at,
    clock = excluded.clock
"""

TAKE_DUE = "delete from stripe_due where object_id = %(id)s and what = %(what)s"

QUEUE = """
insert into stripe_delivery (event_id, endpoint_id, first_at, next_at)
values (%(event)s, %(endpoint)s, %(now)s, %(now)s)
"""
FAR = 1 << 53


def copied(document: Document) -> Document:
    """Several times quicker than the general way, for what can be written as JSON."""
    made: Document = json.loads(json.dumps(document))
    return made


# The kinds whose every change is told, and what the event's type begins with.
UPDATED = {
    "customer": "customer",
    "invoice": "invoice",
    "subscription": "customer.subscription",
    "subscription_schedule": "subscription_schedule",
}
CLOCK = "test_helpers.test_clock"


class Work:
    """One transaction at one moment: documents are read once, changed in place and stored at its end."""

    def __init__(
        self, connection: Connection, at: int, now: int, cause: Document, version: str, clock: str | None = None
    ) -> None:
        self.at = at
        self._now = now
        self._clock = clock
        self.cause = cause
        self.connection = connection
        self._version = version
        self._held: dict[str, Document] = {}
        self._stored: dict[str, Document] = {}
        self._told: dict[str, Document] = {}
        self._gone: set[str] = set()
        self._unsaved: set[str] = set()
        self._due: dict[tuple[str, str], int | None] = {}
        self._events: list[Document] = []

    async def get(self, kind: str, object_id: Any, param: str = "id", status: int = 404) -> Document:
        """An object, or its tombstone where its kind leaves one; refuses an id that there is not."""
        held = self._held.get(str(object_id))
        if held is not None and held["object"] == kind and object_id not in self._gone:
            return held
        row = await (await self.connection.execute(GET, {"id": str(object_id), "kind": kind})).fetchone()
        if row is None or object_id in self._gone or (row["gone"] and not row["document"].get("deleted")):
            raise missing(kind.rpartition(".")[2], str(object_id), param, status)
        return await self._enter(self._hold(row["document"]))

    async def _enter(self, document: Document) -> Document:
        """Whatever touches a customer of a test clock, or what is its, happens at the time of that clock."""
        if document.get("test_clock") and self._clock is None:
            self._clock = document["test_clock"]
            self.at = (await self.get(CLOCK, self._clock))["frozen_time"]
        return document

    async def at_clock(self, clock: str) -> None:
        """For what is made for a test clock, before there is anything that has it."""
        await self._enter({"test_clock": (await self.get(CLOCK, clock, "test_clock", 400))["id"]})

    async def alive(self, kind: str, object_id: Any, param: str = "id", status: int = 404) -> Document:
        """An object that has not been deleted."""
        found = await self.get(kind, object_id, param, status)
        if found.get("deleted"):
            raise missing(kind, str(object_id), param, status)
        return found

    def _hold(self, document: Document) -> Document:
        object_id = document["id"]
        self._held[object_id] = document
        self._stored[object_id] = copied(document)
        self._told[object_id] = self._stored[object_id]
        return document

    async def is_taken(self, object_id: str) -> bool:
        """Whether there is, or was, an object of any kind with an id that somebody has chosen."""
        row = await self.connection.execute("select 1 from stripe_object where id = %(id)s", {"id": object_id})
        return object_id in self._held or await row.fetchone() is not None

    def add(self, kind: str, document: Document) -> Document:
        """A new object with what all objects have; `created` is this moment."""
        made = {"id": new_id(kind), "object": kind, "created": self.at, "livemode": False, **copied(document)}
        self._held[made["id"]] = made
        return made

    async def find(self, kind: str, **like: Any) -> list[Document]:
        """The objects whose fields are these, oldest first."""
        await self.store()
        rows = await (await self.connection.execute(FIND, {"kind": kind, "like": Jsonb(like)})).fetchall()
        return [self._held.get(row["id"]) or self._hold(row["document"]) for row in rows]

    async def page(self, kind: str, url: str, params: Document, **like: Any) -> Document:
        """A list as the API gives one: the newest first, from a cursor on."""
        for name in ("starting_after", "ending_before"):
            if params.get(name):
                await self.get(kind, params[name], name, 400)
        if params.get("starting_after") and params.get("ending_before"):
            raise invalid("You can only specify one of these parameters: starting_after, ending_before.")
        await self.store()
        span, limit = params.get("created") or {}, params.get("limit") or 10
        wanted = {
            "kind": kind,
            "like": Jsonb({name: value for name, value in like.items() if value is not None}),
            "least": max(span.get("gte", 0), span.get("gt", -1) + 1),
            "most": min(span.get("lte", FAR), span.get("lt", FAR + 1) - 1),
            "since": params.get("_since"),
            "after": params.get("starting_after"),
            "before": params.get("ending_before"),
            "types": params.get("_types"),
            "field": params.get("_field"),
            "any": params.get("_any"),
            "limit": limit + 1,
        }
        rows = await (await self.connection.execute(PAGE, wanted)).fetchall()
        data = [row["document"] for row in rows[:limit]]
        if params.get("ending_before"):
            data.reverse()
        return {"object": "list", "data": data, "has_more": len(rows) > limit, "url": url}

    def delete(self, document: Document) -> Document:
        """Takes an object away; customers and products leave a tombstone that says so."""
        object_id, kind = document["id"], document["object"]
        tombstone = {"id": object_id, "object": kind, "deleted": True}
        if kind in ("customer", "product"):
            document.clear()
            document.update(tombstone)
        self._gone.add(object_id)
        self._unsaved.add(object_id)
        return tombstone

    def due(self, document: Document, what: str, at: int | None) -> None:
        """Sets when something happens to an object by itself; None takes it back."""
        self._due[document["id"], what] = at

    def tell(self, kind: str, document: Document) -> None:
        """Notes an event with the object as it is now; an update that changed nothing is none."""
        object_id = document.get("id", "")
        data: Document = {"object": copied(document)}
        before = self._told.get(object_id)
        if before is not None and kind.endswith(".updated"):
            changed = previous(before, document)
            if not changed:
                return
            data["previous_attributes"] = changed
        self._told[object_id] = data["object"]
        event: Document = {"api_version": self._version, "data": data, "pending_webhooks": 0}
        event |= {"request": self.cause, "type": kind, "_delivered": True}
        event["_at"] = self.at if self._clock is None else self._now
        self._events.append(self.add("event", event))

    async def store(self) -> None:
        """Writes what has changed so far; the transaction's end makes it stay."""
        changed = [
            each for each in self._held.items() if self._stored.get(each[0]) != each[1] or each[0] in self._unsaved
        ]
        saved = [
            {"number": number, "document": document, "gone": key in self._gone}
            for number, (key, document) in enumerate(changed)
        ]
        for key, document in changed:
            self._stored[key] = copied(document)
        self._unsaved.clear()
        set_at = [
            {"id": key, "what": what, "at": at, "clock": "" if what == "advance" else self._clock or ""}
            for (key, what), at in self._due.items()
            if at is not None
        ]
        taken = [{"id": key, "what": what} for (key, what), at in self._due.items() if at is None]
        self._due.clear()
        if saved:
            await self.connection.execute(SAVE, {"rows": Jsonb(saved)})
        for statement, rows in ((PUT_DUE, set_at), (TAKE_DUE, taken)):
            for row in rows:
                await self.connection.execute(statement, row)

    async def finish(self, now: int) -> None:
        """Stores all, and queues the events for the endpoints that want them; no change goes untold."""
        for object_id, document in list(self._held.items()):
            prefix = UPDATED.get(document["object"])
            if prefix is not None and object_id in self._told and object_id not in self._gone:
                self.tell(f"{prefix}.updated", document)
        if self._events:
            queued = []
            endpoints = await self.find("webhook_endpoint", status="enabled")
            for event in self._events:
                wanting = [each["id"] for each in endpoints if matches(each, event["type"])]
                event["pending_webhooks"] = len(wanting)
                queued += [{"event": event["id"], "endpoint": each, "now": now} for each in wanting]
            await self.store()
            for row in queued:
                await self.connection.execute(QUEUE, row)
        await self.store()
