"""A member's cursor and extras: there and back as a row, and only forward."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tchatd.domains.messaging.member import (
    PLAIN,
    DraftState,
    Hidden,
    Member,
    MemberExtra,
    extra_bytes,
    extra_of,
    hidden_of,
)
from tchatd.domains.messaging.store import MemberRow
from tchatd.kernel.bitmaps import BitMap

# Written on the day of the first version; has to be read for ever.
GOLDEN: list[tuple[MemberExtra, str]] = [
    (MemberExtra(is_pinned=True), "91c3"),
    (
        MemberExtra(True, True, 5, DraftState("he", "r", 6), b"hidden", 7, 8),
        "97c3c30593a26865a17206c40668696464656e0708",
    ),
    (MemberExtra(draft=DraftState("x", None, 1)), "94c2c20093a178c001"),
]
numbers = some.integers(0, (1 << 31) - 1)
times = some.integers(0, (1 << 48) - 1)
words = some.text(some.characters(exclude_categories=["Cs"]), max_size=20)
bitmaps = some.sets(numbers, min_size=1).map(lambda seqs: BitMap(seqs).serialize())
extras = some.builds(
    MemberExtra,
    some.booleans(),
    some.booleans(),
    times,
    some.none() | some.builds(DraftState, words, some.none() | words, times),
    some.none() | bitmaps,
    numbers,
    times,
)
rows = some.builds(
    MemberRow,
    some.just(3),
    some.just(9),
    some.integers(0, 3),
    *([numbers] * 2),
    times,
    some.integers(-1, 1 << 47),
    numbers,
    times,
    *[numbers, times] * 2,
    times,
    some.none() | bitmaps,
    extras.map(extra_bytes),
)


@given(rows)
def test_a_member_comes_back_as_it_was_stored(row: MemberRow) -> None:
    assert Member.of_row(row).row(3, 9) == row


def test_a_member_of_whom_nothing_is_known_is_the_default_row() -> None:
    assert Member().row(3, 9) == MemberRow(3, 9)


@given(extras)
def test_extras_come_back_as_they_were(extra: MemberExtra) -> None:
    assert extra_of(extra_bytes(extra)) == extra


@pytest.mark.parametrize(("extra", "written"), GOLDEN)
def test_extras_that_were_written_first_are_read(
    extra: MemberExtra, written: str
) -> None:
    assert extra_of(bytes.fromhex(written)) == extra
    first = msgspec.msgpack.decode(bytes.fromhex(written))
    now = msgspec.msgpack.decode(extra_bytes(extra) or b"")
    assert now[: len(first)] == first


def test_extras_of_a_later_version_are_read_without_what_is_new() -> None:
    later = msgspec.msgpack.encode([True, False, 0, None, None, 0, 0, "new", 1])
    assert extra_of(later) == MemberExtra(is_pinned=True)
    assert extra_bytes(PLAIN) is None
    assert extra_of(None) is PLAIN


def test_reading_reads_mentions_up_to_there() -> None:
    member = Member()
    mentions = member.mentions = BitMap((3, 5, 9))
    member.read_up_to(5, 4, 77)
    assert (member.read_seq, member.read_ordinal, member.read_at_ms) == (5, 4, 77)
    assert member.delivered_seq == 5
    assert member.mentions == BitMap((9,))
    assert mentions == BitMap((3, 5, 9))
    member.delivered_seq = 20
    member.read_up_to(9, 8, 78)
    assert member.mentions is None
    assert member.delivered_seq == 20


def test_what_is_hidden_is_cleared_or_chosen() -> None:
    assert hidden_of(PLAIN) is None
    assert not PLAIN.hides(1)
    hidden = BitMap((7, 9)).serialize()
    for extra, gone in (
        (MemberExtra(cleared_seq=3), {1, 2, 3}),
        (MemberExtra(hidden=hidden), {7, 9}),
        (MemberExtra(cleared_seq=3, hidden=hidden), {1, 2, 3, 7, 9}),
    ):
        assert {seq for seq in range(1, 12) if extra.hides(seq)} == gone
        many = hidden_of(extra)
        assert many is not None
        assert {seq for seq in range(1, 12) if seq in many} == gone
    assert 1 not in Hidden(PLAIN)
