"""Owns what clients may ask of one message, and what they are answered.

Sending and lists are in models.py. An answer that is not the message itself has the
ids as text, formatted already, as everything that clients see.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tchatd.domains.messaging.content import (
    POLL_OPTIONS_MAX,
    Buttons,
    ContentIn,
    ContentOut,
)
from tchatd.domains.messaging.models import (
    MENTIONS_MAX,
    MESSAGES_PAGE_MAX,
    Cursor,
    IdText,
    Message,
)

REASON_MAX: Final = 300
EMOJI_BYTES_MAX: Final = 32
REACTORS_PAGE_MAX: Final = 100
Emoji: TypeAlias = Annotated[str, Meta(min_length=1, max_length=EMOJI_BYTES_MAX)]
Reason: TypeAlias = Annotated[str, Meta(min_length=1, max_length=REASON_MAX)]


class GetMessage(Struct, frozen=True):
    message_id: UUID


class GetMessageHistory(Struct, frozen=True):
    message_id: UUID


class EditMessage(Struct, frozen=True, kw_only=True):
    """content: all of it. mentions, buttons: absent leaves them as they are."""

    message_id: UUID
    content: ContentIn
    mentions: Annotated[list[UUID], Meta(max_length=MENTIONS_MAX)] | UnsetType = UNSET
    buttons: Buttons | UnsetType = UNSET


class DeleteMessage(Struct, frozen=True, kw_only=True):
    """for: everyone, or the caller alone. reason: a moderator's, shown to everybody."""

    message_id: UUID
    for_: Literal["everyone", "me"] = field(default="everyone", name="for")
    reason: Reason | UnsetType = UNSET


class ClearDialog(Struct, frozen=True):
    """Delete everything so far, for the caller alone."""

    dialog_id: IdText


class React(Struct, frozen=True, kw_only=True):
    """emoji: an emoji (up to 32 bytes of UTF-8), or the :name: of a drawn one."""

    message_id: UUID
    emoji: Emoji


class Unreact(Struct, frozen=True, kw_only=True):
    message_id: UUID
    emoji: Emoji


class ListReactions(Struct, frozen=True, kw_only=True):
    """emoji: only with this one."""

    message_id: UUID
    emoji: Emoji | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=REACTORS_PAGE_MAX)] = 50


class PinMessage(Struct, frozen=True):
    message_id: UUID


class UnpinMessage(Struct, frozen=True):
    message_id: UUID


class ListPins(Struct, frozen=True):
    dialog_id: IdText


class Vote(Struct, frozen=True, kw_only=True):
    """options: all that the caller chooses from now on, by their place in the poll,
    from 0; empty takes the vote back."""

    message_id: UUID
    options: Annotated[
        list[Annotated[int, Meta(ge=0, lt=POLL_OPTIONS_MAX)]],
        Meta(max_length=POLL_OPTIONS_MAX),
    ]


class ClosePoll(Struct, frozen=True):
    message_id: UUID


class ForwardMessage(Struct, frozen=True, kw_only=True):
    """Say in dialog_id what the message says. client_id: as in SendMessage."""

    message_id: UUID
    dialog_id: IdText
    client_id: UUID | UnsetType = UNSET


class ListThread(Struct, frozen=True, kw_only=True):
    """message_id: of the message under which it is. before: as in ListMessages."""

    message_id: UUID
    before: UUID | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MESSAGES_PAGE_MAX)] = 50


class DeliverMessages(Struct, frozen=True):
    """Everything up to this message has arrived at a device of the caller."""

    message_id: UUID


class Version(Struct, frozen=True, gc=False):
    """until: when it was edited."""

    content: ContentOut
    until: str


class MessageHistory(Struct, frozen=True, gc=False):
    """What the message said before, the first first: at most 20, of which the first is
    what it said at first. Nothing of a deleted message."""

    message_id: str
    versions: tuple[Version, ...]


class Reactor(Struct, frozen=True, gc=False):
    """created_at: of the first 100 reactions of a message."""

    emoji: str
    user_id: str
    created_at: str | UnsetType = UNSET


class ReactorPage(Struct, frozen=True, gc=False):
    """By emoji (in the order of code points), then in no order that says anything."""

    reactions: list[Reactor]
    next_cursor: str | UnsetType = UNSET


class Pins(Struct, frozen=True, gc=False):
    """The one that was pinned last first."""

    messages: list[Message]


_NAME: Final = re.compile(r":[a-z0-9_+-]{1,30}:")
_KEYCAP: Final = "\u20e3"
_JOINERS: Final = frozenset("\u200d\ufe0e\ufe0f")
_SYMBOLS: Final = frozenset("\u203c\u2049\u2139\u3030\u20e3")
"""Emoji whose category is not that of a symbol."""


def is_emoji(text: str) -> bool:
    """Whether it can be a reaction: `:name:`, or symbols and what joins them.

    Letters, blanks, controls and marks that stack are none, so that a reaction is no
    way to write. A code point that this Python does not know yet passes where emoji
    are (Unicode, planes 1F000..1FAFF): a new telephone knows more of them than we do.
    """
    if len(text.encode()) > EMOJI_BYTES_MAX:
        return False
    if _NAME.fullmatch(text):
        return True
    symbols = 0
    for char in text:
        if char in _SYMBOLS or _is_symbol(char):
            symbols += 1
        elif char in "#*0123456789":
            if _KEYCAP not in text:
                return False
        elif char not in _JOINERS and not "\U000e0020" <= char <= "\U000e007f":
            return False
    return symbols > 0


def _is_symbol(char: str) -> bool:
    if char < "\x80":
        return False
    category = unicodedata.category(char)
    if category == "Cn":
        return "\U0001f000" <= char <= "\U0001faff"
    return category[0] == "S"
