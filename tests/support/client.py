"""Owns clients as a team would write them: HTTP with httpx, WebSocket with trio.

`Person` signs in by a one-time code read from the console; `Socket` keeps replies
apart from events, and fails a test that waits too long.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import msgspec
import trio
import trio_websocket

from tests.support.daemon import Daemon

ANSWER_S = 15.0
Json = dict[str, Any]


def uuid7(at_ms: int | None = None) -> str:
    """A client_id as clients make them (RFC 9562, section 5.7)."""
    at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    random = bytearray(os.urandom(10))
    random[0] = 0x70 | random[0] & 0x0F
    random[2] = 0x80 | random[2] & 0x3F
    return str(UUID(bytes=at_ms.to_bytes(6, "big") + bytes(random)))


class Person:
    """Somebody signed in: tokens, user, and an HTTP client that carries them."""

    def __init__(self, daemon: Daemon, http: httpx.AsyncClient, answer: Json) -> None:
        self.daemon = daemon
        self.http = http
        self.access_token: str = answer["access_token"]
        self.refresh_token: str = answer["refresh_token"]
        self.user: Json = answer["user"]
        http.headers["authorization"] = f"Bearer {self.access_token}"

    @property
    def id(self) -> str:
        id: str = self.user["id"]
        return id

    async def ok(
        self, verb: str, path: str, body: Json | None = None, **options: Any
    ) -> Any:
        """The JSON of an answer that must be a success."""
        if body is not None:
            options["json"] = body
        response = await self.http.request(verb, path, **options)
        assert response.is_success, (response.status_code, response.text)
        return response.json()

    @asynccontextmanager
    async def socket(
        self, protocol: str = "tchat.json.v1", **options: Any
    ) -> AsyncIterator[Socket]:
        async with connect(
            self.daemon, self.access_token, protocol, **options
        ) as socket:
            yield socket


@asynccontextmanager
async def sign_in(
    daemon: Daemon,
    identifier: str,
    device: Json | None = None,
    client: httpx.AsyncClient | None = None,
) -> AsyncIterator[Person]:
    """client: opened and closed here; by default one on the daemon's plain address."""
    kind = "email" if "@" in identifier else "phone"
    client = client or httpx.AsyncClient(base_url=daemon.url, timeout=ANSWER_S)
    async with client as http:
        sent = await http.post(
            "/auth/otp/send", json={"identifier": identifier, "type": kind}
        )
        assert sent.status_code == 200, sent.text
        code = await trio.to_thread.run_sync(daemon.console, "otp", identifier)
        verify: Json = {"session_id": sent.json()["session_id"], "code": code["code"]}
        if device:
            verify["device"] = device
        verified = await http.post("/auth/otp/verify", json=verify)
        assert verified.status_code == 200, verified.text
        yield Person(daemon, http, verified.json())


class Socket:
    """One WebSocket; `run` reads it and sorts what comes."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self.websocket = websocket
        self.msgpack = websocket.subprotocol == "tchat.msgpack.v1"
        self._next_id = 1
        self._answers: dict[int, Json] = {}
        self._answered = trio.Condition()
        send, self.events = trio.open_memory_channel[Json](math.inf)
        self._send_event = send
        self.closed: tuple[int, str] | None = None

    async def run(self) -> None:
        async with self._send_event:
            while True:
                try:
                    data = await self.websocket.get_message()
                except trio_websocket.ConnectionClosed as closed:
                    reason = closed.reason
                    self.closed = (
                        (reason.code, reason.reason or "") if reason else (1006, "")
                    )
                    async with self._answered:
                        self._answered.notify_all()
                    return
                envelope = self.decode(data)
                if envelope["op"] in ("reply", "error"):
                    async with self._answered:
                        self._answers[envelope["id"]] = envelope
                        self._answered.notify_all()
                else:
                    self._send_event.send_nowait(envelope)

    def decode(self, data: str | bytes) -> Json:
        if self.msgpack:
            assert isinstance(data, bytes)
            decoded: Json = msgspec.msgpack.decode(data)
        else:
            assert isinstance(data, str)
            decoded = json.loads(data)
        return decoded

    async def send(self, envelope: Json) -> None:
        encoded: str | bytes = (
            msgspec.msgpack.encode(envelope) if self.msgpack else json.dumps(envelope)
        )
        await self.websocket.send_message(encoded)

    async def ask(self, op: str, **fields: Any) -> Json:
        """The whole answer envelope, a reply or an error."""
        id, self._next_id = self._next_id, self._next_id + 1
        await self.send({"op": op, "id": id, **fields})
        with trio.fail_after(ANSWER_S):
            async with self._answered:
                while id not in self._answers:
                    if self.closed is not None:
                        raise ConnectionError(f"closed with {self.closed}")
                    await self._answered.wait()
        return self._answers.pop(id)

    async def command(self, op: str, **fields: Any) -> Any:
        """The result of a command that must succeed."""
        answer = await self.ask(op, **fields)
        assert answer["op"] == "reply", answer
        return answer["result"]

    async def event(
        self, op: str, where: Callable[[Json], bool] = lambda _event: True
    ) -> Json:
        """The next event of that kind; others before it are passed over."""
        with trio.fail_after(ANSWER_S):
            async for event in self.events:
                if event["op"] == op and where(event):
                    return event
        raise ConnectionError(f"closed with {self.closed} before {op}")

    async def wait_closed(self) -> tuple[int, str]:
        with trio.fail_after(ANSWER_S):
            async with self._answered:
                while self.closed is None:
                    await self._answered.wait()
        assert self.closed is not None
        return self.closed


@asynccontextmanager
async def connect(
    daemon: Daemon,
    token: str | None,
    protocol: str | None = "tchat.json.v1",
    path: str = "/websocket",
) -> AsyncIterator[Socket]:
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    async with (
        trio_websocket.open_websocket_url(
            f"ws://127.0.0.1:{daemon.port}{path}",
            subprotocols=[protocol] if protocol else None,
            extra_headers=headers,
        ) as websocket,
        trio.open_nursery() as nursery,
    ):
        socket = Socket(websocket)
        nursery.start_soon(socket.run)
        yield socket
        nursery.cancel_scope.cancel()
