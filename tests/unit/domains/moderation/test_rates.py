"""Messages a minute, of a user and in a dialog."""

from __future__ import annotations

import pytest

from tchatd.domains.moderation.errors import TooManyMessages
from tchatd.domains.moderation.rates import Rates


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
