"""What is found in a text however it is written, and what only looks alike."""

from __future__ import annotations

import random

import pytest

from tchatd.domains.messaging.content import ImageContent, PollContent, TextContent
from tchatd.domains.moderation.filters import (
    FORM_CHARS_MAX,
    PATTERN_CHARS_MAX,
    PATTERNS_MAX,
    BadPattern,
    Links,
    Pattern,
    Words,
    WordsAndLinks,
    normalised,
    patterns_of,
    texts_of,
)


def words(*lines: str) -> Words:
    return Words(patterns_of(lines))


@pytest.mark.parametrize(
    ("pattern", "text", "verdict"),
    [
        ("refuse: casino", "Visit our casino!", "refuse"),
        ("refuse: casino", "Visit our CASINO!", "refuse"),
        ("refuse: casino", "ｃａｓｉｎｏ", "refuse"),
        ("refuse: casino", "ca\u200bsi\u00adno", "refuse"),
        ("refuse: casino", "(casino)", "refuse"),
        ("refuse: casino", "casinos", "allow"),
        ("refuse: casino", "mycasino", "allow"),
        ("refuse: casino*", "casinos", "refuse"),
        ("refuse: casino*", "mycasino", "allow"),
        ("refuse: *casino", "mycasino", "refuse"),
        ("refuse: *casino*", "mycasinos", "refuse"),
        ("flag: casino", "casino", "flag"),
        ("refuse: free money", "FREE \n  money now", "refuse"),
        ("refuse: free money", "freemoney", "allow"),
        ("refuse: straße", "STRASSE", "refuse"),
        ("refuse: การพนัน", "เว็บการพนันออนไลน์", "refuse"),
        ("refuse: 赌博", "在线赌博网站", "refuse"),
        ("refuse: កាស៊ីណូ", "លេងកាស៊ីណូឥឡូវ", "refuse"),
        ("refuse: đánh bạc", "ĐÁNH BẠC online", "refuse"),
        ("refuse: đánh bạc", "đa\u0301nh ba\u0323c", "refuse"),
        ("refuse: a", "", "allow"),
        ("refuse: +66", "call +66 now", "refuse"),
    ],
)
def test_a_pattern_finds_its_words(pattern: str, text: str, verdict: str) -> None:
    assert words(pattern).judge(text) == verdict


def test_the_graver_of_several_verdicts_counts() -> None:
    found = words("flag: casino", "refuse: win casino", "flag: win")
    assert found.judge("casino") == "flag"
    assert found.judge("win casino") == "refuse"
    assert found.judge("casino and win casino") == "refuse"
    assert found.judge("wine cellar") == "allow"


def test_patterns_within_and_across_each_other_are_all_found() -> None:
    found = words("refuse: *abcd*", "flag: *bc*", "flag: *cde*")
    assert found.judge("xabce") == "flag"
    assert found.judge("xabcde") == "refuse"
    assert found.judge("ababcbcd") == "flag"
    assert found.judge("bcd") == "flag"


@pytest.mark.parametrize("seed", range(30))
def test_the_automaton_finds_what_a_search_for_each_finds(seed: int) -> None:
    chance = random.Random(seed)

    def chars(most: int) -> str:
        return "".join(chance.choices("ab", k=chance.randint(1, most)))

    patterns = {chars(5) for _ in range(chance.randint(1, 8))}
    automaton = Words(Pattern(text, "flag", False, False) for text in patterns)
    for _ in range(200):
        text = chars(12)
        expected = any(pattern in text for pattern in patterns)
        assert (automaton.judge(text) == "flag") is expected, (patterns, text)


def test_the_list_says_which_line_is_wrong() -> None:
    found = list(patterns_of(["# comment", "", "  refuse: A  b ", "flag: *c*"]))
    assert [pattern.text for pattern in found] == ["a b", "c"]
    for lines in (
        ["casino"],
        ["ban: casino"],
        ["refuse:"],
        ["refuse: **"],
        ["refuse: " + "x" * (PATTERN_CHARS_MAX + 1)],
    ):
        with pytest.raises(BadPattern, match="line 1 "):
            list(patterns_of(lines))
    with pytest.raises(BadPattern, match="more than"):
        list(patterns_of(f"flag: w{n}" for n in range(PATTERNS_MAX + 1)))


