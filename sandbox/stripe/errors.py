"""Errors in Stripe's shape, and the few that every part of the room raises."""

from __future__ import annotations

from typing import Any

from ..refusal import Refusal


class StripeError(Refusal):
    """`{"error": {"type", "code", "message", "param"}}`; what is None is left out."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        told = {"type": kind, "code": code, "message": message, "param": param, **more}
        body = {"error": {name: value for name, value in told.items() if value is not None}}
        super().__init__(status, body=body, headers=headers)
        self.code = code
        self.message = message


def missing(kind: str, object_id: str, param: str = "id", status: int = 404) -> StripeError:
    return StripeError(status, f"No such {kind}: '{object_id}'", code="resource_missing", param=param)


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    return StripeError(400, message, code=code, param=param)


def declined(message: str, code: str = "card_declined", **more: Any) -> StripeError:
    return StripeError(402, message, kind="card_error", code=code, **more)
