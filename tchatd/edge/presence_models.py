"""Owns the shapes of presence on the wire, and how roughly a last time is told."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

LISTED_MAX: Final = 100
WATCHED_AT_ONCE_MAX: Final = 500
_DAY_MS: Final = 86_400_000

Status = Literal["online", "away", "busy", "offline"]
LastSeenAbout = Literal["recently", "within_week", "within_month", "long_ago"]

_ABOUT: Final[tuple[tuple[int, LastSeenAbout], ...]] = (
    (3, "recently"),
    (7, "within_week"),
    (30, "within_month"),
)


class SetPresence(Struct, frozen=True):
    status: Status


class WatchPresence(Struct, frozen=True):
    """user_ids: these people, beside those watched already. dialog_id: the other
    members of a dialog that is open on the screen.
    """

    user_ids: (
        Annotated[list[UUID], Meta(min_length=1, max_length=WATCHED_AT_ONCE_MAX)]
        | UnsetType
    ) = UNSET
    dialog_id: UUID | UnsetType = UNSET


class UnwatchPresence(Struct, frozen=True):
    """Without either: everybody."""

    user_ids: (
        Annotated[list[UUID], Meta(max_length=WATCHED_AT_ONCE_MAX)] | UnsetType
    ) = UNSET
    dialog_id: UUID | UnsetType = UNSET


class ListPresence(Struct, frozen=True):
    user_ids: Annotated[list[UUID], Meta(min_length=1, max_length=LISTED_MAX)]


class Seen(Struct, frozen=True, gc=False):
    """One user as one viewer may see them. last_seen: when an offline user was last
    here, if it is known; last_seen_about: roughly, where the viewer may know no more.
    """

    status: Status
    last_seen: str | UnsetType = UNSET
    last_seen_about: LastSeenAbout | UnsetType = UNSET


class PresenceOf(Struct, frozen=True, gc=False):
    user_id: str
    status: Status
    last_seen: str | UnsetType = UNSET
    last_seen_about: LastSeenAbout | UnsetType = UNSET


class PresenceList(Struct, frozen=True):
    """online_count: of the dialog's members, the caller among them."""

    presence: list[PresenceOf]
    online_count: int | UnsetType = UNSET


class PresenceSet(Struct, frozen=True):
    """status: as others see it now."""

    status: Status


class Unwatched(Struct, frozen=True):
    """watched: how many this connection still watches."""

    watched: int


class PresenceUpdate(
    Struct, frozen=True, gc=False, tag="presence.update", tag_field="op"
):
    user_id: str
    status: Status
    last_seen: str | UnsetType = UNSET
    last_seen_about: LastSeenAbout | UnsetType = UNSET


def about(seen_ms: int | None, now_ms: int) -> LastSeenAbout:
    """Roughly when it was; who never was here looks like who left long ago."""
    for days, word in _ABOUT:
        if seen_ms is not None and now_ms - seen_ms <= days * _DAY_MS:
            return word
    return "long_ago"
