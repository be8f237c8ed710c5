"""Owns how rows of messaging become what search finds."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from tchatd.domains.messaging.finding import texts_of
from tchatd.domains.messaging.settings import settings_of
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    DIALOG_DELETED,
    DIALOG_UPDATED,
    MESSAGE_DELETED,
    MESSAGE_EDITED,
    MESSAGE_NEW,
)
from tchatd.domains.search.store import DialogDoc, MessageDoc, dialog_doc

FEEDING: Final = (
    *(DIALOG_CREATED, MESSAGE_NEW, MESSAGE_EDITED),
    *(MESSAGE_DELETED, DIALOG_UPDATED, DIALOG_DELETED),
)
"""Kinds of events that change what is found."""


class _Body(Struct, frozen=True, gc=False):
    type: str
    content: dict[str, Any]


class _About(Struct, frozen=True, gc=False):
    message_seq: int


_body: Final = msgspec.json.Decoder(_Body).decode
_about: Final = msgspec.json.Decoder(_About).decode


def message_doc(
    dialog_number: int, seq: int, at_ms: int, actor: int, body: str
) -> MessageDoc:
    """Of a `message.new` as it is now; of a deleted one the text is empty."""
    said = _body(body)
    text = "\n".join(text for _, text in texts_of(said.content))
    return MessageDoc(dialog_number, seq, at_ms, actor, said.type, text)


def changed_seq(body: str) -> int:
    """Of the message that a `message.edited` or `message.deleted` is about."""
    return _about(body).message_seq


def stored_dialog_doc(
    number: int, name: str | None, settings: bytes | None, is_dropped: bool
) -> DialogDoc:
    if is_dropped:
        return DialogDoc(number, "", False)
    return dialog_doc(number, name, settings_of(settings).public_name)
