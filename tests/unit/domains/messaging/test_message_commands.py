"""What can be a reaction, and how commands are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tchatd.domains.messaging.message_commands import (
    EMOJI_BYTES_MAX,
    DeleteMessage,
    React,
    Vote,
    is_emoji,
)

ID = "019a0000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    "emoji",
    [
        *("👍", "❤", "❤️", "👍🏽", "😀", "☺️", "™", "©️", "‼️", "ℹ️", "〰️", "㊗️"),
        *("🇹🇭", "1️⃣", "#️⃣", "👩‍💻", "🏳️‍🌈", "🧑‍🤝‍🧑"),
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001fae8",  # of Unicode 15: this Python may not know it
        *(":+1:", ":party_parrot:", ":a-b:"),
    ],
)
def test_an_emoji_is_a_reaction(emoji: str) -> None:
    assert is_emoji(emoji)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a", "1", "ok", "é", "ดี", "好", "٣", "👍 ", " 👍", "👍\n", "👍a"),
        *("\u200d", "\ufe0f", "\u0301", "1", "12", "#", "!", "\u202e👍", "\u2028"),
        *("::", ":A:", ":a b:", ":" + "x" * 31 + ":", ":a:b", "\ue000", "\U000e0067"),
        "👍" * 9,
        "👨‍👩‍👧‍👦👨‍👩‍👧‍👦",
        "o\u0301\u0302\u0303",
    ],
)
def test_a_word_a_blank_or_a_mark_is_none(text: str) -> None:
    assert not is_emoji(text)


@given(some.text(max_size=12))
def test_no_text_is_too_much_to_be_looked_at(text: str) -> None:
    if is_emoji(text):
        assert 1 <= len(text.encode()) <= EMOJI_BYTES_MAX
        assert not any(char.isspace() or not char.isprintable() for char in text) or (
            not text.isascii()
        )


def test_deleting_is_for_everyone_unless_it_says_for_whom() -> None:
    read = msgspec.json.Decoder(DeleteMessage).decode
    assert read(f'{{"message_id": "{ID}"}}').for_ == "everyone"
    assert read(f'{{"message_id": "{ID}", "for": "me"}}').for_ == "me"
    with pytest.raises(msgspec.ValidationError):
        read(f'{{"message_id": "{ID}", "for": "nobody"}}')


@pytest.mark.parametrize(
    ("command", "type"),
    [
        ({"emoji": ""}, React),
        ({"emoji": "x" * 33}, React),
        ({"options": [-1]}, Vote),
        ({"options": [12]}, Vote),
        ({"options": [0] * 13}, Vote),
        ({"options": ["0"]}, Vote),
        ({}, Vote),
    ],
)
def test_what_cannot_be_meant_is_no_command(
    command: dict[str, Any], type: type[msgspec.Struct]
) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"message_id": ID, **command}, type)
