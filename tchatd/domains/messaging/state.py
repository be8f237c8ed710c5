"""Owns the messaging core in memory: loaded dialogs, and how a record changes them.

    apply(record, position) -> Entry

Applying is deterministic: time and ids are in the record, so the same records in the
same order make the same events and the same snapshots, live or replayed. It never
fails and never waits: what it needs has been loaded before (`missing`).

State runs ahead of the disk: it is as of the last record taken, while nobody may be
told of what is not durable yet. Readers therefore hold their answer until what they
saw is durable; see `CommandLog.hold`.

A loaded dialog (dialog.py) can be evicted when everything of it is in the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import UNSET, Struct

from tchatd.domains.messaging.dialog import DialogState, Entry, Member
from tchatd.domains.messaging.identifiers import (
    message_id,
    uuid_text,
)
from tchatd.domains.messaging.models import (
    DialogCreated,
    Message,
    MessageNew,
    MessageRead,
    ReadState,
)
from tchatd.domains.messaging.records import (
    DialogRecord,
    MessageRecord,
    ReadRecord,
    Record,
)
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    MEMBER,
    MESSAGE_NEW,
    MESSAGE_READ,
    OWNER,
    TYPES,
    DialogRow,
    Found,
    Wants,
)
from tchatd.kernel.clock import rfc3339

_USER_TEXTS_MAX: Final = 100_000
_INDEXED_MEMBERS_MAX: Final = 16
"""Dialogs of more members are looked through, not indexed, while they are dirty."""


class StateLimits(Struct, frozen=True, kw_only=True):
    """tail_max: flushed events kept for each loaded dialog.

    client_ids_max: flushed client_ids kept for each sender in a loaded dialog. Of both
    up to twice as many are there before the older half is dropped at once.
    dialogs_max: loaded dialogs; those with something not flushed yet may exceed it.
    """

    dialogs_max: int = 10_000
    tail_max: int = 32
    client_ids_max: int = 8


class MessagingState:
    """Every loaded dialog, the least recently used first.

    is_kept: whether somebody who waits is about to look at it, so that it must stay.
    """

    def __init__(self, limits: StateLimits) -> None:
        self._limits = limits
        self._by_id: OrderedDict[str, DialogState] = OrderedDict()
        self._by_number: dict[int, DialogState] = {}
        self._user_texts: dict[bytes, str] = {}
        self._dirty_of: dict[int, dict[int, DialogState]] = {}
        self._dirty_large: dict[int, DialogState] = {}
        self.is_kept: Callable[[DialogState], bool] = lambda _: False

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, id: str) -> DialogState | None:
        """A loaded dialog by the text of its id, now the most recently used."""
        dialog = self._by_id.get(id)
        if dialog is not None:
            self._by_id.move_to_end(id)
        return dialog

    def find_number(self, number: int) -> DialogState | None:
        dialog = self._by_number.get(number)
        if dialog is not None:
            self._by_id.move_to_end(dialog.id)
        return dialog

    def dirty_of(self, user_number: int) -> list[DialogState]:
        """Dialogs of a user of which the store does not know everything yet."""
        large = [d for d in self._dirty_large.values() if user_number in d.members]
        return [*self._dirty_of.get(user_number, {}).values(), *large]

    def missing(self, records: Iterable[tuple[int, Record]]) -> Wants:
        """What has to be loaded before these (position, record) can be applied."""
        wants = Wants()
        created = set()
        for position, record in records:
            if type(record) is DialogRecord:
                created.add(position)
                continue
            assert type(record) is MessageRecord or type(record) is ReadRecord
            actor = (
                record.sender if isinstance(record, MessageRecord) else record.reader
            )
            dialog = self._by_number.get(record.dialog_number)
            if record.dialog_number in created:
                continue
            if dialog is None:
                wants.numbers.add(record.dialog_number)
                wants.members.add((record.dialog_number, actor))
            elif not dialog.all_loaded and actor not in dialog.by_number:
                wants.members.add((record.dialog_number, actor))
        return wants

    def install(self, found: Found, *, evict: bool = True) -> None:
        """Take what was loaded; what is here already is newer and stays.

        evict: not, while records wait to be applied that need what is loaded by now.
        """
        for row in found.dialogs:
            if row.number not in self._by_number:
                self._add(DialogState(row))
        for member in found.members:
            dialog = self._by_number.get(member.dialog_number)
            if dialog is not None and member.user_number not in dialog.by_number:
                dialog.by_number[member.user_number] = Member.of_row(member)
        if evict:
            self.evict()

    def evict(self) -> None:
        """Forget the least recently used dialogs beyond the limit, if they may go."""
        excess = len(self._by_id) - self._limits.dialogs_max
        for _ in range(max(0, 2 * excess)):
            if len(self._by_id) <= self._limits.dialogs_max:
                return
            id, dialog = next(iter(self._by_id.items()))
            if dialog.unflushed or self.is_kept(dialog):
                self._by_id.move_to_end(id)
            else:
                del self._by_id[id]
                del self._by_number[dialog.number]

    def apply(self, record: Record, position: int) -> Entry:
        """Change the state; what it says is told once position is durable."""
        if type(record) is MessageRecord:
            dialog, entry = self._apply_message(record, position)
        elif type(record) is ReadRecord:
            dialog, entry = self._apply_read(record, position)
        else:
            assert type(record) is DialogRecord
            dialog, entry = self._apply_dialog(record, position)
        if entry.seq:
            dialog.tail.append(entry)
        dialog.changed_position = position
        if not dialog.unflushed:
            self._mark_dirty(dialog)
        dialog.unflushed += 1
        return entry

    def flushed(self, entries: Iterable[Entry]) -> None:
        """All of these are in the store now."""
        touched: dict[int, DialogState] = {}
        senders: set[tuple[int, int]] = set()
        for entry in entries:
            number = entry.dialog_number
            dialog = touched[number] = self._by_number[number]
            dialog.unflushed -= 1
            if entry.seq:
                dialog.flushed_seq = entry.seq
            if entry.client_id is not None:
                senders.add((number, entry.actor))
        for number, user in senders:
            member = touched[number].by_number[user]
            if len(member.recent) >= 2 * self._limits.client_ids_max:
                member.forget(touched[number].flushed_seq, self._limits.client_ids_max)
        for dialog in touched.values():
            assert dialog.unflushed >= 0
            if not dialog.unflushed:
                self._mark_clean(dialog)
            dialog.trim(self._limits.tail_max)
        self.evict()

    def _mark_dirty(self, dialog: DialogState) -> None:
        if len(dialog.members) > _INDEXED_MEMBERS_MAX:
            self._dirty_large[dialog.number] = dialog
            return
        for user in dialog.members:
            self._dirty_of.setdefault(user, {})[dialog.number] = dialog

    def _mark_clean(self, dialog: DialogState) -> None:
        """A change of members has to stand between this and `_mark_dirty`."""
        if len(dialog.members) > _INDEXED_MEMBERS_MAX:
            del self._dirty_large[dialog.number]
            return
        for user in dialog.members:
            dirty = self._dirty_of[user]
            del dirty[dialog.number]
            if not dirty:
                del self._dirty_of[user]

    def _add(self, dialog: DialogState) -> None:
        assert dialog.id not in self._by_id
        self._by_id[dialog.id] = dialog
        self._by_number[dialog.number] = dialog

    def _user_text(self, id: bytes) -> str:
        text = self._user_texts.get(id)
        if text is None:
            if len(self._user_texts) >= _USER_TEXTS_MAX:
                self._user_texts.clear()
            text = self._user_texts[id] = uuid_text(id)
        return text

    def _apply_message(
        self, record: MessageRecord, position: int
    ) -> tuple[DialogState, Entry]:
        dialog = self._by_number[record.dialog_number]
        sender, at_ms = record.sender, record.at_ms
        member = dialog.by_number.get(sender) or dialog.member(sender)
        assert member is not None
        seq = dialog.last_seq = dialog.last_seq + 1
        count = dialog.message_count = dialog.message_count + 1
        member.read_seq, member.read_ordinal, member.read_at_ms = seq, count, at_ms
        client_id = record.client_id
        if client_id is not None:
            member.recent[client_id] = seq
            time_ms = int.from_bytes(client_id[:6], "big")
            if time_ms > member.client_ms:
                member.client_ms = time_ms
        message = Message(
            message_id(at_ms, dialog.number, seq),
            dialog.id,
            seq,
            self._user_text(record.sender_id),
            record.type,
            record.content,
            rfc3339(at_ms),
            UNSET if record.reply_to_id is None else record.reply_to_id,
            record.mentions,
        )
        dialog.last_message, dialog.last_message_seq = message, seq
        dialog.active_position = dialog.last_position = position
        dialog.active_ms = at_ms
        return dialog, Entry(
            position,
            dialog.number,
            MESSAGE_NEW,
            seq,
            count,
            count,
            at_ms,
            sender,
            record.sender_id,
            seq,
            member.client_ms,
            client_id,
            MessageNew(dialog.id, seq, message),
            dialog.members,
            message,
            record.mention_numbers,
            member.role,
        )

    def _apply_read(
        self, record: ReadRecord, position: int
    ) -> tuple[DialogState, Entry]:
        dialog = self._by_number[record.dialog_number]
        member = dialog.member(record.reader)
        assert member is not None
        member.read_seq = record.read_seq
        member.read_ordinal = record.read_ordinal
        member.read_at_ms = record.at_ms
        seq = 0
        if not dialog.is_large:
            seq = dialog.last_seq = dialog.last_seq + 1
            dialog.last_position = position
        event = MessageRead(
            dialog.id,
            self._user_text(record.reader_id),
            record.message_id,
            record.read_seq,
            rfc3339(record.at_ms),
            seq or UNSET,
        )
        unread = dialog.message_count - record.read_ordinal
        return dialog, Entry(
            position,
            dialog.number,
            MESSAGE_READ,
            seq,
            record.read_ordinal,
            dialog.message_count,
            record.at_ms,
            record.reader,
            record.reader_id,
            record.read_seq,
            member.client_ms,
            None,
            event,
            dialog.members if seq else None,
            ReadState(dialog.id, record.read_seq, unread),
            (),
            member.role,
        )

    def _apply_dialog(
        self, record: DialogRecord, position: int
    ) -> tuple[DialogState, Entry]:
        row = DialogRow(
            number=position,
            id=record.dialog_id,
            type=TYPES.index(record.type),
            name=record.name,
            avatar=record.avatar,
            creator=record.creator,
            created_ms=record.at_ms,
            members=record.members,
            participants=record.participants,
            last_seq=1,
            message_count=0,
            active_position=position,
            active_ms=record.at_ms,
            last_position=position,
        )
        dialog = DialogState(row)
        dialog.flushed_seq = 0
        dialog.all_loaded = True
        role = MEMBER if record.type == "user" else OWNER
        dialog.by_number[record.creator] = Member(role)
        self._add(dialog)
        view = dialog.view(None)
        return dialog, Entry(
            position,
            position,
            DIALOG_CREATED,
            1,
            0,
            0,
            record.at_ms,
            record.creator,
            record.creator_id,
            0,
            -1,
            None,
            DialogCreated(dialog.id, 1, view),
            dialog.members,
            view,
            (),
            role,
            row,
        )
