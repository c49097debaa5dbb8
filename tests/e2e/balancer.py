"""A small load balancer, as operators have: it passes TCP to those gateways whose /readyz said yes the last time."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from types import TracebackType

from deploy.local.stack import Service

INTERVAL = 0.1


class Balancer:
    """Listens on a port of its own from `with` to its end. New connections go to ready gateways in turn."""

    def __init__(self, *gateways: Service) -> None:
        self._gateways = gateways
        self._ready: list[Service] = []
        self._turn = itertools.count()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def sees(self, gateway: Service) -> bool:
        return any(each is gateway for each in self._ready)

    def __enter__(self) -> Balancer:
        self._look()
        for work in (self._look_again_and_again, self._accept):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _what: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _look(self) -> None:
        self._ready = [gateway for gateway in self._gateways if gateway.ready()]

    def _look_again_and_again(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._look()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            ready = self._ready
            try:
                gateway = ready[next(self._turn) % len(ready)]
                target = socket.create_connection(("127.0.0.1", gateway.http_port or 0), timeout=5)
            except (OSError, ZeroDivisionError):  # refused, or nobody is ready: the caller sees it
                caller.close()
                continue
            target.settimeout(None)
            for source, sink in ((caller, target), (target, caller)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
