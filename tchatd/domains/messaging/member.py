"""Owns one member of a dialog in memory: cursors, client_ids, what is theirs alone.

What was sent is remembered by client_id, for each sender: the ids with the greatest
times in `recent`, and `floor_ms`, the greatest time among all that were forgotten. An
id above the floor that is not in `recent` is therefore new; one at or below it has to
be looked up in the store, which has all that was forgotten.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from tchatd.domains.messaging.identifiers import client_time_ms
from tchatd.domains.messaging.store import MEMBER, MemberRow
from tchatd.kernel.bitmaps import BitMap

HIDDEN_MAX: Final = 1_000
"""Messages that a member has deleted for themselves, one by one, in one dialog."""


class DraftState(Struct, frozen=True, gc=False, array_like=True):
    text: str
    reply_to_id: str | None
    at_ms: int


class MemberExtra(Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """What few members have. To evolve, append with a default.

    hidden: Roaring bitmap of seqs of messages deleted for oneself; cleared_seq:
    everything up to it is hidden, too. silenced_until_ms: by a moderator.
    """

    is_pinned: bool = False
    is_archived: bool = False
    muted_until_ms: int = 0
    draft: DraftState | None = None
    hidden: bytes | None = None
    cleared_seq: int = 0
    silenced_until_ms: int = 0

    def hides(self, seq: int) -> bool:
        """Whether the member has deleted the message with this seq for themselves."""
        if self.hidden is None:
            return seq <= self.cleared_seq
        return seq <= self.cleared_seq or seq in BitMap.deserialize(self.hidden)


class Hidden:
    """What of a dialog's messages a member does not see, to be asked many times."""

    __slots__ = ("cleared_seq", "seqs")

    def __init__(self, extra: MemberExtra) -> None:
        self.cleared_seq = extra.cleared_seq
        self.seqs = BitMap()
        if extra.hidden is not None:
            self.seqs = BitMap.deserialize(extra.hidden)

    def __contains__(self, seq: int) -> bool:
        return seq <= self.cleared_seq or seq in self.seqs


def hidden_of(extra: MemberExtra) -> Hidden | None:
    """None for nothing."""
    return Hidden(extra) if extra.cleared_seq or extra.hidden is not None else None


PLAIN: Final = MemberExtra()
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(MemberExtra).decode


def extra_bytes(extra: MemberExtra) -> bytes | None:
    """As stored; None for all of the defaults."""
    return None if extra == PLAIN else _encode(extra)


def extra_of(stored: bytes | None) -> MemberExtra:
    return PLAIN if stored is None else _decode(stored)


class Member:
    """See MemberRow for the fields. mentions: never changed in place; None for none.

    changed_position: of the latest record that changed it; a member may be forgotten
    when it is flushed.
    """

    __slots__ = (
        "changed_position",
        "client_ms",
        "delivered_seq",
        "extra",
        "floor_ms",
        "joined_position",
        "joined_seq",
        "left_position",
        "left_seq",
        "mentions",
        "own_position",
        "read_at_ms",
        "read_ordinal",
        "read_seq",
        "recent",
        "role",
        "sent_ms",
    )

    def __init__(self, role: int = MEMBER) -> None:
        self.role = role
        self.read_seq = 0
        self.read_ordinal = 0
        self.read_at_ms = 0
        self.client_ms = -1
        self.floor_ms = -1
        self.delivered_seq = 0
        self.sent_ms = 0
        self.joined_seq = 0
        self.joined_position = 0
        self.left_seq = 0
        self.left_position = 0
        self.own_position = 0
        self.mentions: BitMap | None = None
        self.extra = PLAIN
        self.recent: dict[bytes, int] = {}
        self.changed_position = 0

    @classmethod
    def of_row(cls, row: MemberRow) -> Member:
        member = cls(row.role)
        member.read_seq = row.read_seq
        member.read_ordinal = row.read_ordinal
        member.read_at_ms = row.read_at_ms
        member.client_ms = member.floor_ms = row.client_ms
        member.delivered_seq = row.delivered_seq
        member.sent_ms = row.sent_ms
        member.joined_seq = row.joined_seq
        member.joined_position = row.joined_position
        member.left_seq = row.left_seq
        member.left_position = row.left_position
        member.own_position = row.own_position
        if row.mentions is not None:
            member.mentions = BitMap.deserialize(row.mentions)
        member.extra = extra_of(row.extra)
        return member

    def row(self, dialog_number: int, user_number: int) -> MemberRow:
        return MemberRow(
            dialog_number,
            user_number,
            self.role,
            self.read_seq,
            self.read_ordinal,
            self.read_at_ms,
            self.client_ms,
            self.delivered_seq,
            self.sent_ms,
            self.joined_seq,
            self.joined_position,
            self.left_seq,
            self.left_position,
            self.own_position,
            None if self.mentions is None else self.mentions.serialize(),
            extra_bytes(self.extra),
        )

    def read_up_to(self, seq: int, ordinal: int, at_ms: int) -> None:
        """Move the cursor forward; mentions up to it are read."""
        self.read_seq, self.read_ordinal, self.read_at_ms = seq, ordinal, at_ms
        if seq > self.delivered_seq:
            self.delivered_seq = seq
        if self.mentions is not None:
            left = BitMap(self.mentions)
            left.remove_range(0, seq + 1)
            self.mentions = left or None

    def forget(self, flushed_seq: int, kept: int) -> None:
        """Drop the oldest client_ids that are in the store, down to `kept` of them."""
        flushed = []
        for id, seq in self.recent.items():  # by seq, as they came
            if seq > flushed_seq:
                break
            flushed.append(id)
        flushed.sort()
        drop = flushed[: max(0, len(flushed) - kept)]
        for id in drop:
            del self.recent[id]
        if drop:
            self.floor_ms = max(self.floor_ms, client_time_ms(drop[-1]))
