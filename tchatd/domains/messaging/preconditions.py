"""Owns what has to hold of a record before it is journaled, beside what it needs.

Whoever submits has checked it by the state; here it is asserted once more, since a
record that cannot be applied would end this start and every one after it. Plain
messages and reads, which are nearly all, are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.records import (
    AddRecord,
    DeleteRecord,
    DeliverRecord,
    DialogRecord,
    EditRecord,
    MessageRecord,
    OwnRecord,
    PinRecord,
    ReactRecord,
    ReadRecord,
    Record,
    RemoveRecord,
    RestrictRecord,
    RoleRecord,
    VoteRecord,
)
from tchatd.domains.messaging.state import MessagingState
from tchatd.kernel.bitmaps import BitMap


def check(state: MessagingState, record: Record) -> None:
    """Raises AssertionError: a programmer's; nothing has happened."""
    if type(record) is ReadRecord:
        return
    if type(record) is MessageRecord and not (
        record.thread_seq or record.mention_numbers
    ):
        return
    if isinstance(record, DialogRecord):
        assert not state.has_id(record.dialog_id), "there is such a dialog"
        return
    missing = state.missing([(0, record)])
    assert not len(missing), f"not loaded: {missing}"
    holds = _HOLDS.get(type(record))
    if holds is not None:
        dialog = state.find_number(record.dialog_number)
        assert dialog is not None
        holds(dialog, record)


def _is_message(dialog: DialogState, record: Any) -> None:
    state = dialog.message_state(record.seq)
    assert state is not None, "no such message"
    assert not state.is_deleted, "the message is deleted"


def _deletes(dialog: DialogState, record: DeleteRecord) -> None:
    _is_message(dialog, record)
    if record.thread_seq:
        root = dialog.message_state(record.thread_seq)
        assert root is not None
        assert root.changes.thread is not None, "no thread"


def _votes(dialog: DialogState, record: VoteRecord) -> None:
    _is_message(dialog, record)
    state = dialog.message_state(record.seq)
    assert state is not None
    assert state.body.type == "poll", "no poll"


def _has_thread(dialog: DialogState, record: MessageRecord) -> None:
    if record.thread_seq:
        assert dialog.message_state(record.thread_seq) is not None, "no such message"


def _adds(dialog: DialogState, record: AddRecord) -> None:
    added = BitMap.deserialize(record.added)
    assert added, "nobody joins"
    assert not added & dialog.members, "somebody is in it already"


def _has_user(dialog: DialogState, record: Any) -> None:
    assert record.user in dialog.members, "not in it"


def _has_actor(dialog: DialogState, record: Any) -> None:
    """A row that says no more would make a member of them."""
    assert record.actor in dialog.members, "not in it"


_HOLDS: Final[dict[type, Callable[[DialogState, Any], None]]] = {
    MessageRecord: _has_thread,
    EditRecord: _is_message,
    DeleteRecord: _deletes,
    ReactRecord: _is_message,
    PinRecord: _is_message,
    VoteRecord: _votes,
    AddRecord: _adds,
    RemoveRecord: _has_user,
    RoleRecord: _has_user,
    RestrictRecord: _has_user,
    OwnRecord: _has_actor,
    DeliverRecord: _has_actor,
}
