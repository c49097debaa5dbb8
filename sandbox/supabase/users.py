"""The users of every project's Auth service: their records, one-time links and sessions in PostgreSQL."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from ..clock import Clock, stamp
from ..store import Pool, Row

OF_PROJECT = """
select *
from auth_user
where %(ref)s = '' or ref = %(ref)s
order by ref, document ->> 'created_at'
"""

PAGE = """
select *, count(*) over () as matching
from auth_user
where ref = %(ref)s
order by document ->> 'created_at' desc, id
limit %(limit)s
offset %(offset)s
"""

COUNT = "select count(*) as matching from auth_user where ref = %(ref)s"

INSERT = """
insert into auth_user (ref, id, email, password, document)
values (%(ref)s, %(id)s, %(email)s, %(password)s, %(document)s)
returning *
"""

UPDATE = """
update auth_user
set email = %(email)s,
    password = %(password)s,
    document = %(document)s,
    deleted_at = %(deleted_at)s
where ref = %(ref)s and id = %(id)s
returning *
"""

KEEP_LINK = """
insert into auth_link (ref, user_id, purpose, token_hash, expires_at)
values (%(ref)s, %(id)s, %(purpose)s, %(token_hash)s, %(expires_at)s)
on conflict (ref, user_id, purpose) do update set
    token_hash = excluded.token_hash,
    expires_at = excluded.expires_at
