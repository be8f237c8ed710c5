"""Owns the shapes of privacy, contacts, blocks and public profiles.

`Privacy` is also how it is stored: fields are appended, each with its default.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

BATCH_MAX: Final = 100
PREFERENCES_BYTES_MAX: Final = 8_192

Audience = Literal["everyone", "contacts", "nobody"]
"""contacts: those whom the person has among their own contacts."""

Sight = Literal["exact", "coarse", "nothing"]
"""How well somebody sees when another is here."""

Status = Literal["online", "away", "busy", "offline"]
LastSeenAbout = Literal["recently", "within_week", "within_month", "long_ago"]


class Privacy(Struct, frozen=True, omit_defaults=False):
    """Who may see or do what.

    last_seen: when they are and were here; who hides it does not see that of those
    whom it is hidden from. groups: who may add them to a group or channel.
    findable: whether search finds them by name. findable_by_phone: who may add them
    as a contact by their number.
    """

    last_seen: Audience = "everyone"
    profile_photo: Audience = "everyone"
    phone: Audience = "contacts"
    findable_by_phone: Audience = "everyone"
    groups: Audience = "everyone"
    findable: bool = True


class ChangePrivacy(Struct, frozen=True, kw_only=True):
    """What is absent stays."""

    last_seen: Audience | UnsetType = UNSET
    profile_photo: Audience | UnsetType = UNSET
    phone: Audience | UnsetType = UNSET
    findable_by_phone: Audience | UnsetType = UNSET
    groups: Audience | UnsetType = UNSET
    findable: bool | UnsetType = UNSET


class Numbers:
    """A small sorted set of user numbers: 4 bytes each, never changed in place."""

    __slots__ = ("_sorted",)

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._sorted = array("I", sorted(numbers))

    def __contains__(self, number: int) -> bool:
        place = bisect_left(self._sorted, number)
        return place < len(self._sorted) and self._sorted[place] == number

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and self._sorted == other._sorted


class Circle(Struct, frozen=True):
    """What one person decided about others. version: rises with each change of it."""

    version: int
    privacy: Privacy
    contacts: Numbers
    blocked: Numbers


PLAIN: Final = Circle(0, Privacy(), Numbers(), Numbers())
"""Of everybody who never decided anything."""


class Card(Struct, frozen=True):
    """What sign-in knows of a person and others may see, privacy allowing."""

    number: int
    id: str
    name: str
    avatar: str | None
    phone: str | None
    is_verified: bool
    is_bot: bool = False


class Relation(Struct, frozen=True):
    """A row of a list of contacts or blocks."""

    number: int
    added_ms: int


# On the wire.


class Nothing(Struct, frozen=True):
    """A command without input."""


class Done(Struct, frozen=True):
    success: bool = True


class GetPerson(Struct, frozen=True):
    id: UUID


class PublicProfile(Struct, frozen=True, kw_only=True):
    """A person as the caller may see them.

    last_seen: of who is offline; where it is not for the caller to see,
    last_seen_about says it roughly. is_contact, is_blocked: in the caller's own lists.
    is_bot: there, and true, of a program.
    """

    id: str
    name: str
    status: Status
    is_verified: bool
    is_contact: bool
    is_blocked: bool
    avatar: str | UnsetType = UNSET
    phone: str | UnsetType = UNSET
    last_seen: str | UnsetType = UNSET
    last_seen_about: LastSeenAbout | UnsetType = UNSET
    is_bot: bool | UnsetType = UNSET


PhoneText = Annotated[str, Meta(min_length=4, max_length=16)]
UserIds = Annotated[list[UUID], Meta(min_length=1, max_length=BATCH_MAX)]


class ListPeople(Struct, frozen=True, kw_only=True):
    """after: the last `id` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=BATCH_MAX)] = 50
    after: UUID | None = None


class PersonPage(Struct, frozen=True):
    """total: of the whole list."""

    people: list[PublicProfile]
    total: int
    has_more: bool


class AddContacts(Struct, frozen=True, kw_only=True):
    """Either of them or both; whoever is unknown is left out of the answer."""

    user_ids: Annotated[list[UUID], Meta(max_length=BATCH_MAX)] = []
    phones: Annotated[list[PhoneText], Meta(max_length=BATCH_MAX)] = []


class AddedContact(Struct, frozen=True, kw_only=True):
    """phone: the one it was found by, as it was given."""

    person: PublicProfile
    phone: str | UnsetType = UNSET


class AddedContacts(Struct, frozen=True):
    contacts: list[AddedContact]
    total: int


class AddBlocks(Struct, frozen=True, kw_only=True):
    user_ids: UserIds


class RemovePeople(Struct, frozen=True, kw_only=True):
    user_ids: UserIds


class ListTotal(Struct, frozen=True):
    """How many the list has now."""

    total: int


class SetPreferences(Struct, frozen=True, kw_only=True):
    """All of them: what is absent is gone."""

    preferences: dict[str, Any]


class Preferences(Struct, frozen=True):
    preferences: msgspec.Raw


privacy_encode = msgspec.msgpack.Encoder().encode
privacy_decode = msgspec.msgpack.Decoder(Privacy).decode
