"""Owns how an event is stored and read back: columns, and a body in JSON.

What the columns know (ids, seq, times, who) is not in the body. A body may get new
members; readers ignore those they do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tchatd.domains.messaging.identifiers import message_id, uuid_text
from tchatd.domains.messaging.models import (
    Dialog,
    DialogCreated,
    Event,
    Message,
    MessageNew,
    MessageRead,
)
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    MESSAGE_NEW,
    MESSAGE_READ,
    EventRow,
)
from tchatd.kernel.clock import rfc3339


class MessageBody(Struct, frozen=True, gc=False, omit_defaults=True):
    """mentioned: user numbers of the mentions, in the same order."""

    type: str
    content: Any
    reply_to_id: str | UnsetType = UNSET
    mentions: tuple[str, ...] = ()
    mentioned: tuple[int, ...] = ()


class ReadBody(Struct, frozen=True, gc=False):
    read_seq: int
    message_id: str


_encode: Final = msgspec.json.Encoder().encode
_message_body: Final = msgspec.json.Decoder(MessageBody).decode
_read_body: Final = msgspec.json.Decoder(ReadBody).decode
_dialog_body: Final = msgspec.json.Decoder(Dialog).decode


def body_of(event: Event, mentioned: tuple[int, ...] = ()) -> str:
    if type(event) is MessageNew:
        m = event.message
        body = MessageBody(m.type, m.content, m.reply_to_id, m.mentions, mentioned)
        return _encode(body).decode()
    if type(event) is MessageRead:
        return _encode(ReadBody(event.read_seq, event.message_id)).decode()
    assert type(event) is DialogCreated
    return _encode(event.dialog).decode()


def message_of(row: EventRow, dialog_id: str) -> Message:
    """row: of a `message.new`."""
    assert row.kind == MESSAGE_NEW
    body = _message_body(row.body)
    return Message(
        message_id(row.at_ms, row.dialog_number, row.seq),
        dialog_id,
        row.seq,
        uuid_text(row.actor_id),
        body.type,
        body.content,
        rfc3339(row.at_ms),
        body.reply_to_id,
        body.mentions,
    )


def event_of(row: EventRow, dialog_id: str) -> Event:
    return _EVENTS[row.kind](row, dialog_id)


def _created(row: EventRow, dialog_id: str) -> Event:
    return DialogCreated(dialog_id, row.seq, _dialog_body(row.body))


def _new(row: EventRow, dialog_id: str) -> Event:
    return MessageNew(dialog_id, row.seq, message_of(row, dialog_id))


def _read(row: EventRow, dialog_id: str) -> Event:
    body = _read_body(row.body)
    return MessageRead(
        dialog_id,
        uuid_text(row.actor_id),
        body.message_id,
        body.read_seq,
        rfc3339(row.at_ms),
        row.seq,
    )


_EVENTS: Final[dict[int, Callable[[EventRow, str], Event]]] = {
    DIALOG_CREATED: _created,
    MESSAGE_NEW: _new,
    MESSAGE_READ: _read,
}
