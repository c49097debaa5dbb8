"""Charges a payment method and says what came of it, as payment intents and charges."""

from __future__ import annotations

from .ids import letters
from .payment_methods import AUTHENTICATES, DECLINES, DISPUTED
from .work import Document, Work

SUCCEEDED, PROCESSING, ACTION, FAILED = "succeeded", "processing", "requires_action", "requires_payment_method"
MESSAGE = "Your card was declined."


def new_intent(work: Work, customer: str, amount: int, currency: str, invoice: str | None) -> Document:
    intent = work.add(
        "payment_intent",
        {
            "amount": amount,
            "amount_received": 0,
            "canceled_at": None,
            "client_secret": None,
            "currency": currency,
            "customer": customer,
            "description": None,
            "last_payment_error": None,
            "latest_charge": None,
            "metadata": {},
            "next_action": None,
            "payment_method": None,
            "status": FAILED,
            "_invoice": invoice,
        },
    )
    intent["client_secret"] = f"{intent['id']}_secret_{letters(24)}"
    work.tell("payment_intent.created", intent)
    return intent


def attempt(work: Work, intent: Document, method: Document, authenticated: bool, debit_seconds: int) -> str:
    """Charges the method; returns the intent's status. A bank takes its time: then `settle` is what comes later."""
    intent["payment_method"] = method["id"]
    intent["next_action"] = intent["last_payment_error"] = None
    conduct = method["_conduct"]
    if conduct == AUTHENTICATES and not authenticated:
        intent["status"] = ACTION
        intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
        work.tell("payment_intent.requires_action", intent)
    elif method["type"] == "sepa_debit":
        intent["status"] = PROCESSING
        intent["latest_charge"] = new_charge(work, intent, method, "pending")["id"]
        work.tell("payment_intent.processing", intent)
        work.due(intent, "debit_settled", work.at + debit_seconds)
    elif conduct == DECLINES:
        fail(work, intent, new_charge(work, intent, method, "failed"))
    else:
        succeed(work, intent, new_charge(work, intent, method, "succeeded"))
    return str(intent["status"])


def new_charge(work: Work, intent: Document, method: Document, status: str) -> Document:
    return work.add(
        "charge",
        {
            "amount": intent["amount"],
            "amount_captured": 0,
            "amount_refunded": 0,
            "billing_details": dict(method["billing_details"]),
            "captured": status != "failed",
            "currency": intent["currency"],
            "customer": intent["customer"],
            "disputed": False,
            "failure_code": None,
            "failure_message": None,
            "metadata": {},
            "paid": False,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": {"type": method["type"], method["type"]: dict(method[method["type"]])},
            "refunded": False,
            "status": status,
            "_conduct": method["_conduct"],
        },
    )


def succeed(work: Work, intent: Document, charge: Document) -> None:
    charge.update(status="succeeded", paid=True, captured=True, amount_captured=charge["amount"])
    intent.update(status=SUCCEEDED, amount_received=intent["amount"], latest_charge=charge["id"])
    work.tell("charge.succeeded", charge)
    work.tell("payment_intent.succeeded", intent)
    if charge["_conduct"] == DISPUTED:
        open_dispute(work, charge, "fraudulent")


def fail(work: Work, intent: Document, charge: Document) -> None:
    charge.update(status="failed", failure_code="card_declined", failure_message=MESSAGE)
    error = {"charge": charge["id"], "code": "card_declined", "decline_code": "generic_decline"}
    error |= {"message": MESSAGE, "type": "card_error"}
    intent.update(status=FAILED, latest_charge=charge["id"], last_payment_error=error)
    work.tell("charge.failed", charge)
    work.tell("payment_intent.payment_failed", intent)


async def settle(work: Work, intent: Document) -> bool:
    """What a bank says in the end to a debit; whether it pays."""
    charge = await work.get("charge", intent["latest_charge"])
    pays = charge["_conduct"] != DECLINES
    (succeed if pays else fail)(work, intent, charge)
    return pays


def open_dispute(work: Work, charge: Document, reason: str) -> Document:
    """The customer's bank takes the money back for now."""
    dispute = work.add(
        "dispute",
        {
            "amount": charge["amount"],
            "charge": charge["id"],
            "currency": charge["currency"],
            "is_charge_refundable": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": reason,
            "status": "needs_response",
        },
    )
    charge["disputed"] = True
    work.tell("charge.dispute.created", dispute)
    return dispute
