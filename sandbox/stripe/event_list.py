"""GET /v1/events: what has happened in the last thirty days."""

from __future__ import annotations

from .api import Call, Endpoint
from .errors import invalid, missing
from .forms import LISTING, boolean, list_of, text
from .work import Document, Work

KEPT_SECONDS = 30 * 86400
MOST_TYPES = 20


class Events:
    def endpoints(self) -> list[Endpoint]:
        takes = {**LISTING, "type": text, "types": list_of(text), "delivery_success": boolean}
        return [
            Endpoint("GET", "/v1/events", self.list_all, takes),
            Endpoint("GET", "/v1/events/{id}", self.get),
        ]

    async def list_all(self, work: Work, call: Call) -> Document:
        """The newest first; a type may end in an asterisk."""
        params = call.params
        if params.get("type") and params.get("types"):
            raise invalid("You may pass either `type` or `types`, but not both.")
        types = [params["type"]] if params.get("type") else params.get("types") or []
        if len(types) > MOST_TYPES:
            raise invalid(f"You may pass up to {MOST_TYPES} types.", "types")
        if types:
            # Of a pattern for `like`, only the asterisk means anything.
            params["_types"] = [each.replace("_", r"\_").replace("*", "%") for each in types]
        span = dict(params.get("created") or {})
        params["_since"] = work.at - KEPT_SECONDS
        for rule in call.faults:
            if rule.kind == "lagging_events":
                span["lte"] = min(span.get("lte", work.at), work.at - int(rule.fault["seconds"]))
        delivered = params.get("delivery_success")
        return await work.page("event", "/v1/events", {**params, "created": span}, _delivered=delivered)

    async def get(self, work: Work, call: Call) -> Document:
        event = await work.get("event", call.ids["id"])
        if event["_at"] < work.at - KEPT_SECONDS:
            raise missing("event", event["id"])
        return event
