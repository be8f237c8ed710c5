"""Owns the messaging store in memory: the port's meaning, for tests and simulations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX
from tchatd.domains.messaging.store import (
    MESSAGE_NEW,
    ChangedDialog,
    DialogRow,
    EventRow,
    FlushBatch,
    Found,
    ListedDialog,
    MemberRow,
    StoreDiverged,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap


class MemoryDialogStore:
    """Every call sees and makes one consistent state; nothing survives the process."""

    def __init__(self) -> None:
        self._position = 0
        self.dialogs: dict[int, DialogRow] = {}
        self.members: dict[tuple[int, int], MemberRow] = {}
        self.log: dict[int, list[EventRow]] = {}
        self._numbers: dict[bytes, int] = {}
        self._sent: dict[tuple[int, int, bytes], EventRow] = {}

    async def position(self) -> int:
        return self._position

    async def flush(self, batch: FlushBatch) -> None:
        if self._position == batch.position:
            return
        if self._position != batch.previous_position:
            raise StoreDiverged(f"The store is at position {self._position}.")
        for row in batch.created:
            assert row.id not in self._numbers
            self.dialogs[row.number] = row
            self._numbers[row.id] = row.number
            self.log[row.number] = []
        for number, user, role in batch.memberships:
            self.members[number, user] = MemberRow(number, user, role)
        for event in _rows(batch):
            log = self.log[event.dialog_number]
            assert event.seq == len(log) + 1
            log.append(event)
            if event.client_id is not None:
                key = (event.dialog_number, event.actor, event.client_id)
                assert key not in self._sent
                self._sent[key] = event
        for change in batch.changes:
            row = self.dialogs[change.number]
            self.dialogs[change.number] = structs.replace(
                row,
                last_seq=change.last_seq,
                message_count=change.message_count,
                active_position=change.active_position or row.active_position,
                active_ms=change.active_ms or row.active_ms,
                last_position=change.last_position,
                last_message=(
                    self.log[change.number][change.last_message_seq - 1]
                    if change.last_message_seq
                    else row.last_message
                ),
            )
        for member in batch.members:
            assert (member.dialog_number, member.user_number) in self.members
            self.members[member.dialog_number, member.user_number] = member
        self._position = batch.position

    async def load(self, wants: Wants) -> Found:
        numbers = wants.numbers | {
            self._numbers[id] for id in wants.ids if id in self._numbers
        }
        dialogs = [self.dialogs[n] for n in sorted(numbers) if n in self.dialogs]
        keys = set(wants.members)
        for dialog in dialogs:
            people = BitMap.deserialize(dialog.members)
            if len(people) <= MEMBERS_SHOWN_MAX:
                keys.update((dialog.number, user) for user in people)
        members = [self.members[key] for key in sorted(keys) if key in self.members]
        sent = [self._sent[key] for key in wants.sent if key in self._sent]
        return Found(dialogs, members, sent)

    async def events(
        self, number: int, after: int, until: int, limit: int
    ) -> list[EventRow]:
        return self.log.get(number, [])[after:until][:limit]

    async def messages_before(
        self, number: int, seq: int, limit: int
    ) -> list[EventRow]:
        rows = reversed(self.log.get(number, [])[: max(0, seq - 1)])
        return _messages(rows, limit)

    async def messages_after(
        self, number: int, seq: int, until: int, limit: int
    ) -> list[EventRow]:
        return _messages(self.log.get(number, [])[seq:until], limit)

    async def listed(
        self,
        user_number: int,
        *,
        type: int | None,
        without: Sequence[int],
        before: int | None,
        offset: int,
        limit: int,
    ) -> tuple[list[ListedDialog], int]:
        mine = [
            ListedDialog(self.dialogs[number], member)
            for (number, user), member in self.members.items()
            if user == user_number
            and number not in without
            and type in (None, self.dialogs[number].type)
        ]
        mine.sort(key=lambda listed: listed.dialog.active_position, reverse=True)
        page = [
            listed
            for listed in mine
            if before is None or listed.dialog.active_position < before
        ]
        return page[offset : offset + limit], len(mine)

    async def changed(
        self,
        user_number: int,
        *,
        after_position: int,
        until_position: int,
        from_number: int,
        limit: int,
    ) -> list[ChangedDialog]:
        found = [
            ChangedDialog(
                row.number,
                row.id,
                sum(event.position <= after_position for event in self.log[row.number]),
                sum(event.position <= until_position for event in self.log[row.number]),
            )
            for row in self.dialogs.values()
            if (row.number, user_number) in self.members
            and row.number >= from_number
            and row.last_position > after_position
        ]
        return sorted(found, key=lambda changed: changed.number)[:limit]

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> list[EventRow]:
        return [
            event
            for number, after, until in sorted(ranges)
            for event in self.log[number][after:until]
            if event.position <= until_position
        ]


def _messages(rows: Iterable[EventRow], limit: int) -> list[EventRow]:
    return [row for row in rows if row.kind == MESSAGE_NEW][:limit]


def _rows(batch: FlushBatch) -> list[EventRow]:
    e = batch.events
    return [
        EventRow(*values)
        for values in zip(
            e.dialog_number,
            e.seq,
            e.kind,
            e.position,
            e.at_ms,
            e.ordinal,
            e.actor,
            e.actor_id,
            e.body,
            e.client_id,
            strict=True,
        )
    ]
