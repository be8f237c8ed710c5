"""Owns catching up: every durable change since a cursor, over all dialogs, in pages.

A pass has a fixed end: the position of the last durable record when its first page was
asked for. Pages go through the user's dialogs by number and through each by seq, so
what arrives meanwhile (it is later than the end) neither shifts nor repeats anything;
it is for the next pass, or comes live. Between passes the cursor is that end alone.

What a device is told of a dialog:
- It was in it all the time: the events in the pass, then its own state (OwnState).
- It joined in the pass, or missed too much: the dialog as it is now, in `dialogs`,
  instead of events. What a snapshot has (it is as of its last_seq) is not repeated in
  the pass; what is later comes with the next one, or live.
- It left in the pass: the events up to its leaving, and its id in `left`. Who joined in
  it and has left since, or left and has joined again since, is told of the leaving
  alone: events of the time before would leave a hole.
What else happened to the membership after the pass's end is for the next one.

What is later than the store is taken from the tails in memory, looked at before the
store is asked; what changes while it is asked stays in memory until the page is made,
so that a state of one's own is as of one event. Nothing is answered before all that it
shows is durable.

A page is two queries, for dialogs and for events. Snapshots that are not in memory are
one more, and the `latest` dialogs of a long pass's first page two.

The cursor is base64url of MessagePack `[version, after, until, number, seq, told]`. It
is no secret and needs no signature: whatever it says, a user sees their own dialogs
only. Version 1 lacked `told` and did not know of leaving; a pass begins anew with it.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, field

from tchatd.domains.messaging.access import ATTEMPTS_MAX
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.entry import Entry
from tchatd.domains.messaging.events import Event, OwnState, SyncPage
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.member import Member, hidden_of
from tchatd.domains.messaging.models import (
    DIALOGS_PAGE_MAX,
    EVENTS_PAGE_MAX,
    Dialog,
    Sync,
)
from tchatd.domains.messaging.own_view import own_state, veiled, without_hidden
from tchatd.domains.messaging.reading import Reading
from tchatd.domains.messaging.settings import sees_members
from tchatd.domains.messaging.shared_events import (
    NOTHING,
    Events,
    Kept,
    SharedEvents,
)
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    ChangedDialog,
    CommandLog,
    DialogStore,
    EventRow,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.errors import Invalid, Unavailable
from tchatd.kernel.routing import Context

SYNC_BYTES_MAX: Final = 192 * 1024
"""Of events in one page; beyond it the page ends early."""
SNAPSHOTS_MAX: Final = 50
"""Whole dialogs in one page."""
MISSED_EVENTS_MAX: Final = 1_000
"""Of one dialog; who missed more of it gets it whole."""
PASS_EVENTS_MAX: Final = 10_000
"""After so many all other dialogs with events come whole."""
CHANGED_DIALOGS_MAX: Final = 1_000
"""If more have changed, the device begins anew."""

assert EVENTS_PAGE_MAX <= CHANGED_DIALOGS_MAX

_Position = Annotated[int, Meta(ge=0, le=(1 << 62))]


class SyncCursor(Struct, array_like=True, frozen=True):
    """Everything up to `after` is known, and of what is up to `until` everything of
    dialogs below `number`, and of that one up to `seq`. until: 0 between passes.
    told: events in the pass so far."""

    version: Annotated[int, Meta(ge=1, le=2)] = 2
    after: _Position = 0
    until: _Position = 0
    number: _Position = 0
    seq: _Position = 0
    told: _Position = 0


class _Fresh(Struct):
    """What memory knew of a dialog when the page began. entries: those in the pass."""

    dialog: DialogState
    entries: list[Entry]


class _Part(Struct):
    """What a pass has to bring of one dialog: floor < seq <= last, and at the end of
    it the own state, or that the user has left; or the dialog whole."""

    number: int
    id: str
    floor: int
    last: int
    row: ChangedDialog | None
    fresh: _Fresh | None
    member: Member
    is_whole: bool = False
    is_left: bool = False

    @property
    def type(self) -> int:
        """Of the dialog, as its number in TYPES."""
        if self.row is not None:
            return self.row.type
        assert self.fresh is not None
        return self.fresh.dialog.type

    def stored_last(self, last: int) -> int:
        """Up to this seq events are in the store, from there to `last` in `fresh`."""
        entries = self.fresh.entries if self.fresh else ()
        return min(last, entries[0].seq - 1) if entries else last


class _Page(Struct):
    """What has been put together so far. shown: the latest position that it shows.
    number, seq: where the next page goes on; 0: nowhere, it is the last one."""

    shown: int
    events: Events = field(default_factory=Events)
    whole: list[int] = field(default_factory=list)
    own: list[OwnState] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    number: int = 0
    seq: int = 0


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(SyncCursor).decode


class Syncing:
    def __init__(
        self,
        state: MessagingState,
        log: CommandLog,
        store: DialogStore,
        reading: Reading,
    ) -> None:
        self._state = state
        self._log = log
        self._store = store
        self._reading = reading
        self._shared = SharedEvents()
        state.on_stored = self._shared.forget

    async def sync(self, context: Context, command: Sync) -> SyncPage:
        user = context.user.user_number
        if command.cursor is UNSET:
            return await self._begin(user)
        cursor = cursor_of(command.cursor)
        if max(cursor.after, cursor.until) > self._log.applied_position:
            return await self._begin(user)  # of another journal: nothing to go by
        me = str(context.user.user_id)
        return await self._next(user, me, cursor, command.limit)

    async def _begin(self, user: int) -> SyncPage:
        """A device that has nothing: the first dialogs, and where to go on from."""
        position = self._log.applied_position
        await self._log.durable(position)
        page = await self._reading.page_of_dialogs(
            user, type=None, before=None, offset=0, limit=DIALOGS_PAGE_MAX
        )
        return SyncPage(
            events=[],
            cursor=text_of(SyncCursor(after=position)),
            has_more=False,
            is_reset=True,
            dialogs=page.dialogs,
            dialogs_cursor=page.next_cursor,
        )

    async def _next(
        self, user: int, me: str, cursor: SyncCursor, limit: int
    ) -> SyncPage:
        # What is applied and not durable yet is for the next pass, or comes live; but
        # a cursor may name any end.
        until = cursor.until or self._log.durable_position
        fresh = self._fresh(user, cursor, until)
        await self._log.durable(until)
        page = _Page(until)
        with self._log.pinned():
            rows, count = await self._store.changed(
                user,
                after_position=cursor.after,
                until_position=until,
                from_number=cursor.number,
                also=sorted(fresh),
                limit=limit + 1,
                count_max=CHANGED_DIALOGS_MAX + 1,
            )
            await self._log.turn()
            if cursor.until == 0 and count > CHANGED_DIALOGS_MAX:
                return await self._begin(user)
            parts, page.number = _plan(user, cursor, until, limit, rows, fresh)
            await self._fill(user, me, page, _within(parts, limit, page), until)
        whole = await self._whole(user, page)
        latest: list[Dialog] = []
        if page.number and cursor.until == 0:
            latest = await self._latest(user, cursor.after)
        await self._log.durable(page.shown)
        told = cursor.told + len(page.events)
        place = SyncCursor(2, cursor.after, until, page.number, page.seq, told)
        # A long pass is followed by a short one, for what came meanwhile.
        is_late = cursor.until != 0 and self._log.applied_position > until
        return SyncPage(
            events=page.events,
            cursor=text_of(place if page.number else SyncCursor(after=until)),
            has_more=page.number != 0 or is_late,
            dialogs=whole or UNSET,
            latest=latest or UNSET,
            own=page.own or UNSET,
            left=page.left or UNSET,
        )

    def _fresh(self, user: int, cursor: SyncCursor, until: int) -> dict[int, _Fresh]:
        """What memory has of the pass: of each dialog not fully stored, its tail."""
        found = {}
        for dialog in self._state.dirty_of(user):
            if not cursor.number <= dialog.number <= until:
                continue
            entries = [e for e in dialog.tail if cursor.after < e.position <= until]
            member = dialog.by_number.get(user)
            if entries or (member is not None and member.own_position > cursor.after):
                found[dialog.number] = _Fresh(dialog, entries)
        return found

    async def _fill(
        self,
        user: int,
        me: str,
        page: _Page,
        taken: list[tuple[_Part, int]],
        until: int,
    ) -> None:
        """Put the parts, each up to a seq, into the page, as far as they fit."""
        stored = await self._stored(taken, until)
        size = 0
        for part, last in taken:
            dialog = self._state.find_number(part.number)
            if dialog is None and part.fresh is not None:
                dialog = part.fresh.dialog
            kept = stored.get(part.number)
            told = NOTHING
            if kept is not None:
                pins = _pins_of(part, dialog)
                told = kept.told(part.id, pins, self._state.now_ms())
                told = told.cut(part.floor, part.stored_last(last))
            is_changed = dialog is not None and bool(dialog.messages)
            hidden = hidden_of(part.member.extra)
            veils = not sees_members(part.type, part.member.role)
            is_plain = not is_changed and hidden is None
            if veils and told.names_members:
                is_plain = False
            if is_plain and size + told.size <= SYNC_BYTES_MAX:
                page.events.share(told)
                size += told.size
                told = NOTHING
            for seq, event, event_size in chain(told, _fresh_events(part, last)):
                size += event_size
                if size > SYNC_BYTES_MAX and page.events:
                    page.number, page.seq = part.number, seq - 1
                    return
                if dialog is not None and is_changed:
                    page.shown = max(page.shown, dialog.changed_position)
                    event = dialog.shown_event(event)
                if hidden is not None:
                    event = without_hidden(event, hidden)
                if veils:
                    event = veiled(event, me)
                page.events.append(event)
            if last == part.last:
                _end(user, page, part, dialog)

    async def _stored(
        self, taken: list[tuple[_Part, int]], until: int
    ) -> dict[int, Kept]:
        """What of the parts is in the store, by number of the dialog."""
        found: dict[int, Kept] = {}
        ranges = []
        for part, last in taken:
            end = part.stored_last(last)
            if part.floor >= end:
                continue
            kept = self._shared.find(part.number, part.floor, end)
            if kept is None:
                ranges.append((part.number, part.floor, end))
            else:
                found[part.number] = kept
        if not ranges:
            return found
        rows, edited = await self._store.ranges(ranges, until)
        await self._log.turn(is_long=True)
        rows_of = _by_dialog(rows)
        about = _by_dialog(edited)
        for number, floor, end in ranges:
            found[number] = self._shared.keep(
                number, floor, end, rows_of.get(number, ()), about.get(number, ())
            )
        return found

    async def _whole(self, user: int, page: _Page) -> list[Dialog]:
        """The snapshots of the page, of who is in the dialog still."""
        numbers = page.whole
        for _ in range(ATTEMPTS_MAX):
            found = [
                dialog
                for number in numbers
                if (dialog := self._state.find_number(number)) is not None
                and (user not in dialog.members or dialog.member(user) is not None)
            ]
            if len(found) == len(numbers):
                break
            members = [(number, user) for number in numbers]
            await self._log.load(numbers=numbers, members=members)
        else:
            raise Unavailable("Too much is being loaded.")
        views = []
        for dialog in found:
            page.shown = max(page.shown, dialog.changed_position)
            if user in dialog.members:
                member = dialog.by_number[user]
                views.append((dialog.view(member), dialog, member))
            else:
                page.left.append(dialog.id)
        return [await self._reading.with_last(*view) for view in views]

    async def _latest(self, user: int, after: int) -> list[Dialog]:
        page = await self._reading.page_of_dialogs(
            user,
            type=None,
            before=None,
            offset=0,
            limit=DIALOGS_PAGE_MAX,
            changed_after=after,
        )
        return page.dialogs


def _by_dialog(rows: Iterable[EventRow]) -> dict[int, list[EventRow]]:
    found: dict[int, list[EventRow]] = {}
    for row in rows:
        found.setdefault(row.dialog_number, []).append(row)
    return found


def _pins_of(part: _Part, dialog: DialogState | None) -> tuple[str, ...]:
    if dialog is not None:
        return dialog.pins
    return part.row.pins if part.row is not None else ()


def _fresh_events(part: _Part, last: int) -> Iterator[tuple[int, Event, int]]:
    """Seq, event and about its size in bytes, of what memory has of the pass."""
    for entry in part.fresh.entries if part.fresh else ():
        if part.floor < entry.seq <= last:
            yield entry.seq, entry.event, _size_of(entry)


def _plan(
    user: int,
    cursor: SyncCursor,
    until: int,
    limit: int,
    rows: list[ChangedDialog],
    fresh: Mapping[int, _Fresh],
) -> tuple[list[_Part], int]:
    """The parts of the pass, by number; and the number from which on there may be
    more, 0 for none."""
    stored = {row.number: row for row in rows}
    more = rows[-1].number if len(rows) > limit else 0
    numbers = sorted(stored.keys() | fresh.keys())
    parts = []
    for number in numbers:
        if more and number >= more:
            break
        part = _part(user, cursor, until, stored.get(number), fresh.get(number))
        if part is not None:
            parts.append(part)
    return parts, more


def _part(
    user: int,
    cursor: SyncCursor,
    until: int,
    row: ChangedDialog | None,
    fresh: _Fresh | None,
) -> _Part | None:
    """None: there is nothing of it in the pass."""
    member = _member(user, row, fresh)
    if member is None:
        return None
    floor = last = 0
    if row is not None:
        number, id, floor, last = (
            row.number,
            uuid_text(row.id),
            row.floor_seq,
            row.last_seq,
        )
        is_dropped = row.is_dropped and last == row.log_seq
    if fresh is not None:
        dialog, entries = fresh.dialog, fresh.entries
        number, id = dialog.number, dialog.id
        if member.left_seq:
            entries = [e for e in entries if e.seq <= member.left_seq]
            fresh = _Fresh(dialog, entries)
        if entries:
            floor = entries[0].seq - 1 if row is None else floor
            last = entries[-1].seq
        is_dropped = dialog.is_dropped and last == dialog.last_seq
    joined = member.joined_position or number
    left = member.left_position if member.left_seq else 0
    if number > until or 0 < left <= cursor.after:
        return None
    part = _Part(number, id, floor, last, row, fresh, member)
    part.is_left = is_dropped or 0 < left <= until or joined > until
    is_new = joined > cursor.after
    is_much = last - floor > MISSED_EVENTS_MAX
    is_late = cursor.told > PASS_EVENTS_MAX and last > floor
    if is_new or is_much or is_late:
        part.floor = last
        part.is_left = part.is_left or left > 0
        part.is_whole = not part.is_left
        return part
    if number == cursor.number:
        part.floor = max(floor, cursor.seq)
    changed = part.last > part.floor or member.own_position > cursor.after
    return part if changed or part.is_left else None


def _member(
    user: int, row: ChangedDialog | None, fresh: _Fresh | None
) -> Member | None:
    """The user's membership as memory knows it, else as it is stored."""
    if fresh is not None:
        member = fresh.dialog.by_number.get(user)
        if member is None and user in fresh.dialog.members:
            member = fresh.dialog.member(user)
        if member is not None:
            return member
    if row is not None:
        return Member.of_row(row.member)
    # Of a dialog that nobody is in any more, who is told of it was in it, from its
    # creation: who came later has a row, or is known.
    return Member() if fresh is not None and fresh.dialog.is_dropped else None


