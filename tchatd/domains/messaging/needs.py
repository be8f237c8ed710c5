"""Owns what a record needs in memory to be applied: members, and messages by seq.

Whoever submits a record has it loaded; at a replay `MessagingState.missing` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from tchatd.domains.messaging.records import (
    AddRecord,
    BanRecord,
    DeleteRecord,
    DeliverRecord,
    DropRecord,
    EditRecord,
    MessageRecord,
    OwnRecord,
    PinRecord,
    ProfileRecord,
    ReactRecord,
    ReadRecord,
    RemoveRecord,
    RestrictRecord,
    RoleRecord,
    VoteRecord,
)
from tchatd.kernel.bitmaps import BitMap

Needs: TypeAlias = tuple[Iterable[int], Iterable[int]]
"""User numbers of members, seqs of messages."""


def needs(record: Any) -> Needs:
    """record: any but a DialogRecord, which needs nothing."""
    return _NEEDS[type(record)](record)


def _message(record: MessageRecord) -> Needs:
    seqs = (record.thread_seq,) if record.thread_seq else ()
    return (record.sender, *record.mention_numbers), seqs


def _deletion(record: DeleteRecord) -> Needs:
    return (), (record.seq, record.thread_seq) if record.thread_seq else (record.seq,)


def _role(record: RoleRecord) -> Needs:
    return (record.user, record.actor) if record.hands_over else (record.user,), ()


_NEEDS: Final[dict[type, Callable[[Any], Needs]]] = {
    MessageRecord: _message,
    ReadRecord: lambda r: ((r.reader,), ()),
    EditRecord: lambda r: ((*r.mention_numbers, *r.unmentioned), (r.seq,)),
    DeleteRecord: _deletion,
    ReactRecord: lambda r: ((), (r.seq,)),
    PinRecord: lambda r: ((), (r.seq,)),
    VoteRecord: lambda r: ((), (r.seq,)),
    AddRecord: lambda r: (BitMap.deserialize(r.added), ()),
    RemoveRecord: lambda r: ((r.user,), ()),
    RoleRecord: _role,
    ProfileRecord: lambda r: ((r.actor,), ()),
    DropRecord: lambda r: ((), ()),
    BanRecord: lambda r: ((r.actor,), ()),
    OwnRecord: lambda r: ((r.actor,), ()),
    DeliverRecord: lambda r: ((r.actor,), ()),
    RestrictRecord: lambda r: ((r.user,), ()),
}
