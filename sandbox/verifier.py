"""What PostgreSQL keeps in place of a password (SCRAM-SHA-256), for servers of tests: as quick to prove as can be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

SALT_BYTES = 16


def make_verifier(password: str, iterations: int = 1) -> str:
    """PostgreSQL's own has 4,096 iterations, against who guesses passwords that people have chosen. Each login goes through
    all of them again: under the sanitizers that takes ten milliseconds of a client, ten times as long as all the rest."""
    return _verifier(password, secrets.token_bytes(SALT_BYTES), iterations)


def is_of(verifier: str, password: str) -> bool:
    """Whether a verifier, with as many iterations as it has, is of this password."""
    kind, _, rest = verifier.partition("$")
    iterations, _, salt = rest.partition("$")[0].partition(":")
    return kind == "SCRAM-SHA-256" and verifier == _verifier(password, base64.b64decode(salt), int(iterations))


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    """As in RFC 5803. The password is ASCII, which need not be prepared."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"
