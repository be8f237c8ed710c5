"""What a member sees otherwise than others; counts are held against counting."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as some
from msgspec import UNSET

from tchatd.domains.messaging.member import DraftState, Member, MemberExtra
from tchatd.domains.messaging.own_view import (
    draft_of,
    own_state,
    ranges_of,
    unread_count,
    unread_mentions,
)
from tchatd.kernel.bitmaps import BitMap
from tests.support.messaging import shape

LAST_SEQ = 40
seqs = some.sets(some.integers(1, LAST_SEQ))


@given(seqs, seqs, seqs, seqs, some.integers(0, LAST_SEQ))
def test_unread_and_mentions_are_what_counting_finds(
    messages: set[int],
    deleted: set[int],
    hidden: set[int],
    mentions: set[int],
    read: int,
) -> None:
    member = Member()
    member.read_seq = read
    member.read_ordinal = sum(seq <= read for seq in messages)
    gone = BitMap(deleted & messages) or None
    if hidden & messages:
        member.extra = MemberExtra(hidden=BitMap(hidden & messages).serialize())
    member.mentions = BitMap(s for s in mentions & messages if s > read) or None
    left = {s for s in messages - deleted - hidden if s > read}
    assert unread_count(member, len(messages), gone) == len(left)
    assert set(unread_mentions(member, gone)) == left & mentions
    told = own_state("d", member, LAST_SEQ, len(messages), gone)
    assert (told.unread_count, told.mention_count) == (len(left), len(left & mentions))


@given(seqs)
def test_ranges_are_the_set_again(numbers: set[int]) -> None:
    ranges = ranges_of(BitMap(numbers))
    assert {n for first, last in ranges for n in range(first, last + 1)} == numbers
    assert all(one[1] + 1 < next[0] for one, next in pairwise(ranges))
    assert ranges_of(None) == ()


def test_a_draft_tells_no_more_than_there_is() -> None:
    assert draft_of(MemberExtra()) is UNSET
    draft = draft_of(MemberExtra(draft=DraftState("he", None, 1_800_000_000_000)))
    assert set(shape(draft)) == {"text", "saved_at"}
