"""Owns what can be read of dialogs: list, one, log; changes nothing.

A page is put together of the tail in memory and of rows in the store. The tail is
looked at first: whatever is not in it is in the store by then, so there is no hole,
and nothing is taken twice because rows are asked for below the tail only. An answer is
held until the latest thing it shows is durable.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, structs

from tchatd.domains.messaging.access import ATTEMPTS_MAX, DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.events import (
    Event,
    EventPage,
)
from tchatd.domains.messaging.member import Member, hidden_of
from tchatd.domains.messaging.message_reading import MessageReading
from tchatd.domains.messaging.message_state import state_of_row
from tchatd.domains.messaging.models import (
    Dialog,
    DialogPage,
    GetDialog,
    ListDialogs,
    ListEvents,
)
from tchatd.domains.messaging.own_view import veiled
from tchatd.domains.messaging.rows import edited_seq, event_of
from tchatd.domains.messaging.settings import SEE_MEMBERS
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    MESSAGE_EDITED,
    TYPES,
    CommandLog,
    DialogStore,
    EventRow,
    ListedDialog,
    Wants,
)
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Context

PAGE_BYTES_MAX: Final = 1 << 20
"""Of stored bodies in one page of a log; beyond it the page ends early."""
_CURSOR: Final = "d1."


class Reading:
    def __init__(
        self,
        state: MessagingState,
        log: CommandLog,
        store: DialogStore,
        access: DialogAccess,
        messages: MessageReading,
    ) -> None:
        self._state = state
        self._log = log
        self._store = store
        self._access = access
        self._messages = messages

    # One dialog

    def get_dialog(self, context: Context, command: GetDialog) -> Any:
        user = context.user.user_number
        dialog = self._access.find(user, command.dialog_id)
        if dialog is None:
            return self._get_later(user, command.dialog_id)
        member = dialog.by_number[user]
        if dialog.lacks_last_message(member.extra):
            return self._get_later(user, command.dialog_id)
        return self._log.hold(dialog.view(member), dialog.changed_position)

    async def _get_later(self, user: int, id: str) -> Any:
        dialog = await self._access.open(user, id)
        member = dialog.by_number[user]
        if not dialog.lacks_last_message(member.extra):
            return self._log.hold(dialog.view(member), dialog.changed_position)
        view, seen = dialog.view(member), dialog.changed_position
        return self._log.hold(await self.with_last(view, dialog, member), seen)

    async def with_last(
        self, view: Dialog, dialog: DialogState, member: Member
    ) -> Dialog:
        """The view, with the last message that the member sees if memory lacks it."""
        if not dialog.lacks_last_message(member.extra):
            return view
        message = await self._messages.last_message(dialog, member)
        return view if message is None else structs.replace(view, last_message=message)

    # The list of dialogs

    async def list_dialogs(self, context: Context, command: ListDialogs) -> DialogPage:
        """Dialogs that memory knows better are taken from it, the others as stored."""
        before = None
        if command.cursor is not UNSET:
            before = _position_in(command.cursor)
        type = None if command.type is UNSET else TYPES.index(command.type)
        offset = 0 if before is not None else command.offset
        return await self.page_of_dialogs(
            context.user.user_number,
            type=type,
            before=before,
            offset=offset,
            limit=command.limit,
        )

    async def page_of_dialogs(
        self,
        user: int,
        *,
        type: int | None,
        before: int | None,
        offset: int,
        limit: int,
        changed_after: int = 0,
    ) -> DialogPage:
        """changed_after: of the page, only those that have changed after this position;
        total and cursor are as if it had all."""
        dirty, fresh = await self._fresh(user, type)
        # One that is not shown may have been left by what is not durable yet.
        seen = max((d.changed_position for d in dirty), default=0)
        ours = [
            (d.active_position, (_changed_at(d, user), d.view(d.member(user))))
            for d in fresh
            if before is None or d.active_position < before
        ]
        lacking = {
            d.id: (d, d.by_number[user])
            for d in fresh
            if d.lacks_last_message(d.by_number[user].extra)
        }
        ours.sort(key=lambda item: item[0], reverse=True)
        start = max(0, offset - len(ours))
        rows, stored = await self._store.listed(
            user,
            type=type,
            without=[d.number for d in dirty],
            before=before,
            offset=start,
            limit=limit + 1 + offset - start,
        )
        theirs = [(row.dialog.active_position, row) for row in rows]
        merged: list[tuple[int, Any]] = sorted(
            [*ours, *theirs], key=lambda item: item[0], reverse=True
        )
        # Rows before `start` were not read; ours among or above them push the window.
        skip = offset - start
        window = merged[skip : skip + limit + 1]
        page = window[:limit]
        views = await self._views(page, changed_after)
        views = [
            await self.with_last(view, *lacking[view.id])
            if view.id in lacking
            else view
            for view in views
        ]
        await self._log.durable(seen)
        has_more = len(window) > limit
        return DialogPage(
            views,
            stored + len(fresh),
            has_more,
            f"{_CURSOR}{page[-1][0]}" if has_more else UNSET,
        )

    async def _fresh(
        self, user: int, type: int | None
    ) -> tuple[list[DialogState], list[DialogState]]:
        """Dialogs that have changed since they were stored; and those of them that the
        user is in, with their cursor."""
        for _ in range(ATTEMPTS_MAX):
            dirty = self._state.dirty_of(user)
            fresh = [d for d in dirty if user in d.members and type in (None, d.type)]
            missing = [(d.number, user) for d in fresh if d.member(user) is None]
            if not missing:
                return dirty, fresh
            await self._log.load(members=missing)
        raise Unavailable("Too much is being loaded.")

    async def _views(
        self, page: list[tuple[int, Any]], changed_after: int
    ) -> list[Dialog]:
        """Stored dialogs as the user sees them, with who has read the last message."""
        stored = [
            (DialogState(row.dialog, self._state.now_ms), row.member)
            for _, row in page
            if isinstance(row, ListedDialog)
            and max(row.dialog.last_position, row.member.own_position) > changed_after
        ]
        wants = Wants()
        for dialog, _ in stored:
            if dialog.last_message is not None and not dialog.is_large:
                wants.members.update((dialog.number, n) for n in dialog.members)
        readers = (await self._store.load(wants)).members if len(wants) else []
        of_dialog = {dialog.number: dialog for dialog, _ in stored}
        for row in readers:
            member = Member.of_row(row)
            of_dialog[row.dialog_number].by_number[row.user_number] = member
        views = {}
        for dialog, row in stored:
            member = Member.of_row(row)
            view = dialog.view(member)
            views[dialog.number] = await self.with_last(view, dialog, member)
        shown: list[Dialog] = []
        for _, item in page:
            if isinstance(item, ListedDialog):
                if item.dialog.number in views:
                    shown.append(views[item.dialog.number])
            elif item[0] > changed_after:
                shown.append(item[1])
        return shown

    # The log

    def list_events(self, context: Context, command: ListEvents) -> Any:
        user = context.user.user_number
        dialog = self._access.find(user, command.dialog_id)
        if dialog is None or command.after + 1 < dialog.tail_first_seq:
            return self._list_events_later(context, command)
        page = self._events_in_memory(context, dialog, command.after, command.limit)
        return self._log.hold(page, dialog.changed_position)

    def _events_in_memory(
        self, context: Context, dialog: DialogState, after: int, limit: int
    ) -> EventPage:
        start = after + 1 - dialog.tail_first_seq
        entries = dialog.tail[start : start + limit]
        last = entries[-1].seq if entries else after
        events = _shown(context, dialog, [entry.event for entry in entries])
        return EventPage(events, dialog.last_seq, last < dialog.last_seq)

    async def _list_events_later(
        self, context: Context, command: ListEvents
    ) -> EventPage:
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        after, limit = command.after, command.limit
        last_seq = dialog.last_seq
        if after + 1 >= dialog.tail_first_seq:
            page = self._events_in_memory(context, dialog, after, limit)
            await self._log.durable(dialog.changed_position)
            return page
        first = dialog.tail_first_seq
        tail = dialog.tail[: max(0, after + limit + 1 - first)]
        with self._log.pinned(dialog.number):
            rows = await self._store.events(dialog.number, after, first - 1, limit)
            taken = within_bytes(rows, PAGE_BYTES_MAX)
            events = await self.events_of(dialog, taken)
            if len(taken) == len(rows):
                events += [entry.event for entry in tail[: limit - len(rows)]]
            dialog = await self._access.open_number(user, dialog.number)
            events = _shown(context, dialog, events)
        await self._log.durable(dialog.changed_position)
        return EventPage(events, last_seq, after + len(events) < last_seq)

    async def events_of(self, dialog: DialogState, rows: list[EventRow]) -> list[Event]:
        """Stored events; an edit shows its message as it is now."""
        edited = {
            (row.dialog_number, edited_seq(row))
            for row in rows
            if row.kind == MESSAGE_EDITED
        }
        states = {}
        if edited:
            found = await self._store.load(Wants(messages=edited))
            states = {row.seq: state_of_row(row) for row in found.messages}
        now_ms = self._state.now_ms()
        return [event_of(row, dialog.id, dialog.pins, states, now_ms) for row in rows]


def _shown(context: Context, dialog: DialogState, events: list[Event]) -> list[Event]:
    """As who asks sees them."""
    member = dialog.by_number[context.user.user_number]
    hidden = hidden_of(member.extra)
    shown = [dialog.shown_event(event, hidden) for event in events]
    if dialog.may(member, SEE_MEMBERS):
        return shown
    me = str(context.user.user_id)
    return [veiled(event, me) for event in shown]


def _changed_at(dialog: DialogState, user: int) -> int:
    """The position of the latest change that the user sees."""
    member = dialog.member(user)
    assert member is not None
    return max(dialog.last_position, member.own_position)


def within_bytes(rows: list[EventRow], bytes_max: int) -> list[EventRow]:
    """The first rows that have at most `bytes_max` together; one at least."""
    total = 0
    for index, row in enumerate(rows):
        total += len(row.body)
        if total > bytes_max and index:
            return rows[:index]
    return rows


def _position_in(cursor: str) -> int:
    position = cursor.removeprefix(_CURSOR)
    if position == cursor or not position.isascii() or not position.isdigit():
        raise Invalid(fields={"cursor": "is not from here"})
    if len(position) > 18:
        raise Invalid(fields={"cursor": "is not from here"})
    return int(position)
