"""Owns the rules of who sees what of whom: pure functions, and their limits."""

from __future__ import annotations

from typing import Any

import msgspec

from tchatd.domains.people.errors import PreferencesTooLarge
from tchatd.domains.people.models import (
    PREFERENCES_BYTES_MAX,
    Audience,
    ChangePrivacy,
    Circle,
    Privacy,
    Sight,
)


class PeopleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit of people. circles_max: privacy, contacts and blocks of so many
    users who decided anything are kept in memory; plain_max: of who never did.
    """

    contacts_max: int = 5_000
    blocks_max: int = 1_000
    phones_per_user_day: int = 5_000
    changes_per_user_minute: int = 60
    reads_per_user_minute: int = 600
    circles_max: int = 50_000
    plain_max: int = 1_000_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")


def admits(audience: Audience, owner: Circle, viewer: int) -> bool:
    """Whether `viewer` is of the owner's audience; who is blocked never is."""
    if viewer in owner.blocked:
        return False
    if audience == "contacts":
        return viewer in owner.contacts
    return audience == "everyone"


def sight(
    viewer: int, viewer_circle: Circle, target: int, target_circle: Circle
) -> Sight:
    """How well `viewer` sees when `target` is and was here.

    Who hides it from somebody does not see it of them either, as in Telegram. Who is
    blocked sees nothing; who blocks still sees what they may.
    """
    if viewer == target:
        return "exact"
    if viewer in target_circle.blocked:
        return "nothing"
    hidden = not admits(target_circle.privacy.last_seen, target_circle, viewer)
    audience = viewer_circle.privacy.last_seen
    hides = audience == "nobody" or (
        audience == "contacts" and target not in viewer_circle.contacts
    )
    return "coarse" if hidden or hides else "exact"


def changed(privacy: Privacy, command: ChangePrivacy) -> Privacy:
    given = {
        name: value
        for name in command.__struct_fields__
        if (value := getattr(command, name)) is not msgspec.UNSET
    }
    return msgspec.structs.replace(privacy, **given)


def preferences_text(preferences: dict[str, Any]) -> bytes:
    """As they are kept. Raises: PreferencesTooLarge."""
    text = msgspec.json.encode(preferences)
    if len(text) > PREFERENCES_BYTES_MAX:
        raise PreferencesTooLarge(f"At most {PREFERENCES_BYTES_MAX} bytes of JSON.")
    return text
