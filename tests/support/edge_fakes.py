"""Owns fakes around the edge: tokens, users, a transport that remembers."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
import trio

from tchatd.domains.auth.errors import TokenExpired, TokenRefused
from tchatd.domains.auth.models import Identity
from tchatd.edge.dispatcher import Dispatcher, DispatcherSettings
from tchatd.edge.hub import Hub, Lane
from tchatd.edge.last_seen import LastSeen
from tchatd.edge.presence import Presence, PresenceSettings
from tchatd.edge.session import Sessions
from tchatd.edge.session_models import SessionSettings
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import NotFound
from tchatd.kernel.routing import Caller, Operation
from tchatd.observe.metrics import Metrics
from tchatd.stores.memory.people import MemoryPeopleStore

Sight = Literal["exact", "coarse", "nothing"]
Json = dict[str, Any]


def user_id(number: int) -> UUID:
    return UUID(int=(0x4000_8000 << 64) + number, version=4)


def caller(number: int, session: int = 1) -> Caller:
    return Caller(user_id(number), number, UUID(int=number * 1000 + session, version=4))


class FakeAuthenticator:
    """Tokens are `u<number>` and `u<number>s<session>`; `expired` has ended.

    slow: users whose look-up waits for its event.
    """

    def __init__(self, clock: ManualClock, token_s: int = 900) -> None:
        self._clock = clock
        self._token_s = token_s
        self.slow: dict[int, trio.Event] = {}

    def authenticate(self, token: str) -> Identity | Awaitable[Identity]:
        if token == "expired":
            raise TokenExpired
        if not token.startswith("u"):
            raise TokenRefused
        number, _, session = token[1:].partition("s")
        expires_ms = self._clock.now_ms() + self._token_s * 1000
        identity = Identity(caller(int(number), int(session or 1)), expires_ms)
        event = self.slow.get(int(number))
        return identity if event is None else _later(event, identity)


async def _later(event: trio.Event, identity: Identity) -> Identity:
    await event.wait()
    return identity


class FakeDirectory:
    """Users 1 to `count` exist."""

    def __init__(self, count: int = 10_000) -> None:
        self._numbers = {user_id(number): number for number in range(1, count + 1)}

    def cached_id(self, number: int) -> UUID | None:
        return user_id(number)

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        await trio.lowlevel.checkpoint()
        return {id: self._numbers[id] for id in ids if id in self._numbers}

    async def ids_of(self, numbers: Sequence[int]) -> Mapping[int, UUID]:
        await trio.lowlevel.checkpoint()
        known = {number: id for id, number in self._numbers.items()}
        return {number: known[number] for number in numbers if number in known}


class FakeVisibility:
    """Everybody sees everybody, but for pairs (viewer, target) in `sights`."""

    def __init__(self) -> None:
        self.sights: dict[tuple[int, int], Sight] = {}
        self.loads: list[list[int]] = []
        self.slow: trio.Event | None = None

    async def load(self, numbers: Sequence[int]) -> None:
        self.loads.append(list(numbers))
        await trio.lowlevel.checkpoint()
        if self.slow is not None:
            await self.slow.wait()

    def sight(self, viewer: int, target: int) -> Sight:
        return self.sights.get((viewer, target), "exact")


class FakeMembers:
    """Members of dialogs by the dialog's id. unseeing: who may not know the others."""

    def __init__(self) -> None:
        self.of: dict[str, BitMap] = {}
        self.unseeing: set[int] = set()

    async def members_of(self, user_number: int, dialog_id: str) -> tuple[BitMap, bool]:
        await trio.lowlevel.checkpoint()
        members = self.of.get(dialog_id, BitMap())
        if user_number not in members:
            raise NotFound
        return members, user_number not in self.unseeing


class FakeRequest:
    def __init__(
        self,
        method: str = "GET",
        target: str = "/",
        body: bytes | Json | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        address: str = "192.0.2.1",
    ) -> None:
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.address = address
        items = headers.items() if isinstance(headers, Mapping) else headers or ()
        self.headers = [
            (name.lower().encode(), value.encode()) for name, value in items
        ]
        if isinstance(body, dict):
            self.body = msgspec.json.encode(body)
            self.headers.append((b"content-type", b"application/json"))
        else:
            self.body = body or b""

    def header(self, name: bytes, /) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


