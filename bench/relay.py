"""A way that is as long as one to another data centre: what arrives on a port goes on to another one, in both directions,
after a delay. It needs no rights, and no kernel that knows netem.

    python3 -m bench.relay PORT TO_PORT MILLISECONDS_ONE_WAY

A connection is answered as late as over such a way: what is sent on it first waits for one way to and fro more."""

from __future__ import annotations

import asyncio
import sys


class End(asyncio.Protocol):
    """One of the two sockets of a connection; what arrives here leaves by the other one."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes | None] = []  # what came before there was another end
        self.open_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def join(self, other: End) -> None:
        self.other, other.other = other, self
        for data in self.early:
            self.forward(data)

    def forward(self, data: bytes | None) -> None:
        """None: this end is over."""
        if self.other is None or self.other.transport is None:
            self.early.append(data)
            return
        loop, transport = asyncio.get_running_loop(), self.other.transport
        at = max(loop.time(), self.open_at) + self.delay
        if data is None:
            loop.call_at(at, transport.close)
        else:
            loop.call_at(at, transport.write, data)

    def data_received(self, data: bytes) -> None:
        self.forward(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.forward(None)


async def serve(port: int, to_port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    joining: set[asyncio.Task[None]] = set()

    async def join(near: End) -> None:
        near.open_at = loop.time() + 2 * delay
        _, far = await loop.create_connection(lambda: End(delay), "127.0.0.1", to_port)
        near.join(far)

    def accepted() -> End:
        near = End(delay)
        task = loop.create_task(join(near))
        joining.add(task)
        task.add_done_callback(joining.discard)
        return near

    server = await loop.create_server(accepted, "127.0.0.1", port, backlog=256)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
