"""Owns the Trio side of the C gateway: one task that takes what is complete.

    wait_readable(epoll) -> poll -> messages and closes, requests -> flush

The gateway's own epoll descriptor is what Trio waits for; a connection costs no task.
At most `events_max` things are taken before other tasks get their turn. Messages of
those who are here come before requests and what newcomers ask first, of which only so
much is served in a turn: when thousands connect at once, after a restart, say, a
message waits for a slice of them and not for all. `except Exception` stands around one
connection here: a mistake of ours ends that connection and no other.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from socket import socket
from typing import Any, Protocol, cast

import msgspec
import trio

from tchatd.edge.admission import Admission
from tchatd.edge.dispatcher import Dispatcher
from tchatd.edge.envelopes import Gap
from tchatd.edge.http import HttpEndpoint
from tchatd.edge.hub import Hub, Lane
from tchatd.edge.ports import Identity, Response
from tchatd.edge.problems import UpgradeRequired
from tchatd.edge.session import Sessions
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.kernel.routing import Context
from tchatd.observe.logging import get_logger
from tchatd_ext.gateway import CLOSED, MESSAGE, REQUEST, Frame, Gateway, Request

WEBSOCKET_PATHS = ("/websocket", "/v1/websocket")
_log = get_logger("gateway")


class GatewayTaskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """events_max: taken at once. slice_s: of a turn, for requests and newcomers.
    waiting_max: of them; beyond it slices are as long as they have to be.
    drain_s: for connections to end after `close`."""

    events_max: int = 256
    slice_s: float = 0.002
    waiting_max: int = 131_072
    drain_s: float = 20.0


def gap_frames() -> tuple[Frame, Frame]:
    """What replaces the queue of a slow consumer: as JSON, and as MessagePack."""
    gap = Gap()
    return (
        Frame(msgspec.json.encode(gap)),
        Frame(msgspec.msgpack.encode(gap), binary=True),
    )


class Gathering(Protocol):
    """Told that commands follow one another at once, and that they ended: what they
    make durable can then go to the disk together, and before any other task runs."""

    def begin_gathering(self) -> None: ...

    def end_gathering(self) -> None: ...


class _NotGathering:
    def begin_gathering(self) -> None:
        pass

    def end_gathering(self) -> None:
        pass


class GatewayTask:
    """Serves plain HTTP/1.1 and WebSocket. Every session is in one of its two lanes."""

    def __init__(
        self,
        gateway: Gateway,
        dispatcher: Dispatcher,
        endpoint: HttpEndpoint,
        sessions: Sessions,
        hub: Hub,
        settings: GatewayTaskSettings = GatewayTaskSettings(),  # noqa: B008  # frozen
        *,
        gathering: Gathering | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._sessions = sessions
        self._settings = settings
        self._lanes = (
            Lane(gateway, Frame, is_msgpack=False),
            Lane(gateway, partial(Frame, binary=True), is_msgpack=True),
        )
        for lane in self._lanes:
            hub.add_lane(lane)
        self._closing = trio.Event()
        self._finished = trio.Event()
        self._unanswered = 0
        self._waiting: deque[Any] = deque()
        self._now = now
        self._gathering = gathering or _NotGathering()

    async def run(
        self,
        listeners: Sequence[socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve listening, non-blocking sockets until `close`, then drain.

        Draining: nobody new, WebSockets are closed with 1001, requests that began are
        answered. After `drain_s` the rest is dropped. Cancelling drops all at once.
        """
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    self._gateway.listen(listener.fileno())
                nursery.start_soon(self._serve)
                task_status.started()
                await self._closing.wait()
                with trio.move_on_after(self._settings.drain_s):
                    await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            self._gateway.shutdown()

    def close(self) -> None:
        self._closing.set()

    async def _serve(self) -> None:
        gateway, events_max = self._gateway, self._settings.events_max
        descriptor = gateway.fileno()
        while True:
            if self._waiting:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(descriptor)
            self._gathering.begin_gathering()
            for event in gateway.poll(events_max):
                if not self._take(event):
                    self._waiting.append(event)
            self._take_waiting()
            self._gathering.end_gathering()
            gateway.flush()

    def _take_waiting(self) -> None:
        """Serve those who wait, the first first, for as long as a slice lasts."""
        waiting, settings = self._waiting, self._settings
        if not waiting and not self._closing.is_set():
            return
        until_s = self._now() + settings.slice_s
        while waiting:
            self._take_late(waiting.popleft())
            if len(waiting) < settings.waiting_max and self._now() > until_s:
                return
        self._check_finished()

    def _take(self, event: Any) -> bool:
        """False: not at once, but in a slice."""
        try:
            if event[0] == MESSAGE:
                return self._sessions.offer(event[1], event[2], event[3])
            if event[0] == REQUEST or self._sessions.is_behind(event[1]):
                return False
            assert event[0] == CLOSED
            self._closed(event[1])
        except Exception as error:  # noqa: BLE001  # around one connection
            self._failed(event[1], error)
        return True

    def _take_late(self, event: Any) -> None:
        try:
            if event[0] == REQUEST:
                self._request(event[1], event[2])
            elif event[0] == MESSAGE:
                self._sessions.turn(event[1], event[2], event[3])
            else:
                self._closed(event[1])
        except Exception as error:  # noqa: BLE001  # around one connection
            self._failed(event[1], error)

    def _request(self, connection: int, request: Request) -> None:
        if request.path in WEBSOCKET_PATHS:
            self._upgrade(connection, request)
            return
        answer = self._endpoint.handle(request)
        if type(answer) is Response:
            self._gateway.respond(
                connection, answer.status, answer.headers, answer.body
            )
        else:
            self._unanswered += 1
            cast("Deferred[Response]", answer).on_done(
                partial(self._answered, connection)
            )

    def _answered(self, connection: int, deferred: Deferred[Response]) -> None:
        answer = deferred.result()
        self._gateway.respond(connection, answer.status, answer.headers, answer.body)
        self._gateway.flush()
        self._unanswered -= 1
        self._check_finished()

    def _upgrade(self, connection: int, request: Request) -> None:
        try:
            if not request.upgrade:
                raise UpgradeRequired
            if self._closing.is_set():
                raise Unavailable("The server is stopping.")
            self._endpoint.check_upgrade(request)
            admission = self._sessions.admit(request, request.subprotocols)
            identity = admission.identity
            if identity is None or not hasattr(type(identity), "__await__"):
                self._accept(
                    connection, request, admission, cast("Identity | None", identity)
                )
                return
            address = self._endpoint.address_of(request)
            context = Context(self._dispatcher.request_ids.next(), address)
            awaited = self._dispatcher.wait(
                cast("Awaitable[Identity]", identity), "connect", context
            )
        except DomainError as error:
            self._refuse(connection, request, error)
            return

        def told(answer: Deferred[Identity]) -> None:
            error = cast("DomainError | None", answer.error)
            if error is None and self._closing.is_set():
                error = Unavailable("The server is stopping.")
            if error is None:
                self._accept(connection, request, admission, answer.value)
            else:
                self._refuse(connection, request, error)
            self._gateway.flush()
            self._unanswered -= 1
            self._check_finished()

        self._unanswered += 1
        awaited.on_done(told)

    def _accept(
        self,
        connection: int,
        request: Request,
        admission: Admission,
        identity: Identity | None,
    ) -> None:
        accepted = self._gateway.accept_websocket(
            connection,
            subprotocol=admission.subprotocol,
            msgpack=admission.is_msgpack,
        )
        if accepted:
            lane = self._lanes[admission.is_msgpack]
            address = self._endpoint.address_of(request)
            self._sessions.open(lane, connection, address, identity)

    def _refuse(self, connection: int, request: Request, error: DomainError) -> None:
        answer = self._endpoint.refuse(request, error)
        self._gateway.respond(connection, answer.status, answer.headers, answer.body)

    def _closed(self, connection: int) -> None:
        self._sessions.closed(connection)
        self._check_finished()

    def _failed(self, connection: int, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        _log.error(
            "connection failed",
            error=type(error).__qualname__,
            at=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        )
        self._gateway.abort(connection)

    async def _drain(self) -> None:
        self._gateway.unlisten()
        await self._sessions.close_all()
        self._check_finished()
        await self._finished.wait()

    def _check_finished(self) -> None:
        """While draining: whether every WebSocket is closed and request answered."""
        if not self._closing.is_set() or self._unanswered or self._waiting:
            return
        if self._gateway.statistics()["websockets"] == 0:
            self._finished.set()
