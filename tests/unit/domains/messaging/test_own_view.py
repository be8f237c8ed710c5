"""What a member sees otherwise than others; counts are held against counting."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as some
from msgspec import UNSET, structs

from tchatd.domains.messaging.events import (
    DialogDeleted,
    MemberAdded,
    MemberRemoved,
    MemberRole,
    MessageRead,
)
from tchatd.domains.messaging.member import DraftState, Member, MemberExtra
from tchatd.domains.messaging.own_view import (
    draft_of,
    own_state,
    ranges_of,
    unread_count,
    unread_mentions,
    veiled,
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


# Who may not see the members

ME, OTHER, BOSS = "me", "other", "boss"
COMING = MemberAdded("d", 2, (ME, OTHER), 2, "member", BOSS, 5, "t")
GOING = MemberRemoved("d", 3, OTHER, BOSS, "removed", 4, "t")
ROLE = MemberRole("d", 4, OTHER, "guest", BOSS, "t")
READ = MessageRead("d", OTHER, "m", 3, "t", 5)


def test_who_may_not_see_the_members_is_told_of_no_other() -> None:
    coming = veiled(COMING, ME)
    assert (coming.user_ids, coming.count, coming.by) == ((ME,), 2, UNSET)  # type: ignore[union-attr]
    for event in (COMING, GOING, ROLE, READ):
        for me in ("", ME):
            told = veiled(event, me)
            assert (told.seq, type(told)) == (event.seq, type(event))
            assert OTHER not in repr(told)
            assert BOSS not in repr(told)


def test_they_are_told_of_themselves() -> None:
    for event in (GOING, ROLE, READ):
        assert veiled(event, OTHER) == event


def test_everybody_is_told_who_becomes_an_owner_or_an_admin() -> None:
    for event in (
        structs.replace(COMING, role="admin"),
        structs.replace(ROLE, role="owner", hands_over=True),
    ):
        assert veiled(event, ME) is event


def test_other_events_are_told_as_they_are() -> None:
    event = DialogDeleted("d", 9, BOSS, "t")
    assert veiled(event, ME) is event
