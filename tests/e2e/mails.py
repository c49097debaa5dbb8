"""Mails as the stack writes them where it has no mail server."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path


def mail(path: Path) -> EmailMessage:
    return message_from_bytes(path.read_bytes(), policy=default)


def words(path: Path, kind: str = "plain") -> str:
    """What a reader is shown who prefers text ("plain") or HTML ("html")."""
    body = mail(path).get_body((kind,))
    assert body is not None, f"{path} has nothing that is {kind}"
    return str(body.get_content())


def all_words(path: Path) -> bytes:
    """Of all forms together."""
    return "\n".join(str(part.get_content()) for part in mail(path).walk() if not part.is_multipart()).encode()
