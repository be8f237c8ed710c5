"""Owns what the local servers of payment providers have in common: HTTP on loopback,
and every way in which an answer can fail to come.

faults: by turn, one for each request; then there are none. A request is processed
before or after its fault, as its name says, and `processed` counts those that were.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
import trio
from msgspec import Struct

BODY_BYTES_MAX = 1 << 20


class Fault(enum.Enum):
    """BEFORE: nothing was done. AFTER: it was, and the answer is lost."""

    HANG_BEFORE = "hang before"
    HANG_AFTER = "hang after"
    CLOSE_BEFORE = "close before"
    CLOSE_AFTER = "close after"
    CUT_HEAD_AFTER = "cut in the head, after"
    CUT_BODY_AFTER = "cut in the body, after"
    ERROR_500_BEFORE = "500 before"
    ERROR_500_AFTER = "500 after"
    ERROR_503_BEFORE = "503 before"
    RATE_LIMITED = "429"
    MALFORMED_AFTER = "no JSON, after"
    OTHER_SHAPE_AFTER = "another shape, after"
    OTHER_AMOUNT_AFTER = "another amount, after"
    HUGE_AFTER = "huge, after"
    SLOW_BODY_AFTER = "slow, after"
    COMPRESSED_AFTER = "compressed, after"
    REDIRECT_BEFORE = "redirect, before"
    PROXY_400_BEFORE = "400 of a proxy, before"


class ServedRequest(Struct):
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class Served(Struct):
    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def json_of(status: int, value: Any, **headers: str) -> Served:
    return Served(status, msgspec.json.encode(value), headers)


class PaymentServer:
    """Subclasses give `process`, and `other_amount` of an answer."""

    def __init__(self) -> None:
        self.origin = ""
        self.faults: deque[Fault] = deque()
        self.answers: deque[Served] = deque()
        self.requests: list[ServedRequest] = []
        self.processed = 0
        self.changed = trio.Event()

    def process(self, request: ServedRequest) -> Served:
        raise NotImplementedError

    def rate_limited(self) -> Served:
        raise NotImplementedError

    async def until_processed(self, count: int) -> None:
        while self.processed < count:
            self.changed = trio.Event()
            await self.changed.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                buffered = bytearray()
                while (request := await _request(stream, buffered)) is not None:
                    self.requests.append(request)
                    if not await self._answer(stream, request):
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def _do(self, request: ServedRequest) -> Served:
        answer = self.process(request)
        self.processed += 1
        self.changed.set()
        return answer

    async def _answer(self, stream: trio.SocketStream, request: ServedRequest) -> bool:
        """False: the connection is over."""
        if self.answers:
            await stream.send_all(_bytes(self.answers.popleft()))
            return True
        fault = self.faults.popleft() if self.faults else None
        if fault is None:
            await stream.send_all(_bytes(self._do(request)))
            return True
        if not fault.name.endswith("_AFTER"):
            return await self._before(stream, fault)
        return await _after(stream, fault, self._do(request))

    async def _before(self, stream: trio.SocketStream, fault: Fault) -> bool:
        if fault is Fault.HANG_BEFORE:
            await _until_left(stream)
            return False
        if fault is Fault.CLOSE_BEFORE:
            return False
        answer = {
            Fault.ERROR_500_BEFORE: Served(500, b"oops"),
            Fault.ERROR_503_BEFORE: Served(503, b""),
            Fault.REDIRECT_BEFORE: Served(302, b"", {"location": "http://127.0.0.1:1"}),
            Fault.PROXY_400_BEFORE: Served(400, b"<html>Bad request</html>"),
        }.get(fault) or self.rate_limited()
        await stream.send_all(_bytes(answer))
        return True


async def _after(stream: trio.SocketStream, fault: Fault, answer: Served) -> bool:
    if fault is Fault.HANG_AFTER:
        await _until_left(stream)
        return False
    if fault is Fault.CLOSE_AFTER:
        return False
    whole = _bytes(answer)
    head_size = whole.index(b"\r\n\r\n") + 4
    if fault is Fault.CUT_HEAD_AFTER:
        await stream.send_all(whole[: head_size // 2])
        return False
    if fault is Fault.CUT_BODY_AFTER:
        await stream.send_all(whole[: head_size + len(answer.body) // 2])
        return False
    if fault is Fault.SLOW_BODY_AFTER:
        # As much as was said, but the last byte: it never comes.
        await stream.send_all(whole[:-1])
        await _until_left(stream)
        return False
    await stream.send_all(_bytes(_spoilt(fault, answer)))
    return True


def _spoilt(fault: Fault, answer: Served) -> Served:
    if fault is Fault.MALFORMED_AFTER:
        return Served(200, answer.body[:-1])
    if fault is Fault.OTHER_SHAPE_AFTER:
        return Served(200, b'{"object":"list","data":[]}')
    if fault is Fault.HUGE_AFTER:
        return Served(200, b'"' + b"x" * (1 << 21) + b'"')
    if fault is Fault.COMPRESSED_AFTER:
        return Served(200, answer.body, {"content-encoding": "gzip"})
    if fault is Fault.OTHER_AMOUNT_AFTER:
        return Served(200, re.sub(rb'"amount":\d+', b'"amount":1', answer.body))
    return Served(500, b'{"object":"error","code":"internal_error","message":"x"}')


async def _until_left(stream: trio.SocketStream) -> None:
    while await stream.receive_some(4_096):
        pass


def _bytes(answer: Served) -> bytes:
    head = f"HTTP/1.1 {answer.status} x\r\ncontent-length: {len(answer.body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    return head.encode() + b"\r\n" + answer.body


async def _request(
    stream: trio.SocketStream, buffered: bytearray
) -> ServedRequest | None:
    while b"\r\n\r\n" not in buffered:
        part = await stream.receive_some(65_536)
        if not part:
            return None
        buffered += part
    head, _, rest = bytes(buffered).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    size = int(headers.get("content-length", "0"))
    assert size <= BODY_BYTES_MAX
    while len(rest) < size:
        rest += await stream.receive_some(65_536)
    buffered[:] = rest[size:]
    method, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    return ServedRequest(
        method, unquote(path), dict(parse_qsl(query)), headers, rest[:size]
    )


S = TypeVar("S", bound=PaymentServer)


@asynccontextmanager
async def serving(server: S) -> AsyncIterator[S]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        server.origin = f"http://127.0.0.1:{port}"
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
