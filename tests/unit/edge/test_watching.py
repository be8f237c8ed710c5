"""Connections by user, and users by connection, in little memory."""

from __future__ import annotations

import random

import pytest

from tchatd.edge.watching import BY_NAME, Watched, Watchers


@pytest.mark.parametrize("seed", range(20))
def test_watchers_are_a_set_of_pairs(seed: int) -> None:
    chance = random.Random(seed)
    watchers, pairs = Watchers(), set()
    for _ in range(600):
        pair = (chance.randrange(3), chance.randrange(20))
        if chance.random() < 0.5:
            watchers.add(*pair)
            pairs.add(pair)
        else:
            assert watchers.discard(*pair) is (pair in pairs)
            pairs.discard(pair)
        for number in range(3):
            found = list(watchers.of(number))
            assert sorted(found) == sorted(c for n, c in pairs if n == number)
        assert len(watchers) == len({number for number, _ in pairs})


def test_a_user_is_watched_as_long_as_there_is_a_reason() -> None:
    watched = Watched()
    watched.set(BY_NAME, [1, 2])
    watched.set("dialog", [2, 3])
    assert watched.numbers() == {1, 2, 3}
    assert len(watched) == 3
    assert watched.of(BY_NAME) == {1, 2}
    watched.drop("dialog")
    assert watched.numbers() == {1, 2}
    assert 2 in watched
    assert 3 not in watched


def test_an_open_dialog_counts_also_when_nobody_else_is_in_it() -> None:
    watched = Watched()
    watched.set(BY_NAME, [])
    assert (watched.has(BY_NAME), watched.dialogs) == (False, 0)
    watched.set("dialog", [])
    watched.set(BY_NAME, [1])
    assert (watched.has("dialog"), watched.dialogs, len(watched)) == (True, 1, 1)
