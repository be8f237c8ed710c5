"""A row that fails for no foreseen reason rests, and the others go on."""

from __future__ import annotations

import pytest

from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.quarantine import REST_MS_MAX, REST_MS_MIN, ROWS_MAX, Quarantine


def fail(quarantine: Quarantine, row: object) -> None:
    with quarantine.around(row):
        raise AssertionError("a mistake of ours")


def test_a_row_that_failed_rests_twice_as_long_each_time() -> None:
    clock = ManualClock()
    quarantine = Quarantine(clock)
    reported: list[Exception] = []
    quarantine.report = reported.append
    rest_ms = REST_MS_MIN
    for _ in range(9):
        fail(quarantine, "a")
        assert quarantine.rests("a")
        assert not quarantine.rests("b")
        clock.advance(rest_ms - 1)
        assert quarantine.rests("a")
        clock.advance(1)
        assert not quarantine.rests("a")
        rest_ms = min(2 * rest_ms, REST_MS_MAX)
    assert [type(error) for error in reported] == 9 * [AssertionError]
    assert len(quarantine) == 1


def test_what_succeeds_begins_anew() -> None:
    quarantine = Quarantine(ManualClock())
    fail(quarantine, "a")
    with quarantine.around("a"):
        pass
    assert not quarantine.rests("a")
    assert len(quarantine) == 0


def test_what_may_be_expected_is_passed_on() -> None:
    quarantine = Quarantine(ManualClock())
    with pytest.raises(Unavailable), quarantine.around("a"):
        raise Unavailable
    assert not quarantine.rests("a")


def test_it_is_bounded() -> None:
    quarantine = Quarantine(ManualClock())
    for row in range(ROWS_MAX + 1):
        fail(quarantine, row)
    assert len(quarantine) == ROWS_MAX
    assert not quarantine.rests(0)
