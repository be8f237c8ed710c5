"""Owns what clients ask of search and are answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field

HITS_PAGE_MAX: Final = 50
QUERY_CHARS_MAX: Final = 200

Words: TypeAlias = Annotated[str, Meta(min_length=1, max_length=QUERY_CHARS_MAX)]
PageSize: TypeAlias = Annotated[int, Meta(ge=1, le=HITS_PAGE_MAX)]
MessageType: TypeAlias = Literal[
    "text", "voice", "file", "image", "video", "payment", "location", "poll", "system"
]
_Object: TypeAlias = Annotated[Any, Meta(extra_json_schema={"type": "object"})]
_Time: TypeAlias = Annotated[datetime, Meta(tz=True)]


class SearchMessages(Struct, frozen=True, kw_only=True):
    """since: the wire's `from`; not before it, and before `until`."""

    q: Words
    dialog_id: UUID | UnsetType = UNSET
    type: MessageType | UnsetType = UNSET
    since: _Time | UnsetType = field(name="from", default=UNSET)
    until: _Time | UnsetType = UNSET
    sender_id: UUID | UnsetType = UNSET
    limit: PageSize = 20
    cursor: Annotated[str, Meta(min_length=1, max_length=40)] | UnsetType = UNSET


class Highlight(Struct, frozen=True, gc=False):
    """field: of the message's content; `options/2` is the third option of a poll.
    ranges: [first, last) in characters (code points) of it."""

    field: str
    ranges: tuple[tuple[int, int], ...]


class MessageHit(Struct, frozen=True, gc=False):
    """message: as GET /messages/{id} answers, without read_by."""

    message: _Object
    dialog_id: str
    highlights: tuple[Highlight, ...] | UnsetType = UNSET


class MessageHits(Struct, frozen=True):
    """The latest first; those that match but for marks or slips after all others.

    next_cursor: absent at the end.
    """

    hits: list[MessageHit]
    next_cursor: str | UnsetType = UNSET


class SearchDialogs(Struct, frozen=True, kw_only=True):
    q: Words
    limit: PageSize = 20


class FoundChannel(Struct, frozen=True, gc=False):
    """A channel with a public name that the caller is not in."""

    dialog_id: str
    public_name: str
    name: str | UnsetType
    avatar: str | UnsetType
    description: str
    member_count: int


class DialogHits(Struct, frozen=True):
    """dialogs: the caller's own, as GET /dialogs/{id} answers."""

    dialogs: list[_Object]
    channels: list[FoundChannel]


class SearchPeople(Struct, frozen=True, kw_only=True):
    """q: a name, or a whole phone number or email address."""

    q: Words
    limit: PageSize = 20


class PeopleHits(Struct, frozen=True):
    """As GET /users/{id} answers; whom the caller knows first."""

    people: list[_Object]
