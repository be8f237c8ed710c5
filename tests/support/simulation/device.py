"""Owns one device of a user: a small client that does as docs/websocket.md says.

It keeps, of each dialog, the last seq that it has, and folds events into what it shows.
While it catches up it holds back what comes live. It complains of every hole: on a
connection that has been synced, and has had no `gap`, there must be none.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType, structs

from tchatd.domains.messaging import events as ev
from tchatd.domains.messaging.identifiers import message_address
from tchatd.domains.messaging.message_commands import ForwardMessage
from tchatd.domains.messaging.models import (
    Dialog,
    DialogPage,
    GetDialog,
    ListDialogs,
    Message,
    MessagePage,
    Reaction,
    ReactionCount,
    ReadState,
    SendMessage,
    Thread,
)
from tests.support.messaging import user_id
from tests.support.simulation.truth import person

GAP = object()


@lru_cache(10_000)
def seq_of(id: str) -> int:
    address = message_address(UUID(id))
    assert address is not None
    return address[1]


class Kept:
    """What a device has of one dialog. view: as last told whole; what changes since is
    beside it. counted: up to this seq the counts have all events. messages: as far as
    the device has them; roles, reads: of others, likewise. is_veiled: not all of who
    else is in it was told.
    """

    def __init__(self, dialog: Dialog) -> None:
        self.messages: dict[int, Message] = {}
        self.take_whole(dialog)

    def take_whole(self, dialog: Dialog) -> None:
        self.name: Any = dialog.name
        self.settings = dialog.settings
        self.people = {person(id) for id in dialog.participants}
        self.count = dialog.member_count
        self.is_veiled = not dialog.participants
        self.roles: dict[int, str] = {}
        self.reads: dict[int, int] = {}
        self.last = dialog.last_seq
        self.pins = [seq_of(id) for id in dialog.pinned_message_ids]
        self.messages = {}
        self.newest = dialog.last_message.seq if dialog.last_message else 0
        self.take_own(dialog)

    def take_own(self, own: Dialog | ev.OwnState) -> None:
        self.counted = own.last_seq
        self.read = own.read_seq
        self.unread = own.unread_count
        self.mentions = set(own.mention_seqs or ())
        assert own.mention_count == len(self.mentions)
        self.role: str = own.role
        self.is_pinned, self.is_archived = own.is_pinned, own.is_archived
        self.draft = "" if own.draft is UNSET else own.draft.text
        self.hidden = own.hidden or ()
        self.cleared = own.cleared_seq or 0
        self.is_silenced = own.silenced_until is not UNSET

    def hides(self, seq: int) -> bool:
        return seq <= self.cleared or any(a <= seq <= b for a, b in self.hidden)


class Missing:
    """A dialog that the device has heard of and does not have. command: the question
    that is under way. events: those that wait for its answer."""

    def __init__(self) -> None:
        self.command: GetDialog | None = None
        self.events: list[Any] = []


class Device:
    """connection: None while it is offline. inbox: what the network still has for it.
    asked: the latest `sync`; a reply to an earlier one is of no use any more.
    rest: where its list of dialogs goes on, UNSET at its end. listing: the question for
    the next page of it that is under way. unanswered: messages to be sent again after
    a reconnect."""

    def __init__(self, name: str, user: int) -> None:
        self.name = name
        self.user = user
        self.me = str(user_id(user))
        self.connection: int | None = None
        self.cursor: str | UnsetType = UNSET
        self.dialogs: dict[str, Kept] = {}
        self.inbox: deque[Any] = deque()
        self.is_syncing = False
        self.asked: Any = None
        self.held: list[tuple[Any, Any]] = []
        self.rest: str | UnsetType = UNSET
        self.listing: ListDialogs | None = None
        self.missing: dict[str, Missing] = {}
        self.unanswered: dict[UUID, SendMessage] = {}
        self.latest: list[Dialog] = []

    def connect(self, connection: int) -> None:
        self.connection, self.is_syncing = connection, True

    def disconnect(self) -> None:
        self.connection, self.is_syncing = None, False
        self.inbox.clear()
        self._ask_again()

    def lose(self) -> None:
        """The server drops what waits, and says so; replies are among it."""
        self.inbox.clear()
        self.inbox.append((None, GAP))

    def forget(self) -> None:
        """It is installed anew."""
        self.cursor = UNSET
        self.unanswered.clear()

    def refused(self, command: Any) -> None:
        """It is not asked again."""
        if isinstance(command, SendMessage):
            self.unanswered.pop(command.client_id, None)  # type: ignore[arg-type]
        for id, missing in list(self.missing.items()):
            if missing.command is command:
                del self.missing[id]

    # What it asks by itself

    def next_questions(self) -> list[GetDialog]:
        """For dialogs that it does not have and has not asked for."""
        new = [(id, one) for id, one in self.missing.items() if one.command is None]
        for id, missing in new:
            missing.command = GetDialog(id)
        return [one.command for _, one in new if one.command is not None]

    def next_page(self, limit: int) -> ListDialogs | None:
        """Of its list, if there is more and nothing else is to come first."""
        if self.rest is UNSET or self.is_syncing or self.listing is not None:
            return None
        self.listing = ListDialogs(cursor=self.rest, limit=limit)
        return self.listing

    def _ask_again(self) -> None:
        """Answers are lost; what was told live comes again, or is in the answers."""
        self.asked = self.listing = None
        self.held.clear()
        for missing in self.missing.values():
            missing.command = None
            missing.events.clear()

    # What comes

    def take(self, command: Any, told: Any) -> bool:
        """command: whose reply it is, None for an event. Whether to ask `sync` now."""
        if told is GAP:
            self.is_syncing = True
            self._ask_again()
            return True
        if isinstance(told, ev.SyncPage):
            return command is self.asked and self._take_page(told)
        if isinstance(told, DialogPage):
            if command is self.listing:
                self._take_list(told)
        elif self.is_syncing or self.listing is not None:
            self.held.append((command, told))
        else:
            self._take(command, told)
        return False

    def _take(self, command: Any, told: Any) -> None:
        if command is None:
            self._event(told)
            return
        if isinstance(command, GetDialog):
            missing = self.missing.get(command.dialog_id)
            if missing is not None and missing.command is command:
                self._whole(told)
            return
        if isinstance(command, SendMessage | ForwardMessage):
            self.unanswered.pop(command.client_id, None)  # type: ignore[arg-type]
            self._event(ev.MessageNew(told.dialog_id, told.seq, told))
        elif isinstance(told, Dialog) and type(command).__name__ == "CreateDialog":
            self._whole(told)
        elif isinstance(told, ReadState):
            self._read_reply(told)
        elif isinstance(told, MessagePage):
            self.take_history(command.dialog_id, told)
        elif isinstance(told, ev.OwnState):
            self._event(told)

    def _take_page(self, page: ev.SyncPage) -> bool:
        if page.is_reset:
            self.dialogs.clear()
            self.missing.clear()
            self.rest = page.dialogs_cursor
        for event in page.events:
            self._event(event)
        for dialog in page.dialogs or ():
            self._whole(dialog)
        for own in page.own or ():
            kept = self.dialogs.get(own.dialog_id)
            if kept is not None:
                assert own.last_seq >= kept.last, "a state older than the events"
                kept.take_own(own)
        for id in page.left or ():
            self.dialogs.pop(id, None)
            self.missing.pop(id, None)
        self.latest = page.latest or []
        self.cursor = page.cursor
        if page.has_more:
            return True
        self.is_syncing = False
        self._go_on()
        return False

    def _take_list(self, page: DialogPage) -> None:
        for dialog in page.dialogs:
            if dialog.id not in self.dialogs:
                self._whole(dialog)
        self.rest, self.listing = page.next_cursor, None
        self._go_on()

    def _go_on(self) -> None:
        """With what was held back."""
        held, self.held = self.held, []
        for command, told in held:
            self._take(command, told)

    def _whole(self, dialog: Dialog) -> None:
        """Messages stay when nothing has been missed."""
        kept = self.dialogs.get(dialog.id)
        if kept is None:
            self.dialogs[dialog.id] = Kept(dialog)
        elif dialog.last_seq == kept.last:
            kept.take_own(dialog)
        elif dialog.last_seq > kept.last:
            kept.take_whole(dialog)
        missing = self.missing.pop(dialog.id, None)
        for event in missing.events if missing else ():
            self._event(event)

    def _event(self, event: Any) -> None:
        kind = type(event)
        if kind is ev.DialogCreated:
            self._whole(event.dialog)
            return
        if kind is ev.MessageDelivered:
            return
        kept = self.dialogs.get(event.dialog_id)
        if kept is None:
            self._unknown(event)
            return
        if kind is ev.OwnState:
            if event.last_seq >= kept.last:
                kept.take_own(event)
            return
        if event.seq is UNSET:  # reading in a large dialog
            self._read(kept, event, counts=event.read_seq > kept.read)
            return
        if event.seq <= kept.last:
            return
        assert event.seq == kept.last + 1, f"{self.name}: a hole before {event}"
        kept.last = event.seq
        counts = event.seq > kept.counted
        getattr(self, _FOLD[kind])(kept, event, counts)

    def _unknown(self, event: Any) -> None:
        """It is of a dialog that the device does not have: further down in the list."""
        if getattr(event, "seq", UNSET) is not UNSET:
            self.missing.setdefault(event.dialog_id, Missing()).events.append(event)

    def take_history(self, id: str, page: MessagePage) -> None:
        """A page that is older than what the device has is asked for again."""
        kept = self.dialogs.get(id)
        if kept is None or page.last_seq < kept.last:
            return
        for message in page.messages:
            kept.messages.setdefault(message.seq, message)

    # Folding

    def _new(self, kept: Kept, event: ev.MessageNew, counts: bool) -> None:
        message, seq = event.message, event.seq
        kept.messages[seq], kept.newest = message, seq
        if kept.count <= 100:
            kept.reads[person(message.sender_id)] = seq
        if message.thread_id is not UNSET:
            self._thread(kept, message.thread_id, seq, message)
        if not counts:
            return
        if message.sender_id == self.me:
            kept.read, kept.unread, kept.mentions = seq, 0, set()
        else:
            kept.unread += 1
            if self.me in message.mentions:
                kept.mentions.add(seq)

    def _thread(self, kept: Kept, id: str, seq: int, message: Message | None) -> None:
        """One message more below the one with this id, or one less."""
        root = kept.messages.get(seq_of(id))
        if root is None:
            return
        thread = root.thread or Thread(0, "", "", ())
        if seq <= thread.seq:
            return
        if message is None:
            thread = structs.replace(thread, count=thread.count - 1, seq=seq)
        else:
            people = thread.participants
            if message.sender_id not in people and len(people) < 10:
                people = (*people, message.sender_id)
            at = message.created_at
            thread = Thread(thread.count + 1, message.id, at, people, seq)
        kept.messages[root.seq] = structs.replace(root, thread=thread)

    def _read(self, kept: Kept, event: ev.MessageRead, counts: bool) -> None:
        if event.user_id is UNSET:
            kept.is_veiled = True
            return
        if kept.count <= 100 and event.seq is not UNSET:  # else it is of a crowd
            kept.reads[person(event.user_id)] = event.read_seq
        if event.user_id != self.me or not counts:
            return
        kept.read = event.read_seq
        kept.mentions = {seq for seq in kept.mentions if seq > kept.read}
        if kept.read >= kept.newest:
            kept.unread = 0  # else a state of one's own comes right after it

    def _read_reply(self, state: ReadState) -> None:
        kept = self.dialogs.get(state.dialog_id)
        if kept is None or state.last_seq < kept.last:
            return
        assert state.last_seq <= kept.last + 1, f"{self.name}: a hole before {state}"
        kept.last = state.last_seq
        if kept.count <= 100:
            kept.reads[self.user] = state.read_seq
        if state.last_seq >= kept.counted:
            kept.counted = state.last_seq
            kept.read, kept.unread = state.read_seq, state.unread_count
            kept.mentions = {seq for seq in kept.mentions if seq > kept.read}

    def _edited(self, kept: Kept, event: ev.MessageEdited, counts: bool) -> None:
        message = event.message
        if message.seq in kept.messages:
            kept.messages[message.seq] = message
        if counts and message.seq > kept.read and not kept.hides(message.seq):
            kept.mentions.discard(message.seq)
            if self.me in message.mentions:
                kept.mentions.add(message.seq)

    def _deleted(self, kept: Kept, event: ev.MessageDeleted, counts: bool) -> None:
        seq = event.message_seq
        message = kept.messages.get(seq)
        if message is not None:
            kept.messages[seq] = structs.replace(
                message,
                content={},
                mentions=(),
                reactions=(),
                reaction_counts=UNSET,
                poll=UNSET,
                buttons=UNSET,
                forward=UNSET,
                is_edited=False,
                deleted_at=event.at,
            )
        kept.pins = [pin for pin in kept.pins if pin != seq]
        if event.thread_id is not UNSET:
            self._thread(kept, event.thread_id, event.seq, None)
        if counts and seq > kept.read and not kept.hides(seq):
            kept.unread -= 1
            kept.mentions.discard(seq)

    def _reacted(
        self, kept: Kept, event: ev.ReactionAdded | ev.ReactionRemoved, counts: bool
    ) -> None:
        message = kept.messages.get(event.message_seq)
        if message is None or message.deleted_at is not UNSET or message.is_hidden:
            return
        mine = event.emoji, event.user_id
        shown = tuple(r for r in message.reactions if (r.emoji, r.user_id) != mine)
        if isinstance(event, ev.ReactionAdded) and len(shown) < 100:
            shown = (*shown, Reaction(event.emoji, event.user_id, event.at))
        totals = [c for c in message.reaction_counts or () if c.emoji != event.emoji]
        if event.count:
            totals.append(ReactionCount(event.emoji, event.count))
        kept.messages[message.seq] = structs.replace(
            message, reactions=shown, reaction_counts=tuple(totals)
        )

    def _pinned(self, kept: Kept, event: ev.MessagePinned, counts: bool) -> None:
        kept.pins.append(event.message_seq)

    def _unpinned(self, kept: Kept, event: ev.MessageUnpinned, counts: bool) -> None:
        kept.pins = [pin for pin in kept.pins if pin != event.message_seq]

    def _voted(self, kept: Kept, event: ev.PollVoted, counts: bool) -> None:
        message = kept.messages.get(event.message_seq)
        if message is not None and message.poll is not UNSET:
            kept.messages[message.seq] = structs.replace(message, poll=event.poll)

    def _added(self, kept: Kept, event: ev.MemberAdded, counts: bool) -> None:
        kept.is_veiled |= event.by is UNSET or not event.user_ids
        for id in event.user_ids:
            kept.people.add(person(id))
            kept.roles[person(id)] = event.role
            kept.reads[person(id)] = event.seq
        kept.count = event.member_count
        if kept.count > 100:
            kept.reads.clear()  # from now on nobody tells

    def _removed(self, kept: Kept, event: ev.MemberRemoved, counts: bool) -> None:
        if event.user_id is UNSET:
            kept.is_veiled = True
            kept.count = event.member_count
            return
        other = person(event.user_id)
        if other == self.user:
            del self.dialogs[event.dialog_id]
            return
        kept.people.discard(other)
        kept.roles.pop(other, None)
        kept.reads.pop(other, None)
        kept.count = event.member_count

    def _role(self, kept: Kept, event: ev.MemberRole, counts: bool) -> None:
        if event.user_id is UNSET:
            kept.is_veiled = True
            return
        kept.roles[person(event.user_id)] = event.role
        if event.hands_over:
            assert event.by is not UNSET
            kept.roles[person(event.by)] = "admin"
        if counts:
            kept.role = kept.roles.get(self.user, kept.role)

    def _updated(self, kept: Kept, event: ev.DialogUpdated, counts: bool) -> None:
        kept.name, kept.settings = event.name, event.settings

    def _dropped(self, kept: Kept, event: ev.DialogDeleted, counts: bool) -> None:
        del self.dialogs[event.dialog_id]


_FOLD: dict[Any, str] = {
    ev.MessageNew: "_new",
    ev.MessageRead: "_read",
    ev.MessageEdited: "_edited",
    ev.MessageDeleted: "_deleted",
    ev.ReactionAdded: "_reacted",
    ev.ReactionRemoved: "_reacted",
    ev.MessagePinned: "_pinned",
    ev.MessageUnpinned: "_unpinned",
    ev.PollVoted: "_voted",
    ev.MemberAdded: "_added",
    ev.MemberRemoved: "_removed",
    ev.MemberRole: "_role",
    ev.DialogUpdated: "_updated",
    ev.DialogDeleted: "_dropped",
}
