"""Owns what one member sees of a dialog otherwise than others: counts, what is theirs.

Counts are what they are however one came to them: of the numbers of messages up to the
last and up to the cursor, less those that are deleted or hidden above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, UnsetType, structs

from tchatd.domains.messaging.events import (
    DialogCreated,
    Event,
    MemberAdded,
    MemberRemoved,
    MemberRole,
    MessageEdited,
    MessageNew,
    MessageRead,
    OwnState,
)
from tchatd.domains.messaging.member import Hidden, Member, MemberExtra
from tchatd.domains.messaging.message_state import hidden_message
from tchatd.domains.messaging.models import MENTION_SEQS_SHOWN_MAX, Draft, Role
from tchatd.domains.messaging.store import ROLES, STAFF
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339

_NOTHING: Final = BitMap()


def without_hidden(event: Event, hidden: Hidden) -> Event:
    """The event, its message empty if it is hidden: the seq is needed."""
    if isinstance(event, MessageNew | MessageEdited) and event.message.seq in hidden:
        return structs.replace(event, message=hidden_message(event.message))
    return event


def veiled(event: Event, me: str = "") -> Event:
    """The event for who may not see the members: it names nobody but themselves, and
    who becomes an owner or an admin. The seq is needed. me: their id."""
    veil = _VEILS.get(type(event))
    return event if veil is None else veil(event, me)


def _veiled_creation(event: DialogCreated, me: str) -> DialogCreated:
    return structs.replace(event, dialog=structs.replace(event.dialog, participants=()))


def _veiled_coming(event: MemberAdded, me: str) -> MemberAdded:
    if event.role in _STAFF:
        return event
    mine = (me,) if me in event.user_ids else ()
    return structs.replace(event, user_ids=mine, by=_mine(event.by, me))


def _veiled_going(event: MemberRemoved, me: str) -> MemberRemoved:
    if event.user_id == me:
        return event
    return structs.replace(event, user_id=UNSET, by=_mine(event.by, me))


def _veiled_role(event: MemberRole, me: str) -> MemberRole:
    if event.role in _STAFF or event.user_id == me:
        return event
    return structs.replace(event, user_id=UNSET, by=_mine(event.by, me))


def _veiled_reading(event: MessageRead, me: str) -> MessageRead:
    return structs.replace(event, user_id=_mine(event.user_id, me))


def _mine(id: str | UnsetType, me: str) -> str | UnsetType:
    return id if id == me else UNSET


_STAFF: Final = tuple(ROLES[role] for role in STAFF)
_VEILS: Final[dict[type, Callable[[Any, str], Event]]] = {
    DialogCreated: _veiled_creation,
    MessageRead: _veiled_reading,
    MemberAdded: _veiled_coming,
    MemberRemoved: _veiled_going,
    MemberRole: _veiled_role,
}


def unread_count(member: Member, message_count: int, deleted: BitMap | None) -> int:
    """Messages after the member's cursor, but for deleted ones."""
    unread = message_count - member.read_ordinal
    if not unread:
        return 0
    gone = _gone(member.extra, deleted)
    if gone is None:
        return unread
    return unread - len(gone) + gone.rank(member.read_seq)


def unread_mentions(member: Member, deleted: BitMap | None) -> BitMap:
    """Seqs of unread messages that mention the member, but for deleted ones."""
    if member.mentions is None:
        return _NOTHING
    gone = _gone(member.extra, deleted)
    mentions = member.mentions if gone is None else member.mentions - gone
    return mentions[mentions.rank(member.read_seq) :]


def own_state(
    dialog_id: str,
    member: Member,
    last_seq: int,
    message_count: int,
    deleted: BitMap | None,
) -> OwnState:
    """As of an event of the dialog."""
    extra = member.extra
    mentions = unread_mentions(member, deleted)
    return OwnState(
        dialog_id=dialog_id,
        last_seq=last_seq,
        read_seq=member.read_seq,
        unread_count=unread_count(member, message_count, deleted),
        mention_count=len(mentions),
        mention_seqs=shown_seqs(mentions),
        role=role_name(member.role),
        is_pinned=extra.is_pinned,
        is_archived=extra.is_archived,
        muted_until=time_of(extra.muted_until_ms),
        draft=draft_of(extra),
        hidden=ranges_of(bitmap_of(extra.hidden)),
        cleared_seq=extra.cleared_seq,
        silenced_until=time_of(extra.silenced_until_ms),
    )


def shown_seqs(mentions: BitMap) -> tuple[int, ...]:
    return tuple(mentions[-MENTION_SEQS_SHOWN_MAX:])


def _gone(extra: MemberExtra, deleted: BitMap | None) -> BitMap | None:
    """Seqs of messages deleted for everyone or for the member; None for none."""
    hidden = bitmap_of(extra.hidden)
    if hidden is None or deleted is None:
        return hidden or deleted
    return deleted | hidden


def role_name(role: int) -> Role:
    return ROLES[role]


def draft_of(extra: MemberExtra) -> Draft | UnsetType:
    draft = extra.draft
    if draft is None:
        return UNSET
    reply_to = UNSET if draft.reply_to_id is None else draft.reply_to_id
    return Draft(draft.text, reply_to, rfc3339(draft.at_ms))


def time_of(at_ms: int) -> str | UnsetType:
    return rfc3339(at_ms) if at_ms else UNSET


def bitmap_of(stored: bytes | None) -> BitMap | None:
    return None if stored is None else BitMap.deserialize(stored)


def ranges_of(seqs: BitMap | None) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for seq in seqs or ():
        if found and found[-1][1] == seq - 1:
            found[-1] = found[-1][0], seq
        else:
            found.append((seq, seq))
    return tuple(found)
