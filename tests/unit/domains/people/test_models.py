"""Shapes of people: the small set, and what is stored of privacy."""

from __future__ import annotations

import random

import msgspec

from tchatd.domains.people.models import (
    Numbers,
    Privacy,
    privacy_decode,
    privacy_encode,
)


def test_numbers_are_a_set() -> None:
    chance = random.Random(1)
    for size in (0, 1, 2, 100):
        model = {chance.randrange(1, 300) for _ in range(size)}
        numbers = Numbers(model)
        assert len(numbers) == len(model)
        assert {n for n in range(301) if n in numbers} == model
        assert numbers == Numbers(sorted(model, reverse=True))
        assert numbers != Numbers([*model, 400])


def test_privacy_comes_back_as_it_was() -> None:
    privacy = Privacy(last_seen="nobody", findable=False)
    assert privacy_decode(privacy_encode(privacy)) == privacy


def test_privacy_of_an_older_program_has_defaults_for_the_rest() -> None:
    old = msgspec.msgpack.encode({"last_seen": "contacts", "forgotten": 1})
    assert privacy_decode(old) == Privacy(last_seen="contacts")
