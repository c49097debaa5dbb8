"""Starts both servers for real, does to them what the end-to-end tests will do, and looks what survives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .kafka import CLASSES, KafkaBroker, kafka_jars, prepared_start
from .kafka_start import prepare_start
from .ports import is_free, release_port, reserve_port, reserve_ports
from .postgres import PostgresServer
from .process import Identity, ServerError, ServerProcess, descendants, identity_of, log_tail, wait_until

SECONDS = 20.0
PACKAGE = Path(__file__).resolve().parent


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory every user may enter, unlike pytest's own when run as root."""
    directory = Path(tempfile.mkdtemp(prefix="tenantry-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def postgres(place: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(place / "postgres", reserve_port(), fast=True, die_with_parent=True)
    server.start()
    yield server
    server.destroy()
    release_port(server.port)


@pytest.fixture
def broker(place: Path) -> Iterator[KafkaBroker]:
    port, controller_port = reserve_ports(2)
    server = KafkaBroker(place / "kafka", port, controller_port, die_with_parent=True)
    server.start()
    yield server
    server.destroy()
    release_port(port)
    release_port(controller_port)


def sleeper(place: Path, *argv: str, die_with_parent: bool = False) -> ServerProcess:
    return ServerProcess(
        argv or ("/usr/bin/sleep", "1000"),
        log_path=place / "sleeper.log",
        pid_path=place / "sleeper.pid",
        die_with_parent=die_with_parent,
    )


def state_of(pid: int) -> str:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2]


def create_topic(server: KafkaBroker, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(SECONDS)


def produce(server: KafkaBroker, topic: str, *values: str) -> None:
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 1, "message.max.bytes": 9_000_000})
    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(SECONDS) == 0
    assert failures == []


def read_topic(server: KafkaBroker, topic: str, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[str] = []
    try:

        def all_read() -> bool:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                values.append(message.value().decode())
            return len(values) >= count

        wait_until(all_read, SECONDS, f"{count} messages in {topic}")
    finally:
        consumer.close()
    return values


# --- ports ---


def test_a_reserved_port_is_free_below_the_ephemeral_range_and_given_once() -> None:
    ports = reserve_ports(50)
    assert len(set(ports)) == 50
    assert all(20000 <= port <= 32000 and is_free(port) for port in ports)
    for port in ports:
        release_port(port)


def test_a_port_somebody_listens_on_is_not_handed_out() -> None:
    with socket.socket() as listener:
        port = reserve_port()
        release_port(port)
        listener.bind(("0.0.0.0", port))
        listener.listen()
        assert not is_free(port)
        other = reserve_port(preferred=port)
        assert other != port
        release_port(other)


def test_a_port_reserved_by_another_process_is_not_handed_out_until_that_ends() -> None:
    program = "import ports, sys; print(ports.reserve_port(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=PACKAGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        port = int(other.stdout.readline())
        elsewhere = reserve_port(preferred=port)
        assert elsewhere != port
        release_port(elsewhere)
        other.stdin.close()
        other.wait(SECONDS)
    assert reserve_port(preferred=port) == port
    release_port(port)


# --- processes ---


def test_a_later_program_finds_the_process_by_its_pid_file_and_stops_it(tmp_path: Path) -> None:
    first = sleeper(tmp_path)
    first.start()
    later = sleeper(tmp_path)
    assert later.running and later.pid == first.pid
    with pytest.raises(ServerError, match="runs already"):
        later.start()
    assert later.stop()
    assert not first.running
    assert not later.pid_path.exists()


def test_a_pid_that_now_belongs_to_somebody_else_is_never_killed(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["/usr/bin/sleep", "1000"])
    try:
        process = sleeper(tmp_path)
        identity = identity_of(bystander.pid)
        assert identity is not None
        process.pid_path.write_text(f"{identity.pid} {identity.started - 1}\n")
        process = sleeper(tmp_path)
        assert not process.running
        process.stop()
        process.kill9()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_kill9_ends_the_children_too_even_those_in_sessions_of_their_own(tmp_path: Path) -> None:
    process = sleeper(tmp_path, "/bin/sh", "-c", "setsid sleep 1000 & sleep 1000 & wait")
    process.start()
    root = identity_of(process.pid or 0)
    assert root is not None
    wait_until(lambda: len(descendants(root)) == 2, SECONDS, "two children")
    family = descendants(root)
    process.kill9()
    assert not any(member.is_alive() for member in family)


def test_stop_kills_what_does_not_listen_even_when_paused(tmp_path: Path) -> None:
    # It begins nothing once it is deaf: a shell whose child is stopped between vfork and exec waits, and is not stopped.
    process = sleeper(tmp_path, "/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo deaf; wait")
    process.start()
    wait_until(lambda: "deaf" in log_tail(process.log_path), SECONDS, "the trap")
    process.pause()
    wait_until(lambda: state_of(process.pid or 0) == "T", SECONDS, "it is stopped")
    assert not process.stop(seconds=0.3)
    assert not process.running


def test_a_child_bound_to_its_parent_dies_when_the_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from local.process import ServerProcess; p = pathlib.Path(sys.argv[1]);"
        "paths = {'log_path': p / 'log', 'pid_path': p / 'pid'};"
        "s = ServerProcess(['/usr/bin/sleep', '1000'], die_with_parent=True, **paths);"
        "s.start(); print(s.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=PACKAGE.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = identity_of(int(parent.stdout.readline()))
        assert isinstance(child, Identity)
        parent.kill()
    wait_until(lambda: not child.is_alive(), SECONDS, "the end of the child")


# --- PostgreSQL ---


def test_postgres_keeps_its_rows_through_stop_start_and_kill9(postgres: PostgresServer) -> None:
    postgres.execute("create table kept (n int); insert into kept values (1)")
    postgres.restart()
    postgres.execute("insert into kept values (2)")
    postgres.kill9()
    assert not postgres.running
    postgres.start()
    postgres.restart("immediate")
    assert postgres.execute("select string_agg(n::text, ',' order by n) from kept") == "1,2"


def test_postgres_asks_for_a_password_and_listens_on_this_machine_only(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.superuser_url) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("show unix_socket_directories").fetchone() == ("",)
        assert connection.execute("show max_connections").fetchone() == ("200",)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url(password="wrong"))


