"""Owns a WebSocket echo server over the bare gateway, as a process of its own.

Run as a script it prints its port and serves until standard input ends.
"""

from __future__ import annotations

import select
import socket
import sys

from tchatd_ext.gateway import MESSAGE, REQUEST, Frame, Gateway

MESSAGE_BYTES_MAX = 20 << 20  # group 9 sends 16 MiB


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        gateway = Gateway(
            gap_json=Frame(b'{"op":"gap"}'),
            gap_msgpack=Frame(b"\x81\xa2op\xa3gap", binary=True),
            message_bytes_max=MESSAGE_BYTES_MAX,
            queue_bytes_max=4 * MESSAGE_BYTES_MAX,
            close_s=2,
            deflate_bytes_min=1,
            server="tchatd-echo",
        )
        gateway.listen(listener.fileno())
        print(listener.getsockname()[1], flush=True)
        while True:
            readable, _, _ = select.select([gateway.fileno(), sys.stdin], [], [])
            if sys.stdin in readable:
                break
            serve_once(gateway)
        gateway.shutdown()


def serve_once(gateway: Gateway) -> None:
    for event in gateway.poll():
        if event[0] == REQUEST:
            if event[2].upgrade:
                gateway.accept_websocket(event[1], subprotocol=None, msgpack=False)
                gateway.authenticated(event[1])
            else:
                gateway.respond(event[1], 404, b"", b"")
        elif event[0] == MESSAGE:
            gateway.queue(event[1], Frame(event[2], binary=not event[3]))
    gateway.flush()


if __name__ == "__main__":
    main()
