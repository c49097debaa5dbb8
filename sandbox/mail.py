"""A mailbox that accepts everything: a small SMTP listener, and the messages as a test wants to read them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

from .clock import stamp
from .store import Pool, Row

LARGEST_MESSAGE = 10 * 1024 * 1024
LONGEST_LINE = 1024 * 1024
IDLE_SECONDS = 300

KEEP = "insert into mail (sender, recipients, raw) values (%(sender)s, %(recipients)s, %(raw)s)"

FIND = """
select id, at, sender, recipients, raw
from mail
where %(recipient)s = '' or lower(%(recipient)s) = any (select lower(r) from unnest(recipients) r)
order by id
"""

ADDRESS = re.compile(r"(?i)^(?:FROM|TO):\s*<([^>]*)>(?:\s+(.*))?$")


class Mailbox:
    def __init__(self, state: Pool) -> None:
        self._state = state

    async def keep(self, sender: str, recipients: list[str], raw: bytes) -> None:
        await self._state.run(KEEP, sender=sender, recipients=recipients, raw=raw)

    async def find(self, recipient: str) -> list[dict[str, Any]]:
        return [read_message(row) for row in await self._state.rows(FIND, recipient=recipient)]

    async def serve(self, host: str, port: int) -> asyncio.Server:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await Conversation(self, reader, writer).run()
            except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, ValueError):
                pass
            finally:
                writer.close()

        return await asyncio.start_server(talk, host, port, limit=LONGEST_LINE)


def read_message(row: Row) -> dict[str, Any]:
    raw = bytes(row["raw"])
    message: EmailMessage = email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[assignment,unused-ignore]
    return {
        "id": row["id"],
        "from": row["sender"],
        "to": row["recipients"],
        "subject": str(message["subject"] or ""),
        "message_id": str(message["message-id"] or ""),
        "text": part(message, "plain"),
        "html": part(message, "html"),
        "raw": raw.decode("utf-8", "replace"),
        "at": stamp(row["at"]),
    }


def part(message: EmailMessage, kind: str) -> str | None:
    """The first text part of a kind, decoded; None where there is none or it cannot be read."""
    body = message.get_body(preferencelist=(kind,))
    if body is None:
        return None
    try:
        return str(body.get_content()).replace("\r\n", "\n")
    except (LookupError, ValueError):
        return None


class Conversation:
    """One SMTP session, RFC 5321 as far as a sender of plain mail needs it."""

    def __init__(self, mailbox: Mailbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._mailbox = mailbox
        self._reader = reader
        self._writer = writer
        self._forget()

    def _forget(self) -> None:
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def run(self) -> None:
        await self._say("220 sandbox ESMTP")
        while line := await self._line():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            answer = getattr(self, f"_on_{verb.lower()}", None)
            await self._say(await answer(rest) if answer else "500 5.5.1 command not known")
            if verb.upper() == "QUIT":
                return

    async def _line(self) -> bytes:
        return await asyncio.wait_for(self._reader.readline(), IDLE_SECONDS)

    async def _say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")
        await self._writer.drain()

    async def _on_helo(self, _: str) -> str:
        self._forget()
        return "250 sandbox"

    async def _on_ehlo(self, _: str) -> str:
        self._forget()
        return f"250-sandbox\r\n250-SIZE {LARGEST_MESSAGE}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN"

    async def _on_auth(self, rest: str) -> str:
        mechanism, _, initial = rest.partition(" ")
        if mechanism.upper() != "PLAIN":
            return "504 5.5.4 only AUTH PLAIN"
        if not initial:
            await self._say("334 ")
            initial = (await self._line()).decode("ascii", "replace").strip()
        try:
            whole = base64.b64decode(initial, validate=True)
        except binascii.Error:
            whole = b""
        return "235 2.7.0 accepted" if whole.count(b"\0") == 2 else "501 5.5.2 not a PLAIN response"

    async def _on_mail(self, rest: str) -> str:
        found = ADDRESS.match(rest.strip())
        if found is None or not rest.upper().startswith("FROM"):
            return "501 5.5.4 MAIL FROM:<address>"
        if self._sender is not None:
            return "503 5.5.1 a sender is already given"
        self._sender = found[1]
        return "250 2.1.0 ok"

    async def _on_rcpt(self, rest: str) -> str:
        found = ADDRESS.match(rest.strip())
        if self._sender is None:
            return "503 5.5.1 MAIL first"
        if found is None or not found[1] or not rest.upper().startswith("TO"):
            return "501 5.5.4 RCPT TO:<address>"
        self._recipients.append(found[1])
        return "250 2.1.5 ok"

    async def _on_data(self, _: str) -> str:
        if self._sender is None or not self._recipients:
            return "503 5.5.1 MAIL and RCPT first"
        await self._say("354 end with a line that holds only a dot")
        lines: list[bytes] = []
        size = 0
        while (line := await self._line()) not in (b".\r\n", b".\n"):
            if not line:
                raise ConnectionError("closed inside DATA")
            size += len(line)
            if size <= LARGEST_MESSAGE:
                lines.append(line[1:] if line.startswith(b".") else line)
        if size > LARGEST_MESSAGE:
            self._forget()
            return "552 5.3.4 message too large"
        await self._mailbox.keep(self._sender, self._recipients, b"".join(lines))
        self._forget()
        return "250 2.0.0 kept"

    async def _on_rset(self, _: str) -> str:
        self._forget()
        return "250 2.0.0 ok"

    async def _on_noop(self, _: str) -> str:
        return "250 2.0.0 ok"

    async def _on_vrfy(self, _: str) -> str:
        return "252 2.5.0 cannot say"

    async def _on_quit(self, _: str) -> str:
        return "221 2.0.0 bye"
