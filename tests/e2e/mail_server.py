"""A mail server that a test can make slow, silent, forgetful or strict."""

from __future__ import annotations

import contextlib
import email
import email.policy
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

from deploy.local.ports import reserve_port


@dataclass
class MailServer:
    """How it behaves may change at any time; what it took is remembered."""

    port: int
    wait: float = 0  # seconds before it says whether it takes a mail
    hang: threading.Event | None = None  # says nothing to a mail before this is set
    drop: bool = False  # takes a mail and ends the connection without a word
    refuse: str = ""  # its answer to a recipient
    login: str = ""  # its answer to any login; empty = it has none
    silent_goodbye: bool = False  # does not answer QUIT
    tls: ssl.SSLContext | None = None  # offers STARTTLS
    taken: list[EmailMessage] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)  # of each connection that said it wants to send
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def mails_to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in list(self.taken) if address in str(mail["to"])]


class Conversation(socketserver.StreamRequestHandler):
    """One connection to the server."""

    state: MailServer

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
        self.wfile.flush()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.say("220 mail.test ESMTP")
            while line := self.rfile.readline().decode(errors="replace").strip():
                if not self.answer(line.upper()):
                    return

    def answer(self, line: str) -> bool:
        """Says whether the conversation goes on."""
        match line.split(maxsplit=1)[0]:
            case "EHLO":
                offers = ["mail.test", *["STARTTLS"][: self.can_encrypt()], *["AUTH PLAIN"][: bool(self.state.login)]]
                for offer in offers:
                    self.say(f"250-{offer}")
                self.say("250 8BITMIME")
            case "STARTTLS":
                assert self.state.tls is not None
                self.say("220 go ahead")
                self.connection = self.state.tls.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
            case "AUTH":
                if len(line.split()) == 2:  # the password comes in a line of its own
                    self.say("334 ")
                    self.rfile.readline()
                self.say(self.state.login)
            case "MAIL":
                self.state.encrypted.append(isinstance(self.connection, ssl.SSLSocket))
                self.say("250 ok")
            case "RCPT":
                self.say(self.state.refuse or "250 ok")
            case "DATA":
                return self.take()
            case "QUIT":
                if self.state.silent_goodbye:
                    self.state.over.wait()
                self.say("221 bye")
                return False
            case _:
                self.say("250 ok")
        return True

    def can_encrypt(self) -> bool:
        return self.state.tls is not None and not isinstance(self.connection, ssl.SSLSocket)

    def take(self) -> bool:
        self.say("354 go ahead")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        if line == b"":
            return False
        mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.state.taken.append(mail)
        if self.state.drop:
            return False
        if self.state.hang is not None:
            self.state.hang.wait()
        time.sleep(self.state.wait)
        self.say("250 taken")
        return True


class Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


@contextlib.contextmanager
def mail_server(**behaviour: object) -> Iterator[MailServer]:
    """Runs for the length of the block."""
    state = MailServer(reserve_port(), **behaviour)  # type: ignore[arg-type]
    handler = type("Handler", (Conversation,), {"state": state})
    server = Listener(("127.0.0.1", state.port), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.over.set()
        if state.hang is not None:
            state.hang.set()
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody vouches for but itself, and a server's use of it."""
    folder.chmod(0o755)
    ca, key = folder / "mail.pem", folder / "mail.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(ca), "-subj", "/CN=mail.test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    return ca, context
