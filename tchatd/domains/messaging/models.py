"""Owns what clients see of dialogs and messages, and what they may ask.

Ids and times are text here, already formatted: a struct is encoded as it is, in JSON
and MessagePack alike. Lists are tuples, so that the empty one is shared.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MEMBERS_SHOWN_MAX: Final = 100
"""Members that a dialog lists, and up to which reading is an event of its own."""
GROUP_MEMBERS_MAX: Final = 5_000
MENTIONS_MAX: Final = 50
DIALOGS_PAGE_MAX: Final = 100
MESSAGES_PAGE_MAX: Final = 100
EVENTS_PAGE_MAX: Final = 1_000
OFFSET_MAX: Final = 10_000
SEQ_MAX: Final = (1 << 31) - 1

DialogType: TypeAlias = Literal["user", "group", "channel", "business"]
MessageType: TypeAlias = Literal[
    "text", "voice", "file", "image", "video", "payment", "location"
]
_TO_THE_END: Final = r"(?!\n)"
"""Behind `$`, which Python would also let match before a last newline."""
_UUID_TEXT: Final = Meta(
    min_length=36, max_length=36, extra_json_schema={"format": "uuid"}
)
IdText: TypeAlias = Annotated[str, _UUID_TEXT]
"""A UUID that is looked up as text and parsed only when it is not found."""
Name: TypeAlias = Annotated[
    str,
    Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$" + _TO_THE_END),
]
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
Cursor: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]

_Url: TypeAlias = Annotated[
    str, Meta(pattern=r"^https?://[^\s\x00-\x1f\x7f]+$" + _TO_THE_END, max_length=2_048)
]
_Pixels: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
_Caption: TypeAlias = Annotated[str, Meta(max_length=1_024)]
_DAY_MS: Final = 86_400_000


class TextContent(Struct, frozen=True, gc=False):
    text: Annotated[str, Meta(min_length=1, max_length=4_096)]


class ImageContent(Struct, frozen=True, gc=False):
    file_url: _Url
    width: _Pixels
    height: _Pixels
    thumbnail_url: _Url | UnsetType = UNSET
    caption: _Caption | UnsetType = UNSET


class VideoContent(Struct, frozen=True, gc=False):
    file_url: _Url
    duration_ms: Annotated[int, Meta(ge=0, le=_DAY_MS)]
    width: _Pixels
    height: _Pixels
    thumbnail_url: _Url | UnsetType = UNSET
    caption: _Caption | UnsetType = UNSET


class VoiceContent(Struct, frozen=True, gc=False):
    """waveform: loudness of equal parts of the recording, for drawing."""

    file_url: _Url
    duration_ms: Annotated[int, Meta(ge=0, le=300_000)]
    waveform: (
        Annotated[list[Annotated[int, Meta(ge=0, le=255)]], Meta(max_length=512)]
        | UnsetType
    ) = UNSET


class FileContent(Struct, frozen=True, gc=False):
    file_url: _Url
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 42)]
    mime_type: Annotated[
        str,
        Meta(pattern=r"^[\w.+-]+/[\w.+-]+(;[ -~]*)?$" + _TO_THE_END, max_length=127),
    ]


class LocationContent(Struct, frozen=True, gc=False):
    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    title: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


CONTENT_TYPES: Final[dict[str, type[Struct]]] = {
    "text": TextContent,
    "image": ImageContent,
    "video": VideoContent,
    "voice": VoiceContent,
    "file": FileContent,
    "location": LocationContent,
}


def _schema_of(type: type[Struct]) -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema(type)["$defs"][type.__name__]
    return schema


_CONTENT_SCHEMA: Final = {"anyOf": [_schema_of(t) for t in CONTENT_TYPES.values()]}
ContentIn: TypeAlias = Annotated[
    dict[str, Any], Meta(extra_json_schema=_CONTENT_SCHEMA)
]
ContentOut: TypeAlias = Annotated[
    Any, Meta(extra_json_schema={"type": "object", "description": "By the type"})
]


class Reaction(Struct, frozen=True, gc=False):
    emoji: str
    user_id: str
    created_at: str


class ReadBy(Struct, frozen=True, gc=False):
    """read_at: when the reader's cursor last moved, so not before it was read."""

    user_id: str
    read_at: str


class Message(Struct, frozen=True, gc=False):
    id: str
    dialog_id: str
    seq: int
    sender_id: str
    type: str
    content: ContentOut
    created_at: str
    reply_to_id: str | UnsetType = UNSET
    mentions: tuple[str, ...] = ()
    is_edited: bool = False
    is_pinned: bool = False
    reactions: tuple[Reaction, ...] = ()
    read_by: tuple[ReadBy, ...] = ()
    edited_at: str | UnsetType = UNSET
    deleted_at: str | UnsetType = UNSET


