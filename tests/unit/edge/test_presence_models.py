"""How roughly a last time is told."""

from __future__ import annotations

import pytest

from tchatd.edge.presence_models import about

NOW = 1_800_000_000_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("ago_ms", "told"),
    [
        (-5, "recently"),
        (0, "recently"),
        (3 * DAY, "recently"),
        (3 * DAY + 1, "within_week"),
        (7 * DAY, "within_week"),
        (7 * DAY + 1, "within_month"),
        (30 * DAY, "within_month"),
        (30 * DAY + 1, "long_ago"),
    ],
)
def test_a_last_time_is_told_in_four_steps(ago_ms: int, told: str) -> None:
    assert about(NOW - ago_ms, NOW) == told


def test_who_never_was_here_looks_like_who_left_long_ago() -> None:
    assert about(None, NOW) == "long_ago"
