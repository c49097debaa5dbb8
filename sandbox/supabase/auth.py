"""The Auth API of every project: the admin calls Tenantry makes, and what people do with links and logins."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import psycopg
from aiohttp import web

from ..refusal import Refusal
from ..store import Row
from .auth_gate import ACCESS_SECONDS, AuthGate, auth_error, read_body
from .credentials import hash_password, password_fits, sign_jwt
from .openapi import is_uuid
from .users import Users, describe

EMAIL = re.compile(r"[^@\s<>\"]+@[^@\s<>\"]+\.[^@\s<>\".]+")
LINK_SECONDS = 3600
# The newest link of a purpose is the only one that works.
PURPOSE = {
    "invite": "confirmation",
    "signup": "confirmation",
    "magiclink": "recovery",
    "recovery": "recovery",
}
EMAIL_EXISTS = "A user with this email address has already been registered"
# As the driver is told, and as supabase-js makes it of a project's URL.
BASES = ("/auth/{ref}/v1", "/project/{ref}/auth/v1")
Answer = web.Response


class Auth:
    def __init__(self, gate: AuthGate, users: Users) -> None:
        self._gate = gate
        self._users = users

    def routes(self) -> list[web.RouteDef]:
        return [route for base in BASES for route in self._routes(base)]

    def _routes(self, base: str) -> list[web.RouteDef]:
        return [
            web.get(f"{base}/admin/users", self.list_users),
            web.post(f"{base}/admin/users", self.create_user),
            web.get(f"{base}/admin/users/{{id}}", self.get_user),
            web.put(f"{base}/admin/users/{{id}}", self.update_user),
            web.delete(f"{base}/admin/users/{{id}}", self.delete_user),
            web.post(f"{base}/admin/generate_link", self.generate_link),
            web.get(f"{base}/verify", self.verify, allow_head=False),
            web.post(f"{base}/verify", self.verify_token),
            web.post(f"{base}/token", self.token),
            web.post(f"{base}/logout", self.logout),
            web.get(f"{base}/user", self.who_am_i),
            web.put(f"{base}/user", self.change_myself),
            web.get(f"{base}/health", self.health),
        ]

    async def list_users(self, request: web.Request) -> Answer:
        """A page, the newest first; where the next and the last one are stands in headers."""
        project = await self._gate.admin(request)
        number, size = (self._number(request, name, by_default) for name, by_default in (("page", 1), ("per_page", 50)))
        rows, matching = await self._users.page(project["ref"], number, size)
        last = max(1, -(-matching // size))
        links = [("next", number + 1)] if number < last else []
        listed = ", ".join(
            f'<{request.url.with_query(page=page, per_page=size)}>; rel="{name}"'
            for name, page in (*links, ("last", last))
        )
        body = {"users": [describe(row) for row in rows], "aud": "authenticated"}
        return web.json_response(body, headers={"X-Total-Count": str(matching), "Link": listed})

    def _number(self, request: web.Request, name: str, by_default: int) -> int:
        text = request.query.get(name) or str(by_default)
        if not text.isdigit() or not 1 <= int(text) <= 1000:
            raise auth_error(request, 400, "validation_failed", f"Bad Pagination Parameters: {name}")
        return int(text)

    async def create_user(self, request: web.Request) -> Answer:
        project = await self._gate.admin(request)
        body = await read_body(request)
        ref = project["ref"]
        facts = self._facts(request, body, {"provider": "email", "providers": ["email"]}, {})
        user_id = body.get("id")
        if user_id is not None and not is_uuid(user_id):
            raise auth_error(request, 400, "validation_failed", "ID must conform to the uuid format")
        email = self._email(request, body)
        if email is None:
            message = "Cannot create a user without either an email or phone"
            raise auth_error(request, 400, "validation_failed", message)
        if await self._users.by_email(ref, email) is not None:
            raise auth_error(request, 422, "email_exists", EMAIL_EXISTS)
        if body.get("email_confirm") is True:
            facts["email_confirmed_at"] = self._gate.now()
        try:
            user = await self._users.create(ref, user_id, email, self._password(request, body), **facts)
        except psycopg.errors.UniqueViolation as violation:
            raise database_conflict(violation) from None
        return web.json_response(describe(user))

    async def get_user(self, request: web.Request) -> Answer:
        project = await self._gate.admin(request)
        return web.json_response(describe(await self._user(request, project)))

    async def update_user(self, request: web.Request) -> Answer:
        """Metadata are merged at their top level; a null removes a key."""
        project = await self._gate.admin(request)
        user = await self._user(request, project)
        body = await read_body(request)
        document = user["document"]
        facts = self._facts(request, body, document["app_metadata"], document["user_metadata"])
        if body.get("email_confirm") is True and not document.get("email_confirmed_at"):
            facts["email_confirmed_at"] = self._gate.now()
        email = self._email(request, body) or user["email"]
        if email != user["email"] and await self._users.by_email(project["ref"], email) is not None:
            raise auth_error(request, 422, "email_exists", EMAIL_EXISTS)
        password = self._password(request, body) or user["password"]
        changed = {**user, "email": email, "password": password, "document": {**document, **facts}}
        try:
            return web.json_response(describe(await self._users.save(changed)))
        except psycopg.errors.UniqueViolation as violation:
            raise database_conflict(violation) from None

    async def delete_user(self, request: web.Request) -> Answer:
        project = await self._gate.admin(request)
        user = await self._user(request, project)
        body = await read_body(request) if request.body_exists else {}
        await self._users.delete(user, soft=body.get("should_soft_delete") is True)
        return web.json_response({})

    async def generate_link(self, request: web.Request) -> Answer:
        project = await self._gate.admin(request)
        body = await read_body(request)
        kind = body.get("type")
        if kind not in PURPOSE:
            raise auth_error(request, 400, "validation_failed", f"Invalid email action link type requested: {kind}")
        email = self._email(request, body)
        if email is None:
            raise auth_error(request, 400, "validation_failed", "Unable to validate email address: invalid format")
        user, kind = await self._linked_user(request, project, kind, email, body)
        token = await self._users.make_link(user, PURPOSE[kind], LINK_SECONDS)
        redirect_to = self._gate.allowed_redirect(project, body.get("redirect_to"))
        query = urlencode({"token": token, "type": kind, "redirect_to": redirect_to})
        return web.json_response(
            {
                **describe(user),
                "action_link": f"{self._gate.base(project['ref'])}/verify?{query}",
                "email_otp": str(int(token[:12], 16) % 1_000_000).zfill(6),
                "hashed_token": token,
                "redirect_to": redirect_to,
                "verification_type": kind,
            }
        )

    async def _linked_user(
        self, request: web.Request, project: Row, kind: str, email: str, body: dict[str, Any]
    ) -> tuple[Row, str]:
        """The user a link is for, made where the real service makes one, and the kind the link becomes."""
        user = await self._users.by_email(project["ref"], email)
        if user is None:
            if kind == "recovery":
                raise auth_error(request, 404, "user_not_found", "User with this email not found")
            facts = {"user_metadata": body.get("data") or {}}
            password = self._password(request, body)
            user = await self._users.create(project["ref"], None, email, password, **facts)
            kind = "signup" if kind == "magiclink" else kind
        elif kind in ("invite", "signup") and user["document"].get("email_confirmed_at"):
            raise auth_error(request, 422, "email_exists", EMAIL_EXISTS)
        mark = {"invite": "invited_at", "recovery": "recovery_sent_at"}.get(kind)
        if mark is not None:
            user = await self._users.save({**user, "document": {**user["document"], mark: self._gate.now()}})
        return user, kind

    async def verify(self, request: web.Request) -> Answer:
        """What a click on a link does: uses it up and sends the browser on, with a session or an error."""
        project = await self._gate.open_project(request)
        kind, token = request.query.get("type", ""), request.query.get("token", "")
        target = self._gate.allowed_redirect(project, request.query.get("redirect_to"))
        user = None
        if kind in PURPOSE and token:
            user = await self._users.use_link(project["ref"], PURPOSE[kind], token)
        if user is None:
            problem = ("otp_expired", "Email link is invalid or has expired")
        elif self._users.is_banned(user):
            problem = ("user_banned", "User is banned")
        else:
            confirmed = user["document"].get("email_confirmed_at") or self._gate.now()
            document = {**user["document"], "email_confirmed_at": confirmed}
            session = await self._session(project, {**user, "document": document})
            session.pop("user")
            return redirect(target, {**session, "type": kind})
        return redirect(target, {"error": "access_denied", "error_code": problem[0], "error_description": problem[1]})

    async def verify_token(self, request: web.Request) -> Answer:
        """The same by an application that was given the link's hash: a session as the answer."""
        project = await self._gate.anyone_with_key(request)
        body = await read_body(request)
        kind, token = str(body.get("type", "")), str(body.get("token_hash") or "")
        user = await self._users.use_link(project["ref"], PURPOSE[kind], token) if kind in PURPOSE and token else None
        if user is None:
            raise auth_error(request, 403, "otp_expired", "Email link is invalid or has expired")
        if self._users.is_banned(user):
            raise auth_error(request, 403, "user_banned", "User is banned")
        confirmed = user["document"].get("email_confirmed_at") or self._gate.now()
        document = {**user["document"], "email_confirmed_at": confirmed}
        return web.json_response(await self._session(project, {**user, "document": document}))

    async def logout(self, request: web.Request) -> Answer:
        """Refresh tokens end; an access token works until it expires."""
        _, user = await self._myself(request)
        await self._users.end_sessions(user)
        return web.Response(status=204)

    async def token(self, request: web.Request) -> Answer:
        project = await self._gate.anyone_with_key(request)
        body = await read_body(request)
        grant = request.query.get("grant_type")
        if grant == "password":
            user = await self._login(request, project, body)
        elif grant == "refresh_token":
            user = await self._refresh(request, project, body)
        else:
            raise auth_error(request, 400, "invalid_credentials", "unsupported_grant_type")
        if self._users.is_banned(user):
            raise auth_error(request, 400, "user_banned", "User is banned")
        if grant == "password" and not user["document"].get("email_confirmed_at"):
            raise auth_error(request, 400, "email_not_confirmed", "Email not confirmed")
        if grant == "refresh_token":
            await self._users.end_session(project["ref"], str(body["refresh_token"]))
        return web.json_response(await self._session(project, user))

    async def _login(self, request: web.Request, project: Row, body: dict[str, Any]) -> Row:
        email, password = str(body.get("email", "")).strip().lower(), str(body.get("password", ""))
        user = await self._users.by_email(project["ref"], email)
        if user is None or not password_fits(password, user["password"]):
            raise auth_error(request, 400, "invalid_credentials", "Invalid login credentials")
        return user

    async def _refresh(self, request: web.Request, project: Row, body: dict[str, Any]) -> Row:
        user = await self._users.session_user(project["ref"], str(body.get("refresh_token", "")))
        if user is None:
            message = "Invalid Refresh Token: Refresh Token Not Found"
            raise auth_error(request, 400, "refresh_token_not_found", message)
        return user

    async def _session(self, project: Row, user: Row) -> dict[str, Any]:
        now = int(self._gate.clock.now().timestamp())
        signed_in = {**user["document"], "last_sign_in_at": self._gate.now()}
        user = await self._users.save({**user, "document": signed_in})
        claims = {
            "iss": self._gate.base(project["ref"]),
            "sub": str(user["id"]),
            "aud": "authenticated",
            "role": "authenticated",
            "email": user["email"],
            "app_metadata": user["document"]["app_metadata"],
            "iat": now,
            "exp": now + ACCESS_SECONDS,
        }
        return {
            "access_token": sign_jwt(claims, project["jwt_secret"]),
            "token_type": "bearer",
            "expires_in": ACCESS_SECONDS,
            "expires_at": now + ACCESS_SECONDS,
            "refresh_token": await self._users.open_session(user),
            "user": describe(user),
        }

    async def who_am_i(self, request: web.Request) -> Answer:
        """An access token works until it expires, whatever has become of a ban since."""
        _, user = await self._myself(request)
        return web.json_response(describe(user))

    async def change_myself(self, request: web.Request) -> Answer:
        _, user = await self._myself(request)
        password = self._password(request, await read_body(request)) or user["password"]
        return web.json_response(describe(await self._users.save({**user, "password": password})))

    async def _myself(self, request: web.Request) -> tuple[Row, Row]:
        project, claims = await self._gate.person(request)
        user = await self._users.by_id(project["ref"], claims["sub"])
        if user is None:
            raise auth_error(request, 403, "user_not_found", "User from sub claim in JWT does not exist")
        return project, user

    async def health(self, request: web.Request) -> Answer:
        await self._gate.open_project(request)
        return web.json_response({"name": "GoTrue", "version": "v2.180.0", "description": "GoTrue"})

    async def _user(self, request: web.Request, project: Row) -> Row:
        user_id = request.match_info["id"]
        if not is_uuid(user_id):
            status = 404 if request.method == "GET" else 400
            raise auth_error(request, status, "validation_failed", "user_id must be an UUID")
        user = await self._users.by_id(project["ref"], user_id)
        if user is None:
            raise auth_error(request, 404, "user_not_found", "User not found")
        return user

    def _facts(
        self, request: web.Request, body: dict[str, Any], app: dict[str, Any], own: dict[str, Any]
    ) -> dict[str, Any]:
        """The parts of a user's document that a create or an update sets."""
        facts: dict[str, Any] = {}
        for name, before in (("app_metadata", app), ("user_metadata", own)):
            wanted = body.get(name) or {}
            if not isinstance(wanted, dict):
                raise auth_error(request, 400, "bad_json", f"Could not parse request body as JSON: {name}")
            facts[name] = {key: value for key, value in {**before, **wanted}.items() if value is not None}
        if body.get("ban_duration"):
            try:
                facts["banned_until"] = self._users.banned_until(str(body["ban_duration"]))
            except ValueError:
                message = f'invalid format for ban duration: time: invalid duration "{body["ban_duration"]}"'
                raise auth_error(request, 400, "validation_failed", message) from None
        return facts

    def _email(self, request: web.Request, body: dict[str, Any]) -> str | None:
        email = body.get("email") or None
        if email is not None and (not isinstance(email, str) or len(email) > 255 or not EMAIL.fullmatch(email)):
            raise auth_error(request, 400, "validation_failed", "Unable to validate email address: invalid format")
        return None if email is None else email.lower()

    def _password(self, request: web.Request, body: dict[str, Any]) -> str | None:
        password = body.get("password") or None
        if password is not None and (not isinstance(password, str) or len(password) < 6):
            message = "Password should be at least 6 characters."
            raise auth_error(request, 422, "weak_password", message, weak_password={"reasons": ["length"]})
        return None if password is None else hash_password(password)


def database_conflict(violation: psycopg.Error) -> Refusal:
    """Two records that cannot both be: the real service passes PostgreSQL's own error on, as a 500."""
    primary, detail = violation.diag.message_primary or "", violation.diag.message_detail or ""
    message = primary.replace("auth_user_pkey", "users_pkey").replace("auth_user_email", "users_email_partial_key")
    return Refusal(500, body={"code": "23505", "message": message, "detail": detail})


def redirect(target: str, facts: dict[str, Any]) -> Answer:
    return web.Response(status=303, headers={"Location": f"{target}#{urlencode(facts)}"})
