"""Who may call the Auth API of a project, with which kind of key, and how its errors are written."""

from __future__ import annotations

import json
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web

from ..clock import Clock, stamp
from ..refusal import Refusal
from ..store import Row
from .credentials import Keys, read_jwt
from .projects import Projects
from .settings import SupabaseSettings

ACCESS_SECONDS = 3600
API_VERSION = "X-Supabase-Api-Version"
NEW_ERRORS = "2024-01-01"
NO_AUTHORIZATION = "This endpoint requires a valid Bearer token"
BAD_JWT = "invalid JWT: unable to parse or verify signature, token signature is invalid or it has expired"


def is_version(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def auth_error(request: web.Request, status: int, code: str, message: str, **more: Any) -> Refusal:
    """An error in the old form, or in the new one for a caller that names that version of the API or a later one; which
    one it is stands in the answer, and the code in a header of its own."""
    wanted, headers = request.headers.get(API_VERSION, ""), {"X-Sb-Error-Code": code}
    if is_version(wanted) and wanted >= NEW_ERRORS:
        return Refusal(
            status, body={"code": code, "message": message, **more}, headers={**headers, API_VERSION: NEW_ERRORS}
        )
    return Refusal(status, body={"code": status, "error_code": code, "msg": message, **more}, headers=headers)


async def read_body(request: web.Request) -> dict[str, Any]:
    try:
        if request.content_type != "application/json":
            raise ValueError(f"content type {request.content_type}")
        body = json.loads(await request.read())
        if not isinstance(body, dict):
            raise ValueError("not an object")
    except ValueError as problem:
        raise auth_error(request, 400, "bad_json", f"Could not parse request body as JSON: {problem}") from None
    return body


class AuthGate:
    def __init__(self, projects: Projects, clock: Clock, settings: SupabaseSettings) -> None:
        self._projects = projects
        self._settings = settings
        self.clock = clock

    def now(self) -> str:
        return stamp(self.clock.now()) or ""

    def base(self, ref: str) -> str:
        return self._settings.auth_base(ref)

    def allowed_redirect(self, project: Row, wanted: Any) -> str:
        """The target itself if it is on the list, silently the site's own address if not."""
        site, listed = project["auth_config"]["site_url"], project["auth_config"]["uri_allow_list"] or ""
        allowed = [site, f"{site.rstrip('/')}/*", *(entry.strip() for entry in listed.split(",") if entry.strip())]
        if isinstance(wanted, str) and any(fnmatchcase(wanted, pattern) for pattern in allowed):
            return wanted
        return str(site)

    async def open_project(self, request: web.Request) -> Row:
        """The project of the address, once its Auth service answers at all."""
        project = await self._projects.find(request.match_info["ref"])
        if project is None:
            raise Refusal(404, text="no such host\n")
        status = self._projects.status(project)
        if status == "INACTIVE":
            raise Refusal(540, "Project paused")
        if self._projects.service_status(project, "auth")[0] != "ACTIVE_HEALTHY" and status != "ACTIVE_UNHEALTHY":
            raise Refusal(503, "name resolution failed")
        return project

    async def anyone_with_key(self, request: web.Request) -> Row:
        project = await self.open_project(request)
        require_api_key(request, Keys(project))
        return project

    async def admin(self, request: web.Request) -> Row:
        """Lets a service role pass: its legacy key in both headers, or a secret key in `apikey` alone."""
        project = await self.open_project(request)
        role = self._role(request, project, Keys(project))
        if role != "service_role":
            raise auth_error(request, 403, "not_admin", "User not allowed")
        return project

    async def person(self, request: web.Request) -> tuple[Row, dict[str, Any]]:
        """The project and the claims of a person's access token."""
        project = await self.anyone_with_key(request)
        claims = self._claims(request, project, bearer(request))
        if "sub" not in claims:
            raise auth_error(request, 403, "bad_jwt", "invalid claim: missing sub claim")
        return project, claims

    def _role(self, request: web.Request, project: Row, keys: Keys) -> str:
        token = bearer(request)
        if token is None:
            given = request.headers.get("apikey", "")
            if given == keys.secret:
                return "service_role"
            if given == keys.publishable:
                return "anon"
            if given.startswith("sb_"):
                raise unknown_key("Unregistered API key")
        claims = self._claims(request, project, token)
        require_api_key(request, keys)
        return str(claims.get("role", ""))

    def _claims(self, request: web.Request, project: Row, token: str | None) -> dict[str, Any]:
        if token is None:
            raise auth_error(request, 401, "no_authorization", NO_AUTHORIZATION)
        claims = read_jwt(token, project["jwt_secret"], self.clock.now())
        if claims is None:
            raise auth_error(request, 403, "bad_jwt", BAD_JWT)
        return claims


def bearer(request: web.Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def require_api_key(request: web.Request, keys: Keys) -> None:
    """The gateway in front of every service wants one of the project's keys in `apikey`."""
    given = request.headers.get("apikey")
    if not given:
        raise Refusal(
            401,
            body={
                "message": "No API key found in request",
                "hint": "No `apikey` request header or url param was found.",
            },
        )
    if given not in (keys.anon, keys.service_role, keys.publishable, keys.secret):
        raise unknown_key("Invalid API key")


def unknown_key(message: str) -> Refusal:
    return Refusal(401, body={"message": message, "hint": "Double check the key against your project's API keys."})
