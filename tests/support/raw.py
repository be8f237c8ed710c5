"""Owns bare sockets that speak WebSocket: thousands of them cost a test little."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections.abc import Sequence

PING, PONG, CLOSE = 0x9, 0xA, 0x8


class RawSocket:
    """One blocking socket; `data` is what was read and not yet taken as frames."""

    def __init__(self, port: int, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.data = b""
        self.pings = 0
        self.closed = False

    def upgrade(self, token: str) -> RawSocket:
        self.ask_upgrade(token)
        return self.await_upgrade()

    def ask_upgrade(self, token: str) -> None:
        self.socket.sendall(
            b"GET /websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
        )

    def await_upgrade(self) -> RawSocket:
        while b"\r\n\r\n" not in self.data:
            read = self.socket.recv(4096)
            assert read, f"closed in the handshake: {self.data!r}"
            self.data += read
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def send_frame(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        head = bytes((0x80 | opcode,))
        head += (
            bytes((0x80 | size,))
            if size < 126
            else bytes((0x80 | 126,)) + struct.pack("!H", size)
        )
        masked = bytes(b ^ mask[i & 3] for i, b in enumerate(payload))
        self.socket.sendall(head + mask + masked)

    def frames(self) -> list[tuple[int, bytes]]:
        """Whole frames out of what was read."""
        found = []
        while len(self.data) >= 2:
            size, at = self.data[1] & 0x7F, 2
            if size == 126:
                if len(self.data) < 4:
                    break
                size, at = struct.unpack_from("!H", self.data, 2)[0], 4
            elif size == 127:
                if len(self.data) < 10:
                    break
                size, at = struct.unpack_from("!Q", self.data, 2)[0], 10
            if len(self.data) < at + size:
                break
            found.append((self.data[0] & 0x0F, self.data[at : at + size]))
            self.data = self.data[at + size :]
        return found

    def serve(self) -> list[tuple[int, bytes]]:
        """Read once, answer pings, give what else came."""
        try:
            read = self.socket.recv(1 << 16)
        except ConnectionError:
            read = b""
        if not read:
            self.closed = True
            return []
        self.data += read
        rest = []
        for opcode, payload in self.frames():
            if opcode == PING:
                self.pings += 1
                self.send_frame(PONG, payload)
            else:
                self.closed |= opcode == CLOSE
                rest.append((opcode, payload))
        return rest

    def close(self) -> None:
        self.socket.close()


def serve_all(sockets: Sequence[RawSocket], seconds: float) -> None:
    """Answer the pings of many for a while; stops early when one is closed."""
    with selectors.EpollSelector() as selector:
        for raw in sockets:
            selector.register(raw.socket, selectors.EVENT_READ, raw)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                raw = key.data
                raw.serve()
                if raw.closed:
                    return
