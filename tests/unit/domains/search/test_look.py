"""What a look finds and marks, and that it ends whoever chose the words."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.search import look as looking
from tchatd.domains.search.look import (
    COMPARED_MAX,
    EXACT,
    HIGHLIGHT_CHARS_MAX,
    HIGHLIGHTS_MAX,
    LOOSE,
    Look,
    may_be_near,
)
from tchatd.domains.search.text import parse, slips_between, slips_of
from tests.support.searching import level_of, parsed

NEAR = ["".join(("co", *letters)) for letters in product("abcdefghij", repeat=3)]


def test_marks_end_where_a_screen_does() -> None:
    look = Look(parsed("word last "))
    assert len(look.marks("word " * 500, EXACT)) == HIGHLIGHTS_MAX
    assert look.marks("x " * HIGHLIGHT_CHARS_MAX + "last", EXACT) == []


@given(st.text(max_size=60), st.text(max_size=10))
def test_marks_lie_within_the_text(text: str, q: str) -> None:
    query = parse(q)
    if query is not None:
        last = 0
        for first, end in Look(query).marks(text, LOOSE):
            assert last <= first < end <= len(text)
            last = end


def test_what_matches_as_typed_is_of_no_other_stage() -> None:
    look = Look(parsed("coffee"))
    assert look.matches("coffee", EXACT)
    assert not look.matches("coffee", LOOSE)
    assert look.matches("cofee", LOOSE)
    assert not look.matches("cofee", EXACT)
    assert look.marks("coffee cofee", EXACT) == [(0, 6)]
    assert look.marks("coffee cofee", LOOSE) == [(0, 6), (7, 12)]


WORDS = st.text("abc", min_size=3, max_size=12)


@given(WORDS.filter(slips_of), WORDS)
def test_nothing_near_is_left_out_by_its_ends(wanted: str, said: str) -> None:
    slips = slips_of(wanted)
    if slips_between(wanted, said, slips):
        assert may_be_near(wanted, said, slips)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is compared letter by letter from now on."""
    pairs = []

    def slips(one: str, other: str, most: int) -> bool:
        pairs.append((one, other))
        return slips_between(one, other, most)

    monkeypatch.setattr(looking, "slips_between", slips)
    return pairs


def test_a_query_of_many_words_near_many_others_compares_few_of_them(
    compared: list[tuple[str, str]],
) -> None:
    query = parsed(" ".join("co" + a + "yz" for a in "abcdefghijkl"))
    texts = [" ".join(NEAR[n : n + 600]) for n in range(0, 400, 50)]
    look = Look(query)
    for text in texts:
        before = look.work
        assert not look.matches(text, LOOSE)
        look.marks(text, LOOSE)
        assert look.work - before < 2 * len(text) + COMPARED_MAX + 12 * 600
    assert len(compared) == len(set(compared))
    assert len(compared) <= len(texts) * COMPARED_MAX / 25


def test_as_typed_nothing_is_compared(compared: list[tuple[str, str]]) -> None:
    look = Look(parsed("coffee tea"))
    assert not look.matches("cofee coffees", EXACT)
    look.marks("cofee coffees", EXACT)
    assert look.matches("coffee tea", EXACT)
    assert compared == []


def test_what_becomes_long_when_it_is_read_is_counted_so() -> None:
    look = Look(parsed("coffee"))
    look.matches("\ufdfa" * 1_000, EXACT)
    assert look.work == 18_000


def test_a_slip_is_forgiven_among_all_the_words_of_a_long_text() -> None:
    text = " ".join(NEAR[:600]) + " restaurent"
    assert level_of(parsed("restaurant"), text) == LOOSE
