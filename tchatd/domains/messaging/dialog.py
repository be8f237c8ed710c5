"""Owns one dialog in memory: its members' cursors, its tail, and what it looks like.

A loaded dialog has its tail: every event that is not in the store yet, and some recent
ones that are.

What was sent is remembered by client_id, for each sender: the ids with the greatest
times in `recent`, and `floor_ms`, the greatest time among all that were forgotten. An
id above the floor that is not in `recent` is therefore new; one at or below it has to
be looked up in the store, which has all that was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, Struct, structs

from tchatd.domains.messaging.identifiers import client_time_ms, uuid_text
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    Dialog,
    Event,
    Message,
    ReadBy,
)
from tchatd.domains.messaging.rows import message_of
from tchatd.domains.messaging.store import MEMBER, TYPES, DialogRow, MemberRow
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339


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


def _texts_of(ids: bytes) -> tuple[str, ...]:
    return tuple(uuid_text(ids[at : at + 16]) for at in range(0, len(ids), 16))
