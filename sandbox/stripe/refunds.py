"""Money that goes back: refunds on request, and disputes, which only a customer's bank opens."""

from __future__ import annotations

from .api import Call, Endpoint
from .errors import invalid, missing
from .forms import LISTING, choice, merged, metadata, natural, text
from .work import Document, Work

CREATE = {
    "amount": natural,
    "charge": text,
    "metadata": metadata,
    "payment_intent": text,
    "reason": choice("duplicate", "fraudulent", "requested_by_customer"),
}


class Refunds:
    def endpoints(self) -> list[Endpoint]:
        filters = {**LISTING, "charge": text, "payment_intent": text}
        return [
            Endpoint("POST", "/v1/refunds", self.create, CREATE),
            Endpoint("GET", "/v1/refunds", self.list_refunds, filters),
            Endpoint("GET", "/v1/refunds/{id}", self.get_refund),
            Endpoint("GET", "/v1/disputes", self.list_disputes, filters),
            Endpoint("GET", "/v1/disputes/{id}", self.get_dispute),
            Endpoint("POST", "/v1/disputes/{id}", self.update_dispute, {"metadata": metadata}),
            Endpoint("POST", "/v1/disputes/{id}/close", self.close_dispute),
        ]

    async def create(self, work: Work, call: Call) -> Document:
        params = call.params
        charge = await self._charge(work, params)
        left = charge["amount"] - charge["amount_refunded"]
        amount = params.get("amount", left)
        if not charge["paid"] or charge["disputed"]:
            raise invalid(f"Charge {charge['id']} cannot be refunded.", "charge")
        if left == 0:
            message = f"Charge {charge['id']} has already been refunded."
            raise invalid(message, code="charge_already_refunded")
        if not 0 < amount <= left:
            raise invalid(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", "amount")
        refund = work.add(
            "refund",
            {
                "amount": amount,
                "charge": charge["id"],
                "currency": charge["currency"],
                "metadata": merged({}, params.get("metadata", {})),
                "payment_intent": charge["payment_intent"],
                "reason": params.get("reason"),
                "status": "succeeded",
            },
        )
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        work.tell("refund.created", refund)
        work.tell("charge.refunded", charge)
        return refund

    async def _charge(self, work: Work, params: Document) -> Document:
        if params.get("charge"):
            return await work.get("charge", params["charge"], "charge", 400)
        if not params.get("payment_intent"):
            raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
        intent = await work.get("payment_intent", params["payment_intent"], "payment_intent", 400)
        if intent["latest_charge"] is None:
            raise missing("charge", intent["id"], "payment_intent", 400)
        return await work.get("charge", intent["latest_charge"])

    async def list_refunds(self, work: Work, call: Call) -> Document:
        return await work.page("refund", "/v1/refunds", call.params, **of_payment(call))

    async def get_refund(self, work: Work, call: Call) -> Document:
        return await work.get("refund", call.ids["id"])

    async def list_disputes(self, work: Work, call: Call) -> Document:
        return await work.page("dispute", "/v1/disputes", call.params, **of_payment(call))

    async def get_dispute(self, work: Work, call: Call) -> Document:
        return await work.get("dispute", call.ids["id"])

    async def update_dispute(self, work: Work, call: Call) -> Document:
        dispute = await work.get("dispute", call.ids["id"])
        dispute["metadata"] = merged(dispute["metadata"], call.params.get("metadata", {}))
        work.tell("charge.dispute.updated", dispute)
        return dispute

    async def close_dispute(self, work: Work, call: Call) -> Document:
        """Who closes a dispute has lost it."""
        dispute = await work.get("dispute", call.ids["id"])
        await close(work, dispute, "lost")
        return dispute


async def close(work: Work, dispute: Document, status: str) -> None:
    if dispute["status"] != "needs_response":
        raise invalid("This dispute is already closed.")
    dispute["status"] = status
    work.tell("charge.dispute.closed", dispute)


def of_payment(call: Call) -> Document:
    return {name: call.params.get(name) for name in ("charge", "payment_intent")}
