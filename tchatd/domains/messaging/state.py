"""Owns the messaging core in memory: loaded dialogs, and how a record changes them.

    apply(record, position) -> Entry

Applying is deterministic: time and ids are in the record, so the same records in the
same order make the same events and the same snapshots, live or replayed. It never
fails and never waits: what it needs has been loaded before (`missing`).

State runs ahead of the disk: it is as of the last record taken, while nobody may be
told of what is not durable yet. Readers therefore hold their answer until what they
saw is durable; see `CommandLog.hold`.

A loaded dialog (dialog.py) can be evicted when everything of it is in the store.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tchatd.domains.messaging import apply_members, apply_messages
from tchatd.domains.messaging.content import Buttons, Forward
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.entry import Changes, Entry
from tchatd.domains.messaging.events import DialogCreated, MessageNew, MessageRead
from tchatd.domains.messaging.identifiers import (
    message_id,
    uuid_text,
)
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.message_state import (
    MessageBody,
    MessageState,
    state_of_row,
)
from tchatd.domains.messaging.models import MEMBERS_SHOWN_MAX, Message, ReadState
from tchatd.domains.messaging.needs import needs
from tchatd.domains.messaging.records import (
    AddRecord,
    BanRecord,
    DeleteRecord,
    DeliverRecord,
    DialogRecord,
    DropRecord,
    EditRecord,
    MessageRecord,
    OwnRecord,
    PinRecord,
    ProfileRecord,
    ReactRecord,
    ReadRecord,
    Record,
    RemoveRecord,
    RestrictRecord,
    RoleRecord,
    VoteRecord,
)
from tchatd.domains.messaging.store import (
    DIALOG_CREATED,
    MEMBER,
    MESSAGE_NEW,
    MESSAGE_READ,
    OWNER,
    TYPES,
    DialogRow,
    Found,
    MemberRow,
    Wants,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339

_USER_TEXTS_MAX: Final = 100_000
_LOOKS_MAX: Final = 64
"""At dialogs that may go, at once: every flush looks again."""
_INDEXED_MEMBERS_MAX: Final = 16
"""Dialogs of more members are looked through, not indexed, while they are dirty."""


class StateLimits(Struct, frozen=True, kw_only=True):
    """tail_max: flushed events kept for each loaded dialog.

    client_ids_max: flushed client_ids kept for each sender in a loaded dialog. Of both
    up to twice as many are there before the older half is dropped at once.
    dialogs_max: loaded dialogs. tails_max: events in all their tails. Dialogs with
    something not flushed yet may exceed both.
    """

    dialogs_max: int = 10_000
    tail_max: int = 128
    tails_max: int = 640_000
    client_ids_max: int = 8


class MessagingState:
    """Every loaded dialog, the least recently used first.

    is_kept: whether somebody who waits is about to look at it, so that it must stay.
    on_stored: told the numbers of dialogs of which the store knows what it did not.
    """

    def __init__(
        self, limits: StateLimits, now_ms: Callable[[], int] = lambda: 0
    ) -> None:
        self._limits = limits
        self.now_ms = now_ms
        self._by_id: OrderedDict[str, DialogState] = OrderedDict()
        self._by_number: dict[int, DialogState] = {}
        self._user_texts: dict[bytes, str] = {}
        self._dirty_of: dict[int, dict[int, DialogState]] = {}
        self._dirty_large: dict[int, DialogState] = {}
        self._flushed_position = 0
        self._events = 0  # in all tails
        self.is_kept: Callable[[DialogState], bool] = lambda _: False
        self.on_stored: Callable[[Iterable[int]], object] = lambda _: None

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, id: str) -> DialogState | None:
        """A loaded dialog by the text of its id, now the most recently used."""
        dialog = self._by_id.get(id)
        if dialog is not None:
            self._by_id.move_to_end(id)
        return dialog

    def has_id(self, id: bytes) -> bool:
        return uuid_text(id) in self._by_id

    def find_number(self, number: int) -> DialogState | None:
        dialog = self._by_number.get(number)
        if dialog is not None:
            self._by_id.move_to_end(dialog.id)
        return dialog

    def missing(self, records: Iterable[tuple[int, Record]]) -> Wants:
        """What has to be loaded before these (position, record) can be applied.

        Whether all members of a dialog are wanted shows when it is loaded: ask again
        after `install`, until nothing is missing.
        """
        wants = Wants()
        created = set()
        removals: Counter[int] = Counter()
        for position, record in records:
            if type(record) is DialogRecord:
                created.add(position)
                continue
            assert not isinstance(record, DialogRecord)
            number = record.dialog_number
            if number in created:
                continue
            dialog = self._by_number.get(number)
            users, seqs = needs(record)
            if dialog is None:
                wants.numbers.add(number)
                wants.members.update((number, user) for user in users)
                wants.messages.update((number, seq) for seq in seqs)
                continue
            if type(record) in _OF_MEMBERS:
                users = [user for user in users if user in dialog.members]
            # Who joins again is not among the members that come with the dialog.
            is_known = dialog.all_loaded and type(record) is not AddRecord
            wants.members.update(
                (number, user)
                for user in users
                if user not in dialog.by_number
                and not (is_known and user in dialog.members)
            )
            wants.messages.update(
                (number, seq)
                for seq in seqs
                if seq <= dialog.last_seq and dialog.message_state(seq) is None
            )
            if type(record) is RemoveRecord:
                removals[number] += 1
                left = len(dialog.members) - removals[number]
                if not dialog.all_loaded and left <= MEMBERS_SHOWN_MAX:
                    wants.whole.add(number)
        return wants

    def install(self, found: Found, wants: Wants, *, evict: bool = True) -> None:
        """Take what was loaded; what is here already is newer and stays.

        wants: what was asked for: who was and is not there has never been a member.
        evict: not, while records wait to be applied that need what is loaded by now.
        """
        if evict:
            self._make_room(wants)
        for row in found.dialogs:
            if row.number not in self._by_number:
                self._add(DialogState(row, self.now_ms))
        for member in found.members:
            dialog = self._by_number.get(member.dialog_number)
            if dialog is not None and member.user_number not in dialog.by_number:
                dialog.by_number[member.user_number] = Member.of_row(member)
        for number, user in wants.members:
            dialog = self._by_number.get(number)
            if dialog is not None and user not in dialog.by_number:
                dialog.by_number[user] = Member()
        for message in found.messages:
            dialog = self._by_number.get(message.dialog_number)
            if dialog is not None and message.seq not in dialog.messages:
                dialog.messages[message.seq] = state_of_row(message)
        for number in found.whole:
            dialog = self._by_number.get(number)
            if dialog is not None:
                dialog.all_loaded = True
        if evict:
            self.evict()

    def _make_room(self, wants: Wants) -> None:
        """However much is looked at, what a dialog keeps of it is bounded."""
        for number in {number for number, _ in (*wants.members, *wants.messages)}:
            dialog = self._by_number.get(number)
            if dialog is not None:
                dialog.make_room(self._flushed_position)

    def evict(self) -> None:
        """Forget the least recently used dialogs beyond the limit, if they may go."""
        limits = self._limits
        looks = 2 * max(0, len(self._by_id) - limits.dialogs_max)
        if self._events > limits.tails_max:
            looks = max(looks, _LOOKS_MAX)
        for _ in range(min(looks, 2 * len(self._by_id))):
            is_full = len(self._by_id) > limits.dialogs_max
            if not is_full and self._events <= limits.tails_max:
                return
            id, dialog = next(iter(self._by_id.items()))
            if dialog.unflushed or self.is_kept(dialog):
                self._by_id.move_to_end(id)
            else:
                del self._by_id[id]
                del self._by_number[dialog.number]
                self._events -= len(dialog.tail)

    def apply(self, record: Record, position: int) -> Entry:
        """Change the state; what it says is told once position is durable."""
        if type(record) is MessageRecord:
            dialog, entry = self._apply_message(record, position)
        elif type(record) is ReadRecord:
            dialog, entry = self._apply_read(record, position)
        elif type(record) is DialogRecord:
            dialog, entry = self._apply_dialog(record, position)
        else:
            assert not isinstance(record, DialogRecord)
            dialog = self._by_number[record.dialog_number]
            before = dialog.members
            entry = _APPLY[type(record)](dialog, record, position)
            if dialog.members is not before and dialog.unflushed:
                self._mark_dirty(dialog, before | dialog.members)
        if entry.seq:
            dialog.tail.append(entry)
            self._events += 1
        dialog.changed_position = position
        if not dialog.unflushed:
            people = dialog.members
            if entry.members is not None and entry.members is not people:
                people = people | entry.members
            self._mark_dirty(dialog, people)
        dialog.unflushed += 1
        return entry

    def flushed(self, entries: Iterable[Entry]) -> None:
        """All of these are in the store now."""
        touched: dict[int, DialogState] = {}
        senders: set[tuple[int, int]] = set()
        position = self._flushed_position
        for entry in entries:
            number, position = entry.dialog_number, entry.position
            dialog = touched[number] = self._by_number[number]
            dialog.unflushed -= 1
            if entry.seq:
                dialog.flushed_seq = entry.seq
            if entry.client_id is not None:
                senders.add((number, entry.actor))
            # Everybody has been told, and the store has it: a tail that held on to
            # every membership there was would outweigh the dialog. Who follows the log
            # may still have the entry itself.
            entry.members = None
            if entry.changes is not None or entry.created is not None:
                dialog.lighten(entry)
        self._flushed_position = position
        for number, user in senders:
            member = touched[number].by_number[user]
            if len(member.recent) >= 2 * self._limits.client_ids_max:
                member.forget(touched[number].flushed_seq, self._limits.client_ids_max)
        for dialog in touched.values():
            assert dialog.unflushed >= 0
            if not dialog.unflushed:
                self._mark_clean(dialog)
            self._events -= dialog.trim(self._limits.tail_max, position)
        self.on_stored(touched)
        self.evict()

    def dirty_of(self, user_number: int) -> list[DialogState]:
        """Dialogs that a user is in, or was, of which the store does not know
        everything yet."""
        large = [
            dialog
            for dialog in self._dirty_large.values()
            if dialog.marked is not None and user_number in dialog.marked
        ]
        return [*self._dirty_of.get(user_number, {}).values(), *large]

    def _mark_dirty(self, dialog: DialogState, people: BitMap) -> None:
        """people: who is in it, or was when something happened that is not stored."""
        if dialog.marked is not None:
            people = people | dialog.marked
            self._mark_clean(dialog)
        dialog.marked = people
        if len(people) > _INDEXED_MEMBERS_MAX:
            self._dirty_large[dialog.number] = dialog
            return
        for user in people:
            self._dirty_of.setdefault(user, {})[dialog.number] = dialog

    def _mark_clean(self, dialog: DialogState) -> None:
        people, dialog.marked = dialog.marked, None
        assert people is not None
        if len(people) > _INDEXED_MEMBERS_MAX:
            del self._dirty_large[dialog.number]
            return
        for user in people:
            dirty = self._dirty_of[user]
            del dirty[dialog.number]
            if not dirty:
                del self._dirty_of[user]

    def _add(self, dialog: DialogState) -> None:
        assert dialog.id not in self._by_id
        self._by_id[dialog.id] = dialog
        self._by_number[dialog.number] = dialog

    def _user_text(self, id: bytes) -> str:
        text = self._user_texts.get(id)
        if text is None:
            if len(self._user_texts) >= _USER_TEXTS_MAX:
                self._user_texts.clear()
            text = self._user_texts[id] = uuid_text(id)
        return text

    def _apply_message(
        self, record: MessageRecord, position: int
    ) -> tuple[DialogState, Entry]:
        dialog = self._by_number[record.dialog_number]
        sender, at_ms = record.sender, record.at_ms
        member = dialog.by_number.get(sender) or dialog.member(sender)
        assert member is not None
        seq = dialog.last_seq = dialog.last_seq + 1
        count = dialog.message_count = dialog.message_count + 1
        member.read_seq, member.read_ordinal, member.read_at_ms = seq, count, at_ms
        member.delivered_seq, member.sent_ms = seq, at_ms
        member.mentions = None
        member.changed_position = position
        client_id = record.client_id
        if client_id is not None:
            member.recent[client_id] = seq
            time_ms = int.from_bytes(client_id[:6], "big")
            if time_ms > member.client_ms:
                member.client_ms = time_ms
        dialog.last_message_seq = seq
        dialog.active_position = dialog.last_position = position
        dialog.active_ms = at_ms
        state: MessageState | None = None
        changes: Changes | None = None
        if (
            record.thread_seq
            or record.forward is not None
            or record.buttons is not None
            or record.type == "poll"
            or dialog.settings.vanish_after_s
        ):
            state = _state_of_record(dialog, record, seq, count, position)
            dialog.set_message(state)
            message = dialog.message_of(state)
        else:
            message = Message(
                message_id(at_ms, dialog.number, seq),
                dialog.id,
                seq,
                self._user_text(record.sender_id),
                record.type,
                record.content,
                rfc3339(at_ms),
                UNSET if record.reply_to_id is None else record.reply_to_id,
                record.mentions,
            )
        dialog.last_message = message
        if record.mention_numbers or record.thread_seq:
            changes = _changes_beside(dialog, record, seq, state, position)
        return dialog, Entry(
            position,
            dialog.number,
            MESSAGE_NEW,
            seq,
            count,
            count,
            at_ms,
            sender,
            record.sender_id,
            seq,
            member.client_ms,
            client_id,
            MessageNew(dialog.id, seq, message),
            dialog.members,
            message,
            record.mention_numbers,
            member.role,
            None,
            0,
            state,
            changes,
        )

    def _apply_read(
        self, record: ReadRecord, position: int
    ) -> tuple[DialogState, Entry]:
        dialog = self._by_number[record.dialog_number]
        reader = record.reader
        member = dialog.by_number.get(reader) or dialog.member(reader)
        assert member is not None
        member.read_up_to(record.read_seq, record.read_ordinal, record.at_ms)
        member.changed_position = position
        seq = 0
        if dialog.is_large:
            member.own_position = position
        else:
            seq = dialog.next_event(position)
        event = MessageRead(
            dialog.id,
            self._user_text(record.reader_id),
            record.message_id,
            record.read_seq,
            rfc3339(record.at_ms),
            seq or UNSET,
        )
        unread = dialog.unread(member)
        changes = None
        rows: tuple[MemberRow, ...] = ()
        if member.mentions is not None:  # maybe of deleted messages only
            rows = (member.row(dialog.number, record.reader),)
        audience: BitMap | None = None
        told: tuple[tuple[BitMap, Any], ...] = ()
        if seq:
            audience, told = dialog.audiences(event, dialog.members, reader)
        if unread or record.read_seq < dialog.last_message_seq:
            # No device can count that lacks some of the messages.
            told = (*told, (BitMap((reader,)), dialog.own_state(member)))
        if rows or told:
            changes = Changes(members=rows, told=told)
        return dialog, Entry(
            position,
            dialog.number,
            MESSAGE_READ,
            seq,
            record.read_ordinal,
            dialog.message_count,
            record.at_ms,
            record.reader,
            record.reader_id,
            record.read_seq,
            member.client_ms,
            None,
            event,
            audience,
            ReadState(dialog.id, record.read_seq, unread, dialog.last_seq),
            (),
            member.role,
            None,
            0 if seq else position,
            None,
            changes,
        )

    def _apply_dialog(
        self, record: DialogRecord, position: int
    ) -> tuple[DialogState, Entry]:
        row = DialogRow(
            number=position,
            id=record.dialog_id,
            type=TYPES.index(record.type),
            name=record.name,
            avatar=record.avatar,
            creator=record.creator,
            created_ms=record.at_ms,
            members=record.members,
            participants=record.participants,
            last_seq=1,
            message_count=0,
            active_position=position,
            active_ms=record.at_ms,
            last_position=position,
            settings=record.settings,
        )
        dialog = DialogState(row, self.now_ms)
        dialog.flushed_seq = 0
        dialog.all_loaded = True
        role = MEMBER if record.type == "user" else OWNER
        dialog.by_number[record.creator] = Member(role)
        self._add(dialog)
        maker = dialog.by_number[record.creator]
        maker.changed_position = position
        changes = None
        if role != MEMBER:  # the event says what everybody else is
            alone = BitMap((record.creator,))
            changes = Changes(told=((alone, dialog.own_state(maker)),))
        return dialog, Entry(
            position,
            position,
            DIALOG_CREATED,
            1,
            0,
            0,
            record.at_ms,
            record.creator,
            record.creator_id,
            0,
            -1,
            None,
            DialogCreated(dialog.id, 1, dialog.view(None)),
            dialog.members,
            dialog.view(maker),
            (),
            role,
            row,
            changes=changes,
        )


def _state_of_record(
    dialog: DialogState, record: MessageRecord, seq: int, ordinal: int, position: int
) -> MessageState:
    """Of a message that has more than what it says."""
    vanish_after_s = dialog.settings.vanish_after_s
    thread_id: str | UnsetType = UNSET
    if record.thread_seq:
        root = dialog.message_state(record.thread_seq)
        assert root is not None
        thread_id = root.id
    body = MessageBody(
        type=record.type,
        content=record.content,
        reply_to_id=UNSET if record.reply_to_id is None else record.reply_to_id,
        mentions=record.mentions,
        mentioned=record.mention_numbers,
        thread_id=thread_id,
        forward=UNSET
        if record.forward is None
        else msgspec.convert(record.forward, Forward),
        buttons=UNSET
        if record.buttons is None
        else msgspec.convert(record.buttons, Buttons),
    )
    return MessageState(
        dialog_number=dialog.number,
        seq=seq,
        ordinal=ordinal,
        at_ms=record.at_ms,
        sender=record.sender,
        sender_id=record.sender_id,
        body=body,
        thread_seq=record.thread_seq,
        expires_ms=record.at_ms + 1_000 * vanish_after_s if vanish_after_s else 0,
        position=position,
    )


def _changes_beside(
    dialog: DialogState,
    record: MessageRecord,
    seq: int,
    state: MessageState | None,
    position: int,
) -> Changes:
    """Who is mentioned, and the message whose thread it is in."""
    others = [n for n in record.mention_numbers if n != record.sender]
    rows = apply_messages.mention(dialog, seq, others, position)
    roots: tuple[MessageState, ...] = ()
    if record.thread_seq:
        assert state is not None
        root = apply_messages.in_thread(dialog, record.thread_seq, state, position)
        roots = (root,)
    return Changes(messages=roots, members=tuple(rows))


_OF_MEMBERS: Final = frozenset({EditRecord, ProfileRecord, BanRecord})
"""Of who has left they change nothing, and nothing is shown to them."""
_APPLY: Final[dict[type, Callable[[DialogState, Any, int], Entry]]] = {
    EditRecord: apply_messages.edit,
    DeleteRecord: apply_messages.delete,
    ReactRecord: apply_messages.react,
    PinRecord: apply_messages.pin,
    VoteRecord: apply_messages.vote,
    AddRecord: apply_members.add,
    RemoveRecord: apply_members.remove,
    RoleRecord: apply_members.change_role,
    ProfileRecord: apply_members.change_profile,
    DropRecord: apply_members.drop,
    BanRecord: apply_members.change_banned,
    OwnRecord: apply_members.keep,
    DeliverRecord: apply_members.deliver,
    RestrictRecord: apply_members.restrict,
}
