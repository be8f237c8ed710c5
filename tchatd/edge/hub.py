"""Owns which connection is whose, and fan-out to members who are online.

Theory of operation
    A lane is one subprotocol of one transport: what is encoded and framed alike. For
    each lane a bitmap says which user numbers have a connection in it, and a dict
    which connection that is; the few users with several have the others in a second
    bitmap and dict. So an event to a dialog is, for each lane, `members & online`, one
    look-up for each receiver, and one `fan_out`: connecting and leaving touch nothing
    else, and a member who is offline costs a bit.

    An event is encoded once for each subprotocol, and only if somebody there gets it.
    Nothing leaves before `flush`, which whoever delivered a batch calls once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tchatd.edge.ports import Transport
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.encoding import encode_json, encode_msgpack
from tchatd.observe.metrics import Metrics

if TYPE_CHECKING:
    from tchatd.edge.session_models import Session


class Lane:
    """The connections of one subprotocol of one transport.

    frame_of: makes the transport's message of an encoded payload.
    """

    __slots__ = (
        "_others",
        "_several",
        "connections",
        "encode",
        "frame_of",
        "is_msgpack",
        "online",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        frame_of: Callable[[bytes], Any],
        *,
        is_msgpack: bool,
    ) -> None:
        self.transport = transport
        self.frame_of = frame_of
        self.is_msgpack = is_msgpack
        self.encode: Callable[[Any], bytes] = (
            encode_msgpack if is_msgpack else encode_json
        )
        self.online = BitMap()
        self.connections: dict[int, int] = {}
        self._several = BitMap()
        self._others: dict[int, list[int]] = {}

    def add(self, number: int, connection: int) -> None:
        if number not in self.connections:
            self.connections[number] = connection
            self.online.add(number)
        else:
            self._others.setdefault(number, []).append(connection)
            self._several.add(number)

    def remove(self, number: int, connection: int) -> None:
        others = self._others.get(number)
        if self.connections.get(number) == connection:
            if others:
                self.connections[number] = others.pop(0)
            else:
                del self.connections[number]
                self.online.discard(number)
        elif others and connection in others:
            others.remove(connection)
        if others is not None and not others:
            del self._others[number]
            self._several.discard(number)

    def of_user(self, number: int) -> list[int]:
        first = self.connections.get(number)
        if first is None:
            return []
        return [first, *self._others.get(number, ())]

    def of_members(self, members: BitMap) -> list[int]:
        hits = members & self.online
        connections = list(map(self.connections.__getitem__, hits))
        if self._several:
            for number in hits & self._several:
                connections.extend(self._others[number])
        return connections


class Hub:
    """Delivers events to connections; `online` has who has at least one."""

    def __init__(self, metrics: Metrics) -> None:
        self.lanes: list[Lane] = []
        self._transports: list[Transport] = []
        self.online = BitMap()
        self.sessions: dict[int, Session] = {}
        self.deliveries = 0
        self._events = metrics.counter("events", "Events handed to the hub")
        metrics.counter(
            "deliveries", "Events queued to connections", read=lambda: self.deliveries
        )
        metrics.gauge(
            "users_online", "Users with a connection", lambda: len(self.online)
        )
        metrics.gauge("sessions", "WebSocket sessions", lambda: len(self.sessions))

    def add_lane(self, lane: Lane) -> None:
        self.lanes.append(lane)
        if lane.transport not in self._transports:
            self._transports.append(lane.transport)

    def add(self, session: Session) -> None:
        """A session of a known caller."""
        assert session.caller is not None
        number = session.caller.user_number
        self.sessions[session.connection] = session
        session.lane.add(number, session.connection)
        self.online.add(number)

    def remove(self, session: Session) -> None:
        """Does nothing for a session that was never added."""
        if self.sessions.pop(session.connection, None) is None:
            return
        assert session.caller is not None
        number = session.caller.user_number
        session.lane.remove(number, session.connection)
        if not any(number in lane.connections for lane in self.lanes):
            self.online.discard(number)

    def sessions_of(self, number: int) -> list[Session]:
        """Of one user, in no order."""
        return [
            self.sessions[connection]
            for lane in self.lanes
            for connection in lane.of_user(number)
        ]

    def deliver(
        self, members: BitMap, event: Any, *, except_connection: int | None = None
    ) -> None:
        """Queue `event` to every connection of the members who are online."""
        self._events.value += 1
        asking = (
            None if except_connection is None else self.sessions.get(except_connection)
        )
        json: bytes | None = None
        msgpack: bytes | None = None
        for lane in self.lanes:
            if not lane.connections:
                continue
            connections = lane.of_members(members)
            if asking is not None and asking.lane is lane:
                _drop(connections, asking.connection)
            if not connections:
                continue
            if lane.is_msgpack:
                payload = msgpack = msgpack or encode_msgpack(event)
            else:
                payload = json = json or encode_json(event)
            frame = lane.frame_of(payload)
            if len(connections) == 1:
                lane.transport.queue(connections[0], frame)
            else:
                lane.transport.fan_out(connections, frame)
            self.deliveries += len(connections)

    def deliver_user(
        self, user_number: int, event: Any, *, except_connection: int | None = None
    ) -> None:
        """Queue `event` to every connection of one user."""
        if user_number in self.online:
            self.deliver(
                BitMap((user_number,)), event, except_connection=except_connection
            )

    def deliver_connections(self, connections: Iterable[int], event: Any) -> None:
        """Queue `event` to these connections, whosever they are."""
        by_lane: dict[Lane, list[int]] = {}
        for connection in connections:
            session = self.sessions.get(connection)
            if session is not None:
                by_lane.setdefault(session.lane, []).append(connection)
        for lane, group in by_lane.items():
            lane.transport.fan_out(group, lane.frame_of(lane.encode(event)))
            self.deliveries += len(group)

    def flush(self) -> None:
        """Let what was queued leave; once for each batch."""
        for transport in self._transports:
            transport.flush()


def _drop(connections: list[int], connection: int) -> None:
    """Take it out if it is there: the asker may be no member any more."""
    try:
        connections.remove(connection)
    except ValueError:
        return
