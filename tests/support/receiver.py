"""Owns a small HTTP server on loopback that remembers what it is sent.

answers: (status, headers, body) by turn, the last one for ever; hang: it never answers.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import trio
from msgspec import Struct

BODY_BYTES_MAX = 1 << 20


class Received(Struct):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(Struct):
    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Receiver:
    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hook"
        self.requests: list[Received] = []
        self.answers = [Answer()]
        self.hangs = False
        send, self.came = trio.open_memory_channel[Received](math.inf)
        self._send = send

    async def next(self) -> Received:
        with trio.fail_after(15):
            return await self.came.receive()

    async def serve(self, stream: trio.abc.Stream) -> None:
        buffered = bytearray()
        async with stream:
            while True:
                while b"\r\n\r\n" not in buffered:
                    part = await stream.receive_some(65_536)
                    if not part:
                        return
                    buffered += part
                head, _, rest = bytes(buffered).partition(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in lines)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                size = int(headers.get("content-length", "0"))
                assert size <= BODY_BYTES_MAX
                while len(rest) < size:
                    rest += await stream.receive_some(65_536)
                buffered = bytearray(rest[size:])
                method, path, _ = first.split(" ")
                await self._answer(stream, Received(method, path, headers, rest[:size]))

    async def _answer(self, stream: trio.abc.Stream, request: Received) -> None:
        self.requests.append(request)
        self._send.send_nowait(request)
        if self.hangs:
            await trio.sleep_forever()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        head = f"HTTP/1.1 {answer.status} x\r\ncontent-length: {len(answer.body)}\r\n"
        head += "".join(
            f"{name}: {value}\r\n" for name, value in answer.headers.items()
        )
        await stream.send_all(head.encode() + b"\r\n" + answer.body)


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        made = Receiver(listeners[0].socket.getsockname()[1])
        serve = partial(_serve_one, made, tls)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield made
        nursery.cancel_scope.cancel()


async def _serve_one(
    made: Receiver, tls: ssl.SSLContext | None, stream: trio.SocketStream
) -> None:
    try:
        if tls is None:
            await made.serve(stream)
        else:
            await made.serve(
                trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            )
    except trio.BrokenResourceError:
        return
