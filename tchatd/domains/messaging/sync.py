"""Owns catching up: every durable event since a cursor, over all dialogs, in pages.

A pass has a fixed end: the position of the last record when its first page was asked
for. Pages go through the user's dialogs by number and through each by seq, so what
arrives meanwhile (it is later than the end) neither shifts nor repeats anything; it is
for the next pass, or comes live. Between passes the cursor is that end alone.

What is later than the store is taken from the tails in memory, looked at before the
store is asked; and nothing is answered before the pass's end is durable.

The cursor is base64url of MessagePack `[version, after, until, number, seq]`. It is no
secret and needs no signature: whatever it says, a user sees their own dialogs only.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct

from tchatd.domains.messaging.dialog import Entry
from tchatd.domains.messaging.events import (
    Event,
    SyncPage,
)
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.models import (
    DIALOGS_PAGE_MAX,
    Sync,
)
from tchatd.domains.messaging.reading import Reading
from tchatd.domains.messaging.rows import event_of
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    CommandLog,
    DialogStore,
    EventRow,
)
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context

SYNC_BYTES_MAX: Final = 192 * 1024
"""Of bodies in one page; beyond it the page ends early."""

_Position = Annotated[int, Meta(ge=0, le=(1 << 62))]


class SyncCursor(Struct, array_like=True, frozen=True):
    """Everything up to `after` is known, and of what is up to `until` everything of
    dialogs below `number`, and of that one up to `seq`. until: 0 between passes."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    after: _Position = 0
    until: _Position = 0
    number: _Position = 0
    seq: _Position = 0


class _Dialog(Struct):
    """What a pass has to bring of one dialog: floor < seq <= last."""

    number: int
    id: str
    floor: int
    stored: int = 0
    fresh: list[Entry] = msgspec.field(default_factory=list)

    @property
    def last(self) -> int:
        return self.fresh[-1].seq if self.fresh else self.stored


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

    async def sync(self, context: Context, command: Sync) -> SyncPage:
        user = context.user.user_number
        if command.cursor is UNSET:
            return await self._begin(user)
        cursor = cursor_of(command.cursor)
        if max(cursor.after, cursor.until) > self._log.applied_position:
            return await self._begin(user)  # of another journal: nothing to go by
        return await self._next(user, cursor, command.limit)

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
            dialogs=page.dialogs,
            dialogs_cursor=page.next_cursor,
        )

    async def _next(self, user: int, cursor: SyncCursor, limit: int) -> SyncPage:
        until = cursor.until or self._log.applied_position
        fresh = self._fresh(user, cursor, until)
        await self._log.durable(until)
        changed = await self._store.changed(
            user,
            after_position=cursor.after,
            until_position=until,
            from_number=cursor.number,
            limit=limit + 1,
        )
        dialogs = {d.number: d for d in fresh}
        for row in changed:
            dialog = dialogs.get(row.number)
            if dialog is None:
                dialog = _Dialog(row.number, uuid_text(row.id), row.floor_seq)
                dialogs[row.number] = dialog
            dialog.floor, dialog.stored = row.floor_seq, row.last_seq
        if cursor.number in dialogs:
            dialog = dialogs[cursor.number]
            dialog.floor = max(dialog.floor, cursor.seq)
        cut = len(changed) > limit  # there may be more dialogs than were looked at
        last = changed[-1].number if cut else None
        plan = [
            dialogs[number]
            for number in sorted(dialogs)
            if last is None or number <= last
        ]
        return await self._page(cursor, until, plan, limit, cut=cut)

    async def _page(
        self,
        cursor: SyncCursor,
        until: int,
        plan: list[_Dialog],
        limit: int,
        *,
        cut: bool,
    ) -> SyncPage:
        """cut: there may be more behind the plan."""
        parts, ranges, budget = [], [], limit
        for dialog in plan:
            wanted = min(dialog.last, dialog.floor + budget)
            if wanted <= dialog.floor:
                if dialog.last > dialog.floor:
                    cut = True
                    break
                continue
            first = dialog.fresh[0].seq if dialog.fresh else dialog.stored + 1
            if dialog.floor + 1 < first:
                ranges.append((dialog.number, dialog.floor, min(wanted, first - 1)))
            parts.append((dialog, wanted))
            budget -= wanted - dialog.floor
            cut = cut or wanted < dialog.last
        rows = await self._store.ranges(ranges, until) if ranges else []
        events, number, seq, whole = _merged(parts, rows)
        if whole and not cut:
            place, has_more = SyncCursor(after=until), cursor.until != 0
        else:
            if not parts:
                number = plan[-1].number if plan else cursor.number
                seq = plan[-1].last if plan else cursor.seq
            place, has_more = SyncCursor(1, cursor.after, until, number, seq), True
        return SyncPage(events=events, cursor=text_of(place), has_more=has_more)

    def _fresh(self, user: int, cursor: SyncCursor, until: int) -> list[_Dialog]:
        """What memory has of the pass: of each dialog not fully stored, its tail."""
        found = []
        for dialog in self._state.dirty_of(user):
            if dialog.number < cursor.number:
                continue
            entries = [e for e in dialog.tail if cursor.after < e.position <= until]
            if entries:
                floor = entries[0].seq - 1
                found.append(_Dialog(dialog.number, dialog.id, floor, fresh=entries))
        return found


def _merged(
    parts: Iterable[tuple[_Dialog, int]], rows: list[EventRow]
) -> tuple[list[Event], int, int, bool]:
    """Events of the parts; the last dialog and seq of them; whether all fitted."""
    of_dialog: dict[int, list[EventRow]] = {}
    for row in rows:
        of_dialog.setdefault(row.dialog_number, []).append(row)
    events: list[Event] = []
    number, size = 0, 0
    seq = 0
    for dialog, wanted in parts:
        number, seq = dialog.number, dialog.floor
        for row in of_dialog.get(number, ()):
            size += len(row.body)
            if size > SYNC_BYTES_MAX and events:
                return events, number, seq, False
            events.append(event_of(row, dialog.id))
            seq = row.seq
        for entry in dialog.fresh:
            if not dialog.floor < entry.seq <= wanted:
                continue
            size += _size_of(entry)
            if size > SYNC_BYTES_MAX and events:
                return events, number, seq, False
            events.append(entry.event)
            seq = entry.seq
        seq = wanted
    return events, number, seq, True


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
    return cursor
