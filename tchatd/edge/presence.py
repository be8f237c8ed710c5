"""Owns who is seen as online, away, busy or offline, and who is told of a change.

What is kept of a user who is online and said nothing is one bit in the hub. A user
who leaves stays visible for `grace_s`, so that a reconnect makes no noise; watchers
are told of changes only. `offline` set by a user who is connected means invisible.
Status lives as long as the user is connected: it is not the profile's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.edge.hub import Hub
from tchatd.edge.ports import Directory
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Caller, Context, Operation
from tchatd.observe.metrics import Metrics

LISTED_MAX = 100
WATCHED_AT_ONCE_MAX = 500

Status = Literal["online", "away", "busy", "offline"]


class PresenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """watched_max: users that one connection watches.

    last_seen_max: users whose last time is remembered, the latest ones.
    """

    grace_s: float = 5.0
    watched_max: int = 500
    last_seen_max: int = 100_000


class TooManyWatched(DomainError):
    code, kind = "too-many-watched", ErrorKind.UNPROCESSABLE
    title = "A connection watches only so many people"


class SetPresence(Struct, frozen=True):
    status: Status


class WatchPresence(Struct, frozen=True):
    user_ids: Annotated[list[UUID], Meta(min_length=1, max_length=WATCHED_AT_ONCE_MAX)]


class UnwatchPresence(Struct, frozen=True):
    """Without user_ids: everybody."""

    user_ids: (
        Annotated[list[UUID], Meta(max_length=WATCHED_AT_ONCE_MAX)] | UnsetType
    ) = UNSET


class ListPresence(Struct, frozen=True):
    user_ids: Annotated[list[UUID], Meta(min_length=1, max_length=LISTED_MAX)]


class PresenceOf(Struct, frozen=True):
    """last_seen: when an offline user was last seen, if the server remembers."""

    user_id: str
    status: Status
    last_seen: str | UnsetType = UNSET


class PresenceList(Struct, frozen=True):
    presence: list[PresenceOf]


class PresenceSet(Struct, frozen=True):
    status: Status


class Unwatched(Struct, frozen=True):
    """watched: how many this connection still watches."""

    watched: int


class PresenceUpdate(Struct, frozen=True, tag="presence.update", tag_field="op"):
    user_id: str
    status: Status
    last_seen: str | UnsetType = UNSET


class Presence:
    """now: monotonic seconds. Told by `Sessions` who comes and who goes."""

    def __init__(
        self,
        hub: Hub,
        directory: Directory,
        clock: Clock,
        metrics: Metrics,
        settings: PresenceSettings = PresenceSettings(),  # noqa: B008  # frozen
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._directory = directory
        self._clock = clock
        self._settings = settings
        self._now = now
        self._status: dict[int, Status] = {}  # where it is not plainly online
        self._leaving: dict[int, tuple[float, UUID]] = {}  # by when they left
        self._last_seen_ms: Lru[int, int] = Lru(settings.last_seen_max)
        self._watchers: dict[int, set[int]] = {}
        self._watched: dict[int, set[int]] = {}
        metrics.gauge(
            "presence_watches",
            "Users watched, over all connections",
            lambda: sum(len(numbers) for numbers in self._watched.values()),
        )

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="presence.list",
                summary="Who of these people is online",
                tag="messaging",
                command=ListPresence,
                result=PresenceList,
                handler=self._list,
                verb="GET",
                path="/presence",
            ),
            Operation(
                name="presence.set",
                summary="Be seen as this",
                tag="messaging",
                command=SetPresence,
                result=PresenceSet,
                handler=self._set,
                websocket="presence.set",
            ),
            Operation(
                name="presence.watch",
                summary="Be told of changes",
                tag="messaging",
                command=WatchPresence,
                result=PresenceList,
                handler=self._watch,
                websocket="presence.watch",
                errors=(TooManyWatched,),
            ),
            Operation(
                name="presence.unwatch",
                summary="Be told no more",
                tag="messaging",
                command=UnwatchPresence,
                result=Unwatched,
                handler=self._unwatch,
                websocket="presence.unwatch",
            ),
        ]

    # What sessions tell.

    def arrived(self, caller: Caller) -> None:
        """The first connection of a user."""
        if self._leaving.pop(caller.user_number, None) is None:
            self._announce(caller.user_number, caller.user_id)

    def left(self, caller: Caller) -> None:
        """The last connection of a user is gone."""
        until = self._now() + self._settings.grace_s
        self._leaving[caller.user_number] = (until, caller.user_id)

    def forget(self, connection: int) -> None:
        """A connection is gone, and what it watched."""
        for number in self._watched.pop(connection, ()):
            self._unsubscribe(number, connection)

    def tick(self) -> None:
        """Let those go whose grace is over; once a second."""
        now = self._now()
        while self._leaving:
            number, (until, user_id) = next(iter(self._leaving.items()))
            if until > now:
                return
            del self._leaving[number]
            was_visible = self._status.pop(number, "online") != "offline"
            if was_visible:
                self._last_seen_ms.put(number, self._clock.now_ms())
                self._announce(number, user_id)

    def status_of(self, number: int) -> Status:
        if number in self._hub.online or number in self._leaving:
            return self._status.get(number, "online")
        return "offline"

    # What clients ask.

    def _set(self, context: Context, command: SetPresence) -> PresenceSet:
        number = context.user.user_number
        before = self.status_of(number)
        if command.status == "online":
            self._status.pop(number, None)
        else:
            self._status[number] = command.status
        if command.status == "offline" != before:
            self._last_seen_ms.put(number, self._clock.now_ms())
        if command.status != before:
            self._announce(number, context.user.user_id)
        return PresenceSet(command.status)

    async def _list(self, context: Context, command: ListPresence) -> PresenceList:
        numbers = await self._directory.numbers_of(command.user_ids)
        return self._listed(command.user_ids, numbers)

    async def _watch(self, context: Context, command: WatchPresence) -> PresenceList:
        numbers = await self._directory.numbers_of(command.user_ids)
        connection = context.connection
        if connection is not None and connection in self._hub.sessions:
            watched = self._watched.get(connection, set())
            together = watched.union(numbers.values())
            if len(together) > self._settings.watched_max:
                raise TooManyWatched(f"At most {self._settings.watched_max}.")
            for number in together - watched:
                self._watchers.setdefault(number, set()).add(connection)
            if together:
                self._watched[connection] = together
        return self._listed(command.user_ids, numbers)

    async def _unwatch(self, context: Context, command: UnwatchPresence) -> Unwatched:
        connection = context.connection
        assert connection is not None
        watched = self._watched.get(connection)
        if watched is None:
            return Unwatched(0)
        if isinstance(command.user_ids, UnsetType):
            self.forget(connection)
            return Unwatched(0)
        numbers = await self._directory.numbers_of(command.user_ids)
        for number in watched.intersection(numbers.values()):
            watched.discard(number)
            self._unsubscribe(number, connection)
        if not watched:
            self._watched.pop(connection, None)
        return Unwatched(len(watched))

    def _listed(
        self, user_ids: Sequence[UUID], numbers: Mapping[UUID, int]
    ) -> PresenceList:
        """Somebody unknown is offline, like everybody who never came."""
        listed = []
        for user_id in dict.fromkeys(user_ids):
            number = numbers.get(user_id, 0)
            status = self.status_of(number)
            last_seen = self._last_seen(number) if status == "offline" else UNSET
            listed.append(PresenceOf(str(user_id), status, last_seen))
        return PresenceList(listed)

    def _last_seen(self, number: int) -> str | UnsetType:
        at_ms = self._last_seen_ms.peek(number)
        return UNSET if at_ms is None else rfc3339(at_ms)

    def _announce(self, number: int, user_id: UUID) -> None:
        watchers = self._watchers.get(number)
        if not watchers:
            return
        status = self.status_of(number)
        last_seen = self._last_seen(number) if status == "offline" else UNSET
        self._hub.deliver_connections(
            watchers, PresenceUpdate(str(user_id), status, last_seen)
        )

    def _unsubscribe(self, number: int, connection: int) -> None:
        watchers = self._watchers.get(number)
        if watchers is not None:
            watchers.discard(connection)
            if not watchers:
                del self._watchers[number]