def test_postgres_writes_no_statement_and_no_password_into_its_log(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        for statement in (
            "create role once password 'open-sesame'",
            "create role once password 'open-sesame'",  # fails: it exists
            "do $$ begin execute 'create role once password ''open-sesame'''; end $$",
        ):
            try:
                connection.execute(statement)
            except psycopg.errors.DuplicateObject:
                pass
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("select %s::text || (1 / (length(%s::text) - 11))::int || 'x'::int", ["open-sesame"] * 2)
    log = postgres.log_path.read_text()
    assert "already exists" in log
    assert "open-sesame" not in log and postgres.password not in log


def test_terminate_backends_cuts_every_connection_or_those_of_one_database(postgres: PostgresServer) -> None:
    postgres.execute("create database other")
    with psycopg.connect(postgres.superuser_url) as kept, psycopg.connect(postgres.url("other")) as cut:
        assert postgres.terminate_backends("other") == 1
        with pytest.raises(psycopg.OperationalError):
            cut.execute("select 1")
        kept.execute("select 1")
        assert postgres.terminate_backends() == 1
        with pytest.raises(psycopg.OperationalError):
            kept.execute("select 1")


def test_a_paused_postgres_answers_nobody_until_it_is_resumed(postgres: PostgresServer) -> None:
    answered = threading.Event()

    def ask(connection: psycopg.Connection[tuple[int]]) -> None:
        connection.execute("select 1")
        answered.set()

    with psycopg.connect(postgres.superuser_url) as connection:
        with postgres.paused():
            waiting = threading.Thread(target=ask, args=(connection,))
            waiting.start()
            assert not answered.wait(0.3)
        assert answered.wait(SECONDS)
        waiting.join()


def test_postgres_starts_where_its_user_cannot_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    server = PostgresServer(tmp_path / "closed", reserve_port(), fast=True, die_with_parent=True)
    try:
        with server:
            server.execute("create table kept ()")
        with server:
            assert server.execute("select count(*) from kept") == "0"
        elsewhere = server.data_dir / "elsewhere"
        assert elsewhere.is_symlink() == (os.geteuid() == 0)
        home = elsewhere.resolve()
    finally:
        server.destroy()
    assert not home.exists()
    release_port(server.port)


def test_a_running_postgres_is_adopted_and_restarted_only_for_new_settings(postgres: PostgresServer) -> None:
    def again(max_connections: int) -> PostgresServer:
        server = PostgresServer(
            postgres.data_dir, postgres.port, max_connections=max_connections, fast=True, die_with_parent=True
        )
        server.start()
        return server

    before = postgres.pid
    assert again(200).pid == before
    other = again(50)
    assert other.pid != before
    assert other.execute("show max_connections") == "50"
    other.stop()
    assert not postgres.running


def test_a_server_that_cannot_start_says_why(place: Path) -> None:
    port = reserve_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        server = PostgresServer(place / "postgres", port, fast=True, die_with_parent=True)
        with pytest.raises(ServerError, match="could not bind|Address already in use"):
            server.start()
    server.destroy()
    release_port(port)


# --- Kafka ---


def test_kafka_keeps_its_topics_through_stop_start_and_kill9(broker: KafkaBroker) -> None:
    create_topic(broker, "kept")
    produce(broker, "kept", "one")
    broker.restart()
    produce(broker, "kept", "two")
    broker.kill9()
    assert not broker.running
    broker.start()
    produce(broker, "kept", "three")
    assert read_topic(broker, "kept", 3) == ["one", "two", "three"]


def test_a_paused_kafka_keeps_a_producer_waiting_and_then_takes_its_message(broker: KafkaBroker) -> None:
    create_topic(broker, "patience")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 1})
    producer.list_topics("patience", SECONDS)
    with broker.paused():
        producer.produce("patience", "late")
        assert producer.flush(0.5) == 1
    assert producer.flush(SECONDS) == 0
    assert read_topic(broker, "patience", 1) == ["late"]


