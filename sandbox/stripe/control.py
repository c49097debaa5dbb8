"""What a test does to the Stripe room that no caller of its API can, under /_sandbox/stripe."""

from __future__ import annotations

from aiohttp import web

from ..control import read_object
from ..refusal import Refusal
from ..store import Pool
from .ledger import Ledger
from .payments import open_dispute
from .refunds import close
from .webhooks import roll

FIND = """
select d.id, d.event_id, e.document ->> 'type' as type, d.endpoint_id, d.attempts, d.status, d.error, d.first_at, d.next_at
from stripe_delivery d
join stripe_object e on e.id = d.event_id
where %(event)s in ('', d.event_id)
order by d.id
"""

RESEND = "update stripe_delivery set next_at = %(now)s where event_id = %(event)s returning id"


class Control:
    def __init__(self, state: Pool, ledger: Ledger) -> None:
        self._state = state
        self._ledger = ledger

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/_sandbox/stripe/disputes", self.open_dispute),
            web.post("/_sandbox/stripe/disputes/{id}", self.close_dispute),
            web.get("/_sandbox/stripe/deliveries", self.deliveries),
            web.post("/_sandbox/stripe/deliveries/{event}", self.resend),
            web.patch("/_sandbox/stripe/webhook_endpoints/{id}", self.change_endpoint),
        ]

    async def deliveries(self, request: web.Request) -> web.Response:
        return web.json_response(await self._state.rows(FIND, event=request.query.get("event", "")))

    async def resend(self, request: web.Request) -> web.Response:
        """What the Dashboard's button does: the event goes out once more, whatever came of it."""
        async with self._ledger.work() as work:
            told = {"now": work.at, "event": request.match_info["event"]}
            rows = await (await work.connection.execute(RESEND, told)).fetchall()
        return web.json_response({"sent": len(rows)})

    async def change_endpoint(self, request: web.Request) -> web.Response:
        """Rolls the secret, so that both sign for so many seconds; or makes its events thin."""
        body = await read_object(request)
        if odd := set(body) - {"roll_secret_seconds", "thin"}:
            raise Refusal(400, f"an endpoint takes roll_secret_seconds and thin, not {', '.join(sorted(odd))}")
        async with self._ledger.work() as work:
            endpoint = await work.get("webhook_endpoint", request.match_info["id"])
            endpoint["_thin"] = bool(body.get("thin", endpoint["_thin"]))
            if "roll_secret_seconds" in body:
                roll(endpoint, work.at, int(body["roll_secret_seconds"]))
        return web.json_response({"id": endpoint["id"], "secret": endpoint["_secrets"][0]["secret"]})

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
