"""Owns a gateway on loopback for tests: pumped by hand, with blocking raw clients."""

from __future__ import annotations

import base64
import select
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tchatd_ext.frame_py import encode
from tchatd_ext.gateway import CLOSED, MESSAGE, REQUEST, Frame, Gateway, Request

MASK = b"\x01\x02\x03\x04"
KEY = base64.b64encode(bytes(range(16)))
UPGRADE = (
    b"GET /websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n"
) % KEY
GAP_JSON = Frame(b'{"op":"gap"}')
GAP_MSGPACK = Frame(b"\x81\xa2op\xa3gap", binary=True)
WAIT_S = 5.0

Event = tuple[Any, ...]


def readable(descriptor: int, wait_s: float) -> bool:
    """Whether a read would not block; select() ends at descriptor 1,024."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


class Client:
    """A raw socket; what it reads is pumped through the gateway first."""

    def __init__(self, edge: Edge, receive_bytes: int = 0) -> None:
        self._edge = edge
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(edge.address)
        self.socket.settimeout(WAIT_S)
        self.read = b""

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def frame(self, opcode: int, payload: bytes = b"", **options: Any) -> Client:
        return self.send(encode(opcode, payload, mask=MASK, **options))

    def receive(self, until: Callable[[bytes], bool]) -> bytes:
        """Pump and read until `until` holds of all that was read, or the end."""
        deadline = time.monotonic() + WAIT_S
        while not until(self.read):
            assert time.monotonic() < deadline, self.read[-200:]
            if not readable(self.socket.fileno(), 0):
                self._edge.turn(0.01)
                continue
            data = self.socket.recv(1 << 20)
            if not data:
                break
            self.read += data
        read, self.read = self.read, b""
        return read

    def receive_head(self) -> bytes:
        return self.receive(lambda data: b"\r\n\r\n" in data)

    def receive_size(self, size: int) -> bytes:
        return self.receive(lambda data: len(data) >= size)

    def receive_end(self) -> bytes:
        """Everything until the gateway's FIN; a reset counts as the end."""
        try:
            return self.receive(lambda data: False)
        except ConnectionResetError:
            read, self.read = self.read, b""
            return read

    def close(self) -> None:
        self.socket.close()


class Edge:
    """A gateway with small settings, its listener and its clients."""

    def __init__(self, *, backlog: int = 1024, **settings: Any) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.address = self.listener.getsockname()
        self.gateway = Gateway(gap_json=GAP_JSON, gap_msgpack=GAP_MSGPACK, **settings)
        self.gateway.listen(self.listener.fileno())
        self.events: list[Event] = []
        self.clients: list[Client] = []

    def __enter__(self) -> Edge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.gateway.shutdown()
        self.listener.close()
        for client in self.clients:
            client.close()

    def client(self, receive_bytes: int = 0) -> Client:
        client = Client(self, receive_bytes)
        self.clients.append(client)
        return client

    def turn(self, wait_s: float = 0.0) -> None:
        """Wait for the gateway to have something to do, and let it."""
        if readable(self.gateway.fileno(), wait_s):
            self.events += self.gateway.poll()

    def turns(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < deadline, self.gateway.statistics()
            self.turn(0.02)

    def next(self, kind: int) -> Event:
        """The next event, which must be of this kind."""
        self.until(lambda: bool(self.events))
        event = self.events.pop(0)
        assert event[0] == kind, event
        return event

    def request(self) -> Request:
        request: Request = self.next(REQUEST)[2]
        return request

    def message(self) -> tuple[bytes, bool]:
        event = self.next(MESSAGE)
        return event[2], event[3]

    def closed(self) -> tuple[int, str]:
        event = self.next(CLOSED)
        return event[2], event[3]

    def websocket(
        self,
        *,
        msgpack: bool = False,
        receive_bytes: int = 0,
        extra: bytes = b"",
        authenticated: bool = True,
    ) -> tuple[Client, int]:
        """An accepted WebSocket: its client and its number."""
        client = self.client(receive_bytes).send(UPGRADE + extra + b"\r\n")
        number = self.request().connection
        assert self.gateway.accept_websocket(number, subprotocol=None, msgpack=msgpack)
        if authenticated:
            assert self.gateway.authenticated(number)
        head = client.receive_head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client, number
