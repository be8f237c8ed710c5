"""Owns what clients see of dialogs and messages, and what they may ask.

Ids and times are text here, already formatted: a struct is encoded as it is, in JSON
and MessagePack alike. Lists are tuples, so that the empty one is shared.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.domains.messaging.content import (
    TO_THE_END,
    Buttons,
    ContentIn,
    ContentOut,
    Forward,
    TypeIn,
    TypeOut,
    Url,
)
from tchatd.domains.messaging.settings import PLAIN, DialogSettings

MEMBERS_SHOWN_MAX: Final = 100
"""Members that a dialog lists, and up to which reading is an event of its own."""
GROUP_MEMBERS_MAX: Final = 5_000
CHANNEL_MEMBERS_MAX: Final = 200_000
BUSINESS_MEMBERS_MAX: Final = 100
REACTION_KINDS_MAX: Final = 20
REACTIONS_SHOWN_MAX: Final = 100
THREAD_PEOPLE_SHOWN_MAX: Final = 10
PINS_MAX: Final = 100
MENTION_SEQS_SHOWN_MAX: Final = 1_000
DRAFT_MAX: Final = 4_096
MENTIONS_MAX: Final = 50
DIALOGS_PAGE_MAX: Final = 100
MESSAGES_PAGE_MAX: Final = 100
EVENTS_PAGE_MAX: Final = 1_000
OFFSET_MAX: Final = 10_000
SEQ_MAX: Final = (1 << 31) - 1

DialogType: TypeAlias = Literal["user", "group", "channel", "business"]
Role: TypeAlias = Literal["owner", "admin", "member", "guest"]
_UUID_TEXT: Final = Meta(
    min_length=36, max_length=36, extra_json_schema={"format": "uuid"}
)
IdText: TypeAlias = Annotated[str, _UUID_TEXT]
"""A UUID that is looked up as text and parsed only when it is not found."""
Name: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]*$" + TO_THE_END,
        description="text without control characters",
    ),
]
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
Cursor: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]


class Reaction(Struct, frozen=True, gc=False):
    emoji: str
    user_id: str
    created_at: str


class ReadBy(Struct, frozen=True, gc=False):
    """read_at: when the reader's cursor last moved, so not before it was read."""

    user_id: str
    read_at: str


class ReactionCount(Struct, frozen=True, gc=False):
    emoji: str
    count: int


class Thread(Struct, frozen=True, gc=False):
    """Under a message. participants: the first 10 who wrote in it; deleted messages
    are not counted. seq: of the latest event that is counted."""

    count: int
    last_message_id: str
    last_at: str
    participants: tuple[str, ...]
    seq: int = 0


class PollResults(Struct, frozen=True, gc=False):
    """counts: by option, in the poll's order. voters: people, whatever they chose.
    chosen: by the caller, where messages are read; not in events, which all get."""

    counts: tuple[int, ...]
    voters: int
    is_closed: bool = False
    chosen: tuple[int, ...] | UnsetType = UNSET


class Draft(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a member has begun to write, for their other devices."""

    text: Annotated[str, Meta(max_length=DRAFT_MAX)]
    reply_to_id: str | UnsetType = UNSET
    saved_at: str | UnsetType = UNSET


class Message(Struct, frozen=True, gc=False):
    """reactions: the first 100 of them; reaction_counts: of all, by emoji.

    A deleted message has no content, reactions, mentions or buttons any more.
    is_hidden: in a log, of one that the caller has deleted for themselves, and of which
    nothing is said; elsewhere it is left out.
    """

    id: str
    dialog_id: str
    seq: int
    sender_id: str
    type: TypeOut
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
    reaction_counts: tuple[ReactionCount, ...] | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET
    thread: Thread | UnsetType = UNSET
    forward: Forward | UnsetType = UNSET
    poll: PollResults | UnsetType = UNSET
    buttons: Buttons | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    is_hidden: bool | UnsetType = UNSET


class Dialog(Struct, frozen=True, gc=False, kw_only=True):
    """As one member sees it.

    participants: user ids, up to 100 of the members. role: the caller's. What the
    caller keeps for themselves (is_pinned, draft, …) is in it, too, as in OwnState.
    All of it is as of last_seq.
    """

    id: str
    type: DialogType
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    participants: tuple[str, ...]
    member_count: int
    last_message: Message | UnsetType = UNSET
    last_seq: int
    unread_count: int
    mention_count: int = 0
    read_seq: int = 0
    role: Role = "member"
    is_pinned: bool = False
    is_archived: bool = False
    muted_until: str | UnsetType = UNSET
    draft: Draft | UnsetType = UNSET
    pinned_message_ids: tuple[str, ...] = ()
    settings: DialogSettings = PLAIN
    mention_seqs: tuple[int, ...] | UnsetType = UNSET
    hidden: tuple[tuple[int, int], ...] | UnsetType = UNSET
    cleared_seq: int | UnsetType = UNSET
    silenced_until: str | UnsetType = UNSET
    created_at: str
    updated_at: str


class CreateDialog(Struct, frozen=True, kw_only=True):
    """participants: who else; the caller may be among them."""

    type: DialogType
    participants: Annotated[list[UUID], Meta(max_length=GROUP_MEMBERS_MAX)]
    name: Name | UnsetType = UNSET
    avatar: Url | UnsetType = UNSET
    settings: DialogSettings | UnsetType = UNSET


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
    else it says. thread_id: the message under which it is said. buttons: bots only.
    """

    dialog_id: IdText
    type: TypeIn
    content: ContentIn
    client_id: UUID | UnsetType = UNSET
    reply_to_id: UUID | UnsetType = UNSET
    mentions: Annotated[list[UUID], Meta(max_length=MENTIONS_MAX)] | UnsetType = UNSET
    thread_id: UUID | UnsetType = UNSET
    buttons: Buttons | UnsetType = UNSET


class ListMessages(Struct, frozen=True, kw_only=True):
    """before, after: a message's id; the page is next to it, on that side."""

    dialog_id: IdText
    limit: Annotated[int, Meta(ge=1, le=MESSAGES_PAGE_MAX)] = 50
    before: UUID | UnsetType = UNSET
    after: UUID | UnsetType = UNSET


class MessagePage(Struct, frozen=True):
    """Newest first. has_more: there are more on the side that was asked for. last_seq:
    of the dialog; the messages are as of this event."""

    messages: list[Message]
    has_more: bool
    last_seq: int


class ReadMessages(Struct, frozen=True):
    """Read everything up to this message."""

    message_id: UUID


class ReadState(Struct, frozen=True, gc=False):
    """Where the caller's cursor is now; it only moves forward.

    last_seq: of the dialog; after a reading that was an event it is that event's.
    """

    dialog_id: str
    read_seq: int
    unread_count: int
    last_seq: int


class ListEvents(Struct, frozen=True, kw_only=True):
    dialog_id: IdText
    after: Seq = 0
    limit: Annotated[int, Meta(ge=1, le=EVENTS_PAGE_MAX)] = 100


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
