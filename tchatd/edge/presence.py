"""Owns who is seen as online, away, busy or offline, and who is told of a change.

Theory of operation
    The hub's bitmap says who is connected; three more say who of them is busy, away
    or invisible. What others see follows from these bits:

        invisible > busy > online > away

    Invisible (`offline`, set while connected) and busy are choices of the person: they
    hold for all of their devices until one of these says `online`, and end when the
    last one is gone. Away is what a device notices by itself: a user is away when all
    of their connections are. A device that was away ends only that by `online`: nobody
    becomes visible because a tablet woke up. Own devices are told of a choice.

    Who comes is shown after `settle_s`, so that a client of somebody invisible can say
    so before anybody sees them; who leaves is shown until `grace_s` later, so that a
    reconnect makes no noise. Nothing of it outlives the process: after a restart
    everybody is offline until they come. What somebody chose in their profile does:
    they come as that (`choice_of`).

    Watchers are connections. Whether one may see a user is decided when it begins to
    watch, and again when one of the two changes whom they show themselves to
    (`reconsider`); those who may not are kept apart, so that a change costs its
    watchers and asks nothing. They are told roughly when the user was here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
import trio
from msgspec import UNSET, UnsetType

from tchatd.edge.hub import Hub
from tchatd.edge.last_seen import LastSeen
from tchatd.edge.ports import Directory, Members, Visibility
from tchatd.edge.presence_models import (
    ListPresence,
    PresenceList,
    PresenceOf,
    PresenceSet,
    PresenceUpdate,
    Seen,
    SetPresence,
    Status,
    Unwatched,
    UnwatchPresence,
    WatchPresence,
    about,
)
from tchatd.edge.watching import BY_NAME, TooManyWatched, Watches, WatchLimits
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Caller, Context, Operation
from tchatd.observe.metrics import Metrics

if TYPE_CHECKING:
    from tchatd.edge.session_models import Session

_LOADED_AT_ONCE: Final = 1_000


class PresenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """watched_max: users that one connection watches; watches_max: in all.

    dialogs_max: open dialogs of one connection. dialog_members_max: of a larger one
    only the number of its members who are here is told.
    shown_at_once_max: of those who came or went, in one tick.
    """

    grace_s: float = 5.0
    settle_s: float = 0.5
    watched_max: int = 500
    watches_max: int = 2_000_000
    dialogs_max: int = 16
    dialog_members_max: int = 100
    shown_at_once_max: int = 2_000


class Presence:
    """now: monotonic seconds. Told by `Sessions` who comes and who goes. choice_of: as
    what a user comes; may be set after building."""

    def __init__(
        self,
        hub: Hub,
        directory: Directory,
        visibility: Visibility,
        members: Members,
        last_seen: LastSeen,
        clock: Clock,
        metrics: Metrics,
        settings: PresenceSettings = PresenceSettings(),  # noqa: B008  # frozen
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._directory = directory
        self._visibility = visibility
        self._members = members
        self._last_seen = last_seen
        self._clock = clock
        self._settings = settings
        self._now = now
        self._busy = BitMap()
        self._away = BitMap()
        self._invisible = BitMap()
        self._coming: dict[int, tuple[float, UUID]] = {}  # in the order of arrival
        self._leaving: dict[int, tuple[float, UUID]] = {}  # in the order of leaving
        self._watches = Watches(
            WatchLimits(
                watched_max=settings.watched_max,
                watches_max=settings.watches_max,
                dialogs_max=settings.dialogs_max,
            )
        )
        self.choice_of: Callable[[int], Status] = lambda number: "online"
        last_seen.online = self._visible
        metrics.gauge(
            "presence_watches",
            "Users watched, over all connections",
            lambda: len(self._watches),
        )
        metrics.gauge(
            "presence_last_seen", "Last times in memory", lambda: len(last_seen)
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
                errors=(Unavailable,),
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
                errors=(TooManyWatched, Invalid, Unavailable),
            ),
            Operation(
                name="presence.unwatch",
                summary="Be told no more",
                tag="messaging",
                command=UnwatchPresence,
                result=Unwatched,
                handler=self._unwatch,
                websocket="presence.unwatch",
                errors=(Unavailable,),
            ),
        ]

    # What sessions tell.

    def arrived(self, caller: Caller, connection: int) -> None:
        """A connection of a user, which is in the hub already."""
        number = caller.user_number
        choice = self.choice_of(number)
        self._hub.sessions[connection].is_away = choice == "away"
        is_first = len(self._hub.sessions_of(number)) == 1
        if is_first and self._leaving.pop(number, None) is None:
            until = self._now() + self._settings.settle_s
            self._coming[number] = (until, caller.user_id)
            self._mark(number, choice)
        self._weigh(number, caller.user_id)
        with_choice = self._chosen(number)
        if with_choice is not None:
            event = PresenceUpdate(str(caller.user_id), with_choice)
            self._hub.deliver_connections((connection,), event)

    def left(self, caller: Caller, connection: int) -> None:
        """A connection of a user is gone, also from the hub, and what it watched."""
        self._watches.forget(connection)
        number = caller.user_number
        if number in self._hub.online:
            self._weigh(number, caller.user_id)
        elif self._coming.pop(number, None) is not None:
            self._forget(number)
        else:
            until = self._now() + self._settings.grace_s
            self._leaving[number] = (until, caller.user_id)

    def tick(self) -> None:
        """Show those who came, and let those go whose grace is over; once a second."""
        now = self._now()
        for number, user_id in _due(
            self._coming, now, self._settings.shown_at_once_max
        ):
            if self.status_of(number) != "offline":
                self._last_seen.left(number)
                self._announce(number, user_id)
        for number, user_id in _due(
            self._leaving, now, self._settings.shown_at_once_max
        ):
            self._let_go(number, user_id)

    def close(self) -> None:
        """Everybody was here until now; watchers are gone too."""
        for number, (_, user_id) in list(self._leaving.items()):
            del self._leaving[number]
            self._let_go(number, user_id)
        for number in self._visible():
            self._last_seen.left(number)

    def status_of(self, number: int) -> Status:
        """As others see it who may."""
        if number in self._coming or number in self._invisible:
            return "offline"
        if not self._is_here(number):
            return "offline"
        if number in self._busy:
            return "busy"
        return "away" if number in self._away else "online"

    def own(self, number: int) -> tuple[Status | None, str | None] | None:
        """How a user who is here is seen; else when they were, if they ever were.

        None: it is not in memory, see `load_own`.
        """
        if self._is_here(number):
            is_away = number in self._away
            return self._chosen(number) or ("away" if is_away else "online"), None
        if not self._last_seen.knows(number):
            return None
        seen_ms = self._last_seen.peek_ms(number)
        return None, None if seen_ms is None else rfc3339(seen_ms)

    async def load_own(self, number: int) -> None:
        """Raises: Unavailable."""
        await self._last_seen.load((number,))

    def choose(self, number: int, user_id: UUID, status: Status) -> None:
        """The person says it in their profile, for all of their devices."""
        if self._is_here(number):
            sessions = self._hub.sessions_of(number)
            self._change(number, user_id, status, sessions, is_choice=True)

    def online_count(self, members: BitMap) -> int:
        """How many of them are seen as here, of so many that it says nothing about one
        of them."""
        hidden = self._invisible.intersection_cardinality(members)
        return self._hub.online.intersection_cardinality(members) - hidden

    # What people ask and tell.

    async def look(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, Seen]:
        """Each of `numbers` as `viewer` may see them. Raises: Unavailable."""
        await self._load(viewer, numbers)
        return {number: self._seen(viewer, number) for number in numbers}

    async def reconsider(self, number: int) -> None:
        """A user has changed whom they show themselves to: tell who sees otherwise.

        Whom the store cannot be asked about for now sees nothing until they watch
        again. Others have their turn after each thousand watches.
        """
        pairs = [(connection, number) for connection in self._watches.watching(number)]
        for session in self._hub.sessions_of(number):
            connection = session.connection
            watched = self._watches.watched(connection) - {number}
            pairs.extend((connection, target) for target in watched)
        for start in range(0, len(pairs), _LOADED_AT_ONCE):
            some = pairs[start : start + _LOADED_AT_ONCE]
            numbers = {number, *(target for _, target in some)}
            numbers.update(self._viewer(connection) for connection, _ in some)
            with suppress(Unavailable):
                await self._load(number, list(numbers))
            moved = [pair for pair in some if self._place(*pair)]
            await self._tell_anew(moved)
            self._hub.flush()
            await trio.lowlevel.checkpoint()

    # What clients ask.

    def _set(self, context: Context, command: SetPresence) -> PresenceSet:
        caller, status = context.user, command.status
        number, connection = caller.user_number, context.connection
        session = self._hub.sessions.get(connection or 0)
        was_away = session is not None and session.is_away
        self._change(
            number,
            caller.user_id,
            status,
            () if session is None else (session,),
            is_choice=status != "away" and not (was_away and status == "online"),
            except_connection=connection,
        )
        return PresenceSet(self.status_of(number))

    def _change(
        self,
        number: int,
        user_id: UUID,
        status: Status,
        sessions: Iterable[Session],
        *,
        is_choice: bool,
        except_connection: int | None = None,
    ) -> None:
        """sessions: the connections for which it is said."""
        chosen, before = self._chosen(number), self.status_of(number)
        self._coming.pop(number, None)
        for session in sessions:
            session.is_away = status == "away"
        if is_choice:
            self._mark(number, status)
        self._weigh_away(number)
        self._tell_change(number, user_id, before)
        if self._chosen(number) != chosen:
            told = self._chosen(number) or self.status_of(number)
            event = PresenceUpdate(str(user_id), told)
            self._hub.deliver_user(number, event, except_connection=except_connection)

    async def _list(self, context: Context, command: ListPresence) -> PresenceList:
        numbers = await self._directory.numbers_of(command.user_ids)
        viewer = context.user.user_number
        await self._load(viewer, list(numbers.values()))
        return PresenceList(self._listed(viewer, command.user_ids, numbers))

    async def _watch(self, context: Context, command: WatchPresence) -> PresenceList:
        viewer = context.user.user_number
        ids: Sequence[UUID] = ()
        numbers: Mapping[UUID, int] = {}
        count: int | UnsetType = UNSET
        opened: Mapping[UUID, int] = {}
        is_seen = False
        if not isinstance(command.user_ids, UnsetType):
            ids = command.user_ids
            numbers = await self._directory.numbers_of(ids)
        elif isinstance(command.dialog_id, UnsetType):
            raise Invalid("Give user_ids or dialog_id.")
        if not isinstance(command.dialog_id, UnsetType):
            dialog_id = str(command.dialog_id)
            members, sees_them = await self._members.members_of(viewer, dialog_id)
            if len(members) > self._settings.dialog_members_max:
                count = self.online_count(members)
            elif sees_them:
                is_seen = True
                others = [number for number in members if number != viewer]
                by_number = await self._directory.ids_of(others)
                opened = {id: number for number, id in by_number.items()}
        together = {**numbers, **opened}
        await self._load(viewer, list(together.values()))
        connection = context.connection
        if connection is not None and connection in self._hub.sessions:
            sees = partial(self._sees, viewer)
            if numbers:
                self._watches.add(connection, BY_NAME, numbers.values(), sees)
            if not isinstance(command.dialog_id, UnsetType):
                self._watches.add(connection, dialog_id, opened.values(), sees)
        listed = self._listed(viewer, [*ids, *opened], together)
        if is_seen:
            # Of few members a plain count would tell of each what they hide, and any
            # count would to who may not know who they are.
            count = sum(
                self._seen(viewer, number).status != "offline"
                for number in (viewer, *opened.values())
            )
        return PresenceList(listed, count)

    async def _unwatch(self, context: Context, command: UnwatchPresence) -> Unwatched:
        connection = context.connection
        assert connection is not None
        watches, dialog_id = self._watches, command.dialog_id
        if not isinstance(dialog_id, UnsetType):
            watches.drop(connection, str(dialog_id))
        elif isinstance(command.user_ids, UnsetType):
            watches.forget(connection)
        if not isinstance(command.user_ids, UnsetType):
            numbers = await self._directory.numbers_of(command.user_ids)
            watches.discard(connection, numbers.values())
        return Unwatched(len(watches.watched(connection)))

    # Who may see it.

    def _sees(self, viewer: int, target: int) -> bool:
        return self._visibility.sight(viewer, target) == "exact"

    def _viewer(self, connection: int) -> int:
        session = self._hub.sessions.get(connection)
        if session is None or session.caller is None:
            return 0
        return session.caller.user_number

    def _place(self, connection: int, target: int) -> bool:
        """Put one watch where it belongs now; whether it was elsewhere."""
        viewer = self._viewer(connection)  # 0: it has ended meanwhile
        return bool(viewer) and self._watches.place(
            connection, target, sees=self._sees(viewer, target)
        )

    async def _tell_anew(self, moved: Sequence[tuple[int, int]]) -> None:
        """Raises: Unavailable; then some learn it when they ask."""
        if not moved:
            return
        ids = await self._directory.ids_of(list({target for _, target in moved}))
        for connection, target in moved:
            viewer = self._viewer(connection)
            if viewer and target in ids:
                update = _update(ids[target], self._seen(viewer, target))
                self._hub.deliver_connections((connection,), update)

    # What is seen.

    async def _load(self, viewer: int, numbers: Sequence[int]) -> None:
        everybody = [viewer, *numbers]
        for start in range(0, len(everybody), _LOADED_AT_ONCE):
            await self._visibility.load(everybody[start : start + _LOADED_AT_ONCE])
        gone = [n for n in numbers if self.status_of(n) == "offline"]
        with suppress(Unavailable):  # times are left out while the store is away
            await self._last_seen.load(gone)

    def _seen(self, viewer: int, number: int) -> Seen:
        status = self.status_of(number)
        sight = self._visibility.sight(viewer, number)
        if sight == "nothing":
            return Seen("offline", last_seen_about="long_ago")
        seen_ms = self._last_seen.peek_ms(number)
        if sight == "coarse":
            if status != "offline":
                return Seen("offline", last_seen_about="recently")
            return Seen("offline", last_seen_about=about(seen_ms, self._clock.now_ms()))
        return self._plainly(number, status)

    def _plainly(self, number: int, status: Status) -> Seen:
        """As who may see it all."""
        seen_ms = self._last_seen.peek_ms(number) if status == "offline" else None
        return Seen(status, UNSET if seen_ms is None else rfc3339(seen_ms))

    def _listed(
        self, viewer: int, user_ids: Sequence[UUID], numbers: Mapping[UUID, int]
    ) -> list[PresenceOf]:
        """Somebody unknown is offline, like everybody who never came."""
        listed = []
        for user_id in dict.fromkeys(user_ids):
            number = numbers.get(user_id)
            seen = Seen("offline") if number is None else self._seen(viewer, number)
            listed.append(
                PresenceOf(
                    str(user_id), seen.status, seen.last_seen, seen.last_seen_about
                )
            )
        return listed

    # What changes.

    def _is_here(self, number: int) -> bool:
        return number in self._hub.online or number in self._leaving

    def _mark(self, number: int, choice: Status) -> None:
        _mark(self._busy, number, choice == "busy")
        _mark(self._invisible, number, choice == "offline")

    def _visible(self) -> BitMap:
        """Who is connected and not invisible."""
        return self._hub.online - self._invisible

    def _chosen(self, number: int) -> Status | None:
        if number in self._invisible:
            return "offline"
        return "busy" if number in self._busy else None

    def _weigh(self, number: int, user_id: UUID) -> None:
        """A user's connections have changed."""
        before = self.status_of(number)
        self._weigh_away(number)
        self._tell_change(number, user_id, before)

    def _weigh_away(self, number: int) -> None:
        sessions = self._hub.sessions_of(number)
        is_away = bool(sessions) and all(session.is_away for session in sessions)
        _mark(self._away, number, is_away)

    def _tell_change(self, number: int, user_id: UUID, before: Status) -> None:
        status = self.status_of(number)
        if status != before:
            if "offline" in (status, before):
                self._last_seen.left(number)
            self._announce(number, user_id)

    def _forget(self, number: int) -> None:
        for marks in (self._busy, self._away, self._invisible):
            marks.discard(number)

    def _let_go(self, number: int, user_id: UUID) -> None:
        was_visible = number not in self._invisible
        self._forget(number)
        if was_visible:
            self._last_seen.left(number)
            self._announce(number, user_id)

    def _announce(self, number: int, user_id: UUID) -> None:
        watchers = self._watches.seeing(number)
        if watchers:
            seen = self._plainly(number, self.status_of(number))
            self._hub.deliver_connections(watchers, _update(user_id, seen))


def _update(user_id: UUID, seen: Seen) -> PresenceUpdate:
    return PresenceUpdate(
        str(user_id), seen.status, seen.last_seen, seen.last_seen_about
    )


def _mark(numbers: BitMap, number: int, is_set: bool) -> None:
    if is_set:
        numbers.add(number)
    else:
        numbers.discard(number)


def _due(
    waiting: dict[int, tuple[float, UUID]], now: float, count_max: int
) -> list[tuple[int, UUID]]:
    """Take those out whose time has come; they wait in its order."""
    due: list[tuple[int, UUID]] = []
    for number, (until, user_id) in waiting.items():
        if until > now or len(due) >= count_max:
            break
        due.append((number, user_id))
    for number, _ in due:
        del waiting[number]
    if not waiting:
        waiting.clear()  # a dict keeps the room of all who were in it until then
    return due
