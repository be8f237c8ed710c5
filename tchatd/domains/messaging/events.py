"""Owns what members are told of a dialog's changes, live, by its log and by `sync`.

Every event of the log has the dialog's next seq. Those without a seq are live only
(typing), or tell a user's own devices what `sync` tells as a state (OwnState).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType

from tchatd.domains.messaging.models import (
    Dialog,
    Draft,
    Message,
    PollResults,
    Role,
)
from tchatd.domains.messaging.settings import DialogSettings


class DialogCreated(
    Struct, frozen=True, gc=False, tag_field="op", tag="dialog.created"
):
    """The dialog is new for whoever is told: it was created, or they joined it."""

    dialog_id: str
    seq: int
    dialog: Dialog


class MessageNew(Struct, frozen=True, gc=False, tag_field="op", tag="message.new"):
    dialog_id: str
    seq: int
    message: Message


class MessageRead(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="message.read",
    omit_defaults=True,
):
    """The user has read everything up to `read_seq`.

    seq: absent in dialogs of more than 100 members, where reading is no event of the
        dialog and only the reader's own devices are told.
    user_id: absent for who may not see the members.
    """

    dialog_id: str
    user_id: str | UnsetType
    message_id: str
    read_seq: int
    at: str
    seq: int | UnsetType = UNSET


class MessageEdited(
    Struct, frozen=True, gc=False, tag_field="op", tag="message.edited"
):
    """message: as it was after this edit; without content if it is deleted by now."""

    dialog_id: str
    seq: int
    message: Message


class MessageDeleted(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="message.deleted",
    omit_defaults=True,
):
    """Gone for everyone. user_id: who did it; absent when its time was over.
    thread_id: of the message whose thread counts one less."""

    dialog_id: str
    seq: int
    message_id: str
    message_seq: int
    at: str
    user_id: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET


class ReactionAdded(
    Struct, frozen=True, gc=False, tag_field="op", tag="reaction.added"
):
    """count: of this emoji at the message, now."""

    dialog_id: str
    seq: int
    message_id: str
    message_seq: int
    emoji: str
    user_id: str
    at: str
    count: int


class ReactionRemoved(
    Struct, frozen=True, gc=False, tag_field="op", tag="reaction.removed"
):
    dialog_id: str
    seq: int
    message_id: str
    message_seq: int
    emoji: str
    user_id: str
    at: str
    count: int


class MessagePinned(
    Struct, frozen=True, gc=False, tag_field="op", tag="message.pinned"
):
    dialog_id: str
    seq: int
    message_id: str
    message_seq: int
    user_id: str
    at: str


class MessageUnpinned(
    Struct, frozen=True, gc=False, tag_field="op", tag="message.unpinned"
):
    dialog_id: str
    seq: int
    message_id: str
    message_seq: int
    user_id: str
    at: str


class PollVoted(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="poll.voted",
    omit_defaults=True,
):
    """poll: the results after it. user_id, options: absent of an anonymous poll."""

    dialog_id: str
    seq: int
    message_id: str
    message_seq: int
    at: str
    poll: PollResults
    user_id: str | UnsetType = UNSET
    options: tuple[int, ...] | UnsetType = UNSET


class MemberAdded(Struct, frozen=True, gc=False, tag_field="op", tag="member.added"):
    """user_ids: the first 100 of those who joined; count: of all who joined.
    by: who added them; the one who joined, of somebody who came by themselves; absent,
    as user_ids are empty, for who may not see the members."""

    dialog_id: str
    seq: int
    user_ids: tuple[str, ...]
    count: int
    role: Role
    by: str | UnsetType
    member_count: int
    at: str


class MemberRemoved(
    Struct, frozen=True, gc=False, tag_field="op", tag="member.removed"
):
    """reason: left, removed or banned. user_id, by: absent for who may not see the
    members, unless it is they who are gone."""

    dialog_id: str
    seq: int
    user_id: str | UnsetType
    by: str | UnsetType
    reason: str
    member_count: int
    at: str


class MemberRole(Struct, frozen=True, gc=False, tag_field="op", tag="member.role"):
    """hands_over: who did it was an owner and is an admin now. user_id, by: absent for
    who may not see the members, unless it is theirs, or an owner's or admin's."""

    dialog_id: str
    seq: int
    user_id: str | UnsetType
    role: Role
    by: str | UnsetType
    at: str
    hands_over: bool = False


class DialogUpdated(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="dialog.updated",
    omit_defaults=True,
):
    dialog_id: str
    seq: int
    by: str
    at: str
    settings: DialogSettings
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET


class DialogDeleted(
    Struct, frozen=True, gc=False, tag_field="op", tag="dialog.deleted"
):
    dialog_id: str
    seq: int
    by: str
    at: str


class OwnState(
    Struct,
    frozen=True,
    gc=False,
    tag_field="op",
    tag="dialog.settings",
    omit_defaults=True,
):
    """All that a member keeps for themselves in a dialog, and what they have read.

    last_seq: of the dialog when it was so; the counts have all events up to it.
    mention_seqs: of the latest 1,000 unread messages that mention the member.
    hidden: seqs of messages deleted for oneself, as [first, last] ranges; cleared_seq:
        everything up to it is, too. silenced_until: set by a moderator.
    """

    dialog_id: str
    last_seq: int
    read_seq: int
    unread_count: int
    mention_count: int
    mention_seqs: tuple[int, ...] = ()
    role: Role = "member"
    is_pinned: bool = False
    is_archived: bool = False
    muted_until: str | UnsetType = UNSET
    draft: Draft | UnsetType = UNSET
    hidden: tuple[tuple[int, int], ...] = ()
    cleared_seq: int = 0
    silenced_until: str | UnsetType = UNSET


class MessageDelivered(
    Struct, frozen=True, gc=False, tag_field="op", tag="message.delivered"
):
    """Live only, in dialogs of up to 100 members."""

    dialog_id: str
    user_id: str
    delivered_seq: int
    at: str


class TypingStarted(Struct, frozen=True, gc=False, tag_field="op", tag="typing.start"):
    dialog_id: str
    user_id: str


class TypingStopped(Struct, frozen=True, gc=False, tag_field="op", tag="typing.stop"):
    dialog_id: str
    user_id: str


Event: TypeAlias = (
    DialogCreated
    | MessageNew
    | MessageRead
    | MessageEdited
    | MessageDeleted
    | ReactionAdded
    | ReactionRemoved
    | MessagePinned
    | MessageUnpinned
    | PollVoted
    | MemberAdded
    | MemberRemoved
    | MemberRole
    | DialogUpdated
    | DialogDeleted
)
"""What a dialog's log has."""
OwnEvent: TypeAlias = OwnState | MessageDelivered


