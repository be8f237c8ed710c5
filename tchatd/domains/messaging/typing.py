"""Owns who is typing where: told to the members, thinned, and ended by itself.

Theory of operation
    One small entry for each who types, in the order in which they run out: all are
    good for the same time from their latest `typing.start`, so a refreshed one goes to
    the end, and `tick` looks at the front alone. There is no task and no timer.

    A start that follows another within `repeat_s` keeps the entry and is not passed
    on; nor is a stop that nobody was told the start of. In a dialog of more than
    `small_members_max` members at most `shown_max` are shown at once, in one of more
    than `members_max` nobody is. An entry that was stopped stays, unseen, until it runs
    out, so that starting and stopping in turns tells no more than typing does.

    Members are told the stop who were told the start. Whoever blocks, or is blocked by,
    the other of a user dialog is not told, and not told of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tchatd.domains.messaging import rules
from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.events import TypingStarted, TypingStopped
from tchatd.domains.messaging.models import Done, StartTyping, StopTyping
from tchatd.domains.messaging.reach import Blocks, other_of
from tchatd.domains.messaging.store import Hub
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.routing import Context


class TypingSettings(Struct, frozen=True, kw_only=True):
    """valid_s: of a start that is not repeated. repeat_s: between two that are passed
    on. typers_max: in all; who is beyond it is not shown.
    """

    valid_s: float = 6.0
    repeat_s: float = 3.0
    small_members_max: int = 100
    shown_max: int = 5
    members_max: int = 1_000
    typers_max: int = 100_000


class _Typer:
    """members: who was told, or None if nobody was; connection: that they type on."""

    __slots__ = ("connection", "dialog_id", "members", "told_s", "until_s", "user_id")

    def __init__(self, dialog_id: str, user_id: str) -> None:
        self.dialog_id = dialog_id
        self.user_id = user_id
        self.members: BitMap | None = None
        self.told_s = float("-inf")
        self.until_s = 0.0
        self.connection: int | None = None


class Typing:
    """now: monotonic seconds. Call `tick` about once a second."""

    def __init__(
        self,
        access: DialogAccess,
        hub: Hub,
        blocks: Blocks,
        clock: Clock,
        settings: TypingSettings = TypingSettings(),  # noqa: B008  # frozen
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._hub = hub
        self._blocks = blocks
        self._clock = clock
        self._settings = settings
        self._now = now
        self._typers: dict[tuple[int, int], _Typer] = {}  # by dialog and user
        self._shown: dict[int, int] = {}  # how many, by dialog
        self._by_connection: dict[int, list[tuple[int, int]]] = {}
        self._gone: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._typers)

    # What clients ask.

    def start_typing(self, context: Context, command: StartTyping) -> Any:
        """Raises: DialogNotFound, NotAllowed, Silenced, Invalid, Unavailable."""
        return self._asked(context, command.dialog_id, self._start)

    def stop_typing(self, context: Context, command: StopTyping) -> Any:
        """Raises: DialogNotFound, NotAllowed, Silenced, Invalid, Unavailable."""
        return self._asked(context, command.dialog_id, self._stop_asked)

    def _asked(
        self,
        context: Context,
        dialog_id: str,
        run: Callable[[Context, DialogState], None],
    ) -> Any:
        user = context.user.user_number
        dialog = self._access.find(user, dialog_id)
        if dialog is None:
            return self._asked_later(context, dialog_id, run)
        hidden = self._hidden(dialog, user)
        if hidden is None:
            return self._asked_later(context, dialog_id, run)
        return self._run(context, dialog, run, hidden=hidden)

    async def _asked_later(
        self,
        context: Context,
        dialog_id: str,
        run: Callable[[Context, DialogState], None],
    ) -> Done:
        user = context.user.user_number
        for _ in range(ATTEMPTS_MAX):
            dialog = await self._access.open(user, dialog_id)
            hidden = self._hidden(dialog, user)
            if hidden is not None:
                return self._run(context, dialog, run, hidden=hidden)
            await self._blocks.load(list(dialog.members))
        raise Unavailable("Too much is being loaded.")

    def _run(
        self,
        context: Context,
        dialog: DialogState,
        run: Callable[[Context, DialogState], None],
        *,
        hidden: bool,
    ) -> Done:
        member = dialog.by_number[context.user.user_number]
        rules.check_may_speak(dialog, member, self._clock.now_ms())
        if not hidden:
            run(context, dialog)
        return Done()

    def _hidden(self, dialog: DialogState, user: int) -> bool | None:
        """Whether one of the two in a user dialog blocks the other; None: load them."""
        other = other_of(dialog, user)
        if not other:
            return False
        blocks = self._blocks.is_blocked(user, other)
        blocked = self._blocks.is_blocked(other, user)
        return None if blocks is None or blocked is None else blocks or blocked

    def _start(self, context: Context, dialog: DialogState) -> None:
        settings, now_s = self._settings, self._now()
        if len(dialog.members) > settings.members_max:
            return
        key = (dialog.number, context.user.user_number)
        typer = self._typers.pop(key, None)
        if typer is None:
            if len(self._typers) >= settings.typers_max:
                return
            typer = _Typer(dialog.id, str(context.user.user_id))
        self._move(key, typer, context.connection)
        typer.until_s = now_s + settings.valid_s
        self._typers[key] = typer
        if now_s - typer.told_s < settings.repeat_s:
            return
        if typer.members is None:
            shown = self._shown.get(dialog.number, 0)
            is_small = len(dialog.members) <= settings.small_members_max
            if not is_small and shown >= settings.shown_max:
                return
            self._shown[dialog.number] = shown + 1
        typer.members, typer.told_s = dialog.members, now_s
        self._hub.deliver(
            dialog.members,
            TypingStarted(typer.dialog_id, typer.user_id),
            except_connection=context.connection,
        )
        self._hub.flush()

    def _stop_asked(self, context: Context, dialog: DialogState) -> None:
        typer = self._typers.get((dialog.number, context.user.user_number))
        if typer is not None and typer.members is not None:
            self._tell_stop(dialog.number, typer, context.connection)
            self._hub.flush()

    # What others tell.

    def sent(self, dialog_number: int, user_number: int) -> None:
        """A message of theirs was accepted: they type no more, as everybody will see.

        The stop leaves with the message, at the next flush.
        """
        typer = self._typers.get((dialog_number, user_number))
        if typer is not None and typer.members is not None:
            self._tell_stop(dialog_number, typer, typer.connection)
            typer.told_s = float("-inf")  # the next message is typed anew

    def gone(self, connection: int) -> None:
        """A connection is gone; whoever typed on it stops at the next tick."""
        self._gone.extend(self._by_connection.pop(connection, ()))

    def tick(self) -> None:
        """End what has run out, or has lost its connection."""
        now_s, flush = self._now(), False
        gone, self._gone = self._gone, []
        for key in gone:
            typer = self._typers.get(key)
            if typer is not None and typer.connection not in self._by_connection:
                flush |= self._end(key, typer)
        due = []
        for key, typer in self._typers.items():
            if typer.until_s > now_s:
                break
            due.append((key, typer))
        for key, typer in due:
            flush |= self._end(key, typer)
        if flush:
            self._hub.flush()

    def _end(self, key: tuple[int, int], typer: _Typer) -> bool:
        """Forget one; whether anybody was told."""
        del self._typers[key]
        self._move(key, typer, None)
        if typer.members is None:
            return False
        self._tell_stop(key[0], typer, typer.connection)
        return True

    def _tell_stop(self, dialog: int, typer: _Typer, connection: int | None) -> None:
        members, typer.members = typer.members, None
        assert members is not None
        left = self._shown[dialog] - 1
        if left:
            self._shown[dialog] = left
        else:
            del self._shown[dialog]
        self._hub.deliver(
            members,
            TypingStopped(typer.dialog_id, typer.user_id),
            except_connection=connection,
        )

    def _move(
        self, key: tuple[int, int], typer: _Typer, connection: int | None
    ) -> None:
        """They type on this connection now."""
        before, typer.connection = typer.connection, connection
        if before == connection:
            return
        if before is not None and before in self._by_connection:
            keys = self._by_connection[before]
            keys.remove(key)
            if not keys:
                del self._by_connection[before]
        if connection is not None:
            self._by_connection.setdefault(connection, []).append(key)