def test_a_full_list_and_the_longest_text_are_looked_through_once() -> None:
    steps = 0

    class Counting(dict):  # type: ignore[type-arg]
        def __contains__(self, key: object) -> bool:
            nonlocal steps
            steps += 1
            return super().__contains__(key)

    found = words(*(f"refuse: {'a' * n}b" for n in range(1, 90)))
    found._root.next = Counting(found._root.next)
    assert found.judge("a" * 4_096) == "allow"
    assert steps <= 2 * 4_096


def test_a_text_that_grows_beyond_measure_is_flagged_and_not_looked_through() -> None:
    grown = "\ufdfa" * 4_096
    assert len(normalised(grown)) <= FORM_CHARS_MAX
    assert words("refuse: casino").judge(grown) == "flag"
    assert words("refuse: casino").judge("casino " + grown) == "refuse"
    assert WordsAndLinks(words("refuse: casino"), None).judge(grown) == "flag"
    assert words("refuse: casino").judge("casino" + grown) == "flag"
    assert words("refuse: casino").judge("x" * 4_096) == "allow"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("see https://evil.example/x", "flag"),
        ("see HTTP://EVIL.example", "flag"),
        ("see www.evil.example", "flag"),
        ("ｈｔｔｐｓ://evil.example", "flag"),
        ("see https://shop.example/a?b=c", "allow"),
        ("see https://www.shop.example.", "allow"),
        ("see https://notshop.example", "flag"),
        ("see https://shop.example.evil.example", "flag"),
        ("see https://shop.example@evil.example", "flag"),
        ("see https://[::1", "flag"),
        ("both https://shop.example and https://evil.example", "flag"),
        ("no links, only example.com", "allow"),
        (r"https://evil.example\@shop.example/x", "flag"),
        ("https://shop.example/看https://evil.example/x", "flag"),
        ("https://shop.example/)(https://evil.example)", "flag"),
        ("https://shop.example/?to=www.evil.example", "flag"),
        ("https://shop.example:x@evil.example/", "flag"),
        ("https://evil.example/@shop.example", "flag"),
        ("https://evil.example?@shop.example", "flag"),
        ("https://evil.example#@shop.example", "flag"),
        ('https://shop.example"@evil.example', "flag"),
        ("https://me:x@shop.example:443/", "allow"),
        (r"https:\\evil.example", "flag"),
        (r"https:/\evil.example", "flag"),
        ("https:///evil.example", "flag"),
        ("HtTpS://SHOP.example/", "allow"),
        ("HTTPS://EVIL.EXAMPLE./", "flag"),
        ("https://shop.example./x", "allow"),
        ("https://shop。example/x", "allow"),
        ("https://shop｡example/x", "allow"),
        ("https://shop.example。evil.example", "flag"),
        ("www。evil.example", "flag"),
        ("https://shop%2eexample", "flag"),
        ("https://evil.example%2f.shop.example", "flag"),
        ("(https://shop.example), then", "allow"),
        ('"https://shop.example".', "allow"),
        ("https://shop.example:" + "x" * 3_000 + "@evil.example", "flag"),
        ("https:// shop.example", "allow"),
        ("www.shop.example", "allow"),
    ],
)
def test_links_are_judged_by_their_host(text: str, verdict: str) -> None:
    assert Links("flag", ["Shop.example"]).judge(text) == verdict


def test_words_and_links_are_judged_together() -> None:
    both = WordsAndLinks(words("refuse: casino"), Links("flag", []))
    assert both.judge("https://a.example") == "flag"
    assert both.judge("https://a.example casino") == "refuse"
    assert both.judge("hello") == "allow"
    assert WordsAndLinks(None, None).judge("casino") == "allow"


def test_everything_that_a_person_reads_is_looked_at() -> None:
    image = ImageContent("https://a.example/x", 1, 1, caption="caption")
    assert texts_of(TextContent("hello")) == "hello"
    assert texts_of(image) == "caption"
    assert texts_of({"file_url": "https://a.example/x", "name": "a.pdf"}) == "a.pdf"
    assert texts_of(PollContent("q", ["a", "b"])) == "q\na\nb"
    assert texts_of({"latitude": 1.0, "longitude": 2.0}) == ""