def test_kafka_makes_no_topic_by_itself_and_refuses_what_is_too_large(broker: KafkaBroker) -> None:
    create_topic(broker, "small")
    produce(broker, "small", "x" * 1_100_000)
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        produce(broker, "small", "x" * 1_300_000)
    topics = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics("misspelt", SECONDS).topics
    assert topics["misspelt"].error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "misspelt" not in AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics().topics


def test_kafka_without_jars_says_what_to_do(place: Path) -> None:
    with pytest.raises(ServerError, match="install.sh"):
        KafkaBroker(place / "kafka", 20000, 20001, place / "nothing").start()


def test_a_broker_loads_its_classes_from_the_archive(place: Path) -> None:
    prepare_start()
    port, controller_port = reserve_ports(2)
    with KafkaBroker(place / "kafka", port, controller_port, die_with_parent=True) as server:
        assert str(prepared_start(server.jars) / CLASSES) in Path(f"/proc/{server.pid}/maps").read_text()


def test_what_was_prepared_is_for_the_very_jars_it_was_made_of(place: Path) -> None:
    jar = place / "kafka_2.13-4.jar"
    jar.touch()
    before = prepared_start(place)
    assert prepared_start(place) == before
    os.utime(jar, (1, 1))
    assert prepared_start(place) != before


def test_storage_that_was_copied_is_as_kafka_formats_it_and_a_cluster_of_its_own(place: Path) -> None:
    prepare_start()
    options: list[list[str]] = [[], [], ["--ignore-formatted"]]  # given any, Kafka itself formats
    brokers = [KafkaBroker(place / f"kafka{n}", 1, 2, format_options=given) for n, given in enumerate(options)]
    storages = [broker.format() for broker in brokers]
    lines = [(storage / "meta.properties").read_text().splitlines() for storage in storages]
    identities = [dict(line.split("=") for line in each if not line.startswith("#")) for each in lines]
    for own in ("cluster.id", "directory.id"):
        assert len({identity.pop(own) for identity in identities}) == 3
    assert identities[0] == identities[1] == identities[2]
    assert len({tuple(sorted(path.name for path in storage.iterdir())) for storage in storages}) == 1


# --- both ---


def test_two_of_each_run_beside_each_other_and_twice_in_a_row(
    place: Path, record_property: Callable[[str, object], None]
) -> None:
    ports = reserve_ports(6)
    databases = [PostgresServer(place / f"postgres{n}", ports[n], fast=True, die_with_parent=True) for n in range(2)]
    brokers = [KafkaBroker(place / f"kafka{n}", ports[2 + n], ports[4 + n], die_with_parent=True) for n in range(2)]
    try:
        for turn in range(2):
            for server in [*databases, *brokers]:
                begin = time.monotonic()
                server.start()
                record_property(f"{server.data_dir.name}, start {turn + 1}", f"{time.monotonic() - begin:.2f} s")
            assert len({broker.cluster_id for broker in brokers}) == 2
            for number, database in enumerate(databases):
                database.execute(f"create table if not exists only_in_{number} ()")
                assert (
                    database.execute("select relname from pg_class where relname ~ '^only_in'") == f"only_in_{number}"
                )
            for server in [*databases, *brokers]:
                server.stop()
                assert not server.running and not server.pid_path.exists()
    finally:
        for server in [*databases, *brokers]:
            server.destroy()
        for port in ports:
            release_port(port)


def test_the_checksums_name_every_jar_that_is_there() -> None:
    named = [line.split()[1] for line in (PACKAGE / "kafka" / "SHA256SUMS").read_text().splitlines()]
    assert named == sorted(named)
    assert named == sorted(path.name for path in kafka_jars().iterdir())


def test_install_does_nothing_when_all_is_there() -> None:
    """It would fetch, and say so, for much longer."""
    done = subprocess.run([PACKAGE / "install.sh"], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_signal_of_ours_reaches_a_process_that_has_gone(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    process.start()
    identity = identity_of(process.pid or 0)
    assert identity is not None
    process.kill9()
    assert process.returncode == -signal.SIGKILL
    assert not identity.send(signal.SIGTERM)
