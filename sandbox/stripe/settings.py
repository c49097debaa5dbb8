"""What the Stripe room was told at its start, and which of it a test may change while it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..settings import LiveSettings


def cancel_unpaid_or_past_due(value: Any) -> str:
    """A kind of setting; its name is what a refusal says."""
    if value not in ("cancel", "unpaid", "past_due"):
        raise ValueError(value)
    return str(value)


@dataclass
class StripeSettings(LiveSettings):
    LIVE: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "stripe_rate_limit": int,
        "stripe_after_retries": cancel_unpaid_or_past_due,
        "stripe_debit_seconds": int,
        "stripe_deliveries_at_once": int,
    }

    # None: there is no Stripe.
    stripe_port: int | None = None
    stripe_key: str = "sk_test_sandbox"
    # The account's own version of the API, for who does not ask for another.
    stripe_version: str = "2026-07-29.dahlia"
    # Requests a second, as in a sandbox of Stripe's.
    stripe_rate_limit: int = 25
    # What becomes of a subscription when the last retry of its payment has failed: cancel, unpaid or past_due.
    stripe_after_retries: str = "cancel"
    # How long a bank takes to say whether it pays a direct debit.
    stripe_debit_seconds: int = 5 * 86400

    # With one at a time, events arrive in the order in which they happened; Stripe promises none.
    stripe_deliveries_at_once: int = 16

    @property
    def stripe_base(self) -> str:
        return f"http://127.0.0.1:{self.stripe_port}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = StripeSettings()
    add = parser.add_argument_group("Stripe").add_argument
    add("--stripe-port", type=int, help="also stand in for Stripe at this port")
    add("--stripe-key", default=default.stripe_key, help="the secret key that is accepted (%(default)s)")
    add("--stripe-version", default=default.stripe_version, help="the account's API version (%(default)s)")
    add("--stripe-rate-limit", type=int, default=default.stripe_rate_limit, help="requests a second (%(default)s)")
