"""A Kafka with logins, TLS and access control, as an operator has one: who may do what is what docs/security.md says."""

from __future__ import annotations

import re
import secrets
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.kafka import KafkaBroker
from deploy.local.stack import REPOSITORY, Stack

SECURITY = REPOSITORY / "docs" / "security.md"
LOGINS = ("gateway", "provisioner", "migrator", "billing", "init", "doctor", "events", "nobody")

# The names of the table's first column that are logins of ours.
PRINCIPALS = {
    "gateway": ("gateway",),
    "provisioner": ("provisioner",),
    "migrator": ("migrator",),
    "billing": ("billing",),
    "gateway, provisioner, migrator and billing (each may publish)": ("gateway", "provisioner", "migrator", "billing"),
    "`tenantry init`": ("init",),
    "`tenantry doctor`": ("doctor",),
    "`tenantry events tail`": ("events",),
}

# Numbers of the protocol (kafka.apache.org/protocol).
RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
LITERAL, ALLOW = 3, 3


@dataclass(frozen=True)
class Right:
    """One principal may do one thing with one resource."""

    login: str
    operation: str
    resource: str
    name: str


def documented_rights() -> list[Right]:
    """The rows of the table that are about our own programs."""
    section = SECURITY.read_text().split("### Kafka\n", 1)[1].split("\n#", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    rights = []
    for who, operations, on in rows:
        for login in PRINCIPALS.get(who, ()):
            for part in on.split(";"):
                kind = part.split()[0].rstrip("s")
                names = ["kafka-cluster"] if kind == "cluster" else re.findall(r"`([^`]+)`", part)
                rights += [Right(login, op, kind, name) for op in operations.split(", ") for name in names]
    return rights


class SecuredKafka(KafkaBroker):
    """Beside the listener without a login, by which tests are allowed everything, one with TLS and SASL. Who has no right
    there may do nothing."""

    def __init__(self, data_dir: Path, port: int, controller_port: int, login_port: int) -> None:
        self.login_port = login_port
        self.passwords = {login: secrets.token_urlsafe(12) for login in LOGINS}
        self.authority = data_dir / "authority.pem"
        self._keystore = data_dir / "keystore.pem"
        users = " ".join(f'user_{login}="{password}"' for login, password in self.passwords.items())
        security = "org.apache.kafka.common.security"
        super().__init__(
            data_dir,
            port,
            controller_port,
            die_with_parent=True,
            format_options=["--add-scram", f"SCRAM-SHA-256=[name=scram,password={self.passwords['nobody']}]"],
            settings=f"""
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},LOGIN://127.0.0.1:{login_port}
advertised.listeners=BROKER://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL
listener.name.login.ssl.keystore.type=PEM
listener.name.login.ssl.keystore.location={self._keystore}
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.login.plain.sasl.jaas.config={security}.plain.PlainLoginModule required {users};
listener.name.login.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
""",
        )

    def _prepare(self) -> bool:
        if not self._keystore.exists():
            self._make_certificate()
        return super()._prepare()

    def _make_certificate(self) -> None:
        key = self.data_dir / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(self.authority)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        self._keystore.write_text(key.read_text() + self.authority.read_text())

    @property
    def login_bootstrap(self) -> str:
        return f"127.0.0.1:{self.login_port}"

    def client(self, login: str, **other: str) -> dict[str, str]:
        """How a client logs in; other names have _ for a dot."""
        return {
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": str(self.authority),
            "sasl.mechanisms": "PLAIN",
            "sasl.username": login,
            "sasl.password": self.passwords.get(login, ""),
        } | {name.replace("_", "."): value for name, value in other.items()}

    def properties(self, login: str, **other: str) -> str:
        """The same as KAFKA_PROPERTIES."""
        return ";".join(f"{name}={value}" for name, value in self.client(login, **other).items())

    def environment(self, login: str, **other: str) -> dict[str, str]:
        return {"KAFKA_BROKERS": self.login_bootstrap, "KAFKA_PROPERTIES": self.properties(login, **other)}

    def allow(self, rights: list[Right]) -> None:
        """CreateAcls, version 1; the Python client of Debian 12 has no call for it."""
        body = struct.pack(">i", len(rights))
        for right in rights:
            body += struct.pack(">b", RESOURCES[right.resource]) + _text(right.name) + struct.pack(">b", LITERAL)
            body += _text(f"User:{right.login}") + _text("*") + struct.pack(">bb", OPERATIONS[right.operation], ALLOW)
        answer = self._ask(30, 1, body)
        assert answer[8:] == struct.pack(">i", len(rights)) + bytes(4 * len(rights)), answer  # no code, no text

    def _ask(self, key: int, version: int, body: bytes) -> bytes:
        request = struct.pack(">hhih", key, version, 1, -1) + body
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            with connection.makefile("rwb") as stream:
                stream.write(struct.pack(">i", len(request)) + request)
                stream.flush()
                (size,) = struct.unpack(">i", stream.read(4))
                return stream.read(size)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


class SecuredStack(Stack):
    """The product with a login for each of its programs, which may do what docs/security.md says and nothing else. And the
    migrator knows no secret that it needs not."""

    def __init__(self, root: Path, **more: object) -> None:
        super().__init__(root, **more)  # type: ignore[arg-type]
        self.secured = SecuredKafka(
            self.root / "kafka", self._port("kafka"), self._port("controller"), self._port("kafka-login")
        )
        self.kafka = self.secured

    def environment(self, name: str, index: int) -> dict[str, str]:
        made = {**super().environment(name, index), **self.secured.environment(name)}
        needless = ("TENANT_SERVERS", "APP_KEYS") if name == "migrator" else ()
        return {key: value for key, value in made.items() if key not in needless}

    def admin_environment(self) -> dict[str, str]:
        return {**super().admin_environment(), **self.secured.environment("init")}

    def init(self) -> None:
        self.secured.allow(documented_rights())
        super().init()
