"""Callers that break the rules of HTTP, or of good manners: the gateway lives on, and answers all others at once."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.local.stack import Service, Stack

from .client import Api, eventually
from .conftest import make_stack
from .invariants import rows
from .topics import cloudevent

READ_TIMEOUT = 1.0
LARGE_KIB = 32 * 1024  # of all large bodies together
ANSWER_TIMEOUT = 2.0 + 1.0 + 5.0  # MESSAGE_TIMEOUT, MAX_WAIT and five seconds more
SWEEP_GRAIN = 1.0
RSS_GROWTH_KIB = 16 * 1024
IDLE = 2000
POISON, COMMANDS = 1000, 4  # a round of work for the provisioner
PROVISIONER_GROWTH_KIB = 8 * 1024  # half of what keeping one copy of each message would take
BODY = b'{"company": "Raw Shop", "email": "raw@shop.test", "plan": "?"}'  # refused with 400: makes no tenants
GOOD = b'{"company": "Chunky", "email": "c@chunky.test"}'


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A gateway with little patience and room for many from one address."""
    yield from make_stack(
        "postgres",
        options={"READ_TIMEOUT": "1s", "MESSAGE_TIMEOUT": "2s", "MAX_WAIT": "1s", "CONNECTIONS_PER_ADDRESS": "2500"},
    )


@pytest.fixture
def gateway(stack: Stack) -> Service:
    return stack.services["gateway-0"]


@pytest.fixture(autouse=True)
def gateway_lives_on(gateway: Service, api: Api) -> Iterator[None]:
    """After each test: the same process, everybody served within a second, and no fatter than before."""
    pid, before = gateway.process.pid, rss_kib(gateway)
    yield
    assert gateway.process.pid == pid, "the gateway has ended"
    served_at_once(api)
    # What is on its way to Kafka or to a caller is given back when it has arrived.
    eventually(
        lambda: rss_kib(gateway) - before < RSS_GROWTH_KIB, 10, f"it is less than {RSS_GROWTH_KIB} KiB above {before}"
    )


def rss_kib(service: Service) -> int:
    for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("the process has no size")


def served_at_once(api: Api) -> None:
    for answer, wanted in ((lambda: api.get("/api/tenants"), 200), (lambda: api.signup("Polite", plan="?"), 400)):
        began = time.monotonic()
        assert answer().status == wanted
        assert time.monotonic() - began < 1, "another caller had to wait"


