"""Runs Apache Kafka on 127.0.0.1: one node that is broker and controller (KRaft)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .java import find_java
from .process import ServerError, ServerProcess
from .server import Server, write_if_changed

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
NODE_ID = 1
FORMAT_SECONDS = 60.0
PROBE_SECONDS = 1.0
CLASSES, FORMATTED = "classes.jsa", "formatted"  # in the folder of prepared_start

# On two cores this compiler and collector start a broker somewhat faster on Java 17, twice as fast on 25. With what
# kafka_start prepares, a first start costs less than half of that again.
FAST_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")

_CONFIGURATION = """\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={node_id}@127.0.0.1:{controller_port}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}

# A misspelt topic shall fail, not appear.
auto.create.topics.enable=false
message.max.bytes={message_max_bytes}
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# No record twice a second that says that nothing happens.
metadata.max.idle.interval.ms=0

# The first consumer of a group gets its partitions at once; a dead one loses them as soon as its client asks.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# A broker killed hard may only register again when the session of its dead self has run out.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# Small: internal topics of fifty partitions and a cleaner of 128 MiB are for other machines.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""


def kafka_jars() -> Path:
    """Where install.sh puts the jars."""
    cache = os.environ.get("TENANTRY_CACHE") or REPOSITORY / ".run" / "cache"
    return Path(cache) / "kafka" / "libs"


def prepared_start(jars: Path) -> Path:
    """Where kafka_start puts what brokers start faster with: their classes as this very Java has loaded them from these very
    jars, for with any other it would not use them, and not say so; and storage that is formatted."""
    files = [find_java().resolve(), *sorted(jars.glob("*.jar"))]
    text = "\n".join(f"{file} {file.stat().st_mtime_ns}" for file in files)
    return jars.parent / f"start-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class KafkaBroker(Server):
    """One broker. Topics stay in data_dir."""

    name = "kafka"

    def __init__(
        self,
        data_dir: Path,
        port: int,
        controller_port: int,
        jars: Path | None = None,
        *,
        message_max_bytes: int = 1_200_000,
        heap_mib: int = 384,
        jvm_options: Sequence[str] = FAST_START,
        settings: str = "",
        format_options: Sequence[str] = (),
        die_with_parent: bool = False,
    ) -> None:
        """`jars` is the directory from install.sh unless given; `settings` are lines of server.properties that come after
        ours, and win; `format_options` are for the first start; `die_with_parent` is for tests."""
        super().__init__(data_dir, port)
        self.controller_port = controller_port
        self.jars = kafka_jars() if jars is None else jars.absolute()
        self.message_max_bytes = message_max_bytes
        self.heap_mib = heap_mib
        self.jvm_options = tuple(jvm_options)
        self.settings = settings
        self.format_options = tuple(format_options)
        self._die_with_parent = die_with_parent
        self._data = self.data_dir / "data"
        self._identity = self._data / "meta.properties"
        self._properties = self.data_dir / "server.properties"
        self._scratch = self.data_dir / "tmp"

    @property
    def bootstrap(self) -> str:
        """What clients call bootstrap.servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def cluster_id(self) -> str | None:
        """The id this directory was formatted with, if it was."""
        try:
            lines = self._identity.read_text().splitlines()
        except FileNotFoundError:
            return None
        return next((line.partition("=")[2] for line in lines if line.startswith("cluster.id=")), None)

    # --- start ---

    def format(self) -> Path:
        """Formats the storage without starting the broker; returns where it is."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._prepare()
        return self._data

    def _prepare(self) -> bool:
        if not any(self.jars.glob("kafka_2.13-*.jar")):
            raise ServerError(f"no Kafka in {self.jars}; deploy/local/install.sh run brings it")
        self._scratch.mkdir(exist_ok=True)
        changed = write_if_changed(
            self._properties,
            _CONFIGURATION.format(
                node_id=NODE_ID,
                port=self.port,
                controller_port=self.controller_port,
                data=_escaped(self._data),
                message_max_bytes=self.message_max_bytes,
            )
            + self.settings,
        )
        formatted = prepared_start(self.jars) / FORMATTED
        if self.cluster_id is None and formatted.exists() and not self.format_options:
            self._copy_formatted(formatted)
        elif self.cluster_id is None:
            self._run_format()
        return changed

    def _copy_formatted(self, formatted: Path) -> None:
        """Formats without a Java, which would take as long as half a start. Its identity comes last: with it, all is there."""
        shutil.copytree(formatted, self._data, dirs_exist_ok=True, ignore=shutil.ignore_patterns(self._identity.name))
        text = (formatted / self._identity.name).read_text()
        for own in ("cluster.id", "directory.id"):
            text = re.sub(f"(?m)^{own}=.*", f"{own}={_new_id()}", text)
        write_if_changed(self._identity, text)

    def _run_format(self) -> None:
        command = [*self._java("kafka.tools.StorageTool"), "format", "--ignore-formatted"]
        command += ["--cluster-id", _new_id(), "--config", str(self._properties), *self.format_options]
        done = subprocess.run(
            command,
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FORMAT_SECONDS,
        )
        if done.returncode != 0:
            raise ServerError(f"Kafka's storage could not be formatted:\n{done.stdout}")

    def _new_process(self) -> ServerProcess:
        return ServerProcess(
            [*self._java("kafka.Kafka"), str(self._properties)],
            log_path=self.log_path,
            pid_path=self.pid_path,
            env=_environment(),
            cwd=Path("/"),
            die_with_parent=self._die_with_parent,
        )

    def _java(self, entry: str) -> list[str]:
        return [
            str(find_java()),
            f"-Xms{self.heap_mib}m",
            f"-Xmx{self.heap_mib}m",
            *self.jvm_options,
            *self._shared_classes(),
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",  # and the scratch directory: a broker killed hard shall leave nothing in /tmp
            f"-Djava.io.tmpdir={self._scratch}",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={HERE / 'kafka' / 'log4j2.xml'}",
            "-cp",
            f"{self.jars}/*",
            entry,
        ]

    def _shared_classes(self) -> list[str]:
        archive = prepared_start(self.jars) / CLASSES
        there = archive.exists() and not any("Archive" in option for option in self.jvm_options)
        return [f"-XX:SharedArchiveFile={archive}"] if there else []

    def _ready(self) -> bool:
        try:
            answer = _ask_metadata(self.port)
        except (OSError, struct.error):
            return False
        return answer == (self.cluster_id, [(NODE_ID, "127.0.0.1", self.port)])


