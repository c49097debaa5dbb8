"""What a test does to the Stripe room that no caller of its API can, under /_sandbox/stripe."""

from __future__ import annotations

from aiohttp import web

from ..control import read_object
from ..refusal import Refusal
from .ledger import Ledger
from .payments import open_dispute
from .refunds import close


class Control:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/_sandbox/stripe/disputes", self.open_dispute),
            web.post("/_sandbox/stripe/disputes/{id}", self.close_dispute),
        ]

    async def open_dispute(self, request: web.Request) -> web.Response:
        """What a customer's bank does."""
        body = await read_object(request)
        async with self._ledger.work() as work:
            charge = await work.get("charge", body.get("charge"), "charge")
            if not charge["paid"] or charge["disputed"]:
                raise Refusal(400, "only a charge that was paid, and is not disputed, can be")
            dispute = open_dispute(work, charge, str(body.get("reason", "fraudulent")))
        return web.json_response(dispute, status=201)

    async def close_dispute(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        if body.get("status") not in ("won", "lost"):
            raise Refusal(400, "status must be won or lost")
        async with self._ledger.work() as work:
            dispute = await work.get("dispute", request.match_info["id"])
            await close(work, dispute, body["status"])
        return web.json_response(dispute)
