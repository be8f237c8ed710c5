"""Tokens of bots: ours are read, anything else is nobody's."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

import pytest

from tchatd.domains.bots.tokens import BotTokens
from tchatd.kernel.crypto import Keys

BOT = UUID("019a0000-0000-7000-8000-000000000001")


@pytest.fixture
def tokens() -> BotTokens:
    keys = Keys.of_one_secret(bytes(range(32)))
    return BotTokens(keys.otp_hash("bot-token"), random.Random(1).randbytes)


def test_a_token_is_read_as_it_was_made(tokens: BotTokens) -> None:
    token, hash = tokens.new(BOT)
    assert token.startswith(f"bot:{BOT}:")
    assert tokens.read(token) == (BOT, hash)
    assert tokens.new(BOT) != (token, hash)


def test_the_hash_is_bound_to_the_bot(tokens: BotTokens) -> None:
    token, hash = tokens.new(BOT)
    other = uuid4()
    read = tokens.read(token.replace(str(BOT), str(other)))
    assert read is not None
    assert read[0] == other
    assert not tokens.are_equal(read[1], hash)


@pytest.mark.parametrize(
    "token",
    [
        *("", "bot:", "bot::", f"bot:{BOT}", f"bot:{BOT}:", f"bot:{BOT}:short"),
        f"bot:{'x' * 36}:{'A' * 43}",
        f"bot:{BOT}:{'=' * 43}",
        f"bot:{BOT}:{'!' * 43}",
        f"bot:{BOT}:{'é' * 43}",
        f"bot:{BOT}:{'A' * 44}",
        "bot:" + "A" * 10_000,
    ],
)
def test_what_is_none_of_ours_is_nobodys(tokens: BotTokens, token: str) -> None:
    read = tokens.read(token)
    if read is not None:
        assert not tokens.are_equal(read[1], tokens.new(BOT)[1])