"""

# One statement, so that of two clicks at the same moment only one finds the link.
USE_LINK = """
delete from auth_link
where ref = %(ref)s and purpose = %(purpose)s and token_hash = %(token_hash)s
returning user_id, expires_at
"""

END_SESSIONS = "delete from auth_session where ref = %(ref)s and user_id = %(id)s"

END_LINKS = "delete from auth_link where ref = %(ref)s and user_id = %(id)s"

KEEP_SESSION = "insert into auth_session (token_hash, ref, user_id) values (%(token_hash)s, %(ref)s, %(id)s)"

FIND_SESSION = "select user_id from auth_session where ref = %(ref)s and token_hash = %(token_hash)s"

END_SESSION = "delete from auth_session where ref = %(ref)s and token_hash = %(token_hash)s"

DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
FAR_FUTURE_YEARS = 200


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def seconds_of(duration: str) -> float | None:
    """A duration as the Auth service writes it ("876000h", "1h30m") in seconds; None if it is none."""
    if not DURATION.fullmatch(duration):
        return None
    parts = re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", duration)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


class Users:
    def __init__(self, state: Pool, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    async def by_id(self, ref: str, user_id: str) -> Row | None:
        return await self._state.row("select * from auth_user where ref = %(ref)s and id = %(id)s", ref=ref, id=user_id)

    async def by_email(self, ref: str, email: str) -> Row | None:
        return await self._state.row(
            "select * from auth_user where ref = %(ref)s and email = %(email)s and deleted_at is null",
            ref=ref,
            email=email,
        )

    async def of_project(self, ref: str) -> list[Row]:
        return await self._state.rows(OF_PROJECT, ref=ref)

    async def page(self, ref: str, number: int, size: int) -> tuple[list[Row], int]:
        """The newest first, and how many there are in all."""
        rows = await self._state.rows(PAGE, ref=ref, limit=size, offset=(number - 1) * size)
        counted = await self._state.row(COUNT, ref=ref)
        return rows, counted["matching"] if counted else 0

    async def create(self, ref: str, user_id: str | None, email: str | None, password: str | None, **facts: Any) -> Row:
        """Inserts a user; a unique violation is left to the caller, as by the real service."""
        now = stamp(self._clock.now())
        document = {
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {},
            "created_at": now,
            "updated_at": now,
            **facts,
        }
        created = await self._state.row(
            INSERT,
            ref=ref,
            id=user_id or str(uuid.uuid4()),
            email=email,
            password=password,
            document=Jsonb(document),
        )
        assert created is not None
        return created

    async def save(self, user: Row) -> Row:
        document = {**user["document"], "updated_at": stamp(self._clock.now())}
        saved = await self._state.row(UPDATE, **{**user, "document": Jsonb(document)})
        assert saved is not None
        return saved

    async def delete(self, user: Row, soft: bool) -> None:
        """Removes a user, or hides one: it still answers, with `deleted_at` and a hashed address, and without anything that
        tells who it was or lets it in."""
        if not soft:
            await self._state.run("delete from auth_user where ref = %(ref)s and id = %(id)s", **key_of(user))
        elif user["deleted_at"] is None:
            hidden = digest(f"{user['id']}{user['email'] or ''}")
            document = {**user["document"], "app_metadata": {}, "user_metadata": {}}
            gone = {**user, "email": hidden, "password": None, "document": document, "deleted_at": self._clock.now()}
            await self.save(gone)
            await self._state.run(END_LINKS, **key_of(user))
            await self._state.run(END_SESSIONS, **key_of(user))

    async def end_sessions(self, user: Row) -> None:
        await self._state.run(END_SESSIONS, **key_of(user))

    async def make_link(self, user: Row, purpose: str, seconds: float) -> str:
        """A new one-time token; the one before it for the same purpose stops working."""
        token = secrets.token_hex(28)
        await self._state.run(
            KEEP_LINK,
            **key_of(user),
            purpose=purpose,
            token_hash=digest(token),
            expires_at=self._clock.later(seconds),
        )
        return token

    async def use_link(self, ref: str, purpose: str, token: str) -> Row | None:
        """The user a token stands for, once; None for a token that is unknown, used, replaced or too old."""
        used = await self._state.row(USE_LINK, ref=ref, purpose=purpose, token_hash=digest(token))
        if used is None or used["expires_at"] <= self._clock.now():
            return None
        return await self.by_id(ref, used["user_id"])

    async def open_session(self, user: Row) -> str:
        token = secrets.token_urlsafe(9)
        await self._state.run(KEEP_SESSION, **key_of(user), token_hash=digest(token))
        return token

    async def session_user(self, ref: str, token: str) -> Row | None:
        found = await self._state.row(FIND_SESSION, ref=ref, token_hash=digest(token))
        return None if found is None else await self.by_id(ref, found["user_id"])

    async def end_session(self, ref: str, token: str) -> None:
        await self._state.run(END_SESSION, ref=ref, token_hash=digest(token))

    def banned_until(self, duration: str) -> str | None:
        """The end of a ban of that length from now; None for "none". Raises ValueError for anything else."""
        if duration == "none":
            return None
        seconds = seconds_of(duration)
        if seconds is None:
            raise ValueError(duration)
        now = self._clock.now()
        furthest = now + timedelta(days=365 * FAR_FUTURE_YEARS)
        try:
            return stamp(min(now + timedelta(seconds=seconds), furthest))
        except OverflowError:
            return stamp(furthest)

    def is_banned(self, user: Row) -> bool:
        until = user["document"].get("banned_until")
        return until is not None and datetime.fromisoformat(until.replace("Z", "+00:00")) > self._clock.now()


def key_of(user: Row) -> dict[str, Any]:
    return {"ref": user["ref"], "id": user["id"]}


def identities(user: Row) -> list[dict[str, Any]]:
    """How a user logs in: by mail, the only way that the sandbox knows. One that is hidden has none."""
    if user["deleted_at"] is not None or not user["email"]:
        return []
    document, own_id = user["document"], str(user["id"])
    return [
        {
            "identity_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{user['ref']}/{own_id}/email")),
            "id": own_id,
            "user_id": own_id,
            "identity_data": {
                "email": user["email"],
                "email_verified": bool(document.get("email_confirmed_at")),
                "phone_verified": False,
                "sub": own_id,
            },
            "provider": "email",
            "last_sign_in_at": document.get("last_sign_in_at", document["created_at"]),
            "created_at": document["created_at"],
            "updated_at": document["updated_at"],
            "email": user["email"],
        }
    ]


def describe(user: Row) -> dict[str, Any]:
    """A user as the Auth API shows one."""
    document = user["document"]
    shown = {
        "id": str(user["id"]),
        "aud": "authenticated",
        "role": "authenticated",
        "email": user["email"] or "",
        "phone": "",
        "app_metadata": document["app_metadata"],
        "user_metadata": document["user_metadata"],
        "identities": identities(user),
        "created_at": document["created_at"],
        "updated_at": document["updated_at"],
        "is_anonymous": False,
    }
    for name in ("email_confirmed_at", "invited_at", "recovery_sent_at", "last_sign_in_at", "banned_until"):
        if document.get(name):
            shown[name] = document[name]
    if "email_confirmed_at" in shown:
        shown["confirmed_at"] = shown["email_confirmed_at"]
    if user["deleted_at"] is not None:
        shown["deleted_at"] = stamp(user["deleted_at"])
    return shown
