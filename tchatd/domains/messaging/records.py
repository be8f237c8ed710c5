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


class MessageRecord(
    Struct, array_like=True, tag_field="record", tag=2, frozen=True, gc=False
):
    """A message was accepted; applying gives it the next seq and with it its id.

    content: as the type's struct encodes; a struct when live, a dict when replayed.
    client_id: 16 bytes. reply_to_id, mentions: as clients see them.
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


Record: TypeAlias = DialogRecord | MessageRecord | ReadRecord

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)

encode = _encoder.encode


def decode(payload: bytes) -> Record:
    """Raises msgspec.DecodeError: a later version wrote it, or it is no record."""
    record: Record = _decoder.decode(payload)
    return record
