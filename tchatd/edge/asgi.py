"""Owns the same routes and sessions over TLS and HTTP/2, served by hypercorn.

One ASGI app carries both: a request becomes an `AsgiRequest` for the endpoint, a
WebSocket becomes a connection of `AsgiTransport`, which is to the sessions what the C
gateway is. Here a connection does cost tasks: TLS is for proxies and for small
installations; large ones end TLS before tchatd.
"""

from __future__ import annotations

import logging
import ssl
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from socket import socket
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from tchatd.edge.envelopes import Gap
from tchatd.edge.gateway import WEBSOCKET_PATHS
from tchatd.edge.http import HttpEndpoint, outcome
from tchatd.edge.hub import Hub, Lane
from tchatd.edge.ports import Response
from tchatd.edge.problems import OriginRefused, TooLarge, UpgradeRequired
from tchatd.edge.session import Sessions
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.observe.logging import get_logger

SLOW_CONSUMER = 4008
DISCARDED_BYTES_MAX = 8 << 20  # of a body that is too large, so that 413 is heard
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

TlsStream = trio.SSLStream[trio.SocketStream]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_log = get_logger("asgi")


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """slow_consumer: `gap` or `close`, as the C gateway's. drain_s: after `close`.

    write_s: a WebSocket that takes nothing for so long is dropped.
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
    write_s: float = 30.0
    drain_s: float = 20.0


class AsgiRequest:
    """One HTTP request of an ASGI server, as the endpoint wants it."""

    __slots__ = ("_headers", "address", "body", "method", "path", "query")

    def __init__(self, scope: Mapping[str, Any], body: bytes) -> None:
        self.method: str = scope.get("method", "GET")
        raw = scope.get("raw_path") or scope["path"].encode()
        self.path: str = raw.partition(b"?")[0].decode("latin-1")
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.body = body
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        self._headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            self._headers.setdefault(name.lower(), value)

    def header(self, name: bytes, /) -> bytes | None:
        return self._headers.get(name)


class _Connection:
    """One WebSocket: what waits to be sent, and whether its reader should pause.

    writing_since_s: Trio's time when the write under way began; None between writes.
    """

    __slots__ = (
        "closing",
        "frames",
        "is_msgpack",
        "peer",
        "reading",
        "size",
        "wake",
        "writing_since_s",
    )

    def __init__(self, peer: tuple[str, int] = ("", 0), *, is_msgpack: bool) -> None:
        self.peer = peer
        self.writing_since_s: float | None = None
        self.is_msgpack = is_msgpack
        self.frames: deque[bytes] = deque()
        self.size = 0
        self.wake = trio.Event()
        self.reading = trio.Event()
        self.reading.set()
        self.closing: tuple[int, str] | None = None


class AsgiTransport:
    """See `ports.Transport`. Numbers are negative: the C gateway's are not.

    A connection whose queue would exceed a limit loses it: it gets one `gap`, or is
    closed with 4008, as the settings say. One message alone is never too much: a page
    of history may be larger than what a slow reader may leave waiting.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._last = 0
        self.connections: dict[int, _Connection] = {}
        gap = Gap()
        self._gaps = (msgspec.json.encode(gap), msgspec.msgpack.encode(gap))

    def opened(self, connection: _Connection) -> int:
        self._last -= 1
        self.connections[self._last] = connection
        return self._last

    def queue(self, connection: int, frame: bytes, /) -> bool:
        state = self.connections.get(connection)
        if state is None or state.closing is not None:
            return False
        if state.frames and (
            state.size + len(frame) > self._settings.queue_bytes_max
            or len(state.frames) >= self._settings.queue_messages_max
        ):
            self._overflow(connection, state)
            return False
        state.frames.append(frame)
        state.size += len(frame)
        state.wake.set()
        return True

    def fan_out(self, connections: Sequence[int], frame: bytes, /) -> int:
        return sum(self.queue(connection, frame) for connection in connections)

    def flush(self) -> None:
        """Nothing to do: each connection's writer is awake already."""

    def close(self, connection: int, code: int, reason: str = "", /) -> bool:
        state = self.connections.get(connection)
        if state is None or state.closing is not None:
            return False
        state.closing = (code, reason)
        state.reading.set()
        state.wake.set()
        return True

    def pause(self, connection: int, /) -> None:
        state = self.connections.get(connection)
        if state is not None and state.reading.is_set() and state.closing is None:
            state.reading = trio.Event()

    def resume(self, connection: int, /) -> None:
        state = self.connections.get(connection)
        if state is not None:
            state.reading.set()

    def authenticated(self, connection: int, /) -> None:
        """The sessions' own timer for `hello` is enough here."""

    def stuck(self, write_s: float) -> list[tuple[str, int]]:
        """Peers of connections whose write takes longer than `write_s`."""
        since_s = trio.current_time() - write_s
        return [
            state.peer
            for state in self.connections.values()
            if state.writing_since_s is not None and state.writing_since_s < since_s
        ]

    def _overflow(self, connection: int, state: _Connection) -> None:
        state.frames.clear()
        state.size = 0
        if self._settings.slow_consumer == "close":
            self.close(connection, SLOW_CONSUMER, "slow consumer")
            return
        gap = self._gaps[state.is_msgpack]
        state.frames.append(gap)
        state.size = len(gap)
        state.wake.set()


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
        self.transport = AsgiTransport(settings)
        self._lanes = (
            Lane(self.transport, bytes, is_msgpack=False),
            Lane(self.transport, bytes, is_msgpack=True),
        )
        for lane in self._lanes:
            hub.add_lane(lane)
        self._config = _config(settings)
        self._app = wrap_app(self, 0, "asgi")
        self._worker = WorkerContext(None)
        self._streams: dict[tuple[str, int], TlsStream] = {}
        self._closing = trio.Event()
        self._finished = trio.Event()

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
                    accepting.start_soon(self._drop_stuck_writers)
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
        try:
            peer: tuple[str, int] = stream.transport_stream.socket.getpeername()[:2]
        except OSError:
            await trio.aclose_forcefully(stream)
            return
        if len(self._streams) >= self._settings.connections_max:
            await trio.aclose_forcefully(stream)
            return
        self._streams[peer] = stream
        try:
            await TCPServer(
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
            del self._streams[peer]
            self._check_finished()

    async def _drop_stuck_writers(self) -> None:
        """Drop connections that take nothing for `write_s`.

        hypercorn's writes can't be cancelled: the socket has to go.
        """
        while True:
            await trio.sleep(1)
            for peer in self.transport.stuck(self._settings.write_s):
                stream = self._streams.get(peer)
                if stream is not None:
                    stream.transport_stream.socket.close()

    def _abort_all(self) -> None:
        for stream in self._streams.values():
            stream.transport_stream.socket.close()

    def _check_finished(self) -> None:
        if self._closing.is_set() and not self._streams:
            self._finished.set()

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
        body = await self._body(receive)
        request = AsgiRequest(scope, body or b"")
        if body is None:
            answer = self._endpoint.refuse(request, TooLarge())
        elif request.path in WEBSOCKET_PATHS:
            answer = self._endpoint.refuse(request, UpgradeRequired())
        else:
            handled = self._endpoint.handle(request)
            if isinstance(handled, Deferred):
                handled = await outcome(handled)
            answer = handled
        await _respond(send, "http", request, answer)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None if it is larger than allowed."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            part = message.get("body", b"")
            size += len(part)
            if size <= self._settings.body_bytes_max:
                parts.append(part)
            elif size <= self._settings.body_bytes_max + DISCARDED_BYTES_MAX:
                parts.clear()
            else:
                return None
            more = message.get("more_body", False)
        return b"".join(parts) if size <= self._settings.body_bytes_max else None

    async def _websocket(
        self, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        await receive()  # websocket.connect
        request = AsgiRequest(scope, b"")
        try:
            if request.path not in WEBSOCKET_PATHS:
                raise UpgradeRequired("WebSocket is at /websocket.")
            origin = request.header(b"origin")
            if origin is not None and not self._endpoint.may_connect(origin):
                raise OriginRefused
            if len(self.transport.connections) >= self._settings.connections_max:
                raise Unavailable("Too many connections.")
            admission = self._sessions.admit(request, scope.get("subprotocols", ()))
            identity: Any = admission.identity
            if hasattr(type(identity), "__await__"):
                identity = await identity
        except DomainError as error:
            answer = self._endpoint.refuse(request, error)
            await _respond(send, "websocket", request, answer)
            return
        await send({"type": "websocket.accept", "subprotocol": admission.subprotocol})
        peer = tuple(scope["client"][:2])
        state = _Connection(peer, is_msgpack=admission.is_msgpack)
        number = self.transport.opened(state)
        try:
            lane = self._lanes[admission.is_msgpack]
            address = self._endpoint.address_of(request)
            self._sessions.open(lane, number, address, identity)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, number, state, receive, nursery)
                await self._write(state, send)
                nursery.cancel_scope.cancel()
        finally:
            del self.transport.connections[number]
            self._sessions.closed(number)

    async def _read(
        self, number: int, state: _Connection, receive: Receive, nursery: trio.Nursery
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

    async def _write(self, state: _Connection, send: Send) -> None:
        """Send what is queued until the close that was asked for is sent."""
        while True:
            await state.wake.wait()
            state.wake = trio.Event()
            while state.frames:
                frame = state.frames.popleft()
                state.size -= len(frame)
                state.writing_since_s = trio.current_time()
                if state.is_msgpack:
                    await send({"type": "websocket.send", "bytes": frame})
                else:
                    await send({"type": "websocket.send", "text": frame.decode()})
                state.writing_since_s = None
            if state.closing is not None:
                code, reason = state.closing
                await send({"type": "websocket.close", "code": code, "reason": reason})
                return


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
