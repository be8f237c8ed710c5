"""Owns the edge on real loopback sockets, plain and TLS, over fake domains."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio_websocket

from tchatd.edge.asgi import AsgiServer, TlsSettings
from tchatd.edge.gateway import GatewayTask, GatewayTaskSettings, gap_frames
from tchatd.edge.http import HttpEndpoint, HttpSettings
from tchatd.edge.pages import Pages, quart_app
from tchatd.edge.session_models import SessionSettings
from tchatd.kernel.routing import Access, Context, Operation
from tchatd_ext.gateway import Gateway
from tests.support.certificates import make_certificate
from tests.support.edge_fakes import Edge, Json


class Say(msgspec.Struct, frozen=True):
    text: str
    times: int = 1


class Said(msgspec.Struct):
    text: str


class Nothing(msgspec.Struct, frozen=True):
    pass


def say(context: Context, command: Say) -> Said:
    if command.text == "crash":
        raise RuntimeError
    return Said(command.text * command.times)


async def say_later(context: Context, command: Say) -> Said:
    await trio.sleep(0.01)
    return Said(command.text)


def who(context: Context, command: Nothing) -> Said:
    return Said(str(context.user.user_id))


def operations() -> list[Operation]:
    def declared(name: str, handler: Any, **more: Any) -> Operation:
        return Operation(
            **{
                "name": name,
                "summary": name,
                "tag": "test",
                "command": Say,
                "result": Said,
                "handler": handler,
            }
            | more
        )

    return [
        declared("say", say, verb="POST", path="/say", websocket="say"),
        declared("later", say_later, verb="POST", path="/later", websocket="later"),
        declared("who", who, verb="GET", path="/who", command=Nothing),
        declared("echo", say, verb="GET", path="/echo/{text}", access=Access.PUBLIC),
    ]


def listener(address: str = "127.0.0.1") -> tuple[socket.socket, int]:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, 0))
    listening.listen(128)
    listening.setblocking(False)
    return listening, listening.getsockname()[1]


class Served:
    """One edge on a plain and, if asked for, a TLS port."""

    def __init__(
        self,
        more: Sequence[Operation] = (),
        *,
        session_settings: SessionSettings | None = None,
        **http: Any,
    ) -> None:
        self.edge = Edge([*operations(), *more], session_settings)
        self.endpoint = HttpEndpoint(
            self.edge.dispatcher,
            self.edge.authenticator,
            HttpSettings(**http),
            fallback=Pages(quart_app()),
        )
        gap_json, gap_msgpack = gap_frames()
        self.gateway = Gateway(gap_json=gap_json, gap_msgpack=gap_msgpack)
        self.task = GatewayTask(
            self.gateway,
            self.edge.dispatcher,
            self.endpoint,
            self.edge.sessions,
            self.edge.hub,
            GatewayTaskSettings(drain_s=5.0),
        )
        self.tls: AsgiServer | None = None
        self.port = 0
        self.tls_port = 0
        self.trust: ssl.SSLContext | None = None

    @asynccontextmanager
    async def running(
        self,
        tls_folder: Path | None = None,
        *,
        tls_address: str = "127.0.0.1",
        **tls: Any,
    ) -> AsyncIterator[Served]:
        plain, self.port = listener()
        secure, self.tls_port = listener(tls_address)
        with plain, secure:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.edge.dispatcher.run)
                await nursery.start(self.endpoint.run)
                if tls_folder is not None:
                    certificate, key = make_certificate(tls_folder)
                    self.trust = ssl.create_default_context(cafile=str(certificate))
                    settings = TlsSettings(
                        certificate_file=str(certificate), key_file=str(key), **tls
                    )
                    self.tls = AsgiServer(
                        self.endpoint, self.edge.sessions, self.edge.hub, settings
                    )
                    await nursery.start(self.tls.run, [secure])
                await nursery.start(self.task.run, [plain])
                yield self
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def websocket(
        self,
        token: str | None = "u7",
        subprotocols: Sequence[str] = (),
        path: str = "/websocket",
        *,
        tls: bool = False,
    ) -> AsyncIterator[Socket]:
        headers = (
            [] if token is None else [(b"Authorization", b"Bearer " + token.encode())]
        )
        url = f"ws://127.0.0.1:{self.port}{path}"
        if tls:
            url = f"wss://127.0.0.1:{self.tls_port}{path}"
        async with trio_websocket.open_websocket_url(
            url,
            ssl_context=self.trust if tls else None,
            subprotocols=list(subprotocols) or None,
            extra_headers=headers,
        ) as connection:
            yield Socket(connection)


class Socket:
    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self.connection = connection

    async def send(self, envelope: Json) -> None:
        await self.connection.send_message(msgspec.json.encode(envelope).decode())

    async def receive(self) -> Json:
        with trio.fail_after(5):
            message = await self.connection.get_message()
        decoded: Json = (
            msgspec.json.decode(message)
            if isinstance(message, str)
            else msgspec.msgpack.decode(message)
        )
        return decoded

    async def ask(self, op: str, id: int, **members: Any) -> Json:
        await self.send({"op": op, "id": id, **members})
        return await self.receive()

    async def closed(self) -> tuple[int, str]:
        """Wait for the close; its code and reason."""
        with trio.fail_after(10):
            while self.connection.closed is None:
                with suppress(trio_websocket.ConnectionClosed):
                    await self.connection.get_message()
        reason = self.connection.closed
        return reason.code, reason.reason or ""
