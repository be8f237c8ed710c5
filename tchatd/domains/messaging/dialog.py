"""Owns one dialog in memory: its members' cursors, its tail, and what it looks like.

A loaded dialog has its tail: every event that is not in the store yet, and some recent
ones that are. An event in the tail says what it said when it happened; what a message
is by now is in `messages`, if anything became of it that the store may not have yet.
Whoever shows an event or a message to somebody takes it through `shown_event` or
`shown_message`, so that nobody sees what has been edited or deleted since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType, structs

from tchatd.domains.messaging.events import Event, MessageEdited, MessageNew, OwnState
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.member import Hidden, Member, MemberExtra
from tchatd.domains.messaging.message_state import (
    MessageBody,
    MessageState,
    as_of,
    hidden_message,
    message_as_of,
    message_of_state,
    state_of_row,
)
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    MENTION_SEQS_SHOWN_MAX,
    Dialog,
    Draft,
    Message,
    ReadBy,
    Role,
)
from tchatd.domains.messaging.settings import (
    DialogSettings,
    rights,
    settings_bytes,
    settings_of,
)
from tchatd.domains.messaging.store import (
    MEMBER,
    MESSAGE_NEW,
    ROLES,
    TYPES,
    DialogProfile,
    DialogRow,
    MemberRow,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339


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
            if (
                changes.reactions
            ):  # but for one emoji's it shares them with earlier ones
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


def _never() -> int:
    """The time by which nothing is over yet."""
    return 0


class DialogState:
    """One loaded dialog. members: never changed in place, events hold on to it.

    by_number: the loaded members; with `all_loaded` who is not there has done nothing
    yet. active_*: of the creation or the latest message. last_position: of the latest
    event; changed_position: of the latest record. unflushed: entries that are not in
    the store; flushed_seq: every event up to it is.
    rights: of each role, by its number (settings.py). pins, deleted, banned: as in
    DialogRow; never changed in place, nor is `members`. messages: what messages are by
    now, by seq: all of which the store is behind, and some that were looked at.
    messages_max, by_number_max: `make_room` looks through them when there are more.
    marked: who finds it among their dirty dialogs while it is one.
    """

    __slots__ = (
        "active_ms",
        "active_position",
        "all_loaded",
        "avatar",
        "banned",
        "by_number",
        "by_number_max",
        "changed_position",
        "created_ms",
        "creator",
        "deleted",
        "flushed_seq",
        "id",
        "is_dropped",
        "last_message",
        "last_message_seq",
        "last_position",
        "last_seq",
        "marked",
        "members",
        "message_count",
        "messages",
        "messages_max",
        "name",
        "now_ms",
        "number",
        "participant_ids",
        "participants",
        "pins",
        "rights",
        "settings",
        "tail",
        "type",
        "unflushed",
    )

    def __init__(self, row: DialogRow, now_ms: Callable[[], int] = _never) -> None:
        self.now_ms = now_ms
        self.number = row.number
        self.id = uuid_text(row.id)
        self.type = row.type
        self.name = row.name
        self.avatar = row.avatar
        self.creator = row.creator
        self.created_ms = row.created_ms
        self.members = BitMap.deserialize(row.members)
        self.participant_ids = row.participants
        self.participants = texts_of(row.participants)
        self.last_seq = self.flushed_seq = row.last_seq
        self.message_count = row.message_count
        self.active_position = row.active_position
        self.active_ms = row.active_ms
        self.last_position = self.changed_position = row.last_position
        self.settings = settings_of(row.settings)
        self.rights = rights(row.type, self.settings)
        self.pins = row.pins
        self.deleted = _bitmap(row.deleted)
        self.banned = _bitmap(row.banned)
        self.is_dropped = row.is_dropped
        self.messages: dict[int, MessageState] = {}
        self.messages_max = LOADED_MESSAGES_MAX
        self.marked: BitMap | None = None
        self.last_message: Message | None = None
        self.last_message_seq = 0
        if row.last_message is not None:
            self.last_message_seq = row.last_message.seq
            self.last_message = self.message_of(state_of_row(row.last_message))
        self.by_number: dict[int, Member] = {}
        self.by_number_max = LOADED_MEMBERS_MAX
        self.all_loaded = len(self.members) <= MEMBERS_SHOWN_MAX
        self.tail: list[Entry] = []
        self.unflushed = 0

    @property
    def is_large(self) -> bool:
        return len(self.members) > MEMBERS_SHOWN_MAX

    @property
    def tail_first_seq(self) -> int:
        """Everything from this seq on is in the tail; all below is in the store."""
        return self.tail[0].seq if self.tail else self.last_seq + 1

    def member(self, user_number: int) -> Member | None:
        """The member's cursor; None if it has to be loaded.

        Whoever is not in the dialog may have been, and has a row then: only of members
        it is known that they have done nothing yet.
        """
        member = self.by_number.get(user_number)
        if member is None and self.all_loaded and user_number in self.members:
            member = self.by_number[user_number] = Member()
        return member

    def entry_at(self, seq: int) -> Entry | None:
        """The event with this seq, if it is in the tail."""
        if not self.tail:
            return None
        index = seq - self.tail[0].seq
        return self.tail[index] if 0 <= index < len(self.tail) else None

    def may(self, member: Member, right: int) -> bool:
        return self.rights[member.role] & right != 0

    def next_event(self, position: int) -> int:
        """The seq of an event that is no message."""
        self.last_seq += 1
        self.last_position = position
        return self.last_seq

    def set_message(self, state: MessageState) -> None:
        """What the message is from now on."""
        self.messages[state.seq] = state
        if state.seq == self.last_message_seq:
            self.last_message = self.message_of(state)

    def set_settings(self, settings: DialogSettings) -> None:
        self.settings = settings
        self.rights = rights(self.type, settings)

    # Messages as they are now

    def message_state(self, seq: int) -> MessageState | None:
        """What memory has of the message with this seq; None if it has to be loaded,
        or is no message."""
        state = self.messages.get(seq)
        if state is not None:
            return state
        entry = self.entry_at(seq)
        if entry is None or entry.kind != MESSAGE_NEW:
            return None
        return entry.state or _state_of_entry(entry)

    def message_of(self, state: MessageState) -> Message:
        """Nothing of what it says if its time is over: deleting it may take a while."""
        if state.expires_ms:
            state = as_of(state, self.now_ms())
        is_pinned = bool(self.pins) and state.id in self.pins
        return message_of_state(state, self.id, is_pinned=is_pinned)

    def shown_message(self, message: Message) -> Message:
        """The message as it is by now; without who has read it."""
        state = self.messages.get(message.seq)
        if state is None or state.position == 0:
            if message.expires_at is not UNSET:
                return message_as_of(message, self.now_ms())
            return message
        return self.message_of(state)

    def shown_event(self, event: Event, hidden: Hidden | None = None) -> Event:
        """The event without what its message does not say any more.

        hidden: what whoever sees it has hidden: the event is there, its message empty.
        """
        if hidden is not None:
            left = without_hidden(event, hidden)
            if left is not event:
                return left
        if not self.messages:
            return event
        if type(event) is MessageNew:
            shown = self.shown_message(event.message)
            if shown is event.message:
                return event
            return structs.replace(event, message=shown)
        if type(event) is MessageEdited:
            shown = self.shown_message(event.message)
            return structs.replace(event, message=shown)
        return event

    # What a member sees

    def numbers_and_ids(self) -> Iterator[tuple[int, str]]:
        """User number and id of the members that are shown."""
        return zip(self.members, self.participants, strict=False)

    def unread(self, member: Member) -> int:
        return unread_count(member, self.message_count, self.deleted)

    def mention_count(self, member: Member) -> int:
        return len(unread_mentions(member, self.deleted))

    def with_readers(self, message: Message) -> Message:
        """The message with who has read it, in a dialog that is not large."""
        if self.is_large:
            return message
        read_by = tuple(
            ReadBy(id, rfc3339(member.read_at_ms))
            for number, id in self.numbers_and_ids()
            if (member := self.by_number.get(number)) is not None
            and member.read_seq >= message.seq
            and id != message.sender_id
        )
        return structs.replace(message, read_by=read_by) if read_by else message

    def last_message_for(self, extra: MemberExtra) -> Message | None:
        """The latest that the member has not hidden, as far as memory has it."""
        message = self.last_message
        if message is not None and extra.hides(message.seq):
            hidden = Hidden(extra)
            message = next(
                (
                    entry.answer
                    for entry in reversed(self.tail)
                    if entry.kind == MESSAGE_NEW and entry.seq not in hidden
                ),
                None,
            )
        if message is None:
            return None
        return self.with_readers(self.shown_message(message))

    def lacks_last_message(self, extra: MemberExtra) -> bool:
        """Whether the store may have the latest message that the member sees."""
        return (
            self.last_message is not None
            and extra.hides(self.last_message.seq)
            and self.tail_first_seq > extra.cleared_seq + 1
            and self.last_message_for(extra) is None
        )

    def view(self, member: Member | None) -> Dialog:
        """As the member sees it; None for one who has read nothing."""
        member = member or _NEWCOMER
        extra = member.extra
        mentions = unread_mentions(member, self.deleted)
        message = self.last_message_for(extra)
        return Dialog(
            id=self.id,
            type=TYPES[self.type],
            name=UNSET if self.name is None else self.name,
            avatar=UNSET if self.avatar is None else self.avatar,
            participants=self.participants,
            member_count=len(self.members),
            last_message=UNSET if message is None else message,
            last_seq=self.last_seq,
            unread_count=self.unread(member),
            mention_count=len(mentions),
            read_seq=member.read_seq,
            role=role_name(member.role),
            is_pinned=extra.is_pinned,
            is_archived=extra.is_archived,
            muted_until=_time(extra.muted_until_ms),
            draft=draft_of(extra),
            pinned_message_ids=self.pins,
            settings=self.settings,
            mention_seqs=_shown(mentions) or UNSET,
            hidden=_ranges(_bitmap(extra.hidden)) or UNSET,
            cleared_seq=extra.cleared_seq or UNSET,
            silenced_until=_time(extra.silenced_until_ms),
            created_at=rfc3339(self.created_ms),
            updated_at=rfc3339(self.active_ms),
        )

    def own_state(self, member: Member) -> OwnState:
        """What the member's own devices are told of."""
        return own_state(
            self.id, member, self.last_seq, self.message_count, self.deleted
        )

    # The snapshot

    def profile(self) -> Profile:
        """What changes rarely, as of now."""
        return Profile(
            self.number,
            self.name,
            self.avatar,
            self.members,
            self.participant_ids,
            self.settings,
            self.pins,
            self.deleted,
            self.banned,
            self.is_dropped,
        )

    def trim(self, tail_max: int, flushed_position: int) -> None:
        """Drop flushed events from the tail when there are twice as many as kept, and
        what messages and members are when the store knows it and they are many."""
        tail = self.tail
        if len(tail) >= 2 * tail_max:
            drop = min(len(tail) - tail_max, self.flushed_seq - tail[0].seq + 1)
            if drop >= tail_max:
                del tail[:drop]
        if self.is_large and self.flushed_seq:
            self.all_loaded = False  # the store has a row of everybody by now
        if not self.unflushed:
            # Thousands who joined had to stay until they were stored; not any longer.
            self.by_number_max = LOADED_MEMBERS_MAX
        self.make_room(flushed_position)

    def lighten(self, entry: Entry) -> None:
        """Keep of a stored entry what is shown of it."""
        if self.entry_at(entry.seq) is entry:
            index = entry.seq - self.tail[0].seq
            self.tail[index] = structs.replace(entry, changes=None, created=None)

    def make_room(self, flushed_position: int) -> None:
        """Forget the older half of the messages and members that the store knows, when
        there are too many of them.

        Not messages that an event in the tail is about: it shows them as they are.
        Nor members who have sent lately, nor anybody who is in it while `all_loaded`.
        The younger half stays, since somebody may be about to look at it.
        """
        if len(self.messages) > self.messages_max:
            seq, known = self.tail_first_seq, flushed_position
            if self.tail:
                known = min(known, self.tail[0].position - 1)
            loose = [
                state.seq
                for state in self.messages.values()
                if state.position <= known and state.seq < seq
            ]
            _drop_older(self.messages, loose, LOADED_MESSAGES_MAX // 2)
            self.messages_max = LOADED_MESSAGES_MAX + len(self.messages) - len(loose)
        if len(self.by_number) > self.by_number_max:
            stay = self.members if self.all_loaded else _NOTHING
            loose = [
                number
                for number, member in self.by_number.items()
                if member.changed_position <= flushed_position
                and not member.recent
                and number not in stay
            ]
            _drop_older(self.by_number, loose, LOADED_MEMBERS_MAX // 2)
            self.by_number_max = LOADED_MEMBERS_MAX + len(self.by_number) - len(loose)

    def set_participants(self, ids: bytes) -> None:
        """ids: 16 bytes each, of the first 100 members."""
        if ids != self.participant_ids:
            self.participant_ids, self.participants = ids, texts_of(ids)


def without_hidden(event: Event, hidden: Hidden) -> Event:
    """The event, its message empty if it is hidden: the seq is needed."""
    if isinstance(event, MessageNew | MessageEdited) and event.message.seq in hidden:
        return structs.replace(event, message=hidden_message(event.message))
    return event


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
        mention_seqs=_shown(mentions),
        role=role_name(member.role),
        is_pinned=extra.is_pinned,
        is_archived=extra.is_archived,
        muted_until=_time(extra.muted_until_ms),
        draft=draft_of(extra),
        hidden=_ranges(_bitmap(extra.hidden)),
        cleared_seq=extra.cleared_seq,
        silenced_until=_time(extra.silenced_until_ms),
    )


def _shown(mentions: BitMap) -> tuple[int, ...]:
    return tuple(mentions[-MENTION_SEQS_SHOWN_MAX:])


def _gone(extra: MemberExtra, deleted: BitMap | None) -> BitMap | None:
    """Seqs of messages deleted for everyone or for the member; None for none."""
    hidden = _bitmap(extra.hidden)
    if hidden is None or deleted is None:
        return hidden or deleted
    return deleted | hidden


def _drop_older(things: dict[int, Any], loose: list[int], left: int) -> None:
    """loose: keys of what may go, the oldest first; `left` of them stay."""
    drop = loose[:-left]
    del loose[: len(drop)]
    for key in drop:
        del things[key]


def role_name(role: int) -> Role:
    return ROLES[role]


def draft_of(extra: MemberExtra) -> Draft | UnsetType:
    draft = extra.draft
    if draft is None:
        return UNSET
    reply_to = UNSET if draft.reply_to_id is None else draft.reply_to_id
    return Draft(draft.text, reply_to, rfc3339(draft.at_ms))


def texts_of(ids: bytes) -> tuple[str, ...]:
    return tuple(uuid_text(ids[at : at + 16]) for at in range(0, len(ids), 16))


def _time(at_ms: int) -> str | UnsetType:
    return rfc3339(at_ms) if at_ms else UNSET


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


def _bitmap(stored: bytes | None) -> BitMap | None:
    return None if stored is None else BitMap.deserialize(stored)


def _ranges(seqs: BitMap | None) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for seq in seqs or ():
        if found and found[-1][1] == seq - 1:
            found[-1] = found[-1][0], seq
        else:
            found.append((seq, seq))
    return tuple(found)


def _state_of_entry(entry: Entry) -> MessageState:
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


_NEWCOMER: Final = Member()
_NOTHING: Final = BitMap()
_MEMBER_SIZE: Final = 400
_MESSAGE_SIZE: Final = 1_000
LOADED_MEMBERS_MAX: Final = 1_000
LOADED_MESSAGES_MAX: Final = 64
"""Of one dialog, beside those that have to stay."""
