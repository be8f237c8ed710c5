"""Owns people in a box: the service over memory, and a presence that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from tchatd.domains.people.models import Card
from tchatd.domains.people.rules import PeopleSettings
from tchatd.domains.people.service import PeopleService
from tchatd.edge.presence_models import Seen
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.routing import Caller
from tchatd.stores.memory.people import MemoryPeopleStore


def id_of(number: int) -> UUID:
    return UUID(int=0x019A_0000_0000_7000_8000_0000_0000_0000 + number)


def caller(number: int) -> Caller:
    return Caller(id_of(number), number, id_of(number))


def phone_of(number: int) -> str:
    return f"+66810000{number:03d}"


class FakeUsers:
    """Users 1 to 999: a name, a picture and a phone each; `erased` are gone."""

    def __init__(self) -> None:
        self.erased: set[int] = set()

    async def cards(self, numbers: Sequence[int]) -> Mapping[int, Card]:
        return {
            number: Card(
                number=number,
                id=str(id_of(number)),
                name=f"User {number}",
                avatar=f"https://f.example/{number}",
                phone=phone_of(number),
                is_verified=True,
            )
            for number in numbers
            if number not in self.erased
        }

    async def numbers_of_phones(self, phones: Sequence[str]) -> Mapping[str, int]:
        known = {phone_of(number): number for number in range(1, 1_000)}
        return {phone: known[phone] for phone in phones if phone in known}

    async def numbers_of(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        known = {id_of(number): number for number in range(1, 1_000)}
        return {id: known[id] for id in ids if id in known}


class FakePresence:
    """Everybody is online. told: who had changed something."""

    def __init__(self) -> None:
        self.told: list[int] = []

    async def look(self, viewer: int, numbers: Sequence[int]) -> Mapping[int, Seen]:
        return {number: Seen("online") for number in numbers}

    async def reconsider(self, number: int) -> None:
        self.told.append(number)


class World:
    def __init__(self, settings: PeopleSettings | None = None) -> None:
        self.store = MemoryPeopleStore()
        self.users = FakeUsers()
        self.presence = FakePresence()
        self.clock = ManualClock()
        self.service = PeopleService(
            store=self.store,
            loader=self.store,
            users=self.users,
            directory=self.users,
            clock=self.clock,
            settings=settings or PeopleSettings(),
        )
        self.service.presence = self.presence
