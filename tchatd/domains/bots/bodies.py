"""Owns the body of a delivery: as it waits, and as it is sent.

What waits may wait for hours, and a message may be edited, deleted or over meanwhile.
So it waits without what a message in it says; that is put in when it is sent, as it is
then, and nothing that is gone is kept here.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

_NAMES: Final = {
    "message.new": "message",
    "message.edited": "message",
    "dialog.created": "last_message",
}
"""Of the field that has a message, by kind of event."""
_LEFT: Final = ("id", "dialog_id", "seq", "sender_id", "type", "created_at")
_encode: Final = msgspec.json.Encoder().encode


class Payload(Struct, frozen=True):
    """data: the event, as it is told over WebSocket."""

    id: str
    type: str
    bot_id: str
    created_at: str
    data: Any


_decode: Final = msgspec.json.Decoder(Payload).decode


def waiting(event: Any) -> msgspec.Raw:
    """The event as it waits."""
    kind = event.__struct_config__.tag
    if kind not in _NAMES:
        return msgspec.Raw(_encode(event))
    data = msgspec.to_builtins(event)
    holder, name = _place(kind, data)
    if name in holder:
        message = holder[name]
        left = {field: message[field] for field in _LEFT}
        holder[name] = left | {"content": {}, "is_hidden": True}
    return msgspec.Raw(_encode(data))


def encoded(payload: Payload) -> str:
    return _encode(payload).decode()


def message_in(kind: str, body: str) -> UUID | None:
    """The message that it waits without."""
    if kind not in _NAMES:
        return None
    holder, name = _place(kind, _decode(body).data)
    return UUID(holder[name]["id"]) if name in holder else None


def with_message(kind: str, body: str, message: Any) -> str:
    """As it is sent. message: as it is now."""
    payload = _decode(body)
    holder, name = _place(kind, payload.data)
    holder[name] = message
    return encoded(payload)


def _place(kind: str, data: Any) -> tuple[dict[str, Any], str]:
    """What has the message, and in which field."""
    name = _NAMES[kind]
    return (data["dialog"] if name == "last_message" else data), name
