"""Owns one message as it is now, and how what became of it is stored.

A `MessageState` is never changed: a record makes a new one. It is stored as the row of
its `message.new` event: `body` has what the sender says now, `changed` the rest. Who
reacted, voted and wrote below it are Roaring bitmaps of user numbers (portable format),
so that a channel's message with a reaction from everybody is a few kilobytes.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from tchatd.domains.messaging.content import Buttons, Forward
from tchatd.domains.messaging.identifiers import message_id, uuid_text
from tchatd.domains.messaging.models import (
    Message,
    PollResults,
    Reaction,
    ReactionCount,
    Thread,
)
from tchatd.domains.messaging.store import MESSAGE_NEW, EventRow
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import rfc3339


class MessageBody(Struct, frozen=True, gc=False, omit_defaults=True):
    """mentioned: user numbers of the mentions, in the same order."""

    type: str
    content: Any
    reply_to_id: str | UnsetType = UNSET
    mentions: tuple[str, ...] = ()
    mentioned: tuple[int, ...] = ()
    thread_id: str | UnsetType = UNSET
    forward: Forward | UnsetType = UNSET
    buttons: Buttons | UnsetType = UNSET


class Reactors(Struct, frozen=True, gc=False, array_like=True):
    """Everybody who reacted with this emoji; users: Roaring bitmap of `count`."""

    emoji: str
    users: bytes
    count: int


class ShownReaction(Struct, frozen=True, gc=False, array_like=True):
    """One of the first 100, in the order in which they came."""

    emoji: str
    user: int
    user_id: bytes
    at_ms: int


class ThreadState(Struct, frozen=True, gc=False, array_like=True):
    """count: messages that are not deleted. people: 16-byte ids of the first 10.
    counted_seq: of the latest event that changed it."""

    count: int
    last_seq: int
    last_ms: int
    people: tuple[bytes, ...]
    counted_seq: int = 0


class PollState(Struct, frozen=True, gc=False, array_like=True):
    """votes: Roaring bitmap of the voters, of each option. closed_ms: 0 while open."""

    votes: tuple[bytes, ...]
    closed_ms: int = 0


class Past(Struct, frozen=True, gc=False, array_like=True):
    """What a message said until then."""

    until_ms: int
    content: Any


class MessageChanges(
    Struct, frozen=True, gc=False, array_like=True, omit_defaults=True
):
    """history: what it said at first, and before the latest edits, the first first; at
    most `HISTORY_MAX` in all.

    deleted_by: user number; 0 when it vanished. reason: of the moderator who deleted
    it. To evolve, append with a default.
    """

    edited_ms: int = 0
    history: tuple[Past, ...] = ()
    deleted_ms: int = 0
    deleted_by: int = 0
    reason: str | None = None
    reactions: tuple[Reactors, ...] = ()
    shown: tuple[ShownReaction, ...] = ()
    thread: ThreadState | None = None
    poll: PollState | None = None


UNCHANGED: Final = MessageChanges()


class MessageState(Struct, frozen=True, gc=False):
    """position: of the latest record that changed it; 0 if none since it was stored."""

    dialog_number: int
    seq: int
    ordinal: int
    at_ms: int
    sender: int
    sender_id: bytes
    body: MessageBody
    thread_seq: int = 0
    expires_ms: int = 0
    changes: MessageChanges = UNCHANGED
    position: int = 0

    @property
    def id(self) -> str:
        return message_id(self.at_ms, self.dialog_number, self.seq)

    @property
    def is_deleted(self) -> bool:
        return self.changes.deleted_ms != 0

    @property
    def is_closed_poll(self) -> bool:
        return self.changes.poll is not None and self.changes.poll.closed_ms != 0

    def choice_of(self, user_number: int) -> tuple[int, ...]:
        """The options that the user has voted for in this poll."""
        if self.changes.poll is None:
            return ()
        return tuple(
            option
            for option, users in enumerate(self.changes.poll.votes)
            if user_number in BitMap.deserialize(users)
        )


HISTORY_MAX: Final = 20
_encode_body: Final = msgspec.json.Encoder().encode
_decode_body: Final = msgspec.json.Decoder(MessageBody).decode
_encode_changes: Final = msgspec.msgpack.Encoder().encode
_decode_changes: Final = msgspec.msgpack.Decoder(MessageChanges).decode


def body_text(body: MessageBody) -> str:
    return _encode_body(body).decode()


def changes_bytes(changes: MessageChanges) -> bytes | None:
    """As stored; None for nothing."""
    return None if changes == UNCHANGED else _encode_changes(changes)


def state_of_row(row: EventRow) -> MessageState:
    """row: of a `message.new`."""
    assert row.kind == MESSAGE_NEW
    return MessageState(
        row.dialog_number,
        row.seq,
        row.ordinal,
        row.at_ms,
        row.actor,
        row.actor_id,
        _decode_body(row.body),
        row.thread_seq,
        row.expires_ms,
        UNCHANGED if row.changed is None else _decode_changes(row.changed),
    )


def message_of_state(
    state: MessageState, dialog_id: str, *, is_pinned: bool
) -> Message:
    """As members see it, without who has read it."""
    body, changes = state.body, state.changes
    if changes is UNCHANGED and body.thread_id is UNSET and body.type != "poll":
        return _unchanged(state, dialog_id, is_pinned)
    deleted = changes.deleted_ms != 0
    return Message(
        id=state.id,
        dialog_id=dialog_id,
        seq=state.seq,
        sender_id=uuid_text(state.sender_id),
        type=body.type,
        content={} if deleted else body.content,
        created_at=rfc3339(state.at_ms),
        reply_to_id=body.reply_to_id,
        mentions=() if deleted else body.mentions,
        is_edited=changes.edited_ms != 0,
        is_pinned=is_pinned,
        reactions=tuple(
            Reaction(r.emoji, uuid_text(r.user_id), rfc3339(r.at_ms))
            for r in changes.shown
        ),
        edited_at=rfc3339(changes.edited_ms) if changes.edited_ms else UNSET,
        deleted_at=rfc3339(changes.deleted_ms) if deleted else UNSET,
        reaction_counts=tuple(
            ReactionCount(r.emoji, r.count) for r in changes.reactions
        )
        or UNSET,
        thread_id=body.thread_id,
        thread=_thread(state),
        forward=body.forward,
        poll=poll_results(state),
        buttons=UNSET if deleted else body.buttons,
        expires_at=rfc3339(state.expires_ms) if state.expires_ms else UNSET,
    )


def _unchanged(state: MessageState, dialog_id: str, is_pinned: bool) -> Message:
    """Of a message that nothing became of, as most are; in a fraction of the time."""
    body = state.body
    message = Message(
        state.id,
        dialog_id,
        state.seq,
        uuid_text(state.sender_id),
        body.type,
        body.content,
        rfc3339(state.at_ms),
        body.reply_to_id,
        body.mentions,
        False,
        is_pinned,
    )
    if body.forward is UNSET and body.buttons is UNSET and not state.expires_ms:
        return message
    return structs.replace(
        message,
        forward=body.forward,
        buttons=body.buttons,
        expires_at=rfc3339(state.expires_ms) if state.expires_ms else UNSET,
    )


def as_of(state: MessageState, now_ms: int) -> MessageState:
    """The message as it is then: of one whose time is over what its deletion leaves."""
    if not 0 < state.expires_ms <= now_ms:
        return state
    body = MessageBody(
        type=state.body.type,
        content={},
        reply_to_id=state.body.reply_to_id,
        thread_id=state.body.thread_id,
    )
    changes = MessageChanges(deleted_ms=state.expires_ms, thread=state.changes.thread)
    return structs.replace(state, body=body, changes=changes, expires_ms=0)


def message_as_of(message: Message, now_ms: int) -> Message:
    """As `as_of`, of a message that is made already."""
    expires_at = message.expires_at
    if expires_at is UNSET or expires_at > rfc3339(now_ms):
        return message
    return Message(
        id=message.id,
        dialog_id=message.dialog_id,
        seq=message.seq,
        sender_id=message.sender_id,
        type=message.type,
        content={},
        created_at=message.created_at,
        reply_to_id=message.reply_to_id,
        deleted_at=expires_at,
        thread_id=message.thread_id,
        thread=message.thread,
    )


def hidden_message(message: Message) -> Message:
    """What is left of a message for who has deleted it for themselves."""
    return Message(
        id=message.id,
        dialog_id=message.dialog_id,
        seq=message.seq,
        sender_id=message.sender_id,
        type=message.type,
        content={},
        created_at=message.created_at,
        thread_id=message.thread_id,
        is_hidden=True,
    )


def _thread(state: MessageState) -> Thread | UnsetType:
    thread = state.changes.thread
    if thread is None:
        return UNSET
    last_id = message_id(thread.last_ms, state.dialog_number, thread.last_seq)
    people = tuple(uuid_text(id) for id in thread.people)
    at = rfc3339(thread.last_ms)
    return Thread(thread.count, last_id, at, people, thread.counted_seq)


def poll_results(state: MessageState) -> PollResults | UnsetType:
    """UNSET of anything but a poll, and of a deleted one."""
    if state.body.type != "poll" or state.is_deleted:
        return UNSET
    poll = state.changes.poll
    if poll is None:
        options = msgspec.to_builtins(state.body.content)["options"]
        return PollResults((0,) * len(options), 0)
    votes = [BitMap.deserialize(users) for users in poll.votes]
    voters = BitMap.union(*votes) if votes else BitMap()
    return PollResults(
        tuple(len(users) for users in votes), len(voters), poll.closed_ms != 0
    )
