"""Owns the messaging core in memory: loaded dialogs, and how a record changes them.

    apply(record, position) -> Entry

Applying is deterministic: time and ids are in the record, so the same records in the
same order make the same events and the same snapshots, live or replayed. It never
fails and never waits: what it needs has been loaded before (`missing`).

State runs ahead of the disk: it is as of the last record taken, while nobody may be
told of what is not durable yet. Readers therefore hold their answer until what they
saw is durable; see `CommandLog.hold`.

A loaded dialog has its tail: every event that is not in the store yet, and some recent
ones that are. It can be evicted when everything of it is in the store.

What was sent is remembered by client_id, for each sender in each dialog: the ids with
the greatest times in `recent`, and `floor_ms`, the greatest time among all that were
forgotten. An id above the floor that is not in `recent` is therefore new; one at or
below it has to be looked up in the store, which has all that was forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from msgspec import UNSET, Struct, structs

from tchatd.domains.messaging.identifiers import (
    client_time_ms,
    message_id,
    uuid_text,
)
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    Dialog,
    DialogCreated,
    Event,
    Message,
    MessageNew,
    MessageRead,
    ReadBy,
    ReadState,
)
from tchatd.domains.messaging.records import (
    DialogRecord,
    MessageRecord,
    ReadRecord,
    Record,
)
from tchatd.domains.messaging.rows import message_of
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    MEMBER,
    MESSAGE_NEW,
    MESSAGE_READ,
    OWNER,
    TYPES,
    DialogRow,
    Found,
    MemberRow,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339

_USER_TEXTS_MAX: Final = 100_000


class StateLimits(Struct, frozen=True, kw_only=True):
    """tail_max: flushed events kept for each loaded dialog.

    client_ids_max: flushed client_ids kept for each sender in a loaded dialog. Of both
    up to twice as many are there before the older half is dropped at once.
    dialogs_max: loaded dialogs; those with something not flushed yet may exceed it.
    """

    dialogs_max: int = 10_000
    tail_max: int = 32
    client_ids_max: int = 8


class Entry(Struct, gc=False):
    """What one record did; absolute values, as of its position.

    seq: 0 when it is no event of the dialog. ordinal: of a message, its number; of a
    read, the messages read. count: messages of the dialog. read_seq: the actor's
    cursor. client_ms: the latest time in the actor's client_ids.
    event: told to `members`, or without them to the actor alone. answer: to who asked.
    """

    position: int
    dialog_number: int
    kind: int
    seq: int
    ordinal: int
    count: int
    at_ms: int
    actor: int
    actor_id: bytes
    read_seq: int
    client_ms: int
    client_id: bytes | None
    event: Event
    members: BitMap | None
    answer: Any
    mentioned: tuple[int, ...] = ()
    role: int = MEMBER
    created: DialogRow | None = None


class Member:
    """One member's cursor, and which client_ids they used in the dialog."""

    __slots__ = (
        "client_ms",
        "floor_ms",
        "read_at_ms",
        "read_ordinal",
        "read_seq",
        "recent",
        "role",
    )

    def __init__(self, role: int = MEMBER) -> None:
        self.role = role
        self.read_seq = 0
        self.read_ordinal = 0
        self.read_at_ms = 0
        self.client_ms = -1
        self.floor_ms = -1
        self.recent: dict[bytes, int] = {}

    @classmethod
    def of_row(cls, row: MemberRow) -> Member:
        member = cls(row.role)
        member.read_seq = row.read_seq
        member.read_ordinal = row.read_ordinal
        member.read_at_ms = row.read_at_ms
        member.client_ms = member.floor_ms = row.client_ms
        return member

    def forget(self, flushed_seq: int, kept: int) -> None:
        """Drop the oldest client_ids that are in the store, down to `kept` of them."""
        flushed = []
        for id, seq in self.recent.items():  # by seq, as they came
            if seq > flushed_seq:
                break
            flushed.append(id)
        flushed.sort()
        drop = flushed[: max(0, len(flushed) - kept)]
        for id in drop:
            del self.recent[id]
        if drop:
            self.floor_ms = max(self.floor_ms, client_time_ms(drop[-1]))


