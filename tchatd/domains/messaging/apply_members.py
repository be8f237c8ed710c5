"""Owns how records change who is in a dialog, how it is set, and what a member keeps.

Every function is one record's effect on a loaded dialog; what it needs is there
(`needs`). Bitmaps of members are replaced, never changed: entries hold on to them.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from tchatd.domains.messaging.dialog import DialogState, texts_of
from tchatd.domains.messaging.entry import Changes, Entry
from tchatd.domains.messaging.events import (
    DialogCreated,
    DialogDeleted,
    DialogUpdated,
    MemberAdded,
    MemberRemoved,
    MemberRole,
    MessageDelivered,
    OwnState,
)
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.member import PLAIN, Member, MemberExtra, extra_of
from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX, Done
from tchatd.domains.messaging.records import (
    AddRecord,
    BanRecord,
    DeliverRecord,
    DropRecord,
    MembershipChange,
    OwnChange,
    OwnRecord,
    ProfileRecord,
    RemoveRecord,
    RestrictRecord,
    RoleRecord,
)
from tchatd.domains.messaging.settings import settings_of
from tchatd.domains.messaging.store import (
    ADMIN,
    DIALOG_DELETED,
    DIALOG_UPDATED,
    MEMBER_ADDED,
    MEMBER_REMOVED,
    MEMBER_ROLE,
    OWN,
    ROLES,
    STAFF,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339


def add(dialog: DialogState, record: AddRecord, position: int) -> Entry:
    """Who comes has read everything so far, and finds the dialog new.

    Who comes back keeps what they have sent (client_ids name messages for ever), what
    they had deleted for themselves, and a silence that a moderator has laid on them,
    but not in a role where nobody may be left who could end it.
    """
    added = BitMap.deserialize(record.added)
    before = dialog.members
    assert added
    assert not added & before
    seq = dialog.next_event(position)
    dialog.members = before | added
    dialog.set_participants(record.participants)
    rows = []
    for number in added:
        member = dialog.by_number.get(number)
        if member is None:
            member = dialog.by_number[number] = Member()
        _join(member, record.role, seq, dialog.message_count, record.at_ms, position)
        rows.append(member.row(dialog.number, number))
    event = MemberAdded(
        dialog.id,
        seq,
        texts_of(record.added_ids),
        len(added),
        ROLES[record.role],
        uuid_text(record.actor_id),
        len(dialog.members),
        rfc3339(record.at_ms),
    )
    audience, others = dialog.audiences(event, before)
    changes = Changes(
        profile=dialog.profile(),
        members=tuple(rows),
        told=(*_newcomers(dialog, added, seq), *others),
    )
    answer: Any = event
    if record.actor in added:  # they came by themselves
        answer = dialog.view(dialog.by_number[record.actor])
    return _entry(
        dialog, record, position, MEMBER_ADDED, event, audience, answer, changes
    )


def _newcomers(
    dialog: DialogState, added: BitMap, seq: int
) -> tuple[tuple[BitMap, DialogCreated], ...]:
    """What they are told: all who keep nothing for themselves one thing, each other one
    what is theirs alone."""
    own = [n for n in added if dialog.by_number[n].extra != PLAIN]
    plain = added - BitMap(own)
    groups = [BitMap((number,)) for number in own]
    if plain:
        groups.append(plain)
    return tuple(
        (group, DialogCreated(dialog.id, seq, dialog.view(dialog.by_number[group[0]])))
        for group in groups
    )


def _join(
    member: Member, role: int, seq: int, count: int, at_ms: int, position: int
) -> None:
    member.role = role
    member.read_seq, member.read_ordinal, member.read_at_ms = seq, count, at_ms
    member.delivered_seq = seq
    member.joined_seq, member.joined_position = seq, position
    member.left_seq = member.left_position = 0
    member.own_position = member.changed_position = position
    member.mentions = None
    member.extra = MemberExtra(
        hidden=member.extra.hidden,
        cleared_seq=member.extra.cleared_seq,
        silenced_until_ms=0 if role in STAFF else member.extra.silenced_until_ms,
    )


def remove(dialog: DialogState, record: RemoveRecord, position: int) -> Entry:
    before = dialog.members
    assert record.user in before
    member = dialog.member(record.user)
    assert member is not None
    seq = dialog.next_event(position)
    dialog.members = before - BitMap((record.user,))
    dialog.set_participants(record.participants)
    if not dialog.all_loaded and len(dialog.members) <= MEMBERS_SHOWN_MAX:
        dialog.all_loaded = all(n in dialog.by_number for n in dialog.members)
        assert dialog.all_loaded, "whoever submits has everybody loaded by then"
    if record.reason == "banned":
        dialog.banned = BitMap(dialog.banned or ()) | BitMap((record.user,))
    member.left_seq, member.left_position = seq, position
    member.changed_position = position
    event = MemberRemoved(
        dialog.id,
        seq,
        uuid_text(record.user_id),
        uuid_text(record.actor_id),
        record.reason,
        len(dialog.members),
        rfc3339(record.at_ms),
    )
    audience, others = dialog.audiences(event, before, record.user)
    changes = Changes(
        profile=dialog.profile(),
        members=(member.row(dialog.number, record.user),),
        told=others,
    )
    return _entry(
        dialog, record, position, MEMBER_REMOVED, event, audience, Done(), changes
    )


def change_role(dialog: DialogState, record: RoleRecord, position: int) -> Entry:
    seq = dialog.next_event(position)
    rows = []
    changed = [(record.user, record.role)]
    if record.hands_over:
        changed.append((record.actor, ADMIN))
    for number, role in changed:
        member = dialog.member(number)
        assert member is not None
        dialog.set_role(member, role)
        member.own_position = member.changed_position = position
        rows.append(member.row(dialog.number, number))
    event = MemberRole(
        dialog.id,
        seq,
        uuid_text(record.user_id),
        ROLES[record.role],
        uuid_text(record.actor_id),
        rfc3339(record.at_ms),
        record.hands_over,
    )
    audience, others = dialog.audiences(event, dialog.members, record.user)
    changes = Changes(members=tuple(rows), told=others)
    return _entry(
        dialog, record, position, MEMBER_ROLE, event, audience, event, changes
    )


def change_profile(dialog: DialogState, record: ProfileRecord, position: int) -> Entry:
    dialog.name, dialog.avatar = record.name, record.avatar
    dialog.set_settings(settings_of(record.settings))
    return _updated(dialog, record, position)


def change_banned(dialog: DialogState, record: BanRecord, position: int) -> Entry:
    banned = BitMap.deserialize(record.banned)
    dialog.banned = banned or None
    return _updated(dialog, record, position)


def _updated(
    dialog: DialogState, record: ProfileRecord | BanRecord, position: int
) -> Entry:
    seq = dialog.next_event(position)
    event = DialogUpdated(
        dialog.id,
        seq,
        uuid_text(record.actor_id),
        rfc3339(record.at_ms),
        dialog.settings,
        UNSET if dialog.name is None else dialog.name,
        UNSET if dialog.avatar is None else dialog.avatar,
    )
    answer: Any = Done()
    if record.actor in dialog.members:
        answer = dialog.view(dialog.member(record.actor))
    changes = Changes(profile=dialog.profile())
    return _entry(
        dialog,
        record,
        position,
        DIALOG_UPDATED,
        event,
        dialog.members,
        answer,
        changes,
    )


def drop(dialog: DialogState, record: DropRecord, position: int) -> Entry:
    before = dialog.members
    seq = dialog.next_event(position)
    dialog.members = BitMap()
    dialog.set_participants(b"")
    dialog.is_dropped = dialog.all_loaded = True
    event = DialogDeleted(
        dialog.id, seq, uuid_text(record.actor_id), rfc3339(record.at_ms)
    )
    changes = Changes(profile=dialog.profile())
    return _entry(
        dialog, record, position, DIALOG_DELETED, event, before, Done(), changes
    )


def keep(dialog: DialogState, record: OwnRecord, position: int) -> Entry:
    member = dialog.member(record.actor)
    assert member is not None
    member.extra = extra_of(record.extra)
    if record.read_seq > member.read_seq:
        member.read_up_to(record.read_seq, record.read_ordinal, record.at_ms)
    state = _own_state(dialog, member, position)
    return _own(dialog, record, record.actor, member, position, state, state)


def restrict(dialog: DialogState, record: RestrictRecord, position: int) -> Entry:
    member = dialog.member(record.user)
    assert member is not None
    member.extra = structs.replace(
        member.extra, silenced_until_ms=record.silenced_until_ms
    )
    state = _own_state(dialog, member, position)
    return _own(dialog, record, record.user, member, position, state, Done())


def _own_state(dialog: DialogState, member: Member, position: int) -> OwnState:
    member.own_position = member.changed_position = position
    return dialog.own_state(member)


def _own(
    dialog: DialogState,
    record: OwnRecord | RestrictRecord,
    user: int,
    member: Member,
    position: int,
    state: OwnState,
    answer: Any,
) -> Entry:
    """state: for the member's own devices and nobody else, a draft may be in it."""
    changes = Changes(members=(member.row(dialog.number, user),))
    audience = BitMap((user,))
    return _entry(dialog, record, position, OWN, state, audience, answer, changes)


