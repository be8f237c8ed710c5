"""Owns what a record did, as it waits for the disk, for the store and to be told.

An entry says everything as of its position: what is written and told of it does not
look at the state, which is ahead of it.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from tchatd.domains.messaging.message_state import MessageBody, MessageState
from tchatd.domains.messaging.models import Message
from tchatd.domains.messaging.settings import DialogSettings, settings_bytes
from tchatd.domains.messaging.store import (
    MEMBER,
    DialogProfile,
    DialogRow,
    MemberRow,
)
from tchatd.kernel.bitmaps import BitMap

_MEMBER_SIZE: Final = 400
_MESSAGE_SIZE: Final = 1_000


class Profile(Struct, gc=False):
    """What changes rarely of a dialog, as of a position; see DialogState.

    Bitmaps of a channel are large: they become bytes when they are stored, and only the
    last ones of a batch do.
    """

    number: int
    name: str | None
    avatar: str | None
    members: BitMap
    participant_ids: bytes
    settings: DialogSettings
    pins: tuple[str, ...]
    deleted: BitMap | None
    banned: BitMap | None
    is_dropped: bool

    def row(self) -> DialogProfile:
        return DialogProfile(
            self.number,
            self.name,
            self.avatar,
            _stored(self.members),
            self.participant_ids,
            settings_bytes(self.settings),
            self.pins,
            None if self.deleted is None else _stored(self.deleted),
            None if self.banned is None else _stored(self.banned),
            self.is_dropped,
        )


class Changes(Struct, gc=False):
    """What a record did beside its event, as of its position, whole values each.

    profile: of the dialog. messages: states of earlier messages that it changed.
    members: rows, also the actor's if any of it but what sending and reading move has
    changed. told: what some are told beside the event, as (members, event).
    """

    profile: Profile | None = None
    messages: tuple[MessageState, ...] = ()
    members: tuple[MemberRow, ...] = ()
    told: tuple[tuple[BitMap, Any], ...] = ()

    @property
    def size(self) -> int:
        """About how many bytes it keeps in memory until it is stored."""
        size = _MEMBER_SIZE * len(self.members)
        if self.profile is not None:
            size += _size_of(self.profile.members) + _size_of(self.profile.deleted)
        for state in self.messages:
            changes = state.changes
            size += _MESSAGE_SIZE * (1 + len(changes.history))
            if changes.reactions:  # all but one are those of an earlier state
                size += max(len(reactors.users) for reactors in changes.reactions)
            if changes.poll is not None:
                size += sum(map(len, changes.poll.votes))
        return size


class Entry(Struct, gc=False):
    """What one record did; absolute values, as of its position.

    seq: 0 when it is no event of the dialog. ordinal: of a message, its number; of a
    read, the messages read; else 0. count: messages of the dialog. read_seq: the
    actor's cursor. client_ms: the latest time in the actor's client_ids.
    event: told to `members`, or without them to the actor alone; None: to nobody.
    answer: to who asked. state: of a message that has more than text; else it follows
    from event. changes: None for plain messages and reads, whose actor's cursor is all
    that moves beside the log. Once it is in the store, members are None, and in the
    tail changes and created, too.
    """

    position: int
    dialog_number: int
    kind: int
    seq: int
    ordinal: int
    count: int
    at_ms: int
    actor: int
    actor_id: bytes
    read_seq: int
    client_ms: int
    client_id: bytes | None
    event: Any
    members: BitMap | None
    answer: Any
    mentioned: tuple[int, ...] = ()
    role: int = MEMBER
    created: DialogRow | None = None
    own_position: int = 0
    state: MessageState | None = None
    changes: Changes | None = None


def state_of_entry(entry: Entry) -> MessageState:
    """Of a plain message in the tail."""
    message: Message = entry.event.message
    body = MessageBody(
        message.type,
        message.content,
        message.reply_to_id,
        message.mentions,
        entry.mentioned,
    )
    return MessageState(
        entry.dialog_number,
        entry.seq,
        entry.ordinal,
        entry.at_ms,
        entry.actor,
        entry.actor_id,
        body,
    )


def _size_of(numbers: BitMap | None) -> int:
    """At most, about: 2 bytes a number or a bit for each that there could be."""
    if not numbers:
        return 0
    return int(min(2 * len(numbers), numbers.max() // 8 + 8_192))


def _stored(numbers: BitMap) -> bytes:
    """In as few bytes as it takes, whichever way the set came about."""
    compact = BitMap(numbers)
    compact.run_optimize()
    return compact.serialize()