class DialogState:
    """One loaded dialog. members: never changed in place, events hold on to it.

    by_number: the loaded members; with `all_loaded` who is not there has done nothing
    yet. active_*: of the creation or the latest message. last_position: of the latest
    event; changed_position: of the latest record. unflushed: entries that are not in
    the store; flushed_seq: every event up to it is.
    """

    __slots__ = (
        "active_ms",
        "active_position",
        "all_loaded",
        "avatar",
        "by_number",
        "changed_position",
        "created_ms",
        "creator",
        "flushed_seq",
        "id",
        "last_message",
        "last_message_seq",
        "last_position",
        "last_seq",
        "members",
        "message_count",
        "name",
        "number",
        "participants",
        "tail",
        "type",
        "unflushed",
    )

    def __init__(self, row: DialogRow) -> None:
        self.number = row.number
        self.id = uuid_text(row.id)
        self.type = row.type
        self.name = row.name
        self.avatar = row.avatar
        self.creator = row.creator
        self.created_ms = row.created_ms
        self.members = BitMap.deserialize(row.members)
        self.participants = _texts_of(row.participants)
        self.last_seq = self.flushed_seq = row.last_seq
        self.message_count = row.message_count
        self.active_position = row.active_position
        self.active_ms = row.active_ms
        self.last_position = self.changed_position = row.last_position
        self.last_message: Message | None = None
        self.last_message_seq = 0
        if row.last_message is not None:
            self.last_message = message_of(row.last_message, self.id)
            self.last_message_seq = row.last_message.seq
        self.by_number: dict[int, Member] = {}
        self.all_loaded = len(self.members) <= MEMBERS_SHOWN_MAX
        self.tail: list[Entry] = []
        self.unflushed = 0

    @property
    def is_large(self) -> bool:
        return len(self.members) > MEMBERS_SHOWN_MAX

    @property
    def tail_first_seq(self) -> int:
        """Everything from this seq on is in the tail; all below is in the store."""
        return self.tail[0].seq if self.tail else self.last_seq + 1

    def member(self, user_number: int) -> Member | None:
        """The member's cursor; None if it has to be loaded."""
        member = self.by_number.get(user_number)
        if member is None and self.all_loaded:
            member = self.by_number[user_number] = Member()
        return member

    def entry_at(self, seq: int) -> Entry | None:
        """The event with this seq, if it is in the tail."""
        if not self.tail:
            return None
        index = seq - self.tail[0].seq
        return self.tail[index] if 0 <= index < len(self.tail) else None

    def numbers_and_ids(self) -> Iterator[tuple[int, str]]:
        """User number and id of the members that are shown."""
        return zip(self.members, self.participants, strict=False)

    def with_readers(self, message: Message) -> Message:
        """The message with who has read it, in a dialog that is not large."""
        if self.is_large:
            return message
        read_by = tuple(
            ReadBy(id, rfc3339(member.read_at_ms))
            for number, id in self.numbers_and_ids()
            if (member := self.by_number.get(number)) is not None
            and member.read_seq >= message.seq
            and id != message.sender_id
        )
        return structs.replace(message, read_by=read_by) if read_by else message

    def view(self, member: Member | None) -> Dialog:
        """As the member sees it; None for one who has read nothing."""
        read = 0 if member is None else member.read_ordinal
        message = self.last_message
        if message is not None:
            message = self.with_readers(message)
        return Dialog(
            id=self.id,
            type=TYPES[self.type],
            name=UNSET if self.name is None else self.name,
            avatar=UNSET if self.avatar is None else self.avatar,
            participants=self.participants,
            member_count=len(self.members),
            last_message=UNSET if message is None else message,
            last_seq=self.last_seq,
            unread_count=self.message_count - read,
            created_at=rfc3339(self.created_ms),
            updated_at=rfc3339(self.active_ms),
        )

    def trim(self, tail_max: int) -> None:
        """Drop flushed events from the tail when there are twice as many as kept."""
        tail = self.tail
        if len(tail) < 2 * tail_max:
            return
        drop = min(len(tail) - tail_max, self.flushed_seq - tail[0].seq + 1)
        if drop >= tail_max:
            del tail[:drop]


class MessagingState:
    """Every loaded dialog, the least recently used first.

    is_kept: whether somebody who waits is about to look at it, so that it must stay.
    """

    def __init__(self, limits: StateLimits) -> None:
        self._limits = limits
        self._by_id: OrderedDict[str, DialogState] = OrderedDict()
        self._by_number: dict[int, DialogState] = {}
        self._user_texts: dict[bytes, str] = {}
        self.dirty: dict[int, DialogState] = {}
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
        return [d for d in self.dirty.values() if user_number in d.members]

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
            self.dirty[dialog.number] = dialog
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
                del self.dirty[dialog.number]
            dialog.trim(self._limits.tail_max)
        self.evict()

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


def _texts_of(ids: bytes) -> tuple[str, ...]:
    return tuple(uuid_text(ids[at : at + 16]) for at in range(0, len(ids), 16))
