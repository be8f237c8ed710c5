"""Tokens and queries in the languages that people write here."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tchatd.domains.search.look import EXACT, LOOSE, Look
from tchatd.domains.search.text import (
    CLAUSES_MAX,
    HEAD_LETTERS,
    PIECES_MAX,
    TOKEN_CHARS_MAX,
    Query,
    normalized,
    parse,
    slips_between,
    tokens,
    units_of,
)
from tchatd.stores.memory.search import matches
from tests.support.searching import NONE, level_of, parsed

THAI = "สวัสดีครับ พรุ่งนี้ไปกินข้าวที่ร้านเดิมไหม"
LAO = "ສະບາຍດີ ເຈົ້າກິນເຂົ້າແລ້ວບໍ"
KHMER = "សួស្តី តើអ្នកសុខសប្បាយទេថ្ងៃនេះ"
BURMESE = "မင်္ဂလာပါ ဒီနေ့ ထမင်းစားပြီးပြီလား"
VIETNAMESE = "Hôm nay mình ăn bánh mì ở Đà Nẵng nhé"
INDONESIAN = "Besok anak-anak mau makan siang di mana?"
MALAY = "Selamat pagi, jumpa di kedai kopi pukul sembilan"
FILIPINO = "Kumain ka na ba? Magkita tayo sa Parañaque 'yung bukas"
CHINESE = "我们明天去吃火锅吧"
ENGLISH = "Don't forget: the restaurant's meeting is tomorrow at 9:30"

FOUND = [
    (THAI, "สวัสดี", EXACT),
    (THAI, "กินข้าว", EXACT),
    (THAI, "ร้านเดิม", EXACT),
    (THAI, "ครับพรุ่งนี้", EXACT),  # without the space that is there
    (THAI, "กิน พรุ่งนี้", EXACT),  # two things, in any order
    (THAI, "กินข้", EXACT),  # not typed to the end
    (THAI, "ข", EXACT),
    (THAI, "กินขาว", NONE),  # another tone is another word
    (THAI, "ข้าวกิน", NONE),  # its pairs do not follow each other
    ("น้ำเปล่า", "น้ำ", EXACT),
    ("น้ำเปล่า", "นํ้า", EXACT),  # the same, its marks in another order
    ("ราคา ๕๐๐ บาท", "500 บาท", EXACT),
    ("ราคา500บาท", "500", EXACT),
    (LAO, "ກິນເຂົ້າ", EXACT),
    (LAO, "ສະບາຍ", EXACT),
    (LAO, "ກິນເຂົາ", NONE),
    (KHMER, "សុខសប្បាយ", EXACT),
    ("សុខ\u200bសប្បាយ", "សុខសប្បាយ", EXACT),
    (KHMER, "ថ្ងៃនេះ", EXACT),
    (BURMESE, "ထမင်း", EXACT),
    (BURMESE, "ဒီနေ့ထမင်း", EXACT),
    (BURMESE, "ဒီညနေ", NONE),
    (VIETNAMESE, "bánh mì", EXACT),
    (VIETNAMESE, "banh mi", EXACT),
    (VIETNAMESE, "BÁNH MÌ", EXACT),
    (VIETNAMESE, "ba\u0301nh mi\u0300", EXACT),  # its marks as characters
    (VIETNAMESE, "da nang", EXACT),
    (VIETNAMESE, "Đà Nẵng", EXACT),
    (VIETNAMESE, "bành mì", LOOSE),
    (VIETNAMESE, "hom nay an", EXACT),
    ("an banh mi", "ăn bánh mì", LOOSE),
    (VIETNAMESE, "bún chả", NONE),
    (INDONESIAN, "makan siang", EXACT),
    (INDONESIAN, "anak-anak", EXACT),
    (INDONESIAN, "maka", EXACT),  # its last word may go on
    (INDONESIAN, "maka besok", LOOSE),  # but no other
    (INDONESIAN, "makna siang", LOOSE),
    (INDONESIAN, "kemarin", NONE),
    (MALAY, "kedai kopi", EXACT),
    (MALAY, "kedei kopi", LOOSE),
    (MALAY, "sembilan", EXACT),
    (MALAY, "sembliann", LOOSE),
    (FILIPINO, "magkita tayo", EXACT),
    (FILIPINO, "paranaque", EXACT),
    (FILIPINO, "Parañaque", EXACT),
    (FILIPINO, "yung", EXACT),
    (FILIPINO, "kumian", LOOSE),
    (CHINESE, "火锅", EXACT),
    (CHINESE, "锅", EXACT),
    (CHINESE, "明天吃", NONE),
    (CHINESE, "明天 火锅", EXACT),
    (CHINESE, "吧", EXACT),
    ("ＡＢＣ１２３", "abc123", EXACT),
    (ENGLISH, "dont forget", EXACT),
    (ENGLISH, "don’t", EXACT),
    (ENGLISH, "restaurants", EXACT),
    (ENGLISH, "tomorow", LOOSE),
    (ENGLISH, "restarant meeting", LOOSE),
    (ENGLISH, "meting tomorrow", LOOSE),
    (ENGLISH, "9:30", EXACT),
    (ENGLISH, "9:31", NONE),
    (ENGLISH, "cat", NONE),
    ("see you 👍", "👍", EXACT),
    ("report_Q3-final.pdf", "q3 final", EXACT),
    ("Straße nach Łódź", "strasse lodz", EXACT),
    ("வணக்கம் நண்பா", "வணக்கம்", EXACT),
    ("Привет, мир", "привет", EXACT),
]


@pytest.mark.parametrize(("text", "q", "level"), FOUND)
def test_what_is_found_by_what(text: str, q: str, level: int) -> None:
    query = parsed(q)
    assert level_of(query, text) == level
    said = tokens(text)
    if level == EXACT:
        assert matches(query.clauses(), said)
    if level != NONE:
        assert matches(query.clauses(loose=True), said)
    assert level == NONE or Look(query).marks(text, level)


@pytest.mark.parametrize("q", ["", " ", "...", "?!", "\u200b", "'", "—", "\n\t"])
def test_what_has_nothing_to_look_for(q: str) -> None:
    assert parse(q) is None


@pytest.mark.parametrize(
    ("text", "q", "shown"),
    [
        (VIETNAMESE, "banh mi", ["mình", "bánh", "mì"]),
        (VIETNAMESE, "bánh mì ", ["bánh", "mì"]),
        (THAI, "ครับพรุ่ง", ["ครับ พรุ่ง"]),
        ("น้ำเปล่า", "น้ำ", ["น้ำ"]),
        (CHINESE, "火锅", ["火锅"]),
        (ENGLISH, "dont tomorow", ["Don't", "tomorrow"]),
        ("ba\u0301nh mi\u0300", "banh", ["ba\u0301nh"]),
        ("la la land", "la", ["la", "la", "land"]),
        ("กินกิน ข้าว", "กิน", ["กินกิน"]),
        ("İstanbul ﬁsh", "fish", ["ﬁsh"]),
    ],
)
def test_what_is_marked_in_a_text(text: str, q: str, shown: list[str]) -> None:
    spans = Look(parsed(q)).marks(text, LOOSE)
    assert [text[first:end] for first, end in spans] == shown


def test_a_word_that_is_too_long_is_found_by_its_begin() -> None:
    text = "x" * 500
    assert tokens(text).words == {"x" * TOKEN_CHARS_MAX}
    assert level_of(parsed(text[:200]), text) == EXACT


def test_a_long_query_asks_the_index_for_part_of_it() -> None:
    query = parsed("กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ" * 3)
    assert len(query.clauses()) == CLAUSES_MAX


def test_what_follows_twelve_words_is_not_looked_for() -> None:
    words = [f"{letter}o" for letter in "abcdefghijklmn"]
    assert level_of(parsed(" ".join(words)), " ".join(words[:PIECES_MAX])) == EXACT
    mixed = parsed("ก a ข b " * 10 + "ค c ฆ d ง e จ f ฉ g ช h")
    assert len(mixed.words) + len(mixed.runs) == PIECES_MAX


def test_in_a_name_every_word_may_go_on() -> None:
    assert level_of(parsed("som jai", every_word_open=True), "Somchai Jaidee") == EXACT
    assert level_of(parsed("som jai"), "Somchai Jaidee") == NONE


def test_a_word_with_a_space_behind_it_is_typed_to_the_end() -> None:
    assert level_of(parsed("restau"), ENGLISH) == EXACT
    assert level_of(parsed("restau "), ENGLISH) == NONE


@pytest.mark.parametrize(
    ("one", "other", "most", "near"),
    [
        ("word", "word", 1, True),
        ("word", "wrod", 1, True),
        ("word", "wordy", 1, True),
        ("word", "ord", 1, True),
        ("word", "ward", 1, True),
        ("word", "wards", 1, False),
        ("word", "wards", 2, True),
        ("restaurant", "restuarnt", 2, True),
        ("abcd", "badc", 2, True),
        ("abcd", "badc", 1, False),
        ("a", "abc", 1, False),
    ],
)
def test_slips_are_letters_added_left_out_changed_or_swapped(
    one: str, other: str, most: int, near: bool
) -> None:
    assert slips_between(one, other, most) is near
    assert slips_between(other, one, most) is near


@pytest.mark.parametrize("q", ["cat", "2026", "covid19", "ăn", "กินข้าว"])
def test_short_words_numbers_and_other_scripts_are_taken_as_typed(q: str) -> None:
    query = parsed(q)
    assert all(word.slips == 0 for word in query.words)


LETTERS = st.text(
    st.sampled_from(
        "abAB đĐáẵ ก้ำาิเ ກົ້າ កុ្ស ကိံ့် 我们火 0๑ '-.\u200b\u0301\n"
        + THAI + KHMER + BURMESE + VIETNAMESE + CHINESE
    ),
    max_size=40,
)  # fmt: skip


@given(LETTERS, st.data())
def test_every_part_of_a_text_between_units_finds_it(
    text: str, data: st.DataObject
) -> None:
    """It begins where a word or a unit does, and does not end within a unit."""
    starts = [
        at
        for at in range(len(text))
        if at == 0 or not (text[at - 1].isalnum() or normalized(text[at])[:1] == "")
    ]
    if not starts:
        return
    first = data.draw(st.sampled_from(starts))
    ends = [
        end
        for end in range(first + 1, len(text) + 1)
        if end == len(text) or unicodedata.category(text[end])[0] != "M"
    ]
    end = data.draw(st.sampled_from(ends))
    query = parse(text[first:end])
    if query is None or not _begins(text, first):
        return
    if any(len(word.folded) < HEAD_LETTERS for word in query.words):
        return
    if any(unicodedata.category(unit[0])[0] == "M" for unit in _units(query)):
        return  # a mark on nothing
    assert level_of(query, text) != NONE
    assert matches(query.clauses(loose=True), tokens(text))


def _units(query: Query) -> list[str]:
    return [unit for run in query.runs for unit in run.units]


def _begins(text: str, at: int) -> bool:
    """Whether normalizing the part is part of normalizing the text."""
    return normalized(text) == normalized(text[:at]) + normalized(text[at:])


@given(st.text(max_size=60))
@example("ก ั")  # a mark after a space
@example("x ัก")
def test_any_text_has_tokens_and_is_found_by_itself(text: str) -> None:
    said = tokens(text)
    assert all(token and " " not in token for token in said.words | said.exact)
    query = parse(text)
    assert (query is None) == (not said.words and not said.exact)
    if query is not None:
        assert matches(query.clauses(), said)
        assert level_of(query, text) == EXACT


def test_units_hold_their_marks() -> None:
    assert units_of("กิ่ง") == ["กิ่", "ง"]
    assert units_of("我们") == ["我", "们"]
