"""The one exception a handler raises to answer a request with an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web


class Refusal(Exception):
    """An answer other than success: a status and a body, `{"message": ...}` unless another is given."""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        body: Any = None,
        text: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.body = body if body is not None else {"message": message}
        self.text = text
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        if self.text is not None:
            return web.Response(status=self.status, text=self.text, headers=self.headers)
        return web.json_response(self.body, status=self.status, headers=self.headers)