class EventPage(Struct, frozen=True):
    """In `seq` order, without a hole. last_seq: of the dialog."""

    events: list[Event]
    last_seq: int
    has_more: bool


class SyncPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every durable event missed, dialog after dialog, in `seq` order within each.

    cursor: give it back, now if `has_more`, else after being away.
    is_reset: forget everything and begin with `dialogs`; without a cursor, with one
        that this server cannot know, or when very many dialogs have changed. The rest
        is at GET /dialogs with `dialogs_cursor`; one that gets a message meanwhile is
        on no later page of it, but its event tells of it. Histories are asked for when
        they are opened.
    dialogs: whole dialogs, to be taken as they are instead of what the device has of
        them: those joined since, and those of which too much was missed to be told
        event by event.
    latest: at the begin of a pass of several pages, how those of the latest 100 dialogs
        look that have changed, so that the list is right before the rest is filled in.
        It takes the place of nothing: their events are still to come.
    own: how all dialogs with events, and those with changes of the user's own, are for
        the user, when nothing more of them is to come in this pass.
    left: ids of dialogs that the user is not in any more.
    """

    events: Sequence[Event]
    cursor: str
    has_more: bool
    is_reset: bool = False
    dialogs: list[Dialog] | UnsetType = UNSET
    dialogs_cursor: str | UnsetType = UNSET
    latest: list[Dialog] | UnsetType = UNSET
    own: list[OwnState] | UnsetType = UNSET
    left: list[str] | UnsetType = UNSET
