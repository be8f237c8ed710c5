"""Owns what clients see of who is in a dialog, and what they may ask about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tchatd.domains.messaging.content import Url
from tchatd.domains.messaging.models import DRAFT_MAX, Cursor, IdText, Name, Role
from tchatd.domains.messaging.settings import SHOWN, Least, PublicName
from tchatd.kernel.clock import moment_ms

MEMBERS_PAGE_MAX: Final = 100
ADDED_MAX: Final = 1_000
"""People whom one call adds."""
BANNED_MAX: Final = 10_000
"""People whom one dialog bans."""

Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]


class DialogMember(Struct, frozen=True, gc=False, omit_defaults=True):
    """read_seq, delivered_seq: in dialogs of up to 100 members. joined_seq: of the
    event by which they came; absent of those who are in from the beginning.
    silenced_until: shown to the member, and to whoever may silence.
    """

    user_id: str
    role: Role
    joined_seq: int | UnsetType = UNSET
    read_seq: int | UnsetType = UNSET
    delivered_seq: int | UnsetType = UNSET
    silenced_until: str | UnsetType = UNSET


class ListMembers(Struct, frozen=True, kw_only=True):
    """role: only those who have it."""

    dialog_id: IdText
    limit: Annotated[int, Meta(ge=1, le=MEMBERS_PAGE_MAX)] = 50
    cursor: Cursor | UnsetType = UNSET
    role: Role | UnsetType = UNSET


class MemberPage(Struct, frozen=True):
    """member_count: of the dialog. next_cursor: absent at the end; before it a page
    may have fewer members than were asked for."""

    members: list[DialogMember]
    member_count: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET


class AddMembers(Struct, frozen=True, kw_only=True):
    """Who is in already is passed over. role: admin only by who may promote; nobody
    is made an owner by it."""

    dialog_id: IdText
    user_ids: Annotated[list[UUID], Meta(min_length=1, max_length=ADDED_MAX)]
    role: Role = "member"


class ChangeMember(Struct, frozen=True, kw_only=True):
    """role: "owner" hands the dialog over, and the caller is an admin from then on;
    without `hands_over` both are owners. silenced_until: null ends it.
    """

    dialog_id: IdText
    user_id: UUID
    role: Role | UnsetType = UNSET
    hands_over: bool = True
    silenced_until: Moment | UnsetType | None = UNSET


class RemoveMember(Struct, frozen=True, kw_only=True):
    """Of oneself: to leave. ban: they cannot come back until that is ended."""

    dialog_id: IdText
    user_id: UUID
    ban: bool = False


class ListBans(Struct, frozen=True, kw_only=True):
    dialog_id: IdText
    limit: Annotated[int, Meta(ge=1, le=MEMBERS_PAGE_MAX)] = 50
    cursor: Cursor | UnsetType = UNSET


class BanPage(Struct, frozen=True):
    """total: of all pages."""

    user_ids: list[str]
    total: int
    has_more: bool
    next_cursor: str | UnsetType = UNSET


class BanUser(Struct, frozen=True):
    """A member is removed by it."""

    dialog_id: IdText
    user_id: UUID


class EndBan(Struct, frozen=True):
    dialog_id: IdText
    user_id: UUID


class SettingsChange(Struct, frozen=True, kw_only=True):
    """What is absent stays. null: as the dialog's type has it. public_name,
    assignee_id and is_closed have routes of their own."""

    description: Annotated[str, Meta(max_length=1_000)] | UnsetType = UNSET
    who_may_write: Least | UnsetType | None = UNSET
    who_may_add: Least | UnsetType | None = UNSET
    who_may_pin: Least | UnsetType | None = UNSET
    slow_mode_s: Annotated[int, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    vanish_after_s: Annotated[int, Meta(ge=0, le=31_536_000)] | UnsetType = UNSET
    needs_approval: bool | UnsetType = UNSET
    public_name: Annotated[PublicName | UnsetType | None, SHOWN] = UNSET
    assignee_id: Annotated[str | UnsetType | None, SHOWN] = UNSET
    is_closed: Annotated[bool | UnsetType, SHOWN] = UNSET


class ChangeDialog(Struct, frozen=True, kw_only=True):
    """What is absent stays. avatar: null takes it away."""

    dialog_id: IdText
    name: Name | UnsetType = UNSET
    avatar: Url | UnsetType | None = UNSET
    settings: SettingsChange | UnsetType = UNSET


class DropDialog(Struct, frozen=True):
    dialog_id: IdText


class ChangeOwn(Struct, frozen=True, kw_only=True):
    """What the caller keeps for themselves; what is absent stays. muted_until: null
    ends it."""

    dialog_id: IdText
    is_pinned: bool | UnsetType = UNSET
    is_archived: bool | UnsetType = UNSET
    muted_until: Moment | UnsetType | None = UNSET


class SaveDraft(Struct, frozen=True, kw_only=True):
    """An empty text deletes it."""

    dialog_id: IdText
    text: Annotated[str, Meta(max_length=DRAFT_MAX)]
    reply_to_id: UUID | UnsetType = UNSET


def until_ms(moment: datetime | None, now_ms: int) -> int:
    """Milliseconds since 1970; 0 of none, and of one that is over."""
    if moment is None:
        return 0
    at_ms = moment_ms(moment)
    return at_ms if at_ms > now_ms else 0
