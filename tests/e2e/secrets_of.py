"""The secrets of a stack in clear, for tests that search for them: opened as only somebody with all keys can."""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deploy.local.stack import Stack

from .invariants import rows
from .mails import words

NONCE_BYTES = 12


def secrets_of(stack: Stack) -> dict[str, bytes]:
    """Name -> bytes of what the services were told: keys in each form, tokens, passwords."""
    found = {f"token {scope}": token.encode() for scope, token in stack.settings["tokens"].items()}
    found |= {f"password of {name}": word.encode() for name, word in stack.settings["passwords"].items()}
    if stack.driver == "supabase":
        found["access token"] = b"sbp_sandbox"
    found["password of the server"] = stack.postgres.password.encode()
    for ring, text in stack.settings["keys"].items():
        encoded = text.partition(":")[2]
        found[f"key {ring} in base64"] = encoded.rstrip("=").encode()
        found[f"key {ring} in base64url"] = encoded.rstrip("=").replace("+", "-").replace("/", "_").encode()
        found[f"key {ring} in bytes"] = base64.b64decode(encoded)
        found[f"key {ring} in hex"] = base64.b64decode(encoded).hex().encode()
    return found


def tenant_passwords(stack: Stack) -> dict[str, bytes]:
    """Every stored secret of every tenant, opened: owner's and app's passwords of all generations."""
    keys = {name: base64.b64decode(text.partition(":")[2]) for name, text in stack.settings["keys"].items()}
    stored = rows(stack, "select tenant_id, field, generation, ring, sealed from provisioner.secret")
    return {
        f"{field} {generation} of {tenant}": unseal(keys[ring], sealed, f"{tenant}\n{field}\n{generation}")
        for tenant, field, generation, ring, sealed in stored
    }


def unseal(key: bytes, sealed: str, bound_to: str) -> bytes:
    encoded = sealed.partition(".")[2]
    content = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return AESGCM(key).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], bound_to.encode())


def invitations(stack: Stack) -> dict[str, bytes]:
    """Name -> the signed part of each invitation's link, which only the mail may carry."""
    found = {}
    for path in (stack.root / "mail").glob("*.eml"):
        found[f"link in {path.name}"] = words(path).partition("/invite/")[2].split()[0].encode()
    return found
