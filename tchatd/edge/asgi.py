"""Owns the same routes and sessions over TLS and HTTP/2, served by hypercorn.

One ASGI app carries both: a request becomes an `AsgiRequest` for the endpoint, a
WebSocket becomes a connection of `AsgiTransport`. Here a connection does cost tasks:
TLS is for proxies and for small installations; large ones end TLS before tchatd.
"""

from __future__ import annotations

import logging
import ssl
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from socket import socket
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from tchatd.edge.asgi_transport import AsgiConnection, AsgiTransport
from tchatd.edge.gateway import WEBSOCKET_PATHS
from tchatd.edge.http import HttpEndpoint, outcome
from tchatd.edge.hub import Hub, Lane
from tchatd.edge.ports import Response
from tchatd.edge.problems import HeadTooLarge, TooLarge, UpgradeRequired
from tchatd.edge.session import Sessions
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.observe.logging import get_logger

DISCARDED_BYTES_MAX = 8 << 20  # of a body that is too large, so that 413 is heard
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

TlsStream = trio.SSLStream[trio.SocketStream]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_log = get_logger("asgi")


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """slow_consumer: `gap` or `close`, as the C gateway's. drain_s: after `close`.

    request_s: for the whole body of a request to come. write_s: for an answer or a
    WebSocket message to be taken. A connection that is slower is dropped.
    bodies_bytes_max: of all requests that are being read; beyond it 503.
    """

    certificate_file: str
    key_file: str
    version_min: str = "1.2"
    head_bytes_max: int = 16_384
    body_bytes_max: int = 1 << 20
    message_bytes_max: int = 131_072
    queue_bytes_max: int = 65_536
    queue_messages_max: int = 1_024
    slow_consumer: str = "gap"
    connections_max: int = 2_000
    handshake_s: float = 10.0
    idle_s: float = 75.0
    ping_interval_s: float = 25.0
    request_s: float = 30.0
    write_s: float = 30.0
    bodies_bytes_max: int = 64 << 20
    drain_s: float = 20.0


class AsgiRequest:
    """One HTTP request of an ASGI server, as the endpoint wants it."""

    __slots__ = ("_headers", "address", "body", "headers", "method", "path", "query")

    def __init__(self, scope: Mapping[str, Any], body: bytes) -> None:
        self.method: str = scope.get("method", "GET")
        raw = scope.get("raw_path") or scope["path"].encode()
        self.path: str = raw.partition(b"?")[0].decode("latin-1")
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.body = body
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        self.headers: list[tuple[bytes, bytes]] = [
            (name.lower(), value) for name, value in scope["headers"]
        ]
        self._headers = dict(reversed(self.headers))

    def header(self, name: bytes, /) -> bytes | None:
        return self._headers.get(name)

    @property
    def head_bytes(self) -> int:
        return len(self.path) + len(self.query) + sum(map(len, chain(*self.headers)))


class _Link:
    """One TLS connection. deadlines: by when what waits for its peer must have ended,
    in Trio's time. over: nothing more is read, and hypercorn knows."""

    __slots__ = ("deadlines", "over", "stream")

    def __init__(self, stream: TlsStream) -> None:
        self.stream = stream
        self.over = trio.Event()
        self.deadlines: dict[object, float] = {}

    def abort(self) -> None:
        """hypercorn's writes can't be cancelled: the socket has to go."""
        self.stream.transport_stream.socket.close()


# Trio hands it on to the tasks that hypercorn starts for this connection: addresses
# don't tell connections apart, a peer's port may come again before the last one ended.
_link: ContextVar[_Link] = ContextVar("link")


