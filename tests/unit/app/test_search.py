"""Whom search shows of all people, and to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tchatd.app.search import FoundPeople
from tchatd.domains.people.models import PLAIN, Circle, Numbers, Privacy

VIEWER, OTHER, HIDDEN, BLOCKING, FRIEND = 1, 2, 3, 4, 5


class Circles:
    def __init__(self) -> None:
        nobody = Numbers()
        hidden = Privacy(findable=False, findable_by_phone="nobody")
        self.by_number = {
            VIEWER: Circle(1, Privacy(), Numbers([FRIEND]), nobody),
            HIDDEN: Circle(1, hidden, nobody, nobody),
            FRIEND: Circle(1, hidden, nobody, nobody),
            BLOCKING: Circle(1, Privacy(), nobody, Numbers([VIEWER])),
        }

    async def get(self, number: int) -> Circle:
        return self.by_number.get(number, PLAIN)

    async def load(self, numbers: Sequence[int]) -> None:
        return None


class People:
    def __init__(self) -> None:
        self.circles = Circles()
        self.counted = 0

    async def profiles(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, str]:
        return {number: f"person {number}" for number in numbers}

    def count_lookups(self, number: int, count: int) -> None:
        self.counted += count


class Record:
    def __init__(self, number: int) -> None:
        self.number = number


class Auth:
    async def find_user(self, text: str) -> Record | None:
        return Record(int(text)) if text.isdecimal() else None


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def found(people: People) -> FoundPeople:
    auth: Any = Auth()
    service: Any = people
    return FoundPeople(auth, service)


async def test_who_hides_or_blocks_is_not_found_but_by_who_knows_them(
    found: FoundPeople,
) -> None:
    everybody = [OTHER, HIDDEN, BLOCKING, FRIEND]
    assert list(await found.found(VIEWER, everybody)) == [OTHER, FRIEND]
    assert list(await found.found(OTHER, everybody)) == [OTHER, BLOCKING]
    assert await found.known(VIEWER) == [FRIEND]
    assert await found.known(OTHER) == []


async def test_by_phone_whoever_lets_that_be_and_every_try_is_counted(
    found: FoundPeople, people: People
) -> None:
    assert list(await found.identified(VIEWER, f"{OTHER}")) == [OTHER]
    for number in (HIDDEN, BLOCKING):
        assert await found.identified(VIEWER, f"{number}") == {}
    assert await found.identified(VIEWER, "nobody") == {}
    assert people.counted == 4
