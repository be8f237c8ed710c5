"""Owns the ports of people: what it needs of stores, of sign-in and of presence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from msgspec import UnsetType

from tchatd.domains.people.models import (
    Card,
    ChangePrivacy,
    Circle,
    LastSeenAbout,
    Relation,
    Status,
)


class PeopleStore(Protocol):
    """Every change returns the whole circle after it, with a higher version."""

    async def circles(self, numbers: Sequence[int]) -> Mapping[int, Circle]:
        """Of those who ever decided anything."""
        ...

    async def change_privacy(self, number: int, change: ChangePrivacy) -> Circle:
        """By `rules.changed`, one change after the other."""
        ...

    async def add_contacts(
        self, number: int, contacts: Sequence[int], now_ms: int, contacts_max: int
    ) -> Circle | None:
        """Those who are there already stay as they are. None: there would be more
        than `contacts_max`, and nothing was added.
        """
        ...

    async def remove_contacts(self, number: int, contacts: Sequence[int]) -> Circle: ...

    async def contacts(self, number: int, after: int, limit: int) -> list[Relation]:
        """Above the number `after`, in ascending order."""
        ...

    async def add_blocks(
        self, number: int, blocked: Sequence[int], now_ms: int, blocks_max: int
    ) -> Circle | None:
        """As `add_contacts`."""
        ...

    async def remove_blocks(self, number: int, blocked: Sequence[int]) -> Circle: ...

    async def blocks(self, number: int, after: int, limit: int) -> list[Relation]: ...

    async def preferences(self, number: int) -> bytes | None: ...

    async def set_preferences(self, number: int, preferences: bytes) -> None: ...


class CircleLoader(Protocol):
    """Asks the `PeopleStore`, many waiting callers by one query."""

    async def circles(self, numbers: Sequence[int]) -> Mapping[int, Circle]: ...


class Users(Protocol):
    """What sign-in knows of people. Erased ones are in no answer."""

    async def cards(self, numbers: Sequence[int]) -> Mapping[int, Card]: ...

    async def numbers_of_phones(self, phones: Sequence[str]) -> Mapping[str, int]:
        """By the text given; what is no number, or nobody's, is left out."""
        ...


class Directory(Protocol):
    """Dense user numbers of public ids, cached."""

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]: ...


class Seen(Protocol):
    """When somebody is and was here, as one viewer may know it. Times are text."""

    @property
    def status(self) -> Status: ...

    @property
    def last_seen(self) -> str | UnsetType: ...

    @property
    def last_seen_about(self) -> LastSeenAbout | UnsetType: ...


class Presence(Protocol):
    async def look(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, Seen]:
        """Every one of `numbers`."""
        ...

    async def reconsider(self, number: int) -> None:
        """Who may see this user, or whom they may see, has changed."""
        ...
