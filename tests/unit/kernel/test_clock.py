"""Times are RFC 3339 with milliseconds, whatever was formatted before."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel.clock import (
    LAST_MS,
    ManualClock,
    SystemClock,
    moment_ms,
    rfc3339,
)


@given(st.lists(st.integers(0, 253_402_300_799_999), min_size=1, max_size=20))
def test_a_time_reads_back_to_the_same_millisecond(times: list[int]) -> None:
    for at_ms in times:
        parsed = datetime.fromisoformat(rfc3339(at_ms))
        assert round(parsed.timestamp() * 1000) == at_ms


@given(st.integers(0, LAST_MS), st.integers(-23, 23))
def test_a_moment_is_the_milliseconds_that_show_it(at_ms: int, hours: int) -> None:
    moment = datetime.fromisoformat(rfc3339(at_ms))
    assert moment_ms(moment) == at_ms
    away = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert rfc3339(moment_ms(away))


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("9999-12-31T23:59:59-12:00", LAST_MS),
        ("0001-01-01T00:00:00+12:00", 0),
        ("1970-01-01T00:00:00.0019+00:00", 1),
    ],
)
def test_a_moment_that_could_not_be_shown_is_the_nearest_that_can(
    text: str, at_ms: int
) -> None:
    assert moment_ms(datetime.fromisoformat(text)) == at_ms


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(1_000)
    assert clock.now_ms() == clock.now_ms() == 1_000
    clock.advance(500)
    assert clock.now_ms() == 1_500


def test_the_system_clock_counts_from_1970_in_milliseconds() -> None:
    assert 1_700_000_000_000 < SystemClock().now_ms() < 10_000_000_000_000
