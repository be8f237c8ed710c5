"""Owns the smallest server on tchatd's C gateway: what it reads from one, it fans out.

The gateway is the one that tchatd uses, nested in Trio the same way; there are no
rules, no journal and no envelope, so that its fan-out is compared with a bare loop of
`send`. A connection whose path ends in `/send` is the sender, every other one a
receiver. Prints its port on stdout; ends when stdin does.
"""

from __future__ import annotations

import socket
import sys

import trio

from bench.processes import raise_file_limit
from tchatd_ext import gateway as c


def serve_events(gateway: c.Gateway, receivers: list[int], senders: set[int]) -> None:
    for event in gateway.poll():
        if event[0] == c.MESSAGE:
            if event[1] in senders:
                gateway.fan_out(receivers, c.Frame(event[2]))
        elif event[0] == c.REQUEST:
            connection, request = event[1], event[2]
            gateway.accept_websocket(connection, subprotocol=None, msgpack=False)
            gateway.authenticated(connection)
            if request.path.endswith("/send"):
                senders.add(connection)
            else:
                receivers.append(connection)
    gateway.flush()


async def main() -> None:
    raise_file_limit()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    gap = c.Frame(b'{"op":"gap"}')
    gateway = c.Gateway(gap_json=gap, gap_msgpack=gap)
    gateway.listen(listener.fileno())
    print(listener.getsockname()[1], flush=True)

    async def run() -> None:
        receivers: list[int] = []
        senders: set[int] = set()
        while True:
            await trio.lowlevel.wait_readable(gateway.fileno())
            serve_events(gateway, receivers, senders)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    gateway.shutdown()


if __name__ == "__main__":
    trio.run(main)
