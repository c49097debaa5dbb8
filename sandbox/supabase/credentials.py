"""The keys of a project and the tokens of its users: all made from the project's secret, none stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

from ..clock import stamp
from ..store import Row

TEN_YEARS = timedelta(days=3650)
HIDDEN = "·" * 26


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_jwt(claims: dict[str, Any], secret: str) -> str:
    head = base64url(b'{"alg":"HS256","typ":"JWT"}')
    signed = f"{head}.{base64url(json.dumps(claims, separators=(',', ':')).encode())}"
    return f"{signed}.{base64url(hmac.new(secret.encode(), signed.encode(), 'sha256').digest())}"


def read_jwt(token: str, secret: str, now: datetime) -> dict[str, Any] | None:
    """The claims of a token this secret signed and that has not expired; None for any other text."""
    signed, _, signature = token.rpartition(".")
    wanted = base64url(hmac.new(secret.encode(), signed.encode(), "sha256").digest())
    if signed.count(".") != 1 or not hmac.compare_digest(signature.encode(), wanted.encode()):
        return None
    body = signed.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims if claims.get("exp", 0) > now.timestamp() else None


class Keys:
    """The four keys of a project."""

    def __init__(self, project: Row) -> None:
        self._project = project
        self.anon = self._legacy("anon")
        self.service_role = self._legacy("service_role")
        self.publishable = self._short("sb_publishable_")
        self.secret = self._short("sb_secret_")

    def _legacy(self, role: str) -> str:
        issued: datetime = self._project["created_at"]
        claims = {
            "iss": "supabase",
            "ref": self._project["ref"],
            "role": role,
            "iat": int(issued.timestamp()),
            "exp": int((issued + TEN_YEARS).timestamp()),
        }
        return sign_jwt(claims, self._project["jwt_secret"])

    def _short(self, prefix: str) -> str:
        digest = hmac.new(self._project["jwt_secret"].encode(), prefix.encode(), "sha256").digest()
        text = base64url(digest)
        return f"{prefix}{text[:22]}_{text[22:30]}"

    def rows(self, reveal: bool) -> list[dict[str, Any]]:
        """The rows of GET /v1/projects/{ref}/api-keys; only the secret key needs `reveal`."""
        return [
            self._legacy_row("anon", self.anon),
            self._legacy_row("service_role", self.service_role),
            self._short_row("publishable", self.publishable, self.publishable, None),
            self._short_row(
                "secret",
                self.secret,
                self.secret if reveal else self.secret[:15] + HIDDEN,
                {"role": "service_role"},
            ),
        ]

    def _legacy_row(self, role: str, key: str) -> dict[str, Any]:
        return {
            "name": role,
            "api_key": key,
            "id": role,
            "type": "legacy",
            "hash": base64url(hashlib.sha256(key.encode()).digest()),
            "prefix": key.rsplit(".", 1)[1][:5],
            "description": f"Legacy {role} API key",
        }

    def _short_row(self, kind: str, key: str, shown: str, template: Any) -> dict[str, Any]:
        at = stamp(self._project["created_at"])
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._project['ref']}/{kind}")),
            "name": "default",
            "type": kind,
            "api_key": shown,
            "description": None,
            "secret_jwt_template": template,
            "hash": base64url(hashlib.sha256(key.encode()).digest()),
            "prefix": key[:15],
            "inserted_at": at,
            "updated_at": at,
        }


def hash_password(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"{salt}:{hashlib.scrypt(password.encode(), salt=salt.encode(), n=1024, r=8, p=1).hex()}"


def password_fits(password: str, kept: str | None) -> bool:
    if not kept:
        return False
    salt, _, digest = kept.partition(":")
    tried = hashlib.scrypt(password.encode(), salt=salt.encode(), n=1024, r=8, p=1).hex()
    return hmac.compare_digest(tried, digest)
