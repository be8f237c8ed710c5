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

from msgspec import UNSET, structs

from tchatd.domains.messaging.entry import Entry, Profile, state_of_entry
from tchatd.domains.messaging.events import Event, MessageEdited, MessageNew, OwnState
from tchatd.domains.messaging.identifiers import uuid_text
from tchatd.domains.messaging.member import Hidden, Member, MemberExtra
from tchatd.domains.messaging.message_state import (
    MessageState,
    as_of,
    message_as_of,
    message_of_state,
    state_of_row,
)
from tchatd.domains.messaging.models import (
    MEMBERS_SHOWN_MAX,
    Dialog,
    Message,
    ReadBy,
)
from tchatd.domains.messaging.own_view import (
    bitmap_of,
    draft_of,
    own_state,
    ranges_of,
    role_name,
    shown_seqs,
    time_of,
    unread_count,
    unread_mentions,
    veiled,
    without_hidden,
)
from tchatd.domains.messaging.settings import (
    SEE_MEMBERS,
    DialogSettings,
    rights,
    sees_members,
    settings_of,
)
from tchatd.domains.messaging.store import (
    MEMBER,
    MESSAGE_NEW,
    ROLES,
    TYPES,
    DialogRow,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339


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
        "_blind",
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
        self.deleted = bitmap_of(row.deleted)
        self.banned = bitmap_of(row.banned)
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
        self._blind: BitMap | None = None
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

    def set_role(self, member: Member, role: int) -> None:
        member.role = role
        self._blind = None

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
        return entry.state or state_of_entry(entry)

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

    @property
    def blind(self) -> BitMap:
        """Members who are not told live who the others are. Of a large dialog roles are
        not in memory: nobody is where members may know, everybody where they may not.
        """
        if self.is_large:
            return _NOTHING if sees_members(self.type, MEMBER) else self.members
        if self._blind is None:
            self._blind = self._find_blind()
        return self._blind

    def _find_blind(self) -> BitMap:
        sees = [sees_members(self.type, role) for role in range(len(ROLES))]
        is_open = sees[MEMBER]  # as is who has done nothing yet
        known = BitMap(n for n, m in self.by_number.items() if sees[m.role] != is_open)
        return self.members & known if is_open else self.members - known

    def audiences(
        self, event: Event, people: BitMap, *concerned: int
    ) -> tuple[BitMap, tuple[tuple[BitMap, Event], ...]]:
        """To whom of these people the event is told as it is, and what others are told.
        concerned: are told as it is whoever they are."""
        blind = people & self.blind
        if not blind:
            return people, ()
        blind = blind - BitMap(concerned)
        return people - blind, ((blind, veiled(event)),)

    def with_readers(self, message: Message, viewer: Member | None) -> Message:
        """The message with who has read it, in a dialog that is not large, for who may
        know them. viewer: None for one who is not in it, or has done nothing."""
        if self.is_large or not self.may(viewer or _NEWCOMER, SEE_MEMBERS):
            return message
        read_by = tuple(
            ReadBy(id, rfc3339(member.read_at_ms))
            for number, id in self.numbers_and_ids()
            if (member := self.by_number.get(number)) is not None
            and member.read_seq >= message.seq
            and id != message.sender_id
        )
        return structs.replace(message, read_by=read_by) if read_by else message

    def last_message_for(self, member: Member) -> Message | None:
        """The latest that the member has not hidden, as far as memory has it."""
        message = self._last_message(member.extra)
        if message is None:
            return None
        return self.with_readers(self.shown_message(message), member)

    def _last_message(self, extra: MemberExtra) -> Message | None:
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
        return message

    def lacks_last_message(self, extra: MemberExtra) -> bool:
        """Whether the store may have the latest message that the member sees."""
        return (
            self.last_message is not None
            and extra.hides(self.last_message.seq)
            and self.tail_first_seq > extra.cleared_seq + 1
            and self._last_message(extra) is None
        )

    def view(self, member: Member | None) -> Dialog:
        """As the member sees it; None for one who has read nothing."""
        member = member or _NEWCOMER
        extra = member.extra
        mentions = unread_mentions(member, self.deleted)
        message = self.last_message_for(member)
        sees = self.may(member, SEE_MEMBERS)
        return Dialog(
            id=self.id,
            type=TYPES[self.type],
            name=UNSET if self.name is None else self.name,
            avatar=UNSET if self.avatar is None else self.avatar,
            participants=self.participants if sees else (),
            member_count=len(self.members),
            last_message=UNSET if message is None else message,
            last_seq=self.last_seq,
            unread_count=self.unread(member),
            mention_count=len(mentions),
            read_seq=member.read_seq,
            role=role_name(member.role),
            is_pinned=extra.is_pinned,
            is_archived=extra.is_archived,
            muted_until=time_of(extra.muted_until_ms),
            draft=draft_of(extra),
            pinned_message_ids=self.pins,
            settings=self.settings,
            mention_seqs=shown_seqs(mentions) or UNSET,
            hidden=ranges_of(bitmap_of(extra.hidden)) or UNSET,
            cleared_seq=extra.cleared_seq or UNSET,
            silenced_until=time_of(extra.silenced_until_ms),
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

    def trim(self, tail_max: int, flushed_position: int) -> int:
        """Drop flushed events from the tail when there are twice as many as kept, and
        what messages and members are when the store knows it and they are many. Answers
        how many events were dropped."""
        tail, count = self.tail, len(self.tail)
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
        return count - len(tail)

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
        """ids: 16 bytes each, of the first 100 members, who are others than before."""
        self._blind = None
        if ids != self.participant_ids:
            self.participant_ids, self.participants = ids, texts_of(ids)


def _drop_older(things: dict[int, Any], loose: list[int], left: int) -> None:
    """loose: keys of what may go, the oldest first; `left` of them stay."""
    drop = loose[:-left]
    del loose[: len(drop)]
    for key in drop:
        del things[key]


def texts_of(ids: bytes) -> tuple[str, ...]:
    return tuple(uuid_text(ids[at : at + 16]) for at in range(0, len(ids), 16))


_NEWCOMER: Final = Member()
_NOTHING: Final = BitMap()
LOADED_MEMBERS_MAX: Final = 1_000
LOADED_MESSAGES_MAX: Final = 64
"""Of one dialog, beside those that have to stay."""