class FakeTransport:
    """Keeps what was queued for each connection until `flush`, then as sent."""

    def __init__(self) -> None:
        self.queued: dict[int, list[bytes]] = {}
        self.sent: dict[int, list[bytes]] = {}
        self.closed: dict[int, tuple[int, str]] = {}
        self.paused: set[int] = set()
        self.known: set[int] = set()
        self.flushes = 0

    def queue(self, connection: int, frame: bytes, /) -> bool:
        if connection in self.closed:
            return False
        self.queued.setdefault(connection, []).append(frame)
        return True

    def fan_out(self, connections: Sequence[int], frame: bytes, /) -> int:
        return sum(self.queue(connection, frame) for connection in connections)

    def flush(self) -> None:
        self.flushes += 1
        for connection, frames in self.queued.items():
            self.sent.setdefault(connection, []).extend(frames)
        self.queued.clear()

    def close(self, connection: int, code: int, reason: str = "", /) -> bool:
        if connection in self.closed:
            return False
        self.closed[connection] = (code, reason)
        return True

    def pause(self, connection: int, /) -> None:
        self.paused.add(connection)

    def resume(self, connection: int, /) -> None:
        self.paused.discard(connection)

    def authenticated(self, connection: int, /) -> None:
        self.known.add(connection)


class Edge:
    """Sessions over a fake transport, with both lanes and a clock that stands still."""

    def __init__(
        self,
        operations: Sequence[Operation] = (),
        settings: SessionSettings | None = None,
        presence_settings: PresenceSettings | None = None,
        dispatcher_settings: DispatcherSettings | None = None,
    ) -> None:
        self.metrics = Metrics(process=False)
        self.clock = ManualClock()
        self.now_s = 1000.0
        self.transport = FakeTransport()
        self.hub = Hub(self.metrics)
        self.json = Lane(self.transport, bytes, is_msgpack=False)
        self.msgpack = Lane(self.transport, bytes, is_msgpack=True)
        self.hub.add_lane(self.json)
        self.hub.add_lane(self.msgpack)
        self.authenticator = FakeAuthenticator(self.clock)
        self.visibility = FakeVisibility()
        self.members = FakeMembers()
        self.store = MemoryPeopleStore()
        self.last_seen = LastSeen(self.store, self.clock, times_max=1000, write_s=60)
        self.presence = Presence(
            self.hub,
            FakeDirectory(),
            self.visibility,
            self.members,
            self.last_seen,
            self.clock,
            self.metrics,
            presence_settings or PresenceSettings(),
            now=lambda: self.now_s,
        )
        self.dispatcher = Dispatcher(
            [*operations, *self.presence.operations()],
            self.metrics,
            dispatcher_settings or DispatcherSettings(),
            now=lambda: self.now_s,
        )
        self.sessions = Sessions(
            self.dispatcher,
            self.authenticator,
            self.hub,
            self.clock,
            self.metrics,
            self.presence,
            settings or SessionSettings(),
            now=lambda: self.now_s,
            jitter=lambda: 0.5,
        )

    def connect(
        self, connection: int, token: str | None, lane: Lane | None = None
    ) -> None:
        identity: Any = None
        if token is not None:
            identity = self.authenticator.authenticate(token)
        self.sessions.open(lane or self.json, connection, "192.0.2.1", identity)

    def send(self, connection: int, envelope: Json | bytes | str) -> None:
        if isinstance(envelope, dict):
            data = msgspec.json.encode(envelope)
        else:
            data = envelope.encode() if isinstance(envelope, str) else envelope
        self.sessions.message(connection, data, True)

    def send_msgpack(self, connection: int, envelope: Json) -> None:
        self.sessions.message(connection, msgspec.msgpack.encode(envelope), False)

    def received(self, connection: int) -> list[Json]:
        """What a connection was sent since it was last asked, in order."""
        self.transport.flush()
        is_msgpack = any(
            connection in self.msgpack.of_user(number) for number in self.msgpack.online
        )
        module = msgspec.msgpack if is_msgpack else msgspec.json
        return [
            module.decode(frame) for frame in self.transport.sent.pop(connection, [])
        ]

    def advance(self, seconds: float) -> None:
        """Let time pass, and sessions see it."""
        self.now_s += seconds
        self.clock.advance(int(seconds * 1000))
        self.sessions.tick()