class Raw:
    """A connection on which anything may be sent."""

    def __init__(self, gateway: Service, receive_buffer: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", gateway.http_port or 0))
        self._rest = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may refuse before it has read all
            self.socket.sendall(data)
        return self

    def answer(self) -> tuple[int, bytes]:
        """The next answer: status and body; status 0 when the connection was closed instead."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return 0, self._rest
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status == 100:
            return self.answer()
        lengths = [
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        while lengths and len(self._rest) < lengths[0]:
            if not self._more():
                break
        length = lengths[0] if lengths else 0
        body, self._rest = self._rest[:length], self._rest[length:]
        return status, body

    def answers_until_closed(self) -> list[int]:
        statuses = []
        while (status := self.answer()[0]) != 0:
            statuses.append(status)
        return statuses

    def closed_after(self) -> float:
        """Seconds until the other side closes, whatever it says before."""
        began = time.monotonic()
        while self._more():
            pass
        return time.monotonic() - began

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)


@pytest.fixture
def head(stack: Stack) -> Callable[..., bytes]:
    """The head of a signup as this gateway's caller sends it, with more lines."""
    token = stack.settings["tokens"]["admin"]

    def made(*lines: str, method: str = "POST", path: str = "/api/signups") -> bytes:
        all_lines = [
            f"{method} {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {token}",
            "Content-Type: application/json", *lines,
        ]  # fmt: skip
        return "\r\n".join(all_lines).encode("latin-1") + b"\r\n\r\n"

    return made


def length(body: bytes = BODY) -> str:
    return f"Content-Length: {len(body)}"


def drip(raw: Raw, data: bytes, seconds: float) -> float:
    """A byte now and then, until the other side closes; returns when that was."""
    began = time.monotonic()
    raw.socket.settimeout(0.1)
    for at in range(len(data)):
        try:
            raw.socket.sendall(data[at : at + 1])
            if raw.socket.recv(1000) == b"":
                break
        except TimeoutError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            break
        assert time.monotonic() - began < seconds, "nobody minds"
    return time.monotonic() - began


# Slow ones.


def test_a_caller_that_drips_its_headers_is_cut_off(gateway: Service, head: Callable[..., bytes], api: Api) -> None:
    with Raw(gateway) as raw:
        took = drip(raw, head("X-Slow: " + "z" * 500), 10)
    assert took < READ_TIMEOUT + SWEEP_GRAIN


def test_a_caller_that_drips_its_body_is_cut_off(gateway: Service, head: Callable[..., bytes], api: Api) -> None:
    with Raw(gateway) as raw:
        took = drip(raw.send(head("Content-Length: 500")), b"{" + b" " * 499, 10)
    assert took < READ_TIMEOUT + SWEEP_GRAIN


def test_a_caller_that_drips_chunks_is_cut_off(gateway: Service, head: Callable[..., bytes]) -> None:
    with Raw(gateway) as raw:
        took = drip(raw.send(head("Transfer-Encoding: chunked")), b"1\r\n \r\n" * 100, 10)
    assert took < READ_TIMEOUT + SWEEP_GRAIN


def test_a_caller_that_says_nothing_is_cut_off(gateway: Service) -> None:
    with Raw(gateway) as raw:
        assert raw.closed_after() < READ_TIMEOUT + SWEEP_GRAIN


def test_a_connection_kept_open_after_an_answer_is_closed_in_time(gateway: Service, head: Callable[..., bytes]) -> None:
    with Raw(gateway) as raw:
        assert raw.send(head(length()) + BODY).answer()[0] == 400
        assert raw.closed_after() < READ_TIMEOUT + SWEEP_GRAIN


def test_many_slow_callers_keep_nobody_waiting(gateway: Service, head: Callable[..., bytes], api: Api) -> None:
    with contextlib.ExitStack() as held:
        slow = [held.enter_context(Raw(gateway)) for _ in range(300)]
        for number, raw in enumerate(slow):
            raw.send(head("Content-Length: 500") + b"{" if number % 2 else b"POST /api/signups HT")
        served_at_once(api)
        for raw in slow:
            raw.closed_after()


def test_a_reader_that_never_reads_is_cut_off(gateway: Service, api: Api) -> None:
    """Its answers fill what the kernel holds for it; then it must not hold the gateway for ever."""
    with Raw(gateway, receive_buffer=4096) as raw:
        raw.socket.setblocking(False)

        def cut_off() -> bool:
            try:
                while True:
                    raw.socket.send(b"GET /invite/nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True

        assert not cut_off()
        served_at_once(api)
        eventually(cut_off, ANSWER_TIMEOUT + READ_TIMEOUT + 5, "the reader is cut off")


# Halves.


def test_a_half_closed_connection_still_gets_its_answer(gateway: Service, head: Callable[..., bytes]) -> None:
    with Raw(gateway) as raw:
        raw.send(head(length()) + BODY)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.answer()[0] == 400


@pytest.mark.parametrize("sent", [b"", b"POST /api/si", b"POST /api/signups HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_half_closed_before_its_request_is_whole_is_closed(gateway: Service, sent: bytes) -> None:
    with Raw(gateway) as raw:
        raw.send(sent)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.closed_after() < READ_TIMEOUT + SWEEP_GRAIN


def test_a_body_cut_short_makes_nothing(gateway: Service, head: Callable[..., bytes], api: Api) -> None:
    good = json.dumps({"company": "Cut Short", "email": "cut@short.test"}).encode()
    with Raw(gateway) as raw:
        raw.send(head(f"Content-Length: {len(good) + 1}") + good)
        raw.socket.shutdown(socket.SHUT_WR)
        assert 202 not in raw.answers_until_closed()
    assert api.get("/api/tenants?subdomain=cut-short").json["tenants"] == []


def test_callers_that_leave_while_they_wait_take_nothing_along(
    gateway: Service, head: Callable[..., bytes], api: Api
) -> None:
    company = b'{"company": "Impatient", "email": "i@shop.test", "subdomain": "impatient"}'
    for _ in range(50):
        with Raw(gateway) as raw:
            raw.send(head(length(company), "Prefer: wait=10") + company)
    served_at_once(api)
    eventually(
        lambda: [t["state"] for t in api.get("/api/tenants?subdomain=impatient").json["tenants"]] == ["ready"],
        20,
        "one of them has become a tenant",
    )


def test_callers_that_reset_the_connection_do_no_harm(gateway: Service, head: Callable[..., bytes], api: Api) -> None:
    for number in range(200):
        with Raw(gateway) as raw:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.send((head(length()) + BODY)[: number * 3])


# Many at once.


def test_pipelined_requests_are_answered_in_their_order(gateway: Service, head: Callable[..., bytes]) -> None:
    missing = head(method="GET", path="/api/nothing")
    with Raw(gateway) as raw:
        raw.send((head(length()) + BODY + missing + head(method="GET", path="/api/tenants")) * 20)
        assert [raw.answer()[0] for _ in range(60)] == [400, 404, 200] * 20


def test_two_thousand_idle_connections_keep_nobody_waiting(gateway: Service, api: Api) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 500:
        pytest.skip("too few files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(Raw(gateway)) for _ in range(IDLE)]
        served_at_once(api)
        for raw in idle:
            raw.closed_after()
        served_at_once(api)


def test_more_connections_than_allowed_are_turned_away_and_room_comes_back(stack: Stack, api: Api) -> None:
    small = stack.start_service("gateway", 1, CONNECTIONS_PER_ADDRESS="20")
    try:
        with contextlib.ExitStack() as held:
            opened = [held.enter_context(Raw(small)) for _ in range(60)]
            turned_away = sum(1 for raw in opened if raw.closed_after() < READ_TIMEOUT / 2)
            assert turned_away >= 40 - 1
        eventually(lambda: Api(small.url, api.token).get("/api/tenants").status == 200, 5, "there is room again")
    finally:
        assert small.stop()


# Malformed ones.


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"GET / \r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"HELLO\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /api/tenants HTTP/1.1\r\n\r\n", b"GET  /api/tenants  HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 1000, b"\xff" * 100_000, b"A" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/tenants HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET /api/tenants HTTP/1.1\r\nHost : x\r\n\r\n", b"GET /api/tenants HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /api/ten\x00ants HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/tenants HTTP/1.1\r\nHo\x00st: x\r\n\r\n", b"G\x00T /api/tenants HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET http://evil.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:30]),
)  # fmt: skip
def test_what_is_no_request_is_never_carried_out(gateway: Service, api: Api, sent: bytes) -> None:
    """With a good token: who is let in must be refused for the request's sake."""
    with Raw(gateway) as raw:
        known = sent.replace(b"HTTP/1.1\r\n", f"HTTP/1.1\r\nAuthorization: Bearer {api.token}\r\n".encode())
        statuses = raw.send(known).answers_until_closed()
    assert all(400 <= status < 600 and status != 401 for status in statuses), statuses


def test_huge_headers_are_refused(gateway: Service, head: Callable[..., bytes]) -> None:
    with Raw(gateway) as raw:
        raw.send(head("X-Huge: " + "h" * 1_000_000, method="GET", path="/api/tenants"))
        statuses = raw.answers_until_closed()
    assert statuses in ([], [431], [413], [400]), statuses


def test_too_many_headers_are_refused(gateway: Service, head: Callable[..., bytes]) -> None:
    lines = [f"X-{number}: {number}" for number in range(20_000)]
    with Raw(gateway) as raw:
        statuses = raw.send(head(*lines, method="GET", path="/api/tenants")).answers_until_closed()
    assert statuses in ([], [431], [413], [400]), statuses


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n", b"%x0\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n",
        b"%x\r\n" % len(GOOD) + GOOD + b"0\r\n\r\n", b"%x\r\n" % len(GOOD) + GOOD + b"\r\nzz\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nx\r\n0\r\n\r\n",
        b"5\r\nhelloworld\r\n0\r\n\r\n", b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n", b"0x10\r\n",
        b"5\nhello\n0\n\n", b"5\r\nhel",
    ],
    ids=lambda chunks: repr(chunks[:16]),
)  # fmt: skip
def test_bad_chunks_make_nothing(stack: Stack, gateway: Service, head: Callable[..., bytes], chunks: bytes) -> None:
    with Raw(gateway) as raw:
        statuses = raw.send(head("Transfer-Encoding: chunked") + chunks).answers_until_closed()
    assert all(400 <= status < 500 for status in statuses) and len(statuses) <= 2, statuses
    assert not rows(stack, "select 1 from provisioner.tenant where company = 'Chunky'")


def test_good_chunks_are_read_and_too_many_refused(gateway: Service, head: Callable[..., bytes]) -> None:
    one = b"".join(b"1\r\n" + BODY[at : at + 1] + b"\r\n" for at in range(len(BODY))) + b"0\r\n\r\n"
    with Raw(gateway) as raw:
        status, body = raw.send(head("Transfer-Encoding: chunked") + one).answer()
        assert status == 400 and json.loads(body)["field"] == "plan"
        large = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        assert raw.send(head("Transfer-Encoding: chunked") + large * 20 + b"0\r\n\r\n").answer()[0] == 413


SMUGGLED = b"GET /api/admin/alerts HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"), ("Content-Length: 5, 6",), ("Content-Length: +5",),
        ("Content-Length: -1",), ("Content-Length: 0x5",), ("Content-Length: 5 5",), ("Content-Length:",),
        ("Content-Length: 99999999999999999999999",), ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",), ("Content-Length : 5",), ("Content-Length\t: 5",),
        ("Transfer-Encoding : chunked",), ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), ("Transfer-Encoding: identity, chunked",),
    ],
    ids=lambda lines: " | ".join(lines).encode("unicode_escape").decode(),
)  # fmt: skip
def test_no_request_hides_in_another(gateway: Service, head: Callable[..., bytes], lines: tuple[str, ...]) -> None:
    """Where the end of a body may be read in two ways, nothing behind it may be answered as a request of its own."""
    with Raw(gateway) as raw:
        statuses = raw.send(head(*lines) + b"0\r\n\r\n" + SMUGGLED).answers_until_closed()
    assert len(statuses) <= 1, f"a second request was answered: {statuses}"
    assert all(400 <= status < 500 for status in statuses), statuses


