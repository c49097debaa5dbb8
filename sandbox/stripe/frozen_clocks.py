"""Test clocks: customers whose time stands still until it is moved, apart from the sandbox's clock and from each other."""

from __future__ import annotations

from .api import Call, Endpoint
from .errors import invalid
from .forms import LISTING, moment, text
from .subscriptions import Subscriptions
from .work import Document, Work

KEPT_SECONDS = 30 * 86400
KIND = "test_helpers.test_clock"


class TestClocks:
    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def endpoints(self) -> list[Endpoint]:
        base, one = "/v1/test_helpers/test_clocks", "/v1/test_helpers/test_clocks/{id}"
        create = {"frozen_time": moment, "name": text}
        return [
            Endpoint("POST", base, self.create, create, ["frozen_time"]),
            Endpoint("GET", base, self.list_all, LISTING),
            Endpoint("GET", one, self.get),
            Endpoint("POST", one + "/advance", self.advance, {"frozen_time": moment}, ["frozen_time"]),
            Endpoint("DELETE", one, self.delete),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        return work.add(
            KIND,
            {
                "deletes_after": work.at + KEPT_SECONDS,
                "frozen_time": frozen_time(call),
                "name": call.params.get("name"),
                "status": "ready",
                "status_details": {},
            },
        )

    async def list_all(self, work: Work, call: Call) -> Document:
        return await work.page(KIND, "/v1/test_helpers/test_clocks", call.params)

    async def get(self, work: Work, call: Call) -> Document:
        return await work.get(KIND, call.ids["id"])

    async def advance(self, work: Work, call: Call) -> Document:
        """Answers at once; the ledger lives through the time up to then, and says ready."""
        clock, target = await work.get(KIND, call.ids["id"]), frozen_time(call)
        if clock["status"] != "ready":
            raise invalid("This test clock is already advancing.", code="test_clock_advancing")
        if target <= clock["frozen_time"]:
            raise invalid("The frozen_time must be after the one that the clock has now.", "frozen_time")
        clock.update(status="advancing", status_details={"advancing": {"target_frozen_time": target}})
        work.due(clock, "advance", work.at)
        work.tell("test_helpers.test_clock.advancing", clock)
        return clock

    async def delete(self, work: Work, call: Call) -> Document:
        """Its customers go with it."""
        clock = await work.get(KIND, call.ids["id"])
        for customer in await work.find("customer", test_clock=clock["id"]):
            await self._subscriptions.bury(work, customer)
            work.delete(customer)
        work.tell("test_helpers.test_clock.deleted", clock)
        return work.delete(clock)


def frozen_time(call: Call) -> int:
    told = call.params["frozen_time"]
    if not isinstance(told, int):
        raise invalid("Invalid timestamp: it must be in seconds since 1970.", "frozen_time")
    return told
