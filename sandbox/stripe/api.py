"""How a request becomes an answer: parameters, idempotency, one transaction, version and expansion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ..faults import Rule, standing
from .errors import StripeError, invalid
from .forms import Params, Read, decode, list_of, read, text
from .ids import letters
from .ledger import Ledger
from .rendering import expanded, rendered
from .work import Document, Work

KEPT_SECONDS = 24 * 3600
LONGEST_KEY = 255
# These say that nothing was begun, so the key is still free.
UNTRIED = {400, 401, 404, 409, 429}

KEPT = "select * from stripe_idempotency where key = %(key)s and at > %(since)s"

KEEP = """
insert into stripe_idempotency (key, at, request, status, body)
values (%(key)s, %(at)s, %(request)s, %(status)s, %(body)s)
on conflict (key) do update set
    at = excluded.at,
    request = excluded.request,
    status = excluded.status,
    body = excluded.body
"""


@dataclass
class Call:
    """One request, read: `ids` from its path, `params` in their own types."""

    ids: dict[str, str]
    params: Params
    version: str
    request_id: str
    idempotency_key: str | None = None
    faults: list[Rule] = field(default_factory=list)
    # What is answered in place of the object, where the work stays done all the same.
    refusal: StripeError | None = None

    @property
    def cause(self) -> Document:
        return {"id": self.request_id, "idempotency_key": self.idempotency_key}


Act = Callable[[Work, Call], Awaitable[Document]]


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    act: Act
    takes: Mapping[str, Read] = field(default_factory=dict)
    needs: Iterable[str] = ()


class Api:
    def __init__(self, ledger: Ledger, version: str) -> None:
        self._ledger = ledger
        self._version = version
        self._under_way: set[str] = set()

    def route(self, endpoint: Endpoint) -> web.RouteDef:
        async def answer(request: web.Request) -> web.Response:
            return await self._answer(request, endpoint)

        return web.route(endpoint.method, endpoint.path, answer)

    def middleware(self) -> Any:
        """Outermost, so that a request is under way until its answer has left, whatever delays it."""

        @web.middleware
        async def one_at_a_time(request: web.Request, handler: Any) -> web.StreamResponse:
            key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
            if key is None or not request.path.startswith("/v1/"):
                return await handler(request)
            if key in self._under_way:
                message = f"There is currently another in-progress request using this Idempotent Key ({key})."
                headers = {"Request-Id": new_request_id()}
                code = "idempotency_key_in_use"
                return StripeError(409, message, code=code, headers=headers).response()
            self._under_way.add(key)
            try:
                return await handler(request)
            finally:
                self._under_way.discard(key)

        return one_at_a_time

    async def _answer(self, request: web.Request, endpoint: Endpoint) -> web.Response:
        given = decode(request.rel_url.raw_query_string if request.method == "GET" else await form(request))
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise invalid(f"An idempotency key has between 1 and {LONGEST_KEY} characters.")
        asked = fingerprint(request, given)
        if key is not None and (kept := await self._kept(key, asked)) is not None:
            return kept
        takes = {**endpoint.takes, "expand": list_of(text)}
        version = request.headers.get("Stripe-Version", self._version)
        params = read(given, takes, endpoint.needs)
        call = Call(dict(request.match_info), params, version, request["request_id"], key, request["faults"])
        try:
            for rule in standing(request, "api_error"):
                if rule.fault.get("work") == "undone":
                    raise broken(rule.fault)
            async with self._ledger.work(call.cause) as work:
                body = await self._body(work, call, endpoint)
                status, headers = 200, {}
                if call.refusal is not None:
                    status, body = call.refusal.status, json.dumps(call.refusal.body)
                for rule in standing(request, "api_error"):
                    failure = broken(rule.fault)
                    status, body, headers = failure.status, json.dumps(failure.body), failure.headers
                await self._keep(work, key, asked, status, body)
        except StripeError as refused:
            if key is not None and refused.status not in UNTRIED:
                async with self._ledger.work() as work:
                    await self._keep(work, key, asked, refused.status, json.dumps(refused.body))
            raise
        return web.Response(status=status, text=body, content_type="application/json", headers=headers)

    async def _body(self, work: Work, call: Call, endpoint: Endpoint) -> str:
        answer = await endpoint.act(work, call)
        paths = [path for path in call.params.get("expand", []) if path]
        # Copied first: what is expanded in the answer must not be stored so.
        shown = await expanded(work, json.loads(json.dumps(answer)), paths)
        return json.dumps(rendered(shown, call.version))

    async def _kept(self, key: str, asked: str) -> web.Response | None:
        """The answer that was given under this key within its day; refuses another request under it."""
        async with self._ledger.work() as work:
            row = await (await work.connection.execute(KEPT, {"key": key, "since": work.at - KEPT_SECONDS})).fetchone()
        if row is None:
            return None
        if row["request"] != asked:
            message = (
                f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"Try using a key other than '{key}' if you meant to execute a different request."
            )
            raise StripeError(400, message, kind="idempotency_error")
        headers = {"Idempotent-Replayed": "true"}
        if row["status"] >= 500:
            headers["Stripe-Should-Retry"] = "false"  # the same would come
        return web.Response(status=row["status"], text=row["body"], content_type="application/json", headers=headers)

    async def _keep(self, work: Work, key: str | None, asked: str, status: int, body: str) -> None:
        if key is not None:
            kept = {"key": key, "at": work.at, "request": asked, "status": status, "body": body}
            await work.connection.execute(KEEP, kept)


async def form(request: web.Request) -> str:
    """A POST's body, or the parameters of a DELETE wherever they are."""
    try:
        body = (await request.read()).decode()
    except UnicodeDecodeError:
        raise invalid("Invalid request: the body is not UTF-8") from None
    if body and request.content_type != "application/x-www-form-urlencoded":
        message = (
            f"Invalid request (check that your POST content type is application/x-www-form-urlencoded), "
            f"not {request.content_type}."
        )
        raise invalid(message)
    return body or request.rel_url.raw_query_string


def fingerprint(request: web.Request, given: Params) -> str:
    whole = json.dumps([request.method, request.path, given], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def new_request_id() -> str:
    return f"req_{letters(14)}"


def broken(fault: Document) -> StripeError:
    message = fault.get("message", "An unknown error occurred")
    return StripeError(fault.get("code", 500), message, kind="api_error", headers=fault.get("headers"))