def test_a_body_announced_too_large_is_refused_before_it_is_sent(gateway: Service, head: Callable[..., bytes]) -> None:
    with Raw(gateway) as raw:
        began = time.monotonic()
        status, _ = raw.send(head("Content-Length: 10000000000", "Expect: 100-continue")).answer()
        assert status in (413, 417) and time.monotonic() - began < 1


def test_a_header_twice_does_not_open_the_door(gateway: Service) -> None:
    request = (
        b"GET /api/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nAuthorization: Bearer \xff\r\n\r\n"
    )
    with Raw(gateway) as raw:
        assert raw.send(request).answer()[0] == 401


def test_neither_poison_nor_commands_without_end_make_the_provisioner_fat(stack: Stack, api: Api) -> None:
    """What must not grow is what is left when all is done: after the second round as much as after the first."""
    provisioner, tenant = stack.services["provisioner-0"], api.ready_tenant("Busy Shop")
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap})

    def round_of_work() -> int:
        before = int(rows(stack, "select count(*) from catalog.dead_letter")[0][0])
        for _ in range(POISON):
            headers = cloudevent("tenant.backup.requested.v1", ce_id="x" * 600)
            producer.produce("tenant.command.v1", b"[" * 16384, tenant.encode(), headers=headers)
        assert producer.flush(20) == 0
        for name in ("suspend", "resume", "backup") * COMMANDS:
            answer = api.command(tenant, name)
            assert answer.status == 202, answer
            operation = answer.json["operation_id"]
            assert api.wait_operation(operation)["state"] in ("succeeded", "superseded")
        letters = "select count(*) from catalog.dead_letter"
        eventually(lambda: int(rows(stack, letters)[0][0]) == before + POISON, 60, "all poison is put aside")
        return rss_kib(provisioner)

    pid, first = provisioner.process.pid, round_of_work()
    grown = round_of_work() - first
    assert provisioner.process.pid == pid, "the provisioner has ended"
    assert grown < PROVISIONER_GROWTH_KIB, f"the provisioner grew by {grown} KiB"


def test_large_bodies_that_never_end_share_a_bounded_place_and_small_ones_get_in(gateway: Service, api: Api) -> None:
    """Nobody has to be known to send one: a webhook may have a mebibyte, and who signed it is seen when it is complete."""
    before, size = rss_kib(gateway), 1024 * 1024
    head = f"POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()

    def is_crowded() -> bool:
        with contextlib.ExitStack() as opened:
            for _ in range(100):
                opened.enter_context(Raw(gateway)).send(head + b"x" * (size - 1))
            status, body = opened.enter_context(Raw(gateway)).send(head + b"x" * size).answer()
            assert rss_kib(gateway) - before < 3 * LARGE_KIB, "a buffer that grows has up to twice what is in it"
            served_at_once(api)
        return status == 503 and json.loads(body)["code"] == "too_many_large_bodies"

    eventually(is_crowded, 20, "the hundred and first is refused")
