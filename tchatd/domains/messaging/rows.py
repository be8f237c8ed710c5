"""Owns how an event is stored and read back: columns, and a body in JSON.

A message's row is the message as it is now (message_state.py); of other events the
body is the event itself, but that `message.read` has no more than the columns lack.
A body may get new members; readers ignore those they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from tchatd.domains.messaging.events import (
    DialogCreated,
    DialogDeleted,
    DialogUpdated,
    Event,
    MemberAdded,
    MemberRemoved,
    MemberRole,
    MessageDeleted,
    MessageEdited,
    MessageNew,
    MessagePinned,
    MessageRead,
    MessageUnpinned,
    PollVoted,
    ReactionAdded,
    ReactionRemoved,
)
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.message_state import (
    MessageBody,
    MessageState,
    as_of,
    body_text,
    message_of_state,
    state_of_row,
)
from tchatd.domains.messaging.models import Dialog, Message
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    DIALOG_DELETED,
    DIALOG_UPDATED,
    MEMBER_ADDED,
    MEMBER_REMOVED,
    MEMBER_ROLE,
    MESSAGE_DELETED,
    MESSAGE_EDITED,
    MESSAGE_NEW,
    MESSAGE_PINNED,
    MESSAGE_READ,
    MESSAGE_UNPINNED,
    POLL_VOTED,
    REACTION_ADDED,
    REACTION_REMOVED,
    EventRow,
)
from tchatd.kernel.clock import rfc3339


class EditedBody(Struct, frozen=True, gc=False):
    """Of `message.edited`; what the message says now is in its own row."""

    message_seq: int


class ReadBody(Struct, frozen=True, gc=False):
    read_seq: int
    message_id: str


NONE_EDITED: Final[Mapping[int, MessageState]] = {}
_encode: Final = msgspec.json.Encoder().encode
_edited_body: Final = msgspec.json.Decoder(EditedBody).decode
_read_body: Final = msgspec.json.Decoder(ReadBody).decode
_dialog_body: Final = msgspec.json.Decoder(Dialog).decode
_plain: Final[dict[int, Callable[[str], Event]]] = {
    MESSAGE_DELETED: msgspec.json.Decoder(MessageDeleted).decode,
    REACTION_ADDED: msgspec.json.Decoder(ReactionAdded).decode,
    REACTION_REMOVED: msgspec.json.Decoder(ReactionRemoved).decode,
    MESSAGE_PINNED: msgspec.json.Decoder(MessagePinned).decode,
    MESSAGE_UNPINNED: msgspec.json.Decoder(MessageUnpinned).decode,
    POLL_VOTED: msgspec.json.Decoder(PollVoted).decode,
    MEMBER_ADDED: msgspec.json.Decoder(MemberAdded).decode,
    MEMBER_REMOVED: msgspec.json.Decoder(MemberRemoved).decode,
    MEMBER_ROLE: msgspec.json.Decoder(MemberRole).decode,
    DIALOG_UPDATED: msgspec.json.Decoder(DialogUpdated).decode,
    DIALOG_DELETED: msgspec.json.Decoder(DialogDeleted).decode,
}


def body_of(event: Event, mentioned: tuple[int, ...] = ()) -> str:
    """Of a message: a plain one, of which nothing but `event` has to be known."""
    if type(event) is MessageNew:
        m = event.message
        body = MessageBody(m.type, m.content, m.reply_to_id, m.mentions, mentioned)
        return body_text(body)
    if type(event) is MessageRead:
        return _encode(ReadBody(event.read_seq, event.message_id)).decode()
    if type(event) is DialogCreated:
        return _encode(event.dialog).decode()
    if type(event) is MessageEdited:
        return _encode(EditedBody(event.message.seq)).decode()
    return _encode(event).decode()


def edited_seq(row: EventRow) -> int:
    """Of the message that this `message.edited` is about."""
    return _edited_body(row.body).message_seq


def message_of(
    row: EventRow, dialog_id: str, pins: tuple[str, ...] = (), now_ms: int = 0
) -> Message:
    """row: of a `message.new`. pins: of its dialog. now_ms: see `as_of`."""
    state = as_of(state_of_row(row), now_ms)
    is_pinned = bool(pins) and state.id in pins
    return message_of_state(state, dialog_id, is_pinned=is_pinned)


def event_of(
    row: EventRow,
    dialog_id: str,
    pins: tuple[str, ...] = (),
    edited: Mapping[int, MessageState] = NONE_EDITED,
    now_ms: int = 0,
) -> Event:
    """As it was told, but that a message in it is as it is now.

    pins: of its dialog. edited: by seq, the messages of the `message.edited` events.
    now_ms: see `as_of`.
    """
    if row.kind == MESSAGE_NEW:
        return MessageNew(dialog_id, row.seq, message_of(row, dialog_id, pins, now_ms))
    if row.kind == MESSAGE_READ:
        return _read(row, dialog_id)
    if row.kind == DIALOG_CREATED:
        return DialogCreated(dialog_id, row.seq, _dialog_body(row.body))
    if row.kind == MESSAGE_EDITED:
        state = as_of(edited[edited_seq(row)], now_ms)
        message = message_of_state(state, dialog_id, is_pinned=state.id in pins)
        return MessageEdited(dialog_id, row.seq, message)
    return _plain[row.kind](row.body)


def _read(row: EventRow, dialog_id: str) -> MessageRead:
    body = _read_body(row.body)
    return MessageRead(
        dialog_id,
        uuid_text(row.actor_id),
        body.message_id,
        body.read_seq,
        rfc3339(row.at_ms),
        row.seq,
    )