class AsgiServer:
    """Serves TLS listeners: HTTP/1.1, HTTP/2 and WebSocket over both."""

    def __init__(
        self,
        endpoint: HttpEndpoint,
        sessions: Sessions,
        hub: Hub,
        settings: TlsSettings,
    ) -> None:
        self._endpoint = endpoint
        self._sessions = sessions
        self._settings = settings
        self.transport = AsgiTransport(
            queue_bytes_max=settings.queue_bytes_max,
            queue_messages_max=settings.queue_messages_max,
            slow_consumer=settings.slow_consumer,
        )
        self._lanes = (
            Lane(self.transport, bytes, is_msgpack=False),
            Lane(self.transport, bytes, is_msgpack=True),
        )
        for lane in self._lanes:
            hub.add_lane(lane)
        self._config = _config(settings)
        self._app = wrap_app(self, 0, "asgi")
        self._worker = _Worker(None)
        self._links: set[_Link] = set()
        self._bodies_bytes = 0
        self._closing = trio.Event()
        self._finished = trio.Event()

    @property
    def connections(self) -> int:
        """Those that are open, also before their handshake."""
        return len(self._links)

    async def run(
        self,
        listeners: Sequence[socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve listening sockets until `close`, then let connections finish.

        What is not finished within `drain_s` is dropped. Cancelling drops all at once.

        Raises:
            OSError, ssl.SSLError: the certificate or key can't be read.
        """
        context = self._config.create_ssl_context()
        assert context is not None
        try:
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._accept, context, listeners, connections)
                    accepting.start_soon(self._drop_overdue)
                    task_status.started()
                    await self._closing.wait()
                    accepting.cancel_scope.cancel()
                await self._worker.terminated.set()
                with trio.move_on_after(self._settings.drain_s):
                    await self._finished.wait()
                self._abort_all()
                connections.cancel_scope.cancel()
        finally:
            self._abort_all()

    def close(self) -> None:
        """Stop accepting, and let what began finish (see `run`).

        Sessions are sent away by `Sessions.close_all`, which the gateway calls.
        """
        self._closing.set()
        self._check_finished()

    def reload_certificate(self) -> None:
        """Read certificate and key again; handshakes from now on use them.

        Raises:
            OSError, ssl.SSLError: they can't be read; the ones before stay.
        """
        self._config.reload_certificate()

    async def _accept(
        self,
        context: ssl.SSLContext,
        listeners: Sequence[socket],
        connections: trio.Nursery,
    ) -> None:
        # Trio closes what it is given; the listeners stay their owner's.
        own = [
            trio.SSLListener(
                trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup())),
                context,
                https_compatible=True,
            )
            for listener in listeners
        ]
        await trio.serve_listeners(self._serve, own, handler_nursery=connections)

    async def _serve(self, stream: TlsStream) -> None:
        """One connection. hypercorn's mistakes end this one and no other: it raises
        KeyError, for one, where a client sends on after it was answered."""
        if len(self._links) >= self._settings.connections_max:
            await trio.aclose_forcefully(stream)
            return
        link = _Link(stream)
        self._links.add(link)
        _link.set(link)
        try:
            await _TlsServer(
                self._app, self._config, self._worker, ConnectionState({}), stream
            )
        except BaseExceptionGroup as group:
            stopping, mistakes = group.split((trio.Cancelled, KeyboardInterrupt))
            if mistakes is not None:
                _log_failure(mistakes)
            if stopping is not None:
                raise stopping from None
        except Exception as error:  # noqa: BLE001  # around one connection
            _log_failure(error)
        finally:
            self._links.remove(link)
            self._check_finished()

    async def _drop_overdue(self) -> None:
        """Drop connections whose peer neither sends nor takes what is due."""
        while True:
            await trio.sleep(1)
            now = trio.current_time()
            for link in list(self._links):
                if any(deadline < now for deadline in link.deadlines.values()):
                    link.abort()

    def _abort_all(self) -> None:
        for link in self._links:
            link.abort()

    def _check_finished(self) -> None:
        if self._closing.is_set() and not self._links:
            self._finished.set()

    def _check_not_closing(self) -> None:
        """
        Raises:
            Unavailable: `close` was called; nobody would send a new session away.
        """
        if self._closing.is_set():
            raise Unavailable("The server is stopping.")

    async def __call__(
        self, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            assert scope["type"] == "websocket"
            await self._websocket(scope, receive, send)

    async def _http(
        self, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        with _due_in(self._settings.request_s):
            body = await self._body(receive)
        if body is None:
            return
        request = AsgiRequest(scope, b"" if isinstance(body, DomainError) else body)
        if isinstance(body, DomainError):
            answer = self._endpoint.refuse(request, body)
        elif request.head_bytes > self._settings.head_bytes_max:
            # h2 itself allows 64 KiB, whatever it announces.
            answer = self._endpoint.refuse(request, HeadTooLarge())
        elif request.path in WEBSOCKET_PATHS:
            answer = self._endpoint.refuse(request, UpgradeRequired())
        else:
            handled = self._endpoint.handle(request)
            if isinstance(handled, Deferred):
                handled = await outcome(handled)
            answer = handled
        with _due_in(self._settings.write_s):
            await _respond(send, "http", request, answer)

    async def _body(self, receive: Receive) -> bytes | DomainError | None:
        """The whole body, or why it is refused; None if the client went away."""
        parts: list[bytes] = []
        size = kept = 0
        refusal: DomainError | None = None
        settings, more = self._settings, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                size += len(part)
                if size > settings.body_bytes_max:
                    most = settings.body_bytes_max
                    refusal = TooLarge(f"The body may have {most} bytes.")
                elif self._bodies_bytes + len(part) > settings.bodies_bytes_max:
                    refusal = Unavailable("Too much is being received already.")
                if refusal is None:
                    parts.append(part)
                    kept += len(part)
                    self._bodies_bytes += len(part)
                else:
                    parts.clear()
                    if size > settings.body_bytes_max + DISCARDED_BYTES_MAX:
                        break
                more = message.get("more_body", False)
        finally:
            self._bodies_bytes -= kept
        return b"".join(parts) if refusal is None else refusal

    async def _websocket(
        self, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        await receive()  # websocket.connect
        request = AsgiRequest(scope, b"")
        try:
            if request.path not in WEBSOCKET_PATHS:
                raise UpgradeRequired("WebSocket is at /websocket.")
            if request.head_bytes > self._settings.head_bytes_max:
                raise HeadTooLarge
            self._check_not_closing()
            self._endpoint.check_upgrade(request)
            if len(self.transport.connections) >= self._settings.connections_max:
                raise Unavailable("Too many connections.")
            admission = self._sessions.admit(request, scope.get("subprotocols", ()))
            identity: Any = admission.identity
            if hasattr(type(identity), "__await__"):
                identity = await identity
                self._check_not_closing()
        except DomainError as error:
            answer = self._endpoint.refuse(request, error)
            with _due_in(self._settings.write_s):
                await _respond(send, "websocket", request, answer)
            return
        state = AsgiConnection(is_msgpack=admission.is_msgpack)
        number = self.transport.opened(state)
        try:
            # Before anything is awaited: a session that ends meanwhile has to find it.
            lane = self._lanes[admission.is_msgpack]
            address = self._endpoint.address_of(request)
            self._sessions.open(lane, number, address, identity)
            accept = {"type": "websocket.accept", "subprotocol": admission.subprotocol}
            state.is_sending = True
            with _due_in(self._settings.write_s):
                await send(accept)
            state.is_sending = False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, number, state, receive, nursery)
                await self._write(state, send)
                nursery.cancel_scope.cancel()
        finally:
            del self.transport.connections[number]
            self._sessions.closed(number)

    async def _read(
        self,
        number: int,
        state: AsgiConnection,
        receive: Receive,
        nursery: trio.Nursery,
    ) -> None:
        while True:
            await state.reading.wait()
            message = await receive()
            if message["type"] != "websocket.receive":
                nursery.cancel_scope.cancel()
                return
            text = message.get("text")
            data = message.get("bytes") if text is None else text.encode()
            self._sessions.message(number, data or b"", text is not None)

    async def _write(self, state: AsgiConnection, send: Send) -> None:
        """Send what is queued until the close that was asked for is sent."""
        while True:
            await state.wake.wait()
            state.wake = trio.Event()
            while (frame := state.next()) is not None:
                message: dict[str, Any] = {"type": "websocket.send"}
                if state.is_msgpack:
                    message["bytes"] = frame
                else:
                    message["text"] = frame.decode()
                with _due_in(self._settings.write_s):
                    await send(message)
            if state.closing is not None:
                code, reason = state.closing
                message = {"type": "websocket.close", "code": code, "reason": reason}
                with _due_in(self._settings.write_s):
                    await send(message)
                return


class _Worker(WorkerContext):
    """hypercorn's, whose pings end with the connection: asleep until the next one they
    would keep it, its descriptor, and the drain that waits for it."""

    @staticmethod
    async def sleep(wait: float) -> None:
        over = _link.get().over
        if over.is_set():  # between the end and what hypercorn makes of it
            await trio.sleep(min(wait, 1))
            return
        with trio.move_on_after(wait):
            await over.wait()


class _TlsServer(TCPServer):
    """hypercorn's, without its idle timer once the client is gone: that would keep
    every connection that ended for `idle_s` more."""

    _is_over = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._is_over = True
        _link.get().over.set()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if not (self._is_over and isinstance(event, Updated)):
            await super().protocol_send(event)


@contextmanager
def _due_in(seconds: float) -> Iterator[None]:
    """The connection is dropped if its peer lets this last longer."""
    deadlines, waiting = _link.get().deadlines, object()
    deadlines[waiting] = trio.current_time() + seconds
    try:
        yield
    finally:
        del deadlines[waiting]


async def _respond(
    send: Send, kind: str, request: AsgiRequest, answer: Response
) -> None:
    """kind: `http`, or `websocket` for an upgrade that is refused."""
    prefix = "http.response" if kind == "http" else "websocket.http.response"
    headers = [
        (name, value)
        for line in answer.headers.split(b"\r\n")[:-1]
        for name, _, value in (line.partition(b": "),)
    ]
    headers.append(_HSTS)
    if answer.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(answer.body)))
    body = b"" if request.method == "HEAD" else answer.body
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body, "more_body": False})


def _log_failure(error: BaseException) -> None:
    """Where it happened, without any value."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    _log.error(
        "connection failed",
        error=type(error).__qualname__,
        at=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )


class _TlsConfig(Config):
    """hypercorn's, with the least version of TLS from the settings."""

    version_min = ssl.TLSVersion.TLSv1_2
    context: ssl.SSLContext | None = None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        self.context = super().create_ssl_context()
        if self.context is not None:
            self.context.minimum_version = self.version_min
        return self.context

    def reload_certificate(self) -> None:
        assert self.certfile is not None
        # Tried on another context first: a pair that does not fit would break ours.
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trial.load_cert_chain(self.certfile, self.keyfile)
        if self.context is not None:
            self.context.load_cert_chain(self.certfile, self.keyfile)


def _config(settings: TlsSettings) -> _TlsConfig:
    config = _TlsConfig()
    config.version_min = (
        ssl.TLSVersion.TLSv1_3
        if settings.version_min == "1.3"
        else ssl.TLSVersion.TLSv1_2
    )
    config.certfile = settings.certificate_file
    config.keyfile = settings.key_file
    config.alpn_protocols = ["h2", "http/1.1"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.include_server_header = False
    config.h11_max_incomplete_size = settings.head_bytes_max
    config.h2_max_header_list_size = settings.head_bytes_max
    config.websocket_max_message_size = settings.message_bytes_max
    config.websocket_ping_interval = settings.ping_interval_s
    config.ssl_handshake_timeout = settings.handshake_s
    config.keep_alive_timeout = settings.idle_s
    return config