class Dialog(Struct, frozen=True, gc=False, kw_only=True):
    """As one member sees it; participants: user ids, the first 100 who joined."""

    id: str
    type: DialogType
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    participants: tuple[str, ...]
    member_count: int
    last_message: Message | UnsetType = UNSET
    last_seq: int
    unread_count: int
    is_pinned: bool = False
    is_archived: bool = False
    created_at: str
    updated_at: str


class DialogCreated(
    Struct, frozen=True, gc=False, tag_field="op", tag="dialog.created"
):
    dialog_id: str
    seq: int
    dialog: Dialog


class MessageNew(Struct, frozen=True, gc=False, tag_field="op", tag="message.new"):
    dialog_id: str
    seq: int
    message: Message


class MessageRead(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="message.read",
    omit_defaults=True,
):
    """The user has read everything up to `read_seq`.

    seq: absent in dialogs of more than 100 members, where reading is no event of the
        dialog and only the reader's own devices are told.
    """

    dialog_id: str
    user_id: str
    message_id: str
    read_seq: int
    at: str
    seq: int | UnsetType = UNSET


Event: TypeAlias = DialogCreated | MessageNew | MessageRead


class TypingStarted(Struct, frozen=True, gc=False, tag_field="op", tag="typing.start"):
    dialog_id: str
    user_id: str


class TypingStopped(Struct, frozen=True, gc=False, tag_field="op", tag="typing.stop"):
    dialog_id: str
    user_id: str


class CreateDialog(Struct, frozen=True, kw_only=True):
    """participants: who else; the caller may be among them."""

    type: DialogType
    participants: Annotated[list[UUID], Meta(max_length=GROUP_MEMBERS_MAX)]
    name: Name | UnsetType = UNSET
    avatar: _Url | UnsetType = UNSET


class GetDialog(Struct, frozen=True):
    dialog_id: IdText


class ListDialogs(Struct, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=DIALOGS_PAGE_MAX)] = 20
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX)] = 0
    cursor: Cursor | UnsetType = UNSET
    type: DialogType | UnsetType = UNSET


class DialogPage(Struct, frozen=True):
    """Latest activity first. total: of all pages. next_cursor: absent at the end."""

    dialogs: list[Dialog]
    total: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET


class SendMessage(Struct, frozen=True, gc=False, kw_only=True):
    """client_id: a version 7 UUID made by the client; it names the message for ever.

    A repeat by the same sender in the same dialog gets the first answer, whatever
    else it says.
    """

    dialog_id: IdText
    type: MessageType
    content: ContentIn
    client_id: UUID | UnsetType = UNSET
    reply_to_id: UUID | UnsetType = UNSET
    mentions: Annotated[list[UUID], Meta(max_length=MENTIONS_MAX)] | UnsetType = UNSET


class ListMessages(Struct, frozen=True, kw_only=True):
    """before, after: a message's id; the page is next to it, on that side."""

    dialog_id: IdText
    limit: Annotated[int, Meta(ge=1, le=MESSAGES_PAGE_MAX)] = 50
    before: UUID | UnsetType = UNSET
    after: UUID | UnsetType = UNSET


class MessagePage(Struct, frozen=True):
    """Newest first. has_more: there are more on the side that was asked for."""

    messages: list[Message]
    has_more: bool


class ReadMessages(Struct, frozen=True):
    """Read everything up to this message."""

    message_id: UUID


class ReadState(Struct, frozen=True, gc=False):
    """Where the caller's cursor is now; it only moves forward."""

    dialog_id: str
    read_seq: int
    unread_count: int


class ListEvents(Struct, frozen=True, kw_only=True):
    dialog_id: IdText
    after: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=EVENTS_PAGE_MAX)] = 100


class EventPage(Struct, frozen=True):
    """In `seq` order, without a hole. last_seq: of the dialog."""

    events: list[Event]
    last_seq: int
    has_more: bool


class StartTyping(Struct, frozen=True, gc=False):
    dialog_id: IdText


class StopTyping(Struct, frozen=True, gc=False):
    dialog_id: IdText


class Done(Struct, frozen=True, gc=False):
    """The empty object: it was done, there is nothing to tell."""


class Sync(Struct, frozen=True, kw_only=True):
    """cursor: from the last page; absent on a device that has nothing yet."""

    cursor: Cursor | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=EVENTS_PAGE_MAX)] = 300


class SyncPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every durable event missed, dialog after dialog, in `seq` order within each.

    cursor: give it back, now if `has_more`, else after being away.
    dialogs: only without a cursor, or with one that this server cannot know: forget
        everything and begin with these; the rest is at GET /dialogs with
        `dialogs_cursor`, histories are asked for when they are opened.
    """

    events: list[Event]
    cursor: str
    has_more: bool
    dialogs: list[Dialog] | UnsetType = UNSET
    dialogs_cursor: str | UnsetType = UNSET
