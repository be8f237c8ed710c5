"""When a provider that fails is left alone, and when it is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.providers.breaker import (
    BreakerOpen,
    BreakerSettings,
    CircuitBreaker,
    State,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


SETTINGS = BreakerSettings(
    window_s=60, calls_min=4, failure_percent=50, open_s=30, trials_max=2
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def states() -> list[State]:
    return []


@pytest.fixture
def breaker(clock: Clock, states: list[State]) -> CircuitBreaker:
    return CircuitBreaker(SETTINGS, clock, states.append)


def state_of(breaker: CircuitBreaker) -> State:
    """Asked anew, which mypy does not expect of a property."""
    return breaker.state


def use(breaker: CircuitBreaker, results: str) -> None:
    """`.` a success, `x` a failure, `-` abandoned."""
    for result in results:
        permit = breaker.admit()
        {".": permit.succeeded, "x": permit.failed, "-": permit.abandoned}[result]()


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("xxx", "closed"),
        ("xxxx", "open"),
        ("..xx", "open"),
        ("...x", "closed"),
        ("....xxx", "closed"),
        ("xxx.", "closed"),
        ("xxx.x", "open"),
        ("xxx---", "closed"),
    ],
)
def test_it_opens_at_a_rate_of_enough_calls(
    breaker: CircuitBreaker, results: str, state: State
) -> None:
    use(breaker, results)
    assert state_of(breaker) == state


def test_an_open_one_refuses_and_says_for_how_long(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    use(breaker, "xxxx")
    clock.now_s += 10.5
    with pytest.raises(BreakerOpen) as refused:
        breaker.admit()
    assert refused.value.retry_after_s == 20


def test_failures_of_long_ago_are_forgotten(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    use(breaker, "xxx")
    assert breaker.failure_percent == 100
    clock.now_s += 61
    assert breaker.failure_percent == 0
    use(breaker, "x..")
    assert state_of(breaker) == "closed"
    assert breaker.failure_percent == 33


def test_a_half_open_one_lets_a_few_try_at_once(
    breaker: CircuitBreaker, clock: Clock, states: list[State]
) -> None:
    use(breaker, "xxxx")
    clock.now_s += 30
    assert state_of(breaker) == "half_open"
    first, second = breaker.admit(), breaker.admit()
    with pytest.raises(BreakerOpen):
        breaker.admit()
    first.succeeded()
    third = breaker.admit()
    assert state_of(breaker) == "half_open"
    second.succeeded()
    assert state_of(breaker) == "closed"
    third.failed()  # of before: it says nothing of now
    assert breaker.failure_percent == 0
    assert states == ["open", "half_open", "closed"]


def test_one_failure_of_a_trial_opens_it_again(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    use(breaker, "xxxx")
    clock.now_s += 30
    first, second = breaker.admit(), breaker.admit()
    first.failed()
    second.succeeded()
    assert state_of(breaker) == "open"
    clock.now_s += 29
    with pytest.raises(BreakerOpen):
        breaker.admit()
    clock.now_s += 1
    use(breaker, "..")
    assert state_of(breaker) == "closed"


def test_a_trial_that_was_abandoned_leaves_its_place(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    use(breaker, "xxxx")
    clock.now_s += 30
    use(breaker, "-----")
    assert state_of(breaker) == "half_open"
    use(breaker, "..")
    assert state_of(breaker) == "closed"


def test_a_permit_counts_once(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        permit = breaker.admit()
        permit.succeeded()
        permit.failed()
        permit.abandoned()
    use(breaker, "x")
    assert breaker.failure_percent == 25


def test_a_slow_failure_of_before_it_opened_does_not_keep_it_open(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    slow = breaker.admit()
    use(breaker, "xxxx")
    clock.now_s += 30
    use(breaker, ".")
    slow.failed()
    use(breaker, ".")
    assert state_of(breaker) == "closed"


@given(st.lists(st.tuples(st.sampled_from(".x-+"), st.floats(0, 40)), max_size=60))
def test_whatever_happens_it_is_never_stuck(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(SETTINGS, clock)
    waits_s: list[int] = []
    for result, wait_s in steps:
        clock.now_s += wait_s
        try:
            permit = breaker.admit()
        except BreakerOpen as refused:
            waits_s.append(refused.retry_after_s)
            continue
        if result == "+":
            permit.abandoned()
        else:
            {".": permit.succeeded, "x": permit.failed, "-": permit.abandoned}[result]()
        assert 0 <= breaker.failure_percent <= 100
    assert all(1 <= wait_s <= 30 for wait_s in waits_s)
    clock.now_s += 31
    for _ in range(2):
        breaker.admit().succeeded()
    assert state_of(breaker) == "closed"
