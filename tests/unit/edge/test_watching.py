"""Connections by user, and users by connection, in little memory."""

from __future__ import annotations

import random

import pytest

from tchatd.edge.watching import (
    BY_NAME,
    TooManyWatched,
    Watched,
    Watchers,
    Watches,
    WatchLimits,
)


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


def test_an_open_dialog_counts_also_when_nobody_else_is_in_it() -> None:
    watched = Watched()
    watched.set(BY_NAME, [])
    assert (watched.has(BY_NAME), watched.dialogs) == (False, 0)
    watched.set("dialog", [])
    watched.set(BY_NAME, [1])
    assert (watched.has("dialog"), watched.dialogs, len(watched)) == (True, 1, 1)


@pytest.mark.parametrize("seed", range(10))
def test_watches_are_what_was_asked_for_and_not_taken_back(seed: int) -> None:
    chance = random.Random(seed)
    limits = WatchLimits(watched_max=8, watches_max=1_000, dialogs_max=2)
    watches = Watches(limits)
    model: dict[int, dict[str, set[int]]] = {c: {} for c in range(4)}
    hidden: set[tuple[int, int]] = set()
    for _ in range(400):
        connection = chance.randrange(4)
        reason = chance.choice([BY_NAME, "a", "b", "c"])
        numbers = set(chance.sample(range(1, 15), chance.randrange(1, 6)))
        mine = model[connection]
        match chance.randrange(5):
            case 0 | 1:
                wanted = numbers | mine.get(reason, set()) if not reason else numbers
                after = set().union(wanted, *mine.values())
                dialogs = {r for r in (*mine, reason) if r}
                before = set().union(*mine.values())
                try:
                    watches.add(connection, reason, numbers, lambda n: n % 2 == 0)
                except TooManyWatched:
                    assert len(after) > 8 or len(dialogs) > 2
                else:
                    mine[reason] = wanted
                    for number in wanted - before:
                        hidden.discard((connection, number))
                        if number % 2:
                            hidden.add((connection, number))
            case 2:
                watches.drop(connection, reason)
                mine.pop(reason, None)
            case 3:
                watches.discard(connection, numbers)
                mine[BY_NAME] = mine.get(BY_NAME, set()) - numbers
            case _:
                number = min(numbers)
                sees = chance.random() < 0.5
                watched = number in set().union(*mine.values())
                was_hidden = (connection, number) in hidden
                moved = watches.place(connection, number, sees=sees)
                assert moved is (watched and was_hidden is sees)
                if moved:
                    hidden ^= {(connection, number)}
        if not mine.get(BY_NAME):
            mine.pop(BY_NAME, None)
        pairs = {(c, n) for c, by in model.items() for n in set().union(*by.values())}
        hidden &= pairs
        assert len(watches) == len(pairs)
        for number in range(1, 15):
            every = sorted(c for c, n in pairs if n == number)
            assert sorted(watches.watching(number)) == every
            assert sorted(watches.seeing(number)) == [
                c for c in every if (c, number) not in hidden
            ]
    for connection in range(4):
        watches.forget(connection)
    assert len(watches) == 0
    assert all(not watches.watching(number) for number in range(15))
