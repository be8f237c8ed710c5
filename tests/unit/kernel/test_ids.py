"""Ids: v7 carry their time and never decrease, v4 show nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tchatd.kernel.clock import ManualClock
from tchatd.kernel.ids import Ids, time_ms_of_v7


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def test_a_v7_carries_its_time_version_and_variant() -> None:
    clock = ManualClock(1_234_567_890_123)
    made = Ids(clock, seeded(1)).v7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert time_ms_of_v7(made) == 1_234_567_890_123


def test_v7_ids_strictly_increase_within_a_millisecond_and_over_a_step_back() -> None:
    clock = ManualClock(1_000_000)
    ids = Ids(clock, seeded(2))
    made = [ids.v7() for _ in range(1_000)]
    clock.advance(-500)
    made += [ids.v7() for _ in range(1_000)]
    assert made == sorted(set(made))
    assert {id.version for id in made} == {7}


@pytest.mark.parametrize("tail", [b"\xff" * 10, b"\x00" + b"\xff" * 9])
def test_a_full_random_part_carries_into_the_next_field(tail: bytes) -> None:
    ids = Ids(ManualClock(1_000), lambda _size: tail)
    first, second, third = ids.v7(), ids.v7(), ids.v7()
    assert first < second < third
    assert {id.version for id in (first, second, third)} == {7}
    assert {id.variant for id in (first, second, third)} == {"specified in RFC 4122"}


def test_one_seed_replays_the_same_ids() -> None:
    left, right = (Ids(ManualClock(5), seeded(3)) for _ in range(2))
    assert [left.v7(), left.v4()] == [right.v7(), right.v4()]


def test_a_v4_has_no_time() -> None:
    made = Ids(ManualClock(), seeded(4)).v4()
    assert made.version == 4
    assert time_ms_of_v7(made) is None
