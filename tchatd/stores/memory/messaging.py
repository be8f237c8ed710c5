"""Owns the messaging store in memory: the port's meaning, for tests and simulations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX
from tchatd.domains.messaging.rows import edited_seq
from tchatd.domains.messaging.store import (
    IN_ROLE_MAX,
    MESSAGE_EDITED,
    MESSAGE_NEW,
    ChangedDialog,
    CursorRow,
    DialogRow,
    EventRow,
    FlushBatch,
    Found,
    ListedDialog,
    MemberRow,
    MessageUpdate,
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
            self.members[member.dialog_number, member.user_number] = member
        for cursor in batch.cursors:
            self._move(cursor)
        for profile in batch.profiles:
            row = self.dialogs[profile.number]
            self.dialogs[profile.number] = structs.replace(
                row, **structs.asdict(profile)
            )
        for update in batch.updates:
            self._update(update)
        self._position = batch.position

    def _move(self, cursor: CursorRow) -> None:
        key = cursor.dialog_number, cursor.user_number
        row = self.members[key]
        self.members[key] = structs.replace(
            row,
            read_seq=cursor.read_seq,
            read_ordinal=cursor.read_ordinal,
            read_at_ms=cursor.read_at_ms,
            client_ms=cursor.client_ms,
            delivered_seq=max(row.delivered_seq, cursor.read_seq),
            sent_ms=max(row.sent_ms, cursor.sent_ms),
            own_position=max(row.own_position, cursor.own_position),
            mentions=None,
        )

    def _update(self, update: MessageUpdate) -> None:
        log = self.log[update.dialog_number]
        row = log[update.seq - 1]
        assert row.kind == MESSAGE_NEW
        new = log[update.seq - 1] = structs.replace(
            row,
            body=update.body,
            changed=update.changed,
            expires_ms=update.expires_ms,
        )
        if row.client_id is not None:
            self._sent[row.dialog_number, row.actor, row.client_id] = new
        dialog = self.dialogs[update.dialog_number]
        last = dialog.last_message
        if last is not None and last.seq == update.seq:
            self.dialogs[dialog.number] = structs.replace(dialog, last_message=new)

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
        for number in wants.whole & self.dialogs.keys():
            people = BitMap.deserialize(self.dialogs[number].members)
            members += [self.members[number, user] for user in people]
        sent = [self._sent[key] for key in wants.sent if key in self._sent]
        messages = [
            row
            for number, seq in sorted(wants.messages)
            for row in self.log.get(number, [])[seq - 1 : seq]
            if row.kind == MESSAGE_NEW
        ]
        return Found(dialogs, members, sent, messages, set(wants.whole))

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
            and not member.left_seq
            and not self.dialogs[number].is_dropped
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
        also: Sequence[int],
        limit: int,
        count_max: int,
    ) -> tuple[list[ChangedDialog], int]:
        assert limit <= count_max
        found = []
        for (number, user), member in self.members.items():
            row, log = self.dialogs[number], self.log[number]
            if user != user_number or number < from_number:
                continue
            is_old = row.last_position <= after_position >= member.own_position
            if is_old and number not in also:
                continue
            if member.left_seq and member.left_position <= after_position:
                continue
            log = log[: member.left_seq or None]
            floor = sum(event.position <= after_position for event in log)
            last = sum(event.position <= until_position for event in log)
            found.append(
                ChangedDialog(
                    number,
                    row.id,
                    row.type,
                    floor,
                    last,
                    row.last_seq,
                    row.message_count,
                    row.pins,
                    row.deleted,
                    row.is_dropped,
                    member,
                )
            )
        found.sort(key=lambda changed: changed.number)
        return found[:limit], min(len(found), count_max)

    async def ranges(
        self, ranges: Sequence[tuple[int, int, int]], until_position: int
    ) -> tuple[list[EventRow], list[EventRow]]:
        events = [
            event
            for number, after, until in sorted(ranges)
            for event in self.log[number][after:until]
            if event.position <= until_position
        ]
        edited = {
            (event.dialog_number, edited_seq(event))
            for event in events
            if event.kind == MESSAGE_EDITED
        }
        return events, [self.log[number][seq - 1] for number, seq in sorted(edited)]

    async def thread_before(
        self, number: int, thread_seq: int, seq: int, limit: int
    ) -> list[EventRow]:
        log = reversed(self.log.get(number, [])[: max(0, seq - 1)])
        return [row for row in log if row.thread_seq == thread_seq > 0][:limit]

    async def members_of(self, number: int, users: Sequence[int]) -> list[MemberRow]:
        keys = [(number, user) for user in users]
        return [self.members[key] for key in keys if key in self.members]

    async def in_role(
        self,
        number: int,
        roles: Sequence[int],
        *,
        after: int = 0,
        limit: int = IN_ROLE_MAX,
    ) -> list[MemberRow]:
        assert 0 not in roles
        found = [
            row
            for (of, user), row in self.members.items()
            if of == number and user > after and row.role in roles and not row.left_seq
        ]
        return sorted(found, key=lambda row: row.user_number)[:limit]

    async def expired(self, now_ms: int, limit: int) -> list[tuple[int, int]]:
        due = sorted(
            (row.expires_ms, row.dialog_number, row.seq)
            for log in self.log.values()
            for row in log
            if 0 < row.expires_ms <= now_ms
        )
        return [(number, seq) for _, number, seq in due[:limit]]


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
            e.changed,
            e.thread_seq,
            e.expires_ms,
            strict=True,
        )
    ]