def _within(parts: Iterable[_Part], limit: int, page: _Page) -> list[tuple[_Part, int]]:
    """Parts for the page, each with its last seq; a snapshot counts as an event."""
    taken = []
    budget, snapshots = limit, SNAPSHOTS_MAX
    for part in parts:
        wanted = min(part.last, part.floor + budget)
        is_full = not budget if part.is_whole else wanted == part.floor < part.last
        if is_full or (part.is_whole and not snapshots):
            page.number, page.seq = part.number, part.floor
            break
        if part.is_whole:
            snapshots -= 1
            budget -= 1
        budget -= wanted - part.floor
        taken.append((part, wanted))
        if wanted < part.last:
            page.number, page.seq = part.number, wanted
            break
    return taken


def _end(user: int, page: _Page, part: _Part, dialog: DialogState | None) -> None:
    """What is told when all events of the part are. dialog: as memory has it now."""
    if part.is_whole:
        page.whole.append(part.number)
    elif part.is_left:
        page.left.append(part.id)
        if dialog is not None:
            page.shown = max(page.shown, dialog.changed_position)
    elif part.member.left_seq:
        return  # since the pass began: the next one has it
    elif dialog is not None:
        member = dialog.member(user) if user in dialog.members else None
        page.own.append(dialog.own_state(member or part.member))
        page.shown = max(page.shown, dialog.changed_position)
    elif part.row is not None:
        row = part.row
        deleted = None if row.deleted is None else BitMap.deserialize(row.deleted)
        own = own_state(part.id, part.member, row.log_seq, row.message_count, deleted)
        page.own.append(own)


def _size_of(entry: Entry) -> int:
    """About as many bytes as its body would have."""
    content = getattr(entry.answer, "content", None)
    text = getattr(content, "text", "")
    return 256 + 2 * len(text)


def text_of(cursor: SyncCursor) -> str:
    return urlsafe_b64encode(_encode(cursor)).rstrip(b"=").decode()


def cursor_of(text: str) -> SyncCursor:
    """Raises Invalid: it is no cursor of ours."""
    try:
        cursor: SyncCursor = _decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, msgspec.DecodeError):
        raise Invalid(fields={"cursor": "is not from here"}) from None
    return SyncCursor(after=cursor.after) if cursor.version == 1 else cursor