def _ask_metadata(port: int) -> tuple[str | None, list[tuple[int, str, int]]]:
    """Asks a broker for its cluster id and the brokers that are up: Metadata, version 2, for no topic."""
    client = b"tenantry"
    request = struct.pack(">hhih", 3, 2, 1, len(client)) + client + struct.pack(">i", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _receive(connection, 4))
        answer = _Reader(_receive(connection, size))
    answer.int32()  # the correlation id
    brokers: list[tuple[int, str, int]] = []
    for _ in range(answer.int32()):
        node, host, broker_port = answer.int32(), answer.string() or "", answer.int32()
        answer.string()  # the rack
        brokers.append((node, host, broker_port))
    return answer.string(), brokers


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("the broker closed the connection")
        received += part
    return received


class _Reader:
    """Reads Kafka's primitive types one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int32(self) -> int:
        (value,) = struct.unpack_from(">i", self._data, self._at)
        self._at += 4
        return int(value)

    def string(self) -> str | None:
        (length,) = struct.unpack_from(">h", self._data, self._at)
        self._at += 2
        if length < 0:
            return None
        self._at += length
        return self._data[self._at - length : self._at].decode()


def _new_id() -> str:
    """Sixteen random bytes as Kafka writes them; no dash in front, which would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _escaped(path: Path) -> str:
    """A path as the value of a Java property."""
    text = str(path).replace("\\", "\\\\")
    return "".join(sign if sign.isascii() else f"\\u{ord(sign):04x}" for sign in text)


def _environment() -> dict[str, str]:
    """Nothing of the caller's: JDK_JAVA_OPTIONS or CLASSPATH would change what runs."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
