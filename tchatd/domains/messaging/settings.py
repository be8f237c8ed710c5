"""Owns how a dialog is set for all of its members, and what a role may do in it.

Who may do what is a table (`may`), so that a test can go through all of it: a role's
rights by the dialog's type, then what the dialog's settings move.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.domains.messaging.content import TO_THE_END
from tchatd.domains.messaging.store import ADMIN, GUEST, MEMBER, OWNER, TYPES

Least: TypeAlias = Literal["owner", "admin", "member", "guest"]
"""The least role that may."""
PublicName: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_]{4,31}$" + TO_THE_END,
        description="5 to 32 of a-z, 0-9 and _, a letter first",
    ),
]

SHOWN: Final = Meta(extra_json_schema={"readOnly": True})
"""Of a setting that has a route of its own; sent unchanged, it is taken."""


class DialogSettings(Struct, frozen=True, gc=False, omit_defaults=True):
    """who_may_*: absent leaves it to the dialog's type.

    slow_mode_s: between two messages of one member; owners and admins are free of it.
    vanish_after_s: after which a message, sent from then on, is gone; 0 never.
    needs_approval: somebody who comes by an invite link waits for an admin.
    assignee_id: who of a business answers; is_closed: its conversation has ended.
    """

    description: Annotated[str, Meta(max_length=1_000)] = ""
    who_may_write: Least | UnsetType = UNSET
    who_may_add: Least | UnsetType = UNSET
    who_may_pin: Least | UnsetType = UNSET
    slow_mode_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    vanish_after_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 0
    needs_approval: bool = False
    public_name: Annotated[PublicName | UnsetType, SHOWN] = UNSET
    assignee_id: Annotated[str | UnsetType, SHOWN] = UNSET
    is_closed: Annotated[bool, SHOWN] = False


PLAIN: Final = DialogSettings()
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(DialogSettings, strict=False).decode


def settings_bytes(settings: DialogSettings) -> bytes | None:
    """As stored; None for all of the defaults."""
    return None if settings == PLAIN else _encode(settings)


def settings_of(stored: bytes | None) -> DialogSettings:
    return PLAIN if stored is None else _decode(stored)


# Rights, one bit each.
WRITE: Final = 1 << 0
REACT: Final = 1 << 1
ADD: Final = 1 << 2
REMOVE: Final = 1 << 3
PIN: Final = 1 << 4
INVITE: Final = 1 << 5
DELETE_ANY: Final = 1 << 6
SILENCE: Final = 1 << 7
SET_PROFILE: Final = 1 << 8
PROMOTE: Final = 1 << 9
HAND_OVER: Final = 1 << 10
DROP: Final = 1 << 11
LEAVE: Final = 1 << 12
ASSIGN: Final = 1 << 13
SEE_MEMBERS: Final = 1 << 14
ALL_RIGHTS: Final = (1 << 15) - 1
WRITE_FREELY: Final = 1 << 15
"""No right of its own: WRITE where nothing else of the dialog has to be looked at, so
that sending asks one question."""

_BASIC: Final = WRITE | REACT | LEAVE | SEE_MEMBERS
_ADMIN: Final = (
    _BASIC | ADD | REMOVE | PIN | INVITE | DELETE_ANY | SILENCE | SET_PROFILE | ASSIGN
)
_RANK: Final = {"guest": 0, "member": 1, "admin": 2, "owner": 3}
RANKS: Final = {GUEST: 0, MEMBER: 1, ADMIN: 2, OWNER: 3}
"""Nobody touches somebody of equal or higher rank."""

RIGHTS: Final[dict[str, dict[int, int]]] = {
    "user": {
        MEMBER: WRITE | REACT | PIN | SEE_MEMBERS | DROP | SET_PROFILE,
        OWNER: 0,
        ADMIN: 0,
        GUEST: 0,
    },
    "group": {
        MEMBER: _BASIC | ADD | PIN,
        OWNER: ALL_RIGHTS & ~ASSIGN,
        ADMIN: (_ADMIN | PROMOTE) & ~ASSIGN,
        GUEST: _BASIC & ~SEE_MEMBERS,
    },
    "channel": {
        MEMBER: REACT | LEAVE,
        OWNER: ALL_RIGHTS & ~ASSIGN,
        ADMIN: _ADMIN & ~ASSIGN,
        GUEST: LEAVE,
    },
    "business": {
        MEMBER: _BASIC | PIN | ASSIGN,
        OWNER: ALL_RIGHTS,
        ADMIN: _ADMIN | PROMOTE,
        GUEST: _BASIC,
    },
}
"""By type and role. In a dialog of two both are members and set only what vanishes."""
_SLOWED: Final = (MEMBER, GUEST)
_MOVABLE: Final = (("who_may_write", WRITE), ("who_may_add", ADD), ("who_may_pin", PIN))

assert set(RIGHTS) == set(TYPES)


def sees_members(type: int, role: int) -> bool:
    """Whether this role is told who the others are; no setting moves it."""
    return RIGHTS[TYPES[type]][role] & SEE_MEMBERS != 0


def rights(type: int, settings: DialogSettings) -> tuple[int, int, int, int]:
    """What each role may, by the role's number."""
    table = RIGHTS[TYPES[type]]
    found = []
    is_settable = TYPES[type] != "user"
    for role in range(4):
        mine = table[role]
        if is_settable:
            for name, right in _MOVABLE:
                least = getattr(settings, name)
                if least is not UNSET:
                    allowed = RANKS[role] >= _RANK[least]
                    mine = mine | right if allowed else mine & ~right
        is_slowed = is_settable and settings.slow_mode_s and role in _SLOWED
        if mine & WRITE and not is_slowed:
            mine |= WRITE_FREELY
        found.append(mine)
    return found[0], found[1], found[2], found[3]
