"""Signs what is delivered, as the receiver's library verifies it."""

from __future__ import annotations

import hmac


def sign(payload: bytes, secrets: list[str], at: int) -> str:
    """The header Stripe-Signature: one signature for each secret that is in force, the key being all of it, `whsec_` included."""
    signed = f"{at}.".encode() + payload
    each = [f"v1={hmac.new(secret.encode(), signed, 'sha256').hexdigest()}" for secret in secrets]
    return ",".join([f"t={at}", *each])
