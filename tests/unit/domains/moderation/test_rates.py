"""Messages a minute, of a user and in a dialog."""

from __future__ import annotations

import random

import pytest

from tchatd.domains.moderation.errors import TooManyMessages
from tchatd.domains.moderation.rates import Rates
from tchatd.kernel.buckets import Buckets


def rates(user: int, dialog: int) -> Rates:
    return Rates(
        user_per_minute=user, dialog_per_minute=dialog, keys_max=10, now=lambda: 5.0
    )


def test_a_user_is_limited_over_all_dialogs() -> None:
    of = rates(3, 0)
    for dialog in range(3):
        of.take(1, dialog)
    with pytest.raises(TooManyMessages) as refused:
        of.take(1, 9)
    assert refused.value.retry_after_s == 20
    of.take(2, 9)


def test_a_dialog_is_limited_over_all_users() -> None:
    of = rates(0, 2)
    of.take(1, 7)
    of.take(2, 7)
    with pytest.raises(TooManyMessages, match="dialog"):
        of.take(3, 7)
    of.take(3, 8)


def test_nothing_is_limited_by_zero() -> None:
    of = rates(0, 0)
    assert not of.are_limited
    for _ in range(100):
        of.take(1, 1)
    assert rates(1, 0).are_limited
    assert rates(0, 1).are_limited


def test_a_refused_message_costs_neither() -> None:
    of = rates(2, 1)
    of.take(1, 7)
    for _ in range(5):
        with pytest.raises(TooManyMessages, match="dialog"):
            of.take(1, 7)
    of.take(1, 8)
    with pytest.raises(TooManyMessages, match="You"):
        of.take(1, 9)


def test_tokens_come_back_at_the_rate() -> None:
    at = [100.0]
    of = Rates(user_per_minute=60, dialog_per_minute=0, keys_max=9, now=lambda: at[0])
    for _ in range(60):
        of.take(1, 1)
    for _ in range(3):
        with pytest.raises(TooManyMessages):
            of.take(1, 1)
        at[0] += 1.0
        of.take(1, 1)


def test_so_many_are_remembered_and_who_is_limited_the_longest() -> None:
    at = [100.0]
    of = Rates(user_per_minute=1, dialog_per_minute=0, keys_max=10, now=lambda: at[0])
    for user in range(10):
        of.take(user, 1)
    at[0] += 61.0
    of.take(99, 1)
    assert len(of) == 1
    for user in range(30):
        of.take(user, 1)
        assert len(of) <= 10
    with pytest.raises(TooManyMessages):
        of.take(29, 1)


@pytest.mark.parametrize("seed", range(10))
def test_it_allows_what_buckets_allow(seed: int) -> None:
    chance, at = random.Random(seed), [100.0]
    of = Rates(user_per_minute=6, dialog_per_minute=0, keys_max=99, now=lambda: at[0])
    buckets = Buckets(per_minute=6, burst=6, keys_max=99, now=lambda: at[0])
    for _ in range(500):
        user = chance.randrange(3)
        try:
            of.take(user, 1)
            wait_s = 0
        except TooManyMessages as refused:
            wait_s = refused.retry_after_s or 0
        assert wait_s == buckets.take(user)
        at[0] += chance.choice((0.0, 0.5, 7.0))
