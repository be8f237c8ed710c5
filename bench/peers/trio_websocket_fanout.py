"""Owns the fan-out baseline: trio-websocket sending each message to every receiver.

A connection whose path ends in `/send` is the sender, every other one a receiver.
Prints its port on stdout; ends when stdin does.
"""

from __future__ import annotations

import resource
import sys

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
)

receivers: list[WebSocketConnection] = []


async def handle(request: WebSocketRequest) -> None:
    connection = await request.accept()
    try:
        if not request.path.endswith("/send"):
            receivers.append(connection)
            await connection.get_message()
            return
        while True:
            message = await connection.get_message()
            for receiver in receivers:
                await receiver.send_message(message)
    except ConnectionClosed:
        pass


async def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
        server = WebSocketServer(handle, listeners)
        await nursery.start(server.run)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
