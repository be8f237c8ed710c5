"""Times are RFC 3339 with milliseconds, whatever was formatted before."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel.clock import ManualClock, SystemClock, rfc3339


@given(st.lists(st.integers(0, 253_402_300_799_999), min_size=1, max_size=20))
def test_a_time_reads_back_to_the_same_millisecond(times: list[int]) -> None:
    for at_ms in times:
        parsed = datetime.fromisoformat(rfc3339(at_ms))
        assert round(parsed.timestamp() * 1000) == at_ms


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(1_000)
    assert clock.now_ms() == clock.now_ms() == 1_000
    clock.advance(500)
    assert clock.now_ms() == 1_500


def test_the_system_clock_counts_from_1970_in_milliseconds() -> None:
    assert 1_700_000_000_000 < SystemClock().now_ms() < 10_000_000_000_000
