"""Owns when a business is open: a week of local times, holidays, an IANA time zone.

A moment is turned into the zone's local time and looked up there, which is right on the
days when clocks change, too: an hour that comes twice is open twice, one that is left
out never comes. Nothing is computed the other way round.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Meta, Struct

from tchatd.domains.messaging.content import TO_THE_END
from tchatd.kernel.errors import Invalid

INTERVALS_MAX: Final = 28
HOLIDAYS_MAX: Final = 100
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Time: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$" + TO_THE_END,
        description="a time of day from 00:00 to 24:00",
    ),
]


class Interval(Struct, frozen=True, gc=False):
    """Local times of one day; closes: after `opens`, 24:00 for the end of the day. A
    night is two of them."""

    day: Day
    opens: Time
    closes: Time


class Hours(Struct, frozen=True, kw_only=True):
    """holidays: local dates on which it is closed all day."""

    time_zone: Annotated[str, Meta(min_length=1, max_length=64)]
    weekly: Annotated[tuple[Interval, ...], Meta(max_length=INTERVALS_MAX)]
    holidays: Annotated[tuple[date, ...], Meta(max_length=HOLIDAYS_MAX)] = ()


def check_hours(hours: Hours) -> None:
    """Raises Invalid: no such time zone, or an interval that ends before it begins."""
    if hours.time_zone not in _zones():
        raise Invalid(fields={"hours.time_zone": "is no time zone of IANA's"})
    for index, interval in enumerate(hours.weekly):
        if interval.closes <= interval.opens:
            raise Invalid(fields={f"hours.weekly[{index}]": "ends before it begins"})


def is_open(hours: Hours, at_ms: int) -> bool:
    local = datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone(
        ZoneInfo(hours.time_zone)
    )
    if local.date() in hours.holidays:
        return False
    day, time = DAYS[local.weekday()], local.strftime("%H:%M")
    return any(
        interval.day == day and interval.opens <= time < interval.closes
        for interval in hours.weekly
    )


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
