"""Token buckets."""

from __future__ import annotations

import random

import pytest

from tchatd.kernel.buckets import Buckets


class Now:
    def __init__(self) -> None:
        self.s = 50.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


def test_a_burst_passes_and_the_next_one_waits(now: Now) -> None:
    buckets = Buckets(per_minute=60, burst=3, keys_max=10, now=now)

    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1]


def test_tokens_come_back_at_the_rate(now: Now) -> None:
    buckets = Buckets(per_minute=6, burst=2, keys_max=10, now=now)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 10]

    now.s += 10

    assert [buckets.take("a") for _ in range(2)] == [0, 10]


def test_a_refused_take_costs_nothing(now: Now) -> None:
    buckets = Buckets(per_minute=60, burst=1, keys_max=10, now=now)
    buckets.take("a")
    for _ in range(100):
        assert buckets.take("a") == 1

    now.s += 1

    assert buckets.take("a") == 0


def test_keys_do_not_share(now: Now) -> None:
    buckets = Buckets(per_minute=1, burst=1, keys_max=10, now=now)
    buckets.take("a")

    assert buckets.take("b") == 0


def test_the_key_unused_for_longest_is_forgotten(now: Now) -> None:
    buckets = Buckets(per_minute=1, burst=1, keys_max=2, now=now)
    buckets.take("a")
    buckets.take("b")
    buckets.take("a")
    buckets.take("c")

    assert len(buckets) == 2
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0


@pytest.mark.parametrize("seed", range(10))
def test_no_run_takes_more_than_burst_and_rate_allow(now: Now, seed: int) -> None:
    chance = random.Random(seed)
    rate, burst = chance.uniform(1, 600), chance.randint(1, 20)
    buckets = Buckets(per_minute=rate, burst=burst, keys_max=2, now=now)
    started, taken = now.s, 0

    for _ in range(2_000):
        now.s += chance.expovariate(rate / 20)
        taken += buckets.take("a") == 0

    allowed = burst + (now.s - started) * rate / 60
    assert taken <= allowed * 1.002 + 1
