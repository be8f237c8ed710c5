"""Opening hours: local time, holidays, nights, and the days when clocks change."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from tchatd.domains.messaging.business_hours import (
    DAYS,
    Hours,
    Interval,
    check_hours,
    is_open,
)
from tchatd.kernel.errors import Invalid

BANGKOK, BERLIN, LORD_HOWE = "Asia/Bangkok", "Europe/Berlin", "Australia/Lord_Howe"


def at(zone: str, text: str, fold: int = 0) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(local.timestamp() * 1_000)


def hours(zone: str, opens: str, closes: str, *, days: str = "mon tue wed") -> Hours:
    weekly = tuple(Interval(day, opens, closes) for day in days.split())  # type: ignore[arg-type]
    return Hours(time_zone=zone, weekly=weekly)


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("2026-11-23 08:59:59", False),  # a Monday
        ("2026-11-23 09:00", True),
        ("2026-11-23 16:59:59", True),
        ("2026-11-23 17:00", False),
        ("2026-11-26 12:00", False),  # a Thursday
    ],
)
def test_it_is_open_from_the_first_minute_until_the_last(
    when: str, wanted: bool
) -> None:
    shop = hours(BANGKOK, "09:00", "17:00")
    assert is_open(shop, at(BANGKOK, when)) is wanted


def test_local_days_count_not_those_of_greenwich() -> None:
    shop = hours(BANGKOK, "00:00", "24:00", days="mon")
    assert is_open(shop, at("UTC", "2026-11-22 17:00"))
    assert not is_open(shop, at("UTC", "2026-11-23 17:00"))


def test_a_night_is_two_intervals() -> None:
    weekly = (Interval("fri", "22:00", "24:00"), Interval("sat", "00:00", "04:00"))
    bar = Hours(time_zone=BANGKOK, weekly=weekly)
    for when in ("2026-11-27 22:00", "2026-11-27 23:59:59", "2026-11-28 03:59"):
        assert is_open(bar, at(BANGKOK, when))
    for when in ("2026-11-27 21:59", "2026-11-28 04:00", "2026-11-28 22:00"):
        assert not is_open(bar, at(BANGKOK, when))


def test_a_holiday_is_closed_all_day_there() -> None:
    weekly = tuple(Interval(day, "00:00", "24:00") for day in DAYS)
    shop = Hours(time_zone=BANGKOK, weekly=weekly, holidays=(date(2026, 12, 5),))
    assert is_open(shop, at(BANGKOK, "2026-12-04 23:59:59"))
    assert not is_open(shop, at(BANGKOK, "2026-12-05 00:00"))
    assert not is_open(shop, at(BANGKOK, "2026-12-05 23:59:59"))
    assert is_open(shop, at(BANGKOK, "2026-12-06 00:00"))


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    """In Berlin, 2026-10-25, clocks go from 3:00 back to 2:00."""
    shop = hours(BERLIN, "02:00", "03:00", days="sun")
    first = at(BERLIN, "2026-10-25 02:30", fold=0)
    second = at(BERLIN, "2026-10-25 02:30", fold=1)
    assert second - first == 3_600_000
    assert is_open(shop, first)
    assert is_open(shop, second)
    assert not is_open(shop, second + 1_800_000)
    minutes = range(48 * 60)
    begin = at(BERLIN, "2026-10-25 00:00")
    assert sum(is_open(shop, begin + 60_000 * m) for m in minutes) == 120


def test_an_hour_that_is_left_out_never_comes() -> None:
    """In Berlin, 2026-03-29, clocks go from 2:00 on to 3:00."""
    shop = hours(BERLIN, "01:30", "03:30", days="sun")
    begin = at(BERLIN, "2026-03-29 00:00")
    opened = [m for m in range(24 * 60) if is_open(shop, begin + 60_000 * m)]
    assert opened == list(range(90, 150))


def test_clocks_that_change_by_half_an_hour_are_followed_too() -> None:
    """On Lord Howe, 2026-04-05, clocks go from 2:00 back to 1:30."""
    shop = hours(LORD_HOWE, "01:30", "02:00", days="sun")
    begin = at(LORD_HOWE, "2026-04-05 00:00")
    opened = sum(is_open(shop, begin + 60_000 * m) for m in range(24 * 60))
    assert opened == 60


def test_without_intervals_it_is_never_open() -> None:
    assert not is_open(Hours(time_zone=BANGKOK, weekly=()), 0)


@pytest.mark.parametrize("zone", ["Asia/Atlantis", "../etc/passwd", "/etc/localtime"])
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(Invalid):
        check_hours(Hours(time_zone=zone, weekly=()))


@pytest.mark.parametrize(("opens", "closes"), [("09:00", "09:00"), ("22:00", "04:00")])
def test_an_interval_that_ends_before_it_begins_is_refused(
    opens: str, closes: str
) -> None:
    with pytest.raises(Invalid) as raised:
        check_hours(hours(BANGKOK, opens, closes, days="mon"))
    assert list(raised.value.fields) == ["hours.weekly[0]"]


def test_what_is_right_is_taken() -> None:
    check_hours(hours("Asia/Ho_Chi_Minh", "00:00", "24:00"))
