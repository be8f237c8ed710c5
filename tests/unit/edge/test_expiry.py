"""When connections run out."""

from __future__ import annotations

import random

import pytest

from tchatd.edge.expiry import Expiry


def test_a_connection_is_due_once_after_its_time() -> None:
    expiry = Expiry(10_000)
    expiry.add(12_500, 7)

    assert list(expiry.due(12_999)) == []
    assert list(expiry.due(13_000)) == [7]
    assert list(expiry.due(14_000)) == []


def test_what_is_discarded_is_never_due() -> None:
    expiry = Expiry(10_000)
    expiry.add(12_500, 7)
    expiry.discard(12_500, 7)
    expiry.discard(12_500, 8)

    assert list(expiry.due(20_000)) == []
    assert len(expiry) == 0


def test_what_is_overdue_when_added_is_due_at_once() -> None:
    expiry = Expiry(10_000)
    expiry.add(1_000, 7)

    assert list(expiry.due(10_000)) == [7]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_clock_does_each_is_due_once(seed: int) -> None:
    chance = random.Random(seed)
    expiry, now_ms = Expiry(0), 0
    times = {n: chance.randrange(0, 3_600_000) for n in range(500)}
    for connection, at_ms in times.items():
        expiry.add(at_ms, connection)

    due: list[int] = []
    while now_ms < 3_700_000:
        now_ms += chance.choice((-5_000, 500, 1_000, 1_000, 60_000))
        now_ms = max(now_ms, 0)
        for connection in expiry.due(now_ms):
            assert times[connection] < now_ms
            due.append(connection)

    assert sorted(due) == sorted(times)
