"""Gateways that are replaced while they are used, and asked how they are."""

from __future__ import annotations

import collections
import http.client
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.local.stack import Service, Stack

from .balancer import Balancer
from .client import Api, eventually
from .service_faults import told

DRAIN = 2.0
CALLERS = 6
RESERVED = {"company": "Www", "email": "w@www.test", "subdomain": "www"}  # taken, and makes no tenant


@pytest.fixture(scope="module")
def gateways(stack: Stack) -> Iterator[list[Service]]:
    """Two behind a balancer."""
    made = [stack.start_service("gateway", index, DRAIN=f"{DRAIN:g}s") for index in (1, 2)]
    yield made
    for gateway in made:
        assert gateway.process.stop(12, signal.SIGINT)


class Load:
    """Callers that keep their connections and ask without a pause: each answer is counted, and each failure."""

    def __init__(self, url: str, token: str) -> None:
        self.answers: collections.Counter[int | str] = collections.Counter()
        self._address = url.removeprefix("http://")
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        while not self._ended.is_set():
            try:
                if number % 2:
                    connection.request("POST", "/api/signups", json.dumps(RESERVED), self._headers)
                else:
                    connection.request("GET", "/api/tenants?limit=1", headers=self._headers)
                response = connection.getresponse()
                response.read()
                self.answers[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                connection.close()
        connection.close()


@contextmanager
def under_load(url: str, token: str) -> Iterator[Load]:
    load = Load(url, token)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def test_gateways_are_replaced_one_by_one_and_no_request_is_refused(
    stack: Stack, gateways: list[Service], api: Api
) -> None:
    with Balancer(*gateways) as balancer, under_load(balancer.url, str(api.token)) as load:
        eventually(lambda: load.answers[202] > 50 and load.answers[200] > 50, 20, "the callers are served")
        for gateway in gateways:
            began = time.monotonic()
            assert gateway.stop(DRAIN + 12)
            assert time.monotonic() - began >= DRAIN
            gateway.restart()
            gateway.wait_until_ready()
            eventually(lambda at=gateway: balancer.sees(at), 10, "the balancer sees the new one")
    assert set(load.answers) == {200, 202}, load.answers


def test_a_gateway_that_drains_says_so_and_serves_on(gateways: list[Service], api: Api) -> None:
    gateway = gateways[0]
    ops, drained = Api(gateway.ops_url, None), Api(gateway.url, api.token)
    with told(gateway, DRAIN="60s"):
        assert gateway.process.running and ops.get("/readyz").status == 200
        gateway.process.signal(signal.SIGTERM)
        eventually(lambda: ops.get("/readyz").status == 503, 5, "it is not ready any more")
        assert ops.get("/readyz").json["code"] == "stopping" and ops.get("/healthz").status == 200
        for _ in range(3):
            answer = drained.get("/api/tenants?limit=1")
            assert answer.status == 200 and answer.headers["connection"] == "close"
        assert drained.post("/api/signups", RESERVED).status == 202
        gateway.process.signal(signal.SIGTERM)  # who sends a second one does not want to wait
        eventually(lambda: not gateway.process.running, 12, "it has ended")
        assert gateway.process.returncode == 0


def health(service: Service, program: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "--health"], env={**service.environment, **more}, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize("name", ["gateway", "provisioner"])
def test_a_service_tells_its_health_without_curl(stack: Stack, name: str) -> None:
    service, program = stack.services[f"{name}-0"], str(stack.build / f"tenantry-{name}")
    good = health(service, program, http_proxy="http://127.0.0.1:9", OPS_ADDRESS="0.0.0.0")
    assert (good.returncode, good.stdout) == (0, "ready\n"), good
    wrong = health(service, program, OPS_PORT="none")
    assert wrong.returncode == 2 and "OPS_PORT" in wrong.stderr


def test_a_service_that_hangs_is_not_ready(stack: Stack) -> None:
    service = stack.services["gateway-0"]
    with service.process.paused():
        hung = health(service, str(stack.build / "tenantry-gateway"))
    assert hung.returncode == 1 and "does not answer" in hung.stdout, hung


def test_a_service_that_is_not_ready_says_why(gateways: list[Service], stack: Stack) -> None:
    gateway = gateways[0]
    with told(gateway, DRAIN="60s"):
        gateway.process.signal(signal.SIGTERM)
        eventually(lambda: not gateway.ready(), 5, "it drains")
        asked = health(gateway, str(stack.build / "tenantry-gateway"))
        assert asked.returncode == 1 and asked.stdout.startswith("not ready: stopping: "), asked
        gateway.process.signal(signal.SIGINT)
        eventually(lambda: not gateway.process.running, 12, "it has ended")