def deliver(dialog: DialogState, record: DeliverRecord, position: int) -> Entry:
    """Not told in large dialogs, to who may not see the members, and to `sync`."""
    member = dialog.member(record.actor)
    assert member is not None
    member.delivered_seq = max(member.delivered_seq, record.delivered_seq)
    member.changed_position = position
    event = None
    if not dialog.is_large:
        event = MessageDelivered(
            dialog.id,
            uuid_text(record.actor_id),
            member.delivered_seq,
            rfc3339(record.at_ms),
        )
    changes = Changes(members=(member.row(dialog.number, record.actor),))
    audience = dialog.members - dialog.blind
    return _entry(dialog, record, position, OWN, event, audience, Done(), changes)


def _entry(
    dialog: DialogState,
    record: MembershipChange | OwnChange,
    position: int,
    kind: int,
    event: Any,
    audience: BitMap,
    answer: Any,
    changes: Changes,
) -> Entry:
    return Entry(
        position=position,
        dialog_number=dialog.number,
        kind=kind,
        seq=0 if kind == OWN else dialog.last_seq,
        ordinal=0,
        count=dialog.message_count,
        at_ms=record.at_ms,
        actor=record.actor,
        actor_id=record.actor_id,
        read_seq=0,
        client_ms=-1,
        client_id=None,
        event=event,
        members=audience,
        answer=answer,
        changes=changes,
    )
