"""Owns the queues of WebSocket connections that an ASGI server carries.

To the sessions it is what the C gateway is (`ports.Transport`); who writes what is
queued is `asgi.AsgiServer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec
import trio

from tchatd.edge.envelopes import Gap

SLOW_CONSUMER = 4008


class AsgiConnection:
    """One WebSocket: what waits to be sent, and whether its reader should pause.

    sending: what its writer has taken and is sending. frames: what has come since, of
    `size` bytes in all, the largest of `largest`.
    """

    __slots__ = (
        "closing",
        "frames",
        "is_msgpack",
        "is_sending",
        "largest",
        "reading",
        "sending",
        "size",
        "wake",
    )

    def __init__(self, *, is_msgpack: bool) -> None:
        self.is_msgpack = is_msgpack
        self.sending: deque[bytes] = deque()
        self.is_sending = False
        self.frames: deque[bytes] = deque()
        self.size = self.largest = 0
        self.wake = trio.Event()
        self.reading = trio.Event()
        self.reading.set()
        self.closing: tuple[int, str] | None = None

    def next(self) -> bytes | None:
        """What the writer is to send now; None: nothing, it sleeps."""
        if not self.sending:
            self.sending, self.frames = self.frames, self.sending
            self.size = self.largest = 0
        self.is_sending = bool(self.sending)
        return self.sending.popleft() if self.sending else None

    def put(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.size += len(frame)
        self.largest = max(self.largest, len(frame))
        self.wake.set()

    def drop(self) -> None:
        """All but what is partly sent."""
        self.sending.clear()
        self.frames.clear()
        self.size = self.largest = 0


class AsgiTransport:
    """See `ports.Transport`. Numbers are negative: the C gateway's are not.

    A connection whose queue would exceed a limit loses it: it gets one `gap`, or is
    closed with 4008, as the settings say. Bytes count only behind what its writer is
    sending: what is queued before the writer had its turn says nothing of the reader.
    The largest message is never too much: a page of history may be larger than what a
    slow reader may leave waiting.
    """

    def __init__(
        self, *, queue_bytes_max: int, queue_messages_max: int, slow_consumer: str
    ) -> None:
        self._queue_bytes_max = queue_bytes_max
        self._queue_messages_max = queue_messages_max
        self._closes_slow = slow_consumer == "close"
        self._last = 0
        self.connections: dict[int, AsgiConnection] = {}
        gap = Gap()
        self._gaps = (msgspec.json.encode(gap), msgspec.msgpack.encode(gap))

    def opened(self, connection: AsgiConnection) -> int:
        self._last -= 1
        self.connections[self._last] = connection
        return self._last

    def queue(self, connection: int, frame: bytes, /) -> bool:
        state = self.connections.get(connection)
        if state is None or state.closing is not None:
            return False
        others = state.size + len(frame) - max(state.largest, len(frame))
        if (state.is_sending and others > self._queue_bytes_max) or len(
            state.frames
        ) >= self._queue_messages_max:
            self._overflow(connection, state)
            return False
        state.put(frame)
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

    def _overflow(self, connection: int, state: AsgiConnection) -> None:
        state.drop()
        if self._closes_slow:
            self.close(connection, SLOW_CONSUMER, "slow consumer")
            return
        state.put(self._gaps[state.is_msgpack])
