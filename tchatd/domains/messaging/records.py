"""Owns what the journal keeps of messaging: one record, one accepted command.

A record is a MessagePack array `[tag, field, …]`. It carries the time and every id
that applying needs, so that applying is a function of state and record alone. To
evolve: append a field with a default (older records lack it), or take a new tag for
what cannot be read as before. A tag is never used again for something else.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct


class DialogRecord(
    Struct, array_like=True, tag_field="record", tag=1, frozen=True, gc=False
):
    """A dialog was created; its number is the record's position.

    members: Roaring bitmap (portable format) of user numbers, creator included.
    participants: the 16-byte ids of the first 100 of them, in the bitmap's order.
    """

    dialog_id: bytes
    at_ms: int
    type: str
    creator: int
    creator_id: bytes
    members: bytes
    participants: bytes
    name: str | None = None
    avatar: str | None = None
    settings: bytes | None = None


class MessageRecord(
    Struct, array_like=True, tag_field="record", tag=2, frozen=True, gc=False
):
    """A message was accepted; applying gives it the next seq and with it its id.

    content: as the type's struct encodes; a struct when live, a dict when replayed.
    client_id: 16 bytes. reply_to_id, mentions: as clients see them.
    thread_seq: of the message whose thread it is in, or 0. forward, buttons: as
    clients see them (content.py), or None.
    """

    dialog_number: int
    at_ms: int
    sender: int
    sender_id: bytes
    type: str
    content: Any
    client_id: bytes | None = None
    reply_to_id: str | None = None
    mentions: tuple[str, ...] = ()
    mention_numbers: tuple[int, ...] = ()
    thread_seq: int = 0
    forward: Any = None
    buttons: Any = None


class ReadRecord(
    Struct, array_like=True, tag_field="record", tag=3, frozen=True, gc=False
):
    """A member read everything up to the message with seq `read_seq`.

    read_ordinal: how many messages the dialog has up to that one, itself included.
    """

    dialog_number: int
    at_ms: int
    reader: int
    reader_id: bytes
    read_seq: int
    read_ordinal: int
    message_id: str


class EditRecord(
    Struct, array_like=True, tag_field="record", tag=4, frozen=True, gc=False
):
    """The message with this seq says something else now; its type stays.

    mentions, mention_numbers: all of them from now on. unmentioned: numbers of those
    who were mentioned and are not any more.
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    seq: int
    content: Any
    mentions: tuple[str, ...] = ()
    mention_numbers: tuple[int, ...] = ()
    unmentioned: tuple[int, ...] = ()
    buttons: Any = None


class DeleteRecord(
    Struct, array_like=True, tag_field="record", tag=5, frozen=True, gc=False
):
    """The message with this seq is gone for everyone.

    actor: 0, and actor_id nil, when it vanished by the dialog's setting.
    thread_seq: of the message whose thread it is in, or 0. reason: a moderator's, shown
    to the members.
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    seq: int
    thread_seq: int = 0
    reason: str | None = None


class ReactRecord(
    Struct, array_like=True, tag_field="record", tag=6, frozen=True, gc=False
):
    """A reaction was added or removed; it was not, or was, there before."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    seq: int
    emoji: str
    is_added: bool


class PinRecord(
    Struct, array_like=True, tag_field="record", tag=7, frozen=True, gc=False
):
    """A message was pinned or unpinned; it was not, or was, before."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    seq: int
    is_pinned: bool


class VoteRecord(
    Struct, array_like=True, tag_field="record", tag=8, frozen=True, gc=False
):
    """All that the voter chooses in the poll with this seq now; () takes it back.

    closes: the poll ends with it (then options are ignored).
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    seq: int
    options: tuple[int, ...]
    closes: bool = False


class AddRecord(
    Struct, array_like=True, tag_field="record", tag=9, frozen=True, gc=False
):
    """People joined; they were not in the dialog before.

    added: Roaring bitmap of their numbers. added_ids: 16-byte ids of up to 100 of
    them, in the bitmap's order. participants: of all members from now on, as in
    DialogRecord. actor: who added them, or who joined by themselves.
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    added: bytes
    added_ids: bytes
    participants: bytes
    role: int = 0


class RemoveRecord(
    Struct, array_like=True, tag_field="record", tag=10, frozen=True, gc=False
):
    """A member is no member any more.

    reason: "left", "removed" or "banned". participants: as in AddRecord.
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    user: int
    user_id: bytes
    reason: str
    participants: bytes


class RoleRecord(
    Struct, array_like=True, tag_field="record", tag=11, frozen=True, gc=False
):
    """A member has another role. hands_over: the actor, an owner, is admin now."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    user: int
    user_id: bytes
    role: int
    hands_over: bool = False


class ProfileRecord(
    Struct, array_like=True, tag_field="record", tag=12, frozen=True, gc=False
):
    """What the dialog is called and how it is set, all of it. settings: as stored."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    name: str | None
    avatar: str | None
    settings: bytes | None


class DropRecord(
    Struct, array_like=True, tag_field="record", tag=13, frozen=True, gc=False
):
    """The dialog is deleted for everyone: nobody is a member any more."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes


class OwnRecord(
    Struct, array_like=True, tag_field="record", tag=14, frozen=True, gc=False
):
    """What one member keeps for themselves changed: settings, draft, hidden messages.

    extra: all of MemberExtra from now on, as stored. read_seq, read_ordinal: the
    member's cursor from now on; 0 leaves it.
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    extra: bytes | None
    read_seq: int = 0
    read_ordinal: int = 0


class DeliverRecord(
    Struct, array_like=True, tag_field="record", tag=15, frozen=True, gc=False
):
    """Everything up to delivered_seq has arrived at a device of the member."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    delivered_seq: int


class RestrictRecord(
    Struct, array_like=True, tag_field="record", tag=16, frozen=True, gc=False
):
    """A moderator silenced a member until then, or ended it (0)."""

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    user: int
    user_id: bytes
    silenced_until_ms: int


class BanRecord(
    Struct, array_like=True, tag_field="record", tag=17, frozen=True, gc=False
):
    """Who may not come back from now on. banned: Roaring bitmap, all of them.

    Who is a member is removed by a RemoveRecord, which bans by its reason.
    """

    dialog_number: int
    at_ms: int
    actor: int
    actor_id: bytes
    banned: bytes


MessageChange: TypeAlias = (
    EditRecord | DeleteRecord | ReactRecord | PinRecord | VoteRecord
)
MembershipChange: TypeAlias = (
    AddRecord | RemoveRecord | RoleRecord | ProfileRecord | DropRecord | BanRecord
)
OwnChange: TypeAlias = OwnRecord | DeliverRecord | RestrictRecord
Record: TypeAlias = (
    DialogRecord
    | MessageRecord
    | ReadRecord
    | MessageChange
    | MembershipChange
    | OwnChange
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)

encode = _encoder.encode


def decode(payload: bytes) -> Record:
    """Raises msgspec.DecodeError: a later version wrote it, or it is no record."""
    record: Record = _decoder.decode(payload)
    return record
