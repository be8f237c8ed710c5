"""Owns the C edge's public face: sockets, HTTP/1.1 and WebSocket, without a task."""

from collections.abc import Sequence
from typing import Final, Literal

from tchatd_ext.http_reactor import Request as Request
from tchatd_ext.outbound import Frame as Frame

REQUEST: Final = 0
MESSAGE: Final = 1
CLOSED: Final = 2

Event = (
    tuple[Literal[0], int, "Request"]
    | tuple[Literal[1], int, bytes, bool]
    | tuple[Literal[2], int, int, str]
)

class Gateway:
    """Every plain connection; one thread, never blocks. See the .pyx for the theory."""

    def __init__(
        self,
        *,
        gap_json: Frame,
        gap_msgpack: Frame,
        head_bytes_max: int = 16384,
        uri_bytes_max: int = 8192,
        body_bytes_max: int = 1 << 20,
        message_bytes_max: int = 131072,
        queue_bytes_max: int = 65536,
        slow_consumer: str = "gap",
        handshake_s: float = 10.0,
        request_s: float = 30.0,
        idle_s: float = 75.0,
        ping_interval_s: float = 25.0,
        pong_timeout_s: float = 20.0,
        close_s: float = 5.0,
        write_s: float = 30.0,
        connections_max: int = 200_000,
        connections_per_address_max: int = 20_000,
        deflate: bool = True,
        deflate_bytes_min: int = 512,
        server: str = "tchatd",
    ) -> None: ...
    @property
    def connections(self) -> int:
        """Open sockets, WebSocket or not, the closing ones included."""
    def listen(self, fd: int) -> None:
        """Accept from a listening non-blocking socket; the caller keeps owning it."""
    def unlisten(self) -> None:
        """Stop accepting on every listener."""
    def fileno(self) -> int:
        """The epoll descriptor: readable when poll() has something to do."""
    def poll(self, events_max: int = 512) -> list[Event]:
        """Do what is ready and return what is complete; ends with flush().

        (REQUEST, connection, Request): answer with respond() or accept_websocket().
        (MESSAGE, connection, payload, is_text): one whole WebSocket message.
        (CLOSED, connection, code, reason): once for every accepted WebSocket, and for
        an HTTP connection that went away with a request unanswered (1006).
        """
    def respond(
        self, connection: int, status: int, headers: bytes, body: bytes
    ) -> bool:
        """Answer the request outstanding.

        headers: whole lines, each ending in CRLF, without content-length, date, server
        and connection, which are the gateway's. False when there is none outstanding.
        """
    def accept_websocket(
        self,
        connection: int,
        *,
        subprotocol: str | None,
        msgpack: bool,
        headers: bytes = b"",
    ) -> bool:
        """Answer an upgrade with 101; authenticated() follows within handshake_s."""
    def authenticated(self, connection: int) -> bool:
        """End the half-open timer; pings take over."""
    def queue(self, connection: int, frame: Frame) -> bool:
        """Queue for the next flush(); False when the connection is gone or closing."""
    def fan_out(self, connections: Sequence[int], frame: Frame) -> int:
        """Queue one frame to many without the GIL; gives how many took it."""
    def flush(self) -> None:
        """Send what is queued, one writev for each connection, without the GIL."""
    def close(self, connection: int, code: int, reason: str = "") -> bool:
        """Start the close handshake after what is queued; CLOSED follows."""
    def abort(self, connection: int) -> bool:
        """Drop the socket now; CLOSED (1006) follows for a WebSocket."""
    def pause(self, connection: int) -> bool:
        """Stop reading (backpressure); messages of one recv may still be delivered."""
    def resume(self, connection: int) -> bool: ...
    def describe(self, connection: int) -> dict[str, object] | None: ...
    def statistics(self) -> dict[str, int]: ...
    def shutdown(self) -> None:
        """Close every descriptor, listeners' registrations included; no events."""
